"""Penalties by the latency that the removal of an edge would save."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import CostModel
from automl_nas.space import OUTPUT, Architecture
from automl_nas_dso.edges import Block
from automl_nas_dso.gamma_factors import OfBlocks
from automl_nas_dso.live_structure import LiveStructure
from automl_nas_dso.strategy_gates import Gates


@final
class AdaptiveLatency(OfBlocks):
    """``0.5 + 0.5 * minmax(s)``, s what the removal of the edge alone saves, over the live edges.

    Removing an edge saves the operations that die with it; one to the output also its share of the projection. Dead
    edges get 0.5.

    A latency that is computed, or read from a table, is asked for what is alive. One that is measured (``noisy``) is
    measured once, on the fully connected network, and divided among its modules: it would take seconds every few steps,
    and a resumed run would measure something else. What was measured is a part of the state.

    Args:
        gates: the edges.
        anatomy: the blocks.
        model: the latency of a network, module by module, in any unit.
    """

    def __init__(self, gates: Gates, anatomy: LiveStructure, model: CostModel) -> None:
        super().__init__(gates, anatomy)
        self._model = model
        self._measured: dict[str, float] = {}
        self._last: tuple[Architecture, Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return what was measured: module path -> latency."""
        return {"measured": dict(self._measured)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with what was measured before."""
        self._measured, self._last = dict(state["measured"]), None

    def __call__(self, live: Architecture) -> Tensor:
        """Return the factors.

        Raises:
            ConfigurationError: the model's breakdown names none of the operations.
        """
        if self._last is None or self._last[0] != live:
            self._last = live, self._compute(live)
        return self._last[1]

    def _compute(self, live: Architecture) -> Tensor:
        parts = self._parts(live)
        saved: list[tuple[Block, str, str, float]] = []
        for block in self.anatomy.blocks:
            alive = block.live(live)
            # The projection of which an edge takes its share: that of the network that was measured.
            outputs = block.sources[OUTPUT] if self._model.noisy else alive.get(OUTPUT, ())
            for target, sources in alive.items():
                if target in block.decisions:
                    saved += [
                        (block, target, source, _saved(block, live, alive, target, source, parts, len(outputs)))
                        for source in sources
                    ]
        values = [value for *_, value in saved]
        if saved and max(values) <= 0:
            raise ConfigurationError(
                f"the breakdown of '{self._model.metric}' says nothing about the operations of the blocks (such as "
                f"'{saved[0][0].path}.nodes.{saved[0][1]}'), so no edge can be weighed by it",
                path="latency",
            )
        low = min(values, default=0.0)
        span = (max(values, default=0.0) - low) or 1.0
        scaled = ((block, target, source, (value - low) / span) for block, target, source, value in saved)
        return 0.5 + 0.5 * self.gather(scaled)

    def _parts(self, live: Architecture) -> Mapping[str, float]:
        if not self._model.noisy:
            return self._model.breakdown(live)
        if not self._measured:
            self._measured = {path: float(value) for path, value in self._model.breakdown(self.anatomy.full).items()}
        return self._measured


def _saved(
    block: Block,
    live: Architecture,
    alive: Mapping[str, tuple[str, ...]],
    target: str,
    source: str,
    parts: Mapping[str, float],
    outputs: int,
) -> float:
    """Return what goes with an edge: the operations that die with it, and a share of the projection."""
    name = block.decisions[target]
    value = live[name]
    assert isinstance(value, tuple)
    after = block.live({**live, name: tuple(other for other in value if other != source)})
    total = math.fsum(_below(parts, f"{block.path}.nodes.{node}") for node in alive if node not in (*after, OUTPUT))
    lost = len(alive[OUTPUT]) - len(after.get(OUTPUT, ()))
    return total + _below(parts, f"{block.path}.projection") * lost / outputs


def _below(parts: Mapping[str, float], path: str) -> float:
    return math.fsum(value for name, value in parts.items() if name == path or name.startswith(f"{path}."))
