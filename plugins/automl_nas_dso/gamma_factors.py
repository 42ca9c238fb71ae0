"""The penalty of each edge relative to gamma: the same for all, or by what the edge costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Literal, final

import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.space import OUTPUT, Architecture
from automl_nas_dso.edges import Block
from automl_nas_dso.live_structure import LiveStructure
from automl_nas_dso.strategy_gates import Gates


class Factors(ABC):
    """The penalty of each edge, relative to gamma: between 0 and 1."""

    @abstractmethod
    def __call__(self, live: Architecture) -> Tensor:
        """Return one factor for each entry of lambda, shape ``(number of edges,)``, float64, on the CPU.

        Args:
            live: what is alive now.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must not find out anew (default: nothing)."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - an empty default on purpose
        """Continue from what `state_dict` returned (default: there is nothing to load)."""


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


class OfBlocks(Factors, ABC):
    """A factor for each edge of each block; tied edges get the mean over the blocks."""

    def __init__(self, gates: Gates, anatomy: LiveStructure) -> None:
        if not anatomy.blocks:
            raise ConfigurationError(
                "an adaptive gamma needs a space that knows what its edges cost (an EdgeSpace, such as dso); use "
                "constant",
                path="gamma_schedule",
            )
        self.anatomy = anatomy
        self._places = {edge: place for place, edge in enumerate(gates.edges)}

    def gather(self, values: Iterable[tuple[Block, str, str, float]]) -> Tensor:
        """Return one number for each entry of lambda, from ``(block, target, source, number)``; 0: there is none."""
        total = torch.zeros(len(self._places), dtype=torch.float64)
        count = torch.zeros_like(total)
        for block, target, source, value in values:
            place = self._places[block.decisions[target], source]
            total[place] += value
            count[place] += 1
        return total / count.clamp(min=1)

    def _edges(self) -> Iterable[tuple[int, Block, str, str]]:
        for number, block in enumerate(self.anatomy.blocks):
            for target, sources in block.sources.items():
                if target in block.decisions:
                    for source in sources:
                        yield number, block, target, source


@final
class AdaptiveFlops(OfBlocks):
    """``FLOPs_t / FLOPs_block`` of the edge's block: what is alive, relative to the fully connected block.

    Tied edges: both summed over their blocks.
    """

    def __call__(self, live: Architecture) -> Tensor:
        """Return the factors."""
        costs = self.anatomy.costs(live)
        now: dict[str, list[int]] = {}
        for block, (cost, full) in zip(self.anatomy.blocks, costs, strict=True):
            for name in set(block.decisions.values()):
                sums = now.setdefault(name, [0, 0])
                sums[0] += cost.flops
                sums[1] += full.flops

        def factor(name: str) -> float:
            part, whole = now[name]
            return part / whole if whole else 1.0

        return self.gather(
            (block, target, source, factor(block.decisions[target])) for _, block, target, source in self._edges()
        )


@final
class AdaptiveMac(OfBlocks):
    """``MAC_(m,n) / MAC_max`` on the edges into operation (m,n), MAC being the memory access cost.

    An edge to a block's output counts by itself.

    Args:
        gates: the edges.
        anatomy: the blocks.
        reference: MAC_max is that of the largest operation of the edge's ``block``, or of the whole ``network``.
    """

    def __init__(self, gates: Gates, anatomy: LiveStructure, reference: Literal["block", "network"]) -> None:
        super().__init__(gates, anatomy)
        largest = [
            max(cost.memory_access for cost in (*block.costs.values(), *block.output.values()))
            for block in anatomy.blocks
        ]
        if reference == "network":
            largest = [max(largest)] * len(largest)
        self._factors = self.gather(
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
