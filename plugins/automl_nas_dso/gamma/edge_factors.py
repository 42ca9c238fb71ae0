"""The penalty of each edge relative to gamma: equal for all edges, or by the cost of the edge."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, final

import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import CostModel
from automl_nas.space import OUTPUT, Architecture
from automl_nas_dso.gates import Gates
from automl_nas_dso.live_structure import LiveStructure
from automl_nas_dso.space import Block

FactorSchedule: TypeAlias = Literal["constant", "adaptive_flops", "adaptive_mac", "adaptive_latency"]

MacReference: TypeAlias = Literal["block", "network", "total"]
"""What memory access costs are divided by: the largest of the edge's block, the largest of the network, or their sum
over the fully connected network."""


class EdgeFactors(ABC):
    """The penalty of each edge divided by gamma, between 0 and 1.

    Attributes:
        largest: the factor of the edge with the largest penalty, by which the penalty travel of a search is judged.
    """

    largest: float = 1.0

    @abstractmethod
    def __call__(self, live: Architecture) -> Tensor:
        """Return one factor for each entry of lambda, shape ``(number of edges,)``, float64, on the CPU.

        Args:
            live: the live edges.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must not measure again (default: nothing)."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - an empty default on purpose
        """Load what `state_dict` returned (default: nothing)."""


@final
class Constant(EdgeFactors):
    """The same factor, 1, for all edges.

    Args:
        gates: the edges.
    """

    def __init__(self, gates: Gates) -> None:
        self._ones = torch.ones(len(gates.edges), dtype=torch.float64)

    def __call__(self, live: Architecture) -> Tensor:
        """Return ones."""
        return self._ones


class _BlockFactors(EdgeFactors, ABC):
    """A factor for each edge of each block; tied edges get the mean of their blocks."""

    def __init__(self, gates: Gates, structure: LiveStructure) -> None:
        if not structure.blocks:
            raise ConfigurationError(
                "an adaptive gamma_schedule needs a space that knows the costs of its edges (an EdgeSpace, such as "
                "dso); set constant",
                path="gamma_schedule",
            )
        self.structure = structure
        self._places = {edge: place for place, edge in enumerate(gates.edges)}

    def gather(self, values: Iterable[tuple[Block, str, str, float]]) -> Tensor:
        """Return the mean for each entry of lambda, from ``(block, target, source, number)``; 0 without a number."""
        total = torch.zeros(len(self._places), dtype=torch.float64)
        count = torch.zeros_like(total)
        for block, target, source, value in values:
            place = self._places[block.decisions[target], source]
            total[place] += value
            count[place] += 1
        return total / count.clamp(min=1)

    def _edges(self) -> Iterable[tuple[int, Block, str, str]]:
        for number, block in enumerate(self.structure.blocks):
            for target, sources in block.sources.items():
                if target in block.decisions:
                    for source in sources:
                        yield number, block, target, source


@final
class AdaptiveFlops(_BlockFactors):
    """``FLOPs_t / FLOPs_block`` (DSO-NAS, adaptive FLOPs): live FLOPs of the edge's block, relative to all of them.

    For tied edges both are summed over their blocks.
    """

    def __call__(self, live: Architecture) -> Tensor:
        """Return the factors."""
        costs = self.structure.costs(live)
        totals: dict[str, list[int]] = {}
        for block, (cost, full) in zip(self.structure.blocks, costs, strict=True):
            for name in set(block.decisions.values()):
                sums = totals.setdefault(name, [0, 0])
                sums[0] += cost.flops
                sums[1] += full.flops

        def factor(name: str) -> float:
            live_flops, all_flops = totals[name]
            return live_flops / all_flops if all_flops else 1.0

        return self.gather(
            (block, target, source, factor(block.decisions[target])) for _, block, target, source in self._edges()
        )


@final
class AdaptiveMac(_BlockFactors):
    """``MAC_(m,n) / MAC_max`` (DSO-NAS, adaptive MAC) for the edges into operation (m,n).

    MAC is the memory access cost. The MAC of an edge to a block's output is that of the edge itself. In the paper,
    MAC_max is the largest MAC of the network (``network``).

    Args:
        gates: the edges.
        structure: the blocks.
        reference: MAC_max is the largest MAC in the edge's ``block``, the largest in the whole ``network``, or the
            ``total`` of all operations and edges to outputs of the fully connected network.
    """

    def __init__(self, gates: Gates, structure: LiveStructure, reference: MacReference) -> None:
        super().__init__(gates, structure)
        divisors = [
            max(cost.memory_access for cost in (*block.costs.values(), *block.output.values()))
            for block in structure.blocks
        ]
        if reference == "network":
            divisors = [max(divisors)] * len(divisors)
        elif reference == "total":
            divisors = [sum(block.full_cost.memory_access for block in structure.blocks)] * len(divisors)
        self._factors = self.gather(
            (
                block,
                target,
                source,
                (block.output[source] if target == OUTPUT else block.costs[target]).memory_access / divisors[number],
            )
            for number, block, target, source in self._edges()
        )
        if reference == "total":
            # Hundreds of operations share the total: a gamma that suits factors of up to 1 would remove no edge.
            self.largest = float(self._factors.max())

    def __call__(self, live: Architecture) -> Tensor:
        """Return the factors, which do not depend on the live edges."""
        return self._factors


@final
class AdaptiveLatency(_BlockFactors):
    """``0.5 + 0.5 * minmax(s)`` over the live edges, where s is the latency saved by removing this edge alone.

    Removing an edge saves the operations that die with it; an edge to the output also saves its share of the
    projection. Dead edges get 0.5.

    A latency that is computed, or read from a table, is computed for the live network. A measured latency (``noisy``)
    is measured once, module by module, on the fully connected network, because a measurement takes seconds and a
    resumed run would get other values. The measured values are part of the state.

    Args:
        gates: the edges.
        structure: the blocks.
        model: the latency of a network, module by module, in any unit.
    """

    def __init__(self, gates: Gates, structure: LiveStructure, model: CostModel) -> None:
        super().__init__(gates, structure)
        self._model = model
        self._measured: dict[str, float] = {}
        self._last: tuple[Architecture, Tensor] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the measured values: module path -> latency."""
        return {"measured": dict(self._measured)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the measured values."""
        self._measured, self._last = dict(state["measured"]), None

    def __call__(self, live: Architecture) -> Tensor:
        """Return the factors.

        Raises:
            ConfigurationError: the cost model's breakdown contains none of the operations.
        """
        if self._last is None or self._last[0] != live:
            self._last = live, self._compute(live)
        return self._last[1]

    def _compute(self, live: Architecture) -> Tensor:
        parts = self._parts(live)
        saved: list[tuple[Block, str, str, float]] = []
        for block in self.structure.blocks:
            alive = block.live(live)
            # The number of edges that share the projection, in the network whose latency is known.
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
                f"the breakdown of '{self._model.metric}' contains none of the operations of the blocks (such as "
                f"'{saved[0][0].path}.nodes.{saved[0][1]}'), so it gives no factor for edges; use another cost model",
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
            self._measured = {path: float(value) for path, value in self._model.breakdown(self.structure.full).items()}
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
    """Return the latency saved by removing an edge: operations that die with it, and a share of the projection."""
    name = block.decisions[target]
    value = live[name]
    assert isinstance(value, tuple)
    after = block.live({**live, name: tuple(other for other in value if other != source)})
    total = math.fsum(_below(parts, f"{block.path}.nodes.{node}") for node in alive if node not in (*after, OUTPUT))
    lost = len(alive[OUTPUT]) - len(after.get(OUTPUT, ()))
    return total + _below(parts, f"{block.path}.projection") * lost / outputs


def _below(parts: Mapping[str, float], path: str) -> float:
    return math.fsum(value for name, value in parts.items() if name == path or name.startswith(f"{path}."))


def make_factors(
    schedule: FactorSchedule,
    gates: Gates,
    structure: LiveStructure,
    *,
    reference: MacReference,
    latency: str,
    models: Mapping[str, CostModel],
) -> EdgeFactors:
    """Return the factors of a schedule.

    Args:
        schedule: which factors.
        gates: the edges.
        structure: the blocks.
        reference: see `AdaptiveMac`.
        latency: the name of the cost model that `AdaptiveLatency` uses.
        models: the cost models of the problem.

    Raises:
        ConfigurationError: the space does not know its costs, or the problem has no cost model of that name.
    """
    if schedule == "adaptive_flops":
        return AdaptiveFlops(gates, structure)
    if schedule == "adaptive_mac":
        return AdaptiveMac(gates, structure, reference)
    if schedule == "adaptive_latency":
        if latency not in models:
            raise ConfigurationError(
                f"the problem has no cost '{latency}' (it has {', '.join(models) or 'none'}); add it to problem.costs",
                path="latency",
            )
        return AdaptiveLatency(gates, structure, models[latency])
    return Constant(gates)
