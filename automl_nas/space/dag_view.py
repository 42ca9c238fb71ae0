"""The live part of a `Dag`, as a program and as a module that runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from torch import Tensor, nn

from automl_nas.space.choice import Taken
from automl_nas.space.dag_graph import INPUT
from automl_nas.space.weighted import weighted_sum

if TYPE_CHECKING:
    from automl_nas.space.dag import Dag


@dataclass(frozen=True)
class Inflow:
    """What flows into one target.

    Attributes:
        target: a node or ``output``.
        sources: the live sources, in order.
        weights: one for each, shape ``(len(sources),)``; None: unweighted.
    """

    target: str
    sources: tuple[str, ...]
    weights: Tensor | None


Program = tuple[tuple[Inflow, ...], ...]
"""The live nodes, level after level."""


@final
class DagView(nn.Module):
    """The live part of a `Dag`, sharing its weights."""

    def __init__(
        self,
        dag: Dag,
        nodes: Mapping[str, nn.Module],
        after: nn.Module | None,
        shortcut: nn.Module | None,
        program: Program,
        final_inflow: Inflow | None,
    ) -> None:
        super().__init__()
        # In a tuple: the whole Dag, with its dead nodes, is not a part of the view.
        self._dag = (dag,)
        self.nodes = nn.ModuleDict(nodes)
        self.after, self.shortcut = after, shortcut
        self._program, self._final = program, final_inflow
        if final_inflow is not None:
            for name, parameter in dag.projection_of(final_inflow).items():
                self.register_parameter(f"projection_{name}", parameter)
        self.training = dag.training

    def forward(self, x: Tensor) -> Tensor:
        """Run the live nodes level after level, combine what reaches the output, add the shortcut."""
        values = {INPUT: x}
        for level in self._program:
            for inflow, total in zip(level, level_inputs(level, values), strict=True):
                values[inflow.target] = self.nodes[inflow.target](total)
        result = None
        if self._final is not None:
            result = self._dag[0].combine(values, self._final)
            if self.after is not None:
                result = self.after(result)
        if self.shortcut is not None:
            short = self.shortcut(x)
            result = short if result is None else result + short
        return self._dag[0].zeros(x) if result is None else result


def level_inputs(level: Sequence[Inflow], values: Mapping[str, Tensor]) -> list[Tensor]:
    """Return what the nodes of one level read.

    All of them read earlier levels only, so this is one product Lambda @ [h_1 .. h_n]; here it is done row by row.

    Args:
        level: the live nodes of a level.
        values: the outputs of the earlier levels and the input, all of one shape.
    """
    return [weighted_sum([values[source] for source in inflow.sources], inflow.weights) for inflow in level]


def inflow_of(target: str, sources: tuple[str, ...], taken: Taken) -> Inflow:
    """Return what flows in when only some of what is taken is live; the live sources stand in the order taken."""
    weights = taken.weights
    if weights is not None and len(sources) != len(taken.options):
        places = {option: place for place, option in enumerate(taken.options)}
        weights = weights[[places[source] for source in sources]]
    return Inflow(target, sources, weights)
