"""Zero-cost proxies: numbers from an untrained network that may tell how good a trained one will be.

`compute` gives all of `PROXIES` for codes and a task. Networks are those that the task trains, drawn from a
seed; inputs are noise, so that no data set is needed, or a batch that you give. The same seed gives the same
numbers on the same processor. A convolution's weights count, batch norms' and the classifier's bias do not.

The sources, by what they call it:

    grad_norm   Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021, section 3.2
    snip        Lee et al., "SNIP: Single-shot Network Pruning", ICLR 2019, equation 4, summed over weights
    grasp       Wang et al., "Picking Winning Tickets Before Training", ICLR 2020, equation 8, summed
    synflow     Tanaka et al., "Pruning neural networks without any data", NeurIPS 2020, equations 2 and 3
    fisher      Turner et al., "BlockSwap", ICLR 2020, equations 3 and 4, summed over channels and layers
    jacob_cov   Mellor et al., "Neural Architecture Search without Training", arXiv 2006.04647v1, equation 3
    naswot      the same, ICML 2021, equations 2 and 3
    zen         Lin et al., "Zen-NAS", ICCV 2021, algorithm 1, over all batch norms
    params, macs  `cost.params`, `cost.macs`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nasbench_mr import cost, space
from nasbench_mr import tasks as registry
from nasbench_mr.arrays import Floats
from nasbench_mr.checks import at_least
from nasbench_mr.checks import seed as check_seed
from nasbench_mr.extras import requires
from nasbench_mr.predictors.base import PROXIES, check_networks, check_proxies
from nasbench_mr.tasks import Task
from nasbench_mr.threads import open_device

with requires("search", "the zero-cost proxies"):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn
    from torch.overrides import TorchFunctionMode

    from nasbench_mr.network import MultiResolutionNet, build, initialize

if TYPE_CHECKING:
    from nasbench_mr.arrays import Codes

#: Frames of a clip.
FRAMES = 2
#: By class of object what an anchor head predicts at each place: two anchors of a class score, seven numbers
#: of a box and two directions; and channels of a pillars' pseudo-image.
ANCHOR_OUTPUTS, PILLAR_CHANNELS = 2 * (7 + 2), 64
#: Zen-NAS's step between the two inputs, and the constant that keeps Mellor et al.'s logarithms finite.
ZEN_STEP, JACOB_EPSILON = 1e-2, 1e-5
#: Those that a code has, without a network.
_COSTS: dict[str, Callable[[Codes], Any]] = {"params": cost.params, "macs": cost.macs}


def compute(
    codes: object,
    task: str | Task,
    *,
    names: Sequence[str] = PROXIES,
    seed: int = 0,
    batch: int = 8,
    size: int = 64,
    device: str = "cpu",
    inputs: Tensor | None = None,
) -> dict[str, Floats]:
    """Return zero-cost proxies of codes.

    Args:
        codes: `(n, 27)`, or one code.
        task: whose networks: their head, classes and width.
        names: which of `PROXIES`.
        seed: of weights, inputs and labels.
        batch, size: of the noise: `(batch, 3, size, size)`, with `FRAMES` frames a clip for video.
        device: "cpu", "cuda", "cuda:1".
        inputs: a batch of your own, in the place of noise.

    Returns:
        `(n,)` by name. `synflow` is a logarithm, as it spans hundreds of orders of magnitude.

    Raises:
        UnknownNameError: no such proxy.
        DeviceError: this machine lacks the device.
        InvalidArgumentError: the task's networks are of another space, or a bad number.
        OutOfSpaceError: a code is malformed.
    """
    task = registry.get(task) if isinstance(task, str) else task
    check_proxies(names)
    check_networks(task)
    open_device(device)
    seed, batch, size = check_seed(seed), at_least(2, "batch", batch), at_least(32, "size", size)
    checked = space.check(codes)
    found = {name: np.empty(len(checked)) for name in names}
    for row, code in enumerate(checked):
        values = _of_code(code, task, names, _Setting(seed, batch, size, device, inputs))
        for name in names:
            found[name][row] = values[name]
    return found


class _Setting:
    """What is drawn for a network: weights, inputs and labels."""

    def __init__(self, seed: int, batch: int, size: int, device: str, inputs: Tensor | None):
        self.seed, self.batch, self.size, self.device, self.given = seed, batch, size, device, inputs

    def network(self, code: Codes, task: Task) -> MultiResolutionNet:
        """Return the task's network on the device; a detector's with a convolution for its anchor head."""
        with torch.device("meta"):  # weights are drawn once, below
            if task.problem == "detection":
                outputs = ANCHOR_OUTPUTS * (task.num_classes or 1) + 2 * (task.num_classes or 1) ** 2
                net = MultiResolutionNet(
                    code,
                    outputs,
                    "segmentation",
                    task.width_mult,
                    in_channels=PILLAR_CHANNELS,
                    stem_strides=(2, 1),
                )
            else:
                net = build(code, task)
        net = net.to_empty(device="cpu")
        with torch.random.fork_rng(devices=[]):
            torch.random.manual_seed(self.seed)
            initialize(net)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
        return net.to(self.device).train()

    def noise(self, shape: Sequence[int], salt: int) -> Tensor:
        generator = torch.Generator().manual_seed((self.seed * 1009 + salt) % 2**63)
        return torch.randn(*shape, generator=generator).to(self.device)

    def inputs(self, task: Task, salt: int = 0) -> Tensor:
        if self.given is not None:
            return self.given.to(self.device)
        channels = PILLAR_CHANNELS if task.problem == "detection" else 3
        frames = (FRAMES,) if task.problem == "video" else ()
        return self.noise((self.batch, *frames, channels, self.size, self.size), salt)

    def loss(self, task: Task, outputs: Tensor) -> Tensor:
        """Return the loss against random labels; a detector's against random targets, smooth L1."""
        if task.problem == "detection":
            return F.smooth_l1_loss(outputs, self.noise(outputs.shape, 1))
        generator = torch.Generator().manual_seed((self.seed * 1009 + 1) % 2**63)
        shape = (len(outputs), *outputs.shape[2:])
        labels = torch.randint(outputs.shape[1], shape, generator=generator).to(self.device)
        return F.cross_entropy(outputs, labels)


def _of_code(code: Codes, task: Task, names: Sequence[str], setting: _Setting) -> dict[str, float]:
    values = {name: float(costs(code)[0]) for name, costs in _COSTS.items() if name in names}
    return values if len(values) == len(names) else values | _of_network(code, task, names, setting)


def _of_network(code: Codes, task: Task, names: Sequence[str], setting: _Setting) -> dict[str, float]:
    values: dict[str, float] = {}
    net = setting.network(code, task)
    trained = {"grad_norm", "snip", "grasp", "fisher", "jacob_cov", "naswot"} & set(names)
    if trained:
        values |= _of_training(net, task, trained, setting)
    if "synflow" in names:
        values["synflow"] = synflow(net, setting.inputs(task)[:1].shape)
    if "zen" in names:
        generator = torch.Generator().manual_seed((setting.seed * 1009 + 2) % 2**63)
        net.float().train()
        for kernel in weights(net):
            drawn = torch.randn(kernel.shape, generator=generator)
            kernel.data = drawn.to(setting.device)
        values["zen"] = zen(net, setting.inputs(task, 2), setting.inputs(task, 3))
    return values


def weights(net: nn.Module) -> list[Tensor]:
    """Return the kernels of all convolutions."""
    return [module.weight for module in net.modules() if isinstance(module, nn.Conv2d)]


def _of_training(net: MultiResolutionNet, task: Task, names: set[str], setting: _Setting) -> dict[str, float]:
    """Return the proxies that see a batch, from one pass forward."""
    inputs = setting.inputs(task).requires_grad_("jacob_cov" in names)
    maps: list[Tensor] = []
    hooks = [
        module.register_forward_hook(lambda module, given, output: maps.append(output))
        for module in net.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with _Activations() as activations:
        outputs = net(inputs)
    for hook in hooks:
        hook.remove()
    assert isinstance(outputs, Tensor)
    found: dict[str, float] = {}
    if "naswot" in names:
        found["naswot"] = naswot(activations.agreement(len(inputs)))
    if "jacob_cov" in names:
        (jacobian,) = torch.autograd.grad(outputs.sum(), inputs, retain_graph=True)
        found["jacob_cov"] = jacob_cov(jacobian.flatten(1))
    if not {"grad_norm", "snip", "grasp", "fisher"} & names:
        return found
    kernels = weights(net)
    second = "grasp" in names
    gradients = torch.autograd.grad(
        setting.loss(task, outputs), [*kernels, *maps], create_graph=second, retain_graph=second
    )
    of_kernels, of_maps = gradients[: len(kernels)], gradients[len(kernels) :]
    if "grasp" in names:
        found["grasp"] = grasp(kernels, of_kernels)
    with torch.no_grad():
        found["grad_norm"] = sum(float(g.norm()) for g in of_kernels)
        found["snip"] = sum(float((w * g).abs().sum()) for w, g in zip(kernels, of_kernels, strict=True))
        found["fisher"] = sum(fisher(a, g) for a, g in zip(maps, of_maps, strict=True))
    return {name: found[name] for name in names}


def grasp(kernels: Sequence[Tensor], gradients: Sequence[Tensor]) -> float:
    """Return minus the sum of (H g) * w, with the Hessian H and the gradient g of the loss."""
    product = sum((g * g.detach()).sum() for g in gradients)
    assert isinstance(product, Tensor)
    curved = torch.autograd.grad(product, kernels)
    return -sum(float((w.detach() * h).sum()) for w, h in zip(kernels, curved, strict=True))


def fisher(activations: Tensor, gradients: Tensor) -> float:
    """Return, of one layer's `(B, C, H, W)` maps, the sum over channels of the Fisher information.

    The loss is a mean over the batch, and the gradient of an image's own loss is B times as large.
    """
    own = (activations * gradients).sum((2, 3)) * len(activations)  # (B, C)
    return float((own**2).mean(0).sum() / 2)


def jacob_cov(jacobian: Tensor) -> float:
    """Return the score of the correlations between the rows of a `(B, inputs)` Jacobian."""
    correlations = np.corrcoef(jacobian.detach().cpu().numpy().astype(np.float64))
    values = np.linalg.eigvalsh(np.nan_to_num(correlations)).clip(min=0) + JACOB_EPSILON
    return float(-(np.log(values) + 1 / values).sum())


def naswot(agreement: Floats) -> float:
    """Return the log-determinant of how many activations agree, `(B, B)`."""
    sign, value = np.linalg.slogdet(agreement)
    return float(value) if sign else float("nan")


def synflow(net: MultiResolutionNet, shape: Sequence[int]) -> float:
    """Return the logarithm of the sum of w * dR/dw, R the output for ones with absolute weights.

    Batch norms are left out, and all is in float64; NaN where it overflows even so. The network is changed.
    """
    net = net.double().eval()
    for parameter in net.parameters():
        parameter.data.abs_()
    kernels = weights(net)
    with _WithoutNorms():
        outputs = net(torch.ones(*shape, dtype=torch.float64, device=kernels[0].device))
    assert isinstance(outputs, Tensor)
    gradients = torch.autograd.grad(outputs.sum(), kernels)
    total = sum(float((w.detach() * g).sum()) for w, g in zip(kernels, gradients, strict=True))
    return float(np.log(total)) if np.isfinite(total) and total > 0 else float("nan")


def zen(net: MultiResolutionNet, inputs: Tensor, noise: Tensor) -> float:
    """Return how much the last map moves with the input, with what batch norms scaled away.

    Of a network in training mode whose kernels are drawn from a normal distribution.
    """
    variances: list[Tensor] = []

    def note(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        variances.append(given[0].var((0, 2, 3), unbiased=False).mean())

    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(note) for norm in norms]

    def frames(x: Tensor) -> Tensor:
        return x.flatten(0, 1) if x.ndim == 5 else x

    assert net.head is not None
    with torch.no_grad():
        first = net.head.join(net.branches(frames(inputs)))
        for hook in hooks:
            hook.remove()
        second = net.head.join(net.branches(frames(inputs + ZEN_STEP * noise)))
        moved = (first - second).flatten(1).norm(dim=1).mean()
        scaled = torch.stack(variances).log().sum() / 2
        return float(moved.log() + scaled)


class _Activations(TorchFunctionMode):
    """Notes which units of all ReLUs are on, for each image, while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self._patterns: list[Tensor] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function is F.relu:
            self._patterns.append((result.detach() > 0).flatten(1))
        return result

    def agreement(self, images: int) -> Floats:
        """Return for each pair of inputs how many units agree, `(B, B)`; a clip's frames count together."""
        total = np.zeros((images, images))
        for pattern in self._patterns:
            on = pattern.reshape(images, -1).float()
            total += (on @ on.T + (1 - on) @ (1 - on).T).double().cpu().numpy()
        return total


class _WithoutNorms(TorchFunctionMode):
    """Lets batch norms hand on their input while it is active."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return args[0] if function is F.batch_norm else function(*args, **(kwargs or {}))
