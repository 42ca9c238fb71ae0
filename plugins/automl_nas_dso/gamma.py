"""How large the penalty is: automatic, checked before the run, and adapted to what each edge costs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.cost import CostModel
from automl_nas.space.architecture import Architecture
from automl_nas.space.dag_graph import OUTPUT
from automl_nas_dso.edges import Block
from automl_nas_dso.strategy_anatomy import Anatomy
from automl_nas_dso.strategy_gates import Gates

Schedule: TypeAlias = Literal["constant", "adaptive_flops", "adaptive_mac", "adaptive_latency"]

AIM = 2.0
"""What ``gamma: auto`` aims at: so many times the way from 1 to 0 is what a useless edge could travel."""


def strength(gamma: float, rates: Iterable[float], momentum: float) -> float:
    """Return k: how far a penalty moves an edge without gradient, in the units of its way from 1 to 0.

    It is the sum of v over ``v = momentum v + rate gamma``, which is ``gamma * sum(rates) / (1 - momentum)`` but for
    the first steps, in which the momentum builds up. Useless edges reach 0 from k = 1 on; 1 to 3 is useful.

    Args:
        gamma: the penalty.
        rates: the learning rate of each step of lambda.
        momentum: of lambda.
    """
    velocity = distance = 0.0
    for rate in rates:
        velocity = momentum * velocity + rate * gamma
        distance += velocity
    return distance


def automatic(rates: Iterable[float], momentum: float) -> float:
    """Return the penalty whose `strength` is `AIM`."""
    return AIM / strength(1.0, rates, momentum)


def check_reach(gamma: float, rates: list[float], momentum: float) -> None:
    """Check that a penalty is a number, and that it takes a useless edge from 1 to 0 in time.

    A penalty of exactly 0 passes: it removes nothing, and says so.

    Raises:
        ConfigurationError: it does not; the message has the prediction and a penalty that would do.
    """
    if not 0 <= gamma < math.inf:
        raise ConfigurationError(f"must be finite and at least 0, not {gamma}", path="gamma")
    k = strength(gamma, rates, momentum)
    if gamma > 0 and k < 1:
        raise ConfigurationError(
            f"{gamma:g} is too small: in the {len(rates)} steps of lambda of this run an edge that nothing needs gets "
            f"from 1 to {1 - k:.3g} (k = {k:.2g}), so none would be removed; {gamma / k:.2g} is the least, "
            f"{AIM * gamma / k:.2g} would do (k = {AIM:g}); or set 'auto', or train longer",
            path="gamma",
        )


class Factors(ABC):
    """The penalty of each edge, relative to gamma: between 0 and 1."""

    @abstractmethod
    def __call__(self, live: Architecture) -> Tensor:
        """Return one factor for each entry of lambda, shape ``(number of edges,)``, float64, on the CPU.

        Args:
            live: what is alive now.
        """


@final
class Constant(Factors):
    """The same for all edges.

    Args:
        gates: the edges.
    """

    def __init__(self, gates: Gates) -> None:
        self._ones = torch.ones(len(gates.edges), dtype=torch.float64)

    def __call__(self, live: Architecture) -> Tensor:
        """Return ones."""
        return self._ones


class _OfBlocks(Factors):
    """A factor for each edge of each block; tied edges get the mean over the blocks."""

    def __init__(self, gates: Gates, anatomy: Anatomy) -> None:
        if not anatomy.blocks:
            raise ConfigurationError(
                "an adaptive gamma needs a space that knows what its edges cost (an EdgeSpace, such as dso); use "
                "constant",
                path="gamma_schedule",
            )
        self._anatomy = anatomy
        self._places = {edge: place for place, edge in enumerate(gates.edges)}

    def _gather(self, values: Iterable[tuple[Block, str, str, float]]) -> Tensor:
        total = torch.zeros(len(self._places), dtype=torch.float64)
        count = torch.zeros_like(total)
        for block, target, source, value in values:
            place = self._places[block.decisions[target], source]
            total[place] += value
            count[place] += 1
        return total / count.clamp(min=1)

    def _edges(self) -> Iterable[tuple[int, Block, str, str]]:
        for number, block in enumerate(self._anatomy.blocks):
            for target, sources in block.sources.items():
                if target in block.decisions:
                    for source in sources:
                        yield number, block, target, source


@final
class AdaptiveFlops(_OfBlocks):
    """``FLOPs_t / FLOPs_block`` of the edge's block: what is alive, relative to the fully connected block.

    Tied edges: both summed over their blocks.
    """

    def __call__(self, live: Architecture) -> Tensor:
        """Return the factors."""
        costs = self._anatomy.costs(live)
        now: dict[str, list[int]] = {}
        for block, (cost, full) in zip(self._anatomy.blocks, costs, strict=True):
            for name in set(block.decisions.values()):
                sums = now.setdefault(name, [0, 0])
                sums[0] += cost.flops
                sums[1] += full.flops

        def factor(name: str) -> float:
            part, whole = now[name]
            return part / whole if whole else 1.0

        return self._gather(
            (block, target, source, factor(block.decisions[target])) for _, block, target, source in self._edges()
        )


@final
class AdaptiveMac(_OfBlocks):
    """``MAC_(m,n) / MAC_max`` on the edges into operation (m,n), MAC being the memory access cost.

    An edge to a block's output counts by itself.

    Args:
        gates: the edges.
        anatomy: the blocks.
        reference: MAC_max is that of the largest operation of the edge's ``block``, or of the whole ``network``.
    """

    def __init__(self, gates: Gates, anatomy: Anatomy, reference: Literal["block", "network"]) -> None:
        super().__init__(gates, anatomy)
        largest = [
            max(cost.memory_access for cost in (*block.costs.values(), *block.output.values()))
            for block in anatomy.blocks
        ]
        if reference == "network":
            largest = [max(largest)] * len(largest)
        self._factors = self._gather(
            (
                block,
                target,
                source,
                (block.output[source] if target == OUTPUT else block.costs[target]).memory_access / largest[number],
            )
            for number, block, target, source in self._edges()
        )

    def __call__(self, live: Architecture) -> Tensor:
        """Return the factors, which do not depend on what is alive."""
        return self._factors


@final
class AdaptiveLatency(_OfBlocks):
    """``0.5 + 0.5 * minmax(s)``, s what the removal of the edge alone saves, over the live edges.

    Removing an edge saves the operations that die with it; one to the output also its share of the projection. Dead
    edges get 0.5.

    Args:
        gates: the edges.
        anatomy: the blocks.
        model: the latency of a network, module by module, in any unit.
    """

    def __init__(self, gates: Gates, anatomy: Anatomy, model: CostModel) -> None:
        super().__init__(gates, anatomy)
        self._model = model

    def __call__(self, live: Architecture) -> Tensor:
        """Return the factors.

        Raises:
            ConfigurationError: the model's breakdown names none of the operations.
        """
        parts = self._model.breakdown(live)
        saved: list[tuple[Block, str, str, float]] = []
        for block in self._anatomy.blocks:
            alive = block.live(live)
            for target, sources in alive.items():
                if target in block.decisions:
                    saved += [
                        (block, target, source, _saved(block, live, alive, target, source, parts)) for source in sources
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
        return 0.5 + 0.5 * self._gather(scaled)


def _saved(
    block: Block,
    live: Architecture,
    alive: Mapping[str, tuple[str, ...]],
    target: str,
    source: str,
    parts: Mapping[str, float],
) -> float:
    """Return what goes with an edge: the operations that die with it, and a share of the projection."""
    name = block.decisions[target]
    value = live[name]
    assert isinstance(value, tuple)
    after = block.live({**live, name: tuple(other for other in value if other != source)})
    total = math.fsum(_below(parts, f"{block.path}.nodes.{node}") for node in alive if node not in (*after, OUTPUT))
    lost = len(alive[OUTPUT]) - len(after.get(OUTPUT, ()))
    return total + _below(parts, f"{block.path}.projection") * lost / len(alive[OUTPUT])


def _below(parts: Mapping[str, float], path: str) -> float:
    return math.fsum(value for name, value in parts.items() if name == path or name.startswith(f"{path}."))


def make_factors(
    schedule: Schedule,
    gates: Gates,
    anatomy: Anatomy,
    *,
    reference: Literal["block", "network"],
    latency: str,
    models: Mapping[str, CostModel],
) -> Factors:
    """Return the factors of a schedule.

    Raises:
        ConfigurationError: the space does not know its costs, or the problem has no such cost model.
    """
    if schedule == "adaptive_flops":
        return AdaptiveFlops(gates, anatomy)
    if schedule == "adaptive_mac":
        return AdaptiveMac(gates, anatomy, reference)
    if schedule == "adaptive_latency":
        if latency not in models:
            raise ConfigurationError(
                f"the problem has no cost '{latency}' (it has {', '.join(models) or 'none'}); add it to problem.costs",
                path="latency",
            )
        return AdaptiveLatency(gates, anatomy, models[latency])
    return Constant(gates)
