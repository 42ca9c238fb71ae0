"""The live part of a `Dag` as a module that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

from torch import Tensor, nn

from automl_nas.space.modules.dag.flow import Flow, Inflow, Program, pays_off

if TYPE_CHECKING:
    from automl_nas.space.modules.dag.module import Dag


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
        self._fused = pays_off(program)
        if final_inflow is not None:
            for name, parameter in dag.projection_of(final_inflow).items():
                self.register_parameter(f"projection_{name}", parameter)
        self.training = dag.training

    def forward(self, x: Tensor) -> Tensor:
        """Run the live nodes level after level, combine what reaches the output, add the shortcut."""
        flow = Flow(x, fused=self._fused)
        for level in self._program:
            names = [inflow.target for inflow in level]
            flow.add(names, [self.nodes[name](total) for name, total in zip(names, flow.into(level), strict=True)])
        result = None
        if self._final is not None:
            result = self._dag[0].combine(flow, self._final)
            if self.after is not None:
                result = self.after(result)
        if self.shortcut is not None:
            short = self.shortcut(x)
            result = short if result is None else result + short
        return self._dag[0].zeros(x) if result is None else result
