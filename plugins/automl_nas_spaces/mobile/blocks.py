"""Inverted residual blocks (MBConv) whose expansion, kernel and output width may be searched."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.space import ElasticBatchNorm2d, ElasticConv2d, ElasticSqueezeExcitation, Scalar
from automl_nas_spaces.mobile.rules import Expanded, WidthRule

Activation: TypeAlias = Literal["relu", "relu6", "hardswish", "silu"]
"""Names of activations, as in torch."""

_ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "hardswish": lambda: nn.Hardswish(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
}


@final
@dataclass(frozen=True)
class Norm:
    """The settings of batch normalisation.

    Attributes:
        eps: as in ``nn.BatchNorm2d``.
        momentum: as in ``nn.BatchNorm2d``.
    """

    eps: float = 1e-5
    momentum: float = 0.1

    def __call__(self, channels: int, searched: bool) -> nn.Module:
        """Return a layer, which follows its input if widths are searched."""
        return (ElasticBatchNorm2d if searched else nn.BatchNorm2d)(channels, self.eps, self.momentum)


@final
class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation of fixed widths; `automl_nas.space.ElasticSqueezeExcitation` follows its input."""

    def __init__(self, channels: int, middle: int, activation: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, middle, 1)
        self.activation = activation
        self.expand = nn.Conv2d(middle, channels, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """Scale every channel."""
        scale: Tensor = self.gate(self.expand(self.activation(self.reduce(F.adaptive_avg_pool2d(x, 1)))))
        return x * scale


@final
@dataclass(frozen=True)
class Squeeze:
    """The settings of squeeze-and-excitation inside a block.

    Attributes:
        middle: hidden width -> width in the middle, or a fixed one.
        activation: between both convolutions.
        gate: after them.
    """

    middle: int | WidthRule
    activation: Activation
    gate: Literal["hardsigmoid", "sigmoid"]

    def __call__(self, channels: int, searched: bool) -> nn.Module:
        """Return a module for a hidden width, or for all widths up to it."""
        gate = nn.Hardsigmoid() if self.gate == "hardsigmoid" else nn.Sigmoid()
        inner = activation(self.activation)
        if searched:
            return ElasticSqueezeExcitation(channels, self.middle, inner, gate)
        middle = self.middle(channels) if callable(self.middle) else self.middle
        return SqueezeExcitation(channels, middle, inner, gate)


class Residual(nn.Module):
    """``x + layers(x)``."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        outputs: Tensor = x + self.layers(x)
        return outputs


@final
@dataclass(frozen=True)
class Block:
    """An inverted residual block: 1x1 expansion, depthwise convolution, 1x1 projection (MobileNetV2, section 3.3).

    Each convolution is followed by batch normalisation, the first two also by an activation. An expansion that is 1,
    and cannot be another number, has no convolution.

    Attributes:
        inputs: the largest number of input channels.
        outputs: output channels; scale -> number of channels: the scale is a decision.
        stride: of the depthwise convolution.
        kernels: the options of its kernel, increasing.
        expansions: the options of the expansion, increasing.
        activation: of the first two convolutions.
        norm: settings of batch normalisation.
        squeeze: squeeze-and-excitation after the depthwise convolution; None: without.
        shortcut: whether the input is added.
        kernel_transformation: whether small kernels are made by trained matrices; see `ElasticConv2d`.
    """

    inputs: int
    outputs: int | Mapping[Scalar, int]
    stride: int
    kernels: tuple[int, ...]
    expansions: tuple[float, ...]
    activation: Activation
    norm: Norm
    squeeze: Squeeze | None = None
    shortcut: bool = True
    kernel_transformation: bool = False

    def searched(self, name: str, width_name: str) -> nn.Module:
        """Return the block with its choices.

        Args:
            name: of the block; its decisions are ``<name>.expansion`` and ``<name>.kernel`` where there are several
                options.
            width_name: of the decision about the output width, where it has several.
        """
        rules: dict[Scalar, int | WidthRule] = {ratio: Expanded(ratio) for ratio in self.expansions}
        hidden = self._hidden(self.inputs, self.expansions[-1])
        expand = None
        if self.expansions != (1,):
            out = rules if len(rules) > 1 else rules[self.expansions[0]]
            expand = ElasticConv2d(self.inputs, out, 1, bias=False, name=f"{name}.expansion")
        several = len(self.kernels) > 1
        depthwise = ElasticConv2d(
            hidden,
            hidden,
            self.kernels[-1],
            self.stride,
            self.kernels[-1] // 2,
            groups=hidden,
            bias=False,
            name=name,
            kernels=self.kernels if several else (),
            kernel_transformation=self.kernel_transformation and several,
        )
        project = ElasticConv2d(hidden, self.outputs, 1, bias=False, name=width_name)
        return self._assembled(expand, depthwise, project, searched=True)

    def plain(self, inputs: int, outputs: int, kernel: int, expansion: float) -> nn.Module:
        """Return the block of torch's own layers for one option each."""
        hidden = self._hidden(inputs, expansion)
        expand = None if self.expansions == (1,) else nn.Conv2d(inputs, hidden, 1, bias=False)
        depthwise = nn.Conv2d(hidden, hidden, kernel, self.stride, kernel // 2, groups=hidden, bias=False)
        project = nn.Conv2d(hidden, outputs, 1, bias=False)
        return self._assembled(expand, depthwise, project, searched=False)

    def _hidden(self, inputs: int, expansion: float) -> int:
        return inputs if self.expansions == (1,) else Expanded(expansion)(inputs)

    def _assembled(
        self, expand: nn.Conv2d | None, depthwise: nn.Conv2d, project: nn.Conv2d, *, searched: bool
    ) -> nn.Module:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        hidden = depthwise.out_channels
        if expand is not None:
            parts["expand"] = nn.Sequential(expand, self.norm(hidden, searched), activation(self.activation))
        parts["depthwise"] = nn.Sequential(depthwise, self.norm(hidden, searched), activation(self.activation))
        if self.squeeze is not None:
            parts["squeeze"] = self.squeeze(hidden, searched)
        parts["project"] = nn.Sequential(project, self.norm(project.out_channels, searched))
        layers = nn.Sequential(parts)
        return Residual(layers) if self.shortcut else layers


def activation(name: Activation) -> nn.Module:
    """Return an activation module."""
    return _ACTIVATIONS[name]()


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int, norm: Norm, name: Activation, *, searched: bool = False
) -> nn.Sequential:
    """Return a convolution without bias, batch normalisation and an activation.

    Args:
        inputs: number of input channels, the largest one if it is searched.
        outputs: number of output channels.
        kernel: side of the kernel.
        stride: of the convolution.
        norm: settings of batch normalisation.
        name: of the activation.
        searched: whether the number of input channels is searched.
    """
    make = ElasticConv2d if searched else nn.Conv2d
    layer = make(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, norm(outputs, False), activation(name))
