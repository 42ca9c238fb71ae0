"""Squeeze-and-excitation whose widths follow its input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError
from automl_nas.space.modules.choice import ModuleResolver, ResolvedChoice
from automl_nas.space.modules.elastic_layers.following import FollowingLayer
from automl_nas.space.modules.elastic_layers.slices import check_width, plain_layer
from automl_nas.space.modules.elastic_layers.widths import WidthRule
from automl_nas.space.modules.weighted_sum import call_module, finish


@final
class ElasticSqueezeExcitation(FollowingLayer):
    """Squeeze-and-excitation (Hu et al. 2018, arXiv 1709.01507) of any number of channels; it has no decision.

    ``x * gate(expand(activation(reduce(mean of x over the positions))))``, where ``reduce`` and ``expand`` are 1x1
    convolutions with bias. Their weights are for the largest width; the first rows and columns are used.

    Args:
        channels: the largest number of channels.
        middle: the number of channels between both convolutions, or a function of the number of channels, such as
            ``lambda channels: channels // 4``, which must not decrease.
        activation: after ``reduce``; None: ReLU.
        gate: after ``expand``; None: the hard sigmoid.

    Raises:
        SpaceError: there are no channels in the middle.
    """

    def __init__(
        self,
        channels: int,
        middle: int | WidthRule,
        activation: nn.Module | None = None,
        gate: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self._middle = middle
        most = self._width(channels)
        if most < 1:
            raise SpaceError(f"squeeze-and-excitation needs at least one channel in its middle, not {most}")
        self.reduce = nn.Conv2d(channels, most, 1)
        self.activation = nn.ReLU() if activation is None else activation
        self.expand = nn.Conv2d(most, channels, 1)
        self.gate = nn.Hardsigmoid() if gate is None else gate

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a graph of two plain ``nn.Conv2d`` with copies of the rows and columns in use."""
        width = resolver.input_shape(self)[1]
        middle = self._width(width)
        is_largest = width == self.channels
        reduced, expanded = self._slices(width)
        root = nn.Module()
        root.reduce = plain_layer(lambda: nn.Conv2d(width, middle, 1), self.reduce, reduced, resolver, is_largest)
        root.activation = resolver(self.activation)
        root.expand = plain_layer(lambda: nn.Conv2d(middle, width, 1), self.expand, expanded, resolver, is_largest)
        root.gate = resolver(self.gate)
        graph = fx.Graph()
        x = graph.placeholder("x")
        scale = graph.call_function(F.adaptive_avg_pool2d, (x, 1))
        for name in ("reduce", "activation", "expand", "gate"):
            scale = call_module(graph, name, scale)
        graph.output(graph.call_function(torch.mul, (x, scale)))
        return finish(root, graph, self.training)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Scale every channel."""
        (reduce, reduce_bias), (expand, expand_bias) = self._slices(x.shape[1])
        scale: Tensor = F.conv2d(F.adaptive_avg_pool2d(x, 1), reduce, reduce_bias)
        scale = self.gate(F.conv2d(self.activation(scale), expand, expand_bias))
        return x * scale

    def _width(self, channels: int) -> int:
        return self._middle(channels) if callable(self._middle) else self._middle

    def _slices(self, width: int) -> tuple[tuple[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]:
        check_width(self.path, width, self.channels)
        middle = self._width(width)
        assert self.reduce.bias is not None
        assert self.expand.bias is not None
        return (
            (self.reduce.weight[:middle, :width], self.reduce.bias[:middle]),
            (self.expand.weight[:width, :middle], self.expand.bias[:width]),
        )
