"""Run a network for a measurement: PyTorch as it is, compiled, or the ONNX runtime.

A runtime is a function from a network and an input to a function that runs the network once and returns when
the result is there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nasbench_mr.errors import DeviceError
from nasbench_mr.extras import requires
from nasbench_mr.plugins import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

Runtime = Callable[["nn.Module", "Tensor", int], Callable[[], Any]]

RUNTIMES = Registry[Runtime](
    "runtime",
    {
        "torch": f"{__name__}:eager",
        "compile": f"{__name__}:compiled",
        "onnx": f"{__name__}:onnx",
    },
)


def eager(net: Callable[[Tensor], Any], example: Tensor, threads: int) -> Callable[[], Any]:
    """Return what runs the network with PyTorch, operation by operation."""
    import torch

    def run() -> None:
        with torch.inference_mode():
            net(example)
        if example.device.type == "cuda":
            torch.cuda.synchronize(example.device)

    return run


def compiled(net: nn.Module, example: Tensor, threads: int) -> Callable[[], Any]:
    """Return what runs it with `torch.compile` and its defaults."""
    import torch
    from torch._dynamo.exc import TorchDynamoException

    def forward(x: Tensor) -> Any:
        return net(x)

    # What is compiled is kept by code object, a few for each, and more run uncompiled in silence. This
    # network has its own, and what can't be compiled is an error.
    forward.__code__ = forward.__code__.replace()
    run = eager(torch.compile(forward, dynamic=False, fullgraph=True), example, threads)
    try:
        run()  # compiles
    except TorchDynamoException as error:
        told = str(error).strip().split("\n")[0]
        cure = "Install g++, or name one in CXX; or measure" if "C++ compiler" in told else "Measure"
        raise DeviceError(
            f"torch.compile failed for {example.device}: {told}. {cure} with --runtime torch"
        ) from error
    return run


def onnx(net: nn.Module, example: Tensor, threads: int) -> Callable[[], Any]:
    """Return what runs the network with the ONNX runtime: on the CPU, or its CUDA provider on a GPU."""
    with requires("measure", "the runtime 'onnx'"):
        import onnxruntime
    from nasbench_mr.data_builders.measuring.graphs import onnx_model

    device = example.device
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device.type]
    if provider not in onnxruntime.get_available_providers():
        raise DeviceError(
            f"the installed onnxruntime can't use {device}: it has "
            f"{', '.join(onnxruntime.get_available_providers())}; pip install onnxruntime-gpu"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    model = onnx_model(net.cpu(), example.cpu()).SerializeToString()
    chosen: Any = provider if device.type == "cpu" else (provider, {"device_id": device.index or 0})
    session = onnxruntime.InferenceSession(model, options, providers=[chosen])
    if session.get_providers()[0] != provider:
        raise DeviceError(f"onnxruntime fell back to {session.get_providers()[0]} instead of {provider}")
    fed = onnxruntime.OrtValue.ortvalue_from_numpy(example.cpu().numpy(), device.type, device.index or 0)
    binding = session.io_binding()
    binding.bind_ortvalue_input("input", fed)
    binding.bind_output(session.get_outputs()[0].name, device.type, device.index or 0)

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run
