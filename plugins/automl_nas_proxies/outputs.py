"""Proxies from activations, outputs and their derivatives with respect to inputs."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from automl_nas.errors import ConfigurationError
from automl_nas_proxies.probe import BATCH_NORMALISATION, Probe

_CORRELATION = 1e-5  # k of equation 3 of Mellor et al. (version 1), and of equation 2 of EPE-NAS
_STEP = 1e-2  # alpha of Zen-NAS, section 4.1
_MOMENTUM = 0.1  # of running variances, the default of torch and of the code of Zen-NAS
_MANY_CLASSES = 100  # tau of EPE-NAS, section III


def nwot(probe: Probe) -> float:
    """Return ``log |K|``: K_ij is the number of rectified units that inputs i and j both switch on, or both off.

    NASWOT: Mellor et al. 2021, arXiv 2006.04647v3, equations 2 and 3. Units are the inputs of ReLU and of the other
    activations in `ACTIVATIONS`, which are on where they are positive. Minus infinity if two inputs have equal codes.

    So it is for a network without such an activation, by the definition: with no units all codes are equal, K is zero,
    and a network of linear layers does have one linear region for all inputs. Of a network with other activations, such
    as tanh, the definition says nothing else; the value is the worst, so spaces with both kinds need another proxy.
    """
    kernel = _kernel(probe)
    if kernel is None:
        return -math.inf
    sign, logarithm = torch.linalg.slogdet(kernel.cpu())
    return float(logarithm) if sign > 0 else -math.inf


def has_units(probe: Probe) -> bool:
    """Whether a network has an activation in `ACTIVATIONS`, at which `nwot` looks."""
    return _kernel(probe) is not None


def _kernel(probe: Probe) -> Tensor | None:
    collected = _Codes(len(probe.inputs))
    with torch.no_grad(), collected:
        probe.network(probe.inputs)
    return collected.kernel


ACTIVATIONS: Mapping[Any, str] = MappingProxyType(
    {
        torch.ops.aten.relu: "relu",
        torch.ops.aten.relu_: "relu",
        torch.ops.aten.hardtanh: "relu6",
        torch.ops.aten.hardtanh_: "relu6",
        torch.ops.aten.leaky_relu: "leaky_relu",
        torch.ops.aten.leaky_relu_: "leaky_relu",
        torch.ops.aten.elu: "elu",
        torch.ops.aten.elu_: "elu",
        torch.ops.aten.gelu: "gelu",
        torch.ops.aten.gelu_: "gelu",
        torch.ops.aten.silu: "silu",
        torch.ops.aten.silu_: "silu",
        torch.ops.aten.hardswish: "hardswish",
        torch.ops.aten.hardswish_: "hardswish",
    }
)
"""Operator -> activation whose inputs are units of `nwot`."""


@final
class _Codes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the kernel of Hamming distances of all activations, of modules and functions alike."""

    def __init__(self, batch: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._batch = batch
        self.kernel: Tensor | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in ACTIVATIONS and args[0].shape[:1] == (self._batch,):
            on = (args[0] > 0).flatten(1).double()
            both = on @ on.T + (1 - on) @ (1 - on).T
            self.kernel = both if self.kernel is None else self.kernel + both
        return func(*args, **(kwargs or {}))


def jacov(probe: Probe) -> float:
    """Return ``-sum_i (log(s_i + k) + 1 / (s_i + k))``: s_i are the eigenvalues of the correlations of input gradients.

    Mellor et al., arXiv 2006.04647v1, equations 2 and 3; k is 1e-5. NaN if an input has no gradient.
    """
    values = torch.linalg.eigvalsh(_correlations(probe.jacobian)) if _varies(probe.jacobian) else None
    if values is None:
        return math.nan
    shifted = values.clamp_min(0) + _CORRELATION  # rounding may make the smallest negative
    return -float((shifted.log() + 1 / shifted).sum())


def epe_nas(probe: Probe) -> float:
    """Return the sum over classes of ``|sum_ij log(|C_ij| + k)|``: C are the correlations of a class's input gradients.

    EPE-NAS: Lopes et al. 2021, arXiv 2102.08099, equations 2 to 5; k is 1e-5. With more than 100 classes in the batch's
    targets, the mean over pairs of classes of the absolute differences of these sums, each divided by its number of
    samples. NaN if an input has no gradient.

    Raises:
        ConfigurationError: targets are not classes.
    """
    targets = probe.targets
    if not are_classes(targets):
        raise ConfigurationError(NO_CLASSES)
    if not _varies(probe.jacobian):
        return math.nan
    classes = torch.unique(targets)
    many = len(classes) > _MANY_CLASSES
    sums = []
    for each in classes:
        rows = probe.jacobian[targets == each]
        total = float((_correlations(rows).abs() + _CORRELATION).log().sum())
        sums.append(total / len(rows) if many else total)
    if not many:
        return sum(abs(value) for value in sums)
    return sum(abs(one - other) for one in sums for other in sums) / len(sums)


NO_CLASSES = "epe_nas compares classes, and the targets of this task are no classes; use another proxy, such as jacov"


def are_classes(targets: Tensor) -> bool:
    """Whether the targets of a batch are one class for each input."""
    return targets.dim() == 1 and not targets.is_floating_point()


def zen(probe: Probe) -> float:
    """Return ``log E|f(x) - f(x + a e)| + sum_l log s_l`` for Gaussian weights, inputs x and noise e.

    Zen-NAS: Lin et al. 2021, arXiv 2102.01063, algorithm 1, with a = 0.01: f are the features before the network's
    global pooling, s_l a scale of layer l of batch normalisation; their logarithms undo its division. Weights of
    convolutions and linear layers are drawn from N(0, 1), so the fresh weights have no influence. In two points this
    follows the code by which the published values were computed (Zen-NAS, NAS-Bench-Suite-Zero) and not the algorithm:

    - s_l is the root of the mean *running* variance after the two passes, with a momentum of 0.1 from 1, not of the
      batch: about ``0.81 + 0.19 var``, so each layer counts log(0.19) / 2 = -0.83 less.
    - Residual connections are kept.

    Raises:
        ConfigurationError: inputs are token numbers.
    """
    if not probe.inputs.is_floating_point():
        raise ConfigurationError("inputs of this task are integers, to which no noise can be added; use another proxy")
    network = copy.deepcopy(probe.network)
    running: dict[nn.Module, Tensor] = {}

    def follow(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs = args[0].double()
        variance = inputs.var([axis for axis in range(inputs.dim()) if axis != 1])
        before = running.get(module, torch.ones_like(variance))
        running[module] = (1 - _MOMENTUM) * before + _MOMENTUM * variance

    with torch.no_grad():
        for weight in Probe(network, probe.inputs).weights:
            weight.normal_()
        for module in network.modules():
            if isinstance(module, BATCH_NORMALISATION):
                module.register_forward_pre_hook(follow)
        first = torch.randn_like(probe.inputs)
        before = _features(network, first)
        after = _features(network, first + _STEP * torch.randn_like(probe.inputs))
    change = float((before - after).flatten(1).abs().sum(1).double().mean())
    scales = sum(0.5 * math.log(float(variance.mean())) for variance in running.values())
    return math.log(change) + scales if change > 0 else -math.inf


def _features(network: nn.Module, inputs: Tensor) -> Tensor:
    """Return the last output of a module that has positions, such as those of an image; else the network's output."""
    last: list[Tensor] = []

    def keep(module: nn.Module, args: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() > 2 and math.prod(output.shape[2:]) > 1:
            last[:] = [output]

    handles = [module.register_forward_hook(keep) for module in network.modules() if not list(module.children())]
    try:
        outputs: Tensor = network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return last[0] if last else outputs


def _correlations(rows: Tensor) -> Tensor:
    """Return the correlations of rows, shape ``(n, n)``."""
    centred = rows - rows.mean(1, keepdim=True)
    unit = centred / centred.norm(dim=1, keepdim=True)
    product: Tensor = unit @ unit.T
    return product


def _varies(rows: Tensor) -> bool:
    """Whether each row has different values, so that its correlations are defined."""
    return bool((rows.amax(1) > rows.amin(1)).all())
