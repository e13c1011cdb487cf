"""A network as an ONNX graph, in hundredths of a second.

`torch.onnx.export` serves any module, and takes a second for one of ours. Thousands of networks are measured;
so `onnx_model` runs a network once, writes down the few operations it is made of, and folds batch norms, as
the exporter does. A test holds it against the network itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nasbench_mr.errors import InvalidArgumentError
from nasbench_mr.extras import requires

with requires("measure", "the runtime 'onnx'"):
    import onnx
    import torch
    import torch.nn.functional as F
    from onnx import helper, numpy_helper
    from torch import Tensor, nn
    from torch.overrides import TorchFunctionMode

#: The version of the operators; every onnxruntime since 1.14 has it.
OPSET = 17


def onnx_model(net: nn.Module, example: Tensor) -> onnx.ModelProto:
    """Return the ONNX model of a network of this space, in evaluation, for inputs of the example's shape."""
    recorder = _Recorder(example)
    net.eval()
    with torch.no_grad(), recorder:
        result = net(example)
    inputs = [helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, list(example.shape))]
    outputs = [
        helper.make_tensor_value_info(recorder.name(result), onnx.TensorProto.FLOAT, list(result.shape))
    ]
    graph = helper.make_graph(
        recorder.nodes, type(net).__name__, inputs, outputs, [*recorder.constants.values()]
    )
    # The oldest file format that has these operators, so that old runtimes read it.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


class _Recorder(TorchFunctionMode):
    """Writes down what is done to tensors while it is active."""

    def __init__(self, example: Tensor):
        super().__init__()
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        #: By a tensor's identity its name; tensors are kept, so that no identity comes twice.
        self._names: dict[int, str] = {id(example): "input"}
        self._kept: list[Tensor] = [example]
        #: By name of a convolution's output its node, for the batch norm that follows it.
        self._convolutions: dict[str, tuple[onnx.NodeProto, Tensor]] = {}

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        write = _WRITERS.get(function)
        if write is None:
            if function not in _SILENT and getattr(function, "__name__", "") != "__get__":
                name = getattr(function, "__name__", repr(function))
                raise InvalidArgumentError(
                    f"the operation {name!r} can't be written as ONNX here; use torch.onnx.export"
                )
            return function(*args, **kwargs)
        # Before the operation, as one that works in place gives its input another meaning.
        node = write(self, *args, **kwargs)
        result = function(*args, **kwargs)
        self._names[id(result)] = node
        self._kept.append(result)
        return result

    def name(self, tensor: Tensor) -> str:
        return self._names[id(tensor)]

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = numpy_helper.from_array(value, name)
        return name

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        output = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def convolution(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, *rest: Any
    ) -> str:
        inputs = [self.name(x), self.constant(f"weight{len(self.nodes)}", weight.detach().numpy())]
        if bias is not None:
            inputs.append(self.constant(f"bias{len(self.nodes)}", bias.detach().numpy()))
        output = self.add("Conv", inputs, strides=list(stride), pads=list(padding) * 2)
        self._convolutions[output] = self.nodes[-1], weight
        return output

    def batch_norm(
        self, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, *rest: Any
    ) -> str:
        """Fold the norm into the convolution before it."""
        output = self.name(x)
        node, kernel = self._convolutions[output]
        scale = weight / torch.sqrt(var + rest[-1])
        name = node.input[1]
        self.constant(name, (kernel * scale[:, None, None, None]).detach().numpy())
        node.input.append(self.constant(f"{name}_bias", (bias - mean * scale).detach().numpy()))
        return output

    def interpolate(
        self,
        x: Tensor,
        size: Any = None,
        scale_factor: float = 1.0,
        mode: str = "nearest",
        align_corners: bool | None = None,
        **rest: Any,
    ) -> str:
        import numpy as np

        height, width = (
            size if size is not None else (int(side * (scale_factor or 1)) for side in x.shape[-2:])
        )
        shape = self.constant(f"size{len(self.nodes)}", np.array([*x.shape[:2], height, width], np.int64))
        options = (
            {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}
            if mode == "bilinear"
            else {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        )
        return self.add("Resize", [self.name(x), "", "", shape], **options)


#: By function of torch what writes it down; each returns the name of the result.
_WRITERS: dict[Any, Callable[..., str]] = {
    torch.conv2d: _Recorder.convolution,
    F.batch_norm: lambda r, x, mean, var, weight, bias, training, momentum, eps: r.batch_norm(
        x, mean, var, weight, bias, eps
    ),
    F.relu: lambda r, x, inplace=False: r.add("Relu", [r.name(x)]),
    F.interpolate: _Recorder.interpolate,
    torch.cat: lambda r, parts, dim=0: r.add("Concat", [r.name(part) for part in parts], axis=dim),
    Tensor.add: lambda r, a, b: r.add("Add", [r.name(a), r.name(b)]),
    Tensor.mean: lambda r, x, dims, keepdim=False: r.add(
        "ReduceMean", [r.name(x)], axes=list(dims), keepdims=int(keepdim)
    ),
    Tensor.flatten: lambda r, x, start: r.add("Flatten", [r.name(x)], axis=start),
}
_SILENT = {Tensor.size, Tensor.dim}
