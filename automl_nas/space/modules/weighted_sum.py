"""Weighted sums: in a view with the selection's own weights, and in a stand-alone graph with frozen copies of them."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

from torch import Tensor, fx, nn

from automl_nas.errors import SpaceError


def weighted_sum(values: Sequence[Tensor], weights: Tensor | None) -> Tensor:
    """Return ``sum_i weights[i] * values[i]``, or the plain sum, from left to right, without reading any value.

    Args:
        values: at least one tensor, all of the same shape.
        weights: shape ``(len(values),)``.
    """
    terms = values if weights is None else [w * v for w, v in zip(weights.unbind(0), values, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class WeightedSum(nn.Module):
    """The view of several weighted options that all read the same tensor."""

    def __init__(self, options: Sequence[nn.Module], weights: Tensor) -> None:
        super().__init__()
        self.options = nn.ModuleList(options)
        # In a tuple, so that weights which are a Parameter are not registered as a Parameter of the network.
        self._weights = (weights,)

    def forward(self, x: Tensor) -> Tensor:
        """Run all options and return the weighted sum of their outputs.

        Raises:
            SpaceError: an option changes its input, which the other options read, too.
        """
        outputs = []
        version = _version(x)
        for option in self.options:
            outputs.append(option(x))
            if len(self.options) > 1 and _version(x) != version:
                raise SpaceError(
                    f"an option of a choice, {type(option).__name__}, changes its input in place, so it cannot be "
                    "weighted beside others that read the same input; construct its first layer with inplace=False"
                )
        return weighted_sum(outputs, self._weights[0])


def _version(x: Tensor) -> int:
    """Return how many operations changed a tensor in place; 0 where torch does not count them."""
    return 0 if x.is_inference() else x._version


def emit_sum(graph: fx.Graph, values: Sequence[fx.Node], buffer: str | None) -> fx.Node:
    """Append `weighted_sum` to a graph, operation for operation.

    Args:
        graph: the graph under construction.
        values: the nodes to add.
        buffer: the name of the buffer that holds the weights; None: unweighted.
    """
    terms = list(values)
    if buffer is not None:
        weights = graph.get_attr(buffer)
        terms = [
            graph.call_function(operator.mul, (graph.call_function(operator.getitem, (weights, i)), value))
            for i, value in enumerate(values)
        ]
    total = terms[0]
    for term in terms[1:]:
        total = graph.call_function(operator.add, (total, term))
    return total


def emit_weighted_sum(modules: Mapping[str, nn.Module], weights: Tensor, training: bool) -> fx.GraphModule:
    """Return a graph module that does what `WeightedSum` does, with a copy of the weights as a buffer."""
    root = nn.Module()
    root.register_buffer("option_weights", weights.detach().clone())
    graph = fx.Graph()
    x = graph.placeholder("x")
    outputs = []
    for name, module in modules.items():
        root.add_module(f"option_{name}", module)
        outputs.append(call_module(graph, f"option_{name}", x))
    graph.output(emit_sum(graph, outputs, "option_weights"))
    return finish(root, graph, training)


def call_module(graph: fx.Graph, name: str, x: fx.Node) -> fx.Node:
    """Append the call of a submodule that the graph's root will have."""
    return graph.create_node("call_module", name, (x,))


def finish(root: nn.Module, graph: fx.Graph, training: bool) -> fx.GraphModule:
    """Return the graph as a module, with the given training flag; the children's flags stay."""
    module = fx.GraphModule(root, graph)
    module.training = training
    return module
