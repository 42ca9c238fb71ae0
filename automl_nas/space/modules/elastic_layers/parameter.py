"""A learned tensor whose last dimension follows that of an input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import final

import torch
from torch import Tensor, fx, nn

from automl_nas.space.modules.choice import ModuleResolver, ResolvedChoice
from automl_nas.space.modules.elastic_layers.following import FollowingLayer
from automl_nas.space.modules.elastic_layers.slices import check_width
from automl_nas.space.modules.weighted_sum import finish


@final
class ElasticParameter(FollowingLayer):
    """A learned tensor for an input of any width: positions, a class token, scales of features. It has no decision.

    Called with the input, it returns its first entries along the last dimension, as many as the input has, and leaves
    the rest of the input alone: ``x + self.positions(x)``. An extracted network has a ``torch.fx.GraphModule`` that
    returns the tensor.

    Args:
        shape: of the tensor; the last dimension is the largest width.
        initial: sets the first values, in place.

    Example::

        self.positions = ElasticParameter((1, 196, 256), partial(nn.init.trunc_normal_, std=0.02))
    """

    def __init__(self, shape: Sequence[int], initial: Callable[[Tensor], object] = nn.init.zeros_) -> None:
        super().__init__(None)
        self.weight = nn.Parameter(torch.empty(tuple(shape)))
        self.initial = initial
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the first values."""
        self.initial(self.weight)

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a graph that returns a copy of the entries in use."""
        part = self._slice(resolver.input_shape(self)[-1])
        root = nn.Module()
        root.weight = nn.Parameter(part.detach().clone(), part.requires_grad)
        graph = fx.Graph()
        graph.placeholder("x")
        graph.output(graph.create_node("get_attr", "weight"))
        return finish(root, graph, self.training)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Return the first entries, as many as the last dimension of the input has."""
        return self._slice(x.shape[-1])

    def _slice(self, width: int) -> Tensor:
        check_width(self.path, width, self.weight.shape[-1])
        return self.weight[..., :width]
