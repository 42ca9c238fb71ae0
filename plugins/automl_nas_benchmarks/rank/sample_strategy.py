"""Looking at a sample of a space rather than searching it: `SampleStrategy`."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, final

from automl_nas.errors import ConfigurationError, InfeasibleError, did_you_mean
from automl_nas.space import Architecture, SearchSpace, enumerate_all
from automl_nas.strategy import AskTellStrategy, Problem, Proposal, Trial
from automl_nas.streams import stream

COUNTABLE = 1 << 17
"""A space of at most so many raw assignments is drawn from by counting it through, which takes seconds."""

_POOL = 20  # in a larger space, so many uniform draws for each network of a stratified sample
_DRAWS = 1000  # and so many in a row that give nothing new before the sample is called complete


@final
class SampleStrategy(AskTellStrategy):
    """Have a fixed sample of the space evaluated, to see how well an evaluator ranks it.

    The sample depends on the space, the constraints and its own seed, not on the run's: several supernets are judged on
    the same networks. It is proposed in random order, so the first n of it are a sample, too. No network is drawn
    twice, where equal means equal ``canonical``.

    Args:
        space: what is sampled.
        problem: constraints on costs leave networks out; its costs can give the strata.
        seed: of the run, used if ``sample_seed`` is None.
        count: how many networks; None: all there are. Fewer where there are no more.
        sample: ``uniform``, or ``stratified``: the space is cut into parts of equal size by a cost, and as many
            networks are drawn from each.
        by: the cost that is cut by.
        strata: how many parts.
        sample_seed: of the sample.

    Raises:
        ConfigurationError: a setting is out of its range, the problem has no such cost, or all networks are asked for
            in a space too large to count.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        seed: int,
        count: int | None = 300,
        sample: Literal["uniform", "stratified"] = "uniform",
        by: str = "flops",
        strata: int = 10,
        sample_seed: int | None = 0,
    ) -> None:
        for name, value in (("count", count), ("strata", strata)):
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}", path=name)
        if count is None and space.size > COUNTABLE:
            raise ConfigurationError(
                f"all of a space of {space.size:,} architectures cannot be proposed; give a number", path="count"
            )
        if sample == "stratified" and by not in problem.cost_models:
            raise ConfigurationError(
                f"the problem has no cost '{by}'{did_you_mean(by, problem.cost_models)}; name it in problem.costs",
                path="by",
            )
        self._space, self._problem, self._count = space, problem, count
        self._by, self._strata = by, strata if sample == "stratified" else 1
        self._seed = seed if sample_seed is None else sample_seed
        self._sample: list[Architecture] | None = None
        self._proposed = 0

    @property
    def planned(self) -> int | None:
        """How many networks it will propose at most."""
        return self._count

    def ask(self, n: int) -> list[Proposal]:
        """Propose the next n of the sample.

        Raises:
            InfeasibleError: no network meets the constraints on costs.
        """
        if self._sample is None:
            self._sample = self._draw(stream(self._seed, "survey"))
            if not self._sample:
                limits = ", ".join(f"{limit.metric} {limit.text}" for limit in self._problem.constraints)
                raise InfeasibleError(f"no network that was drawn meets the constraints ({limits}); relax them")
        asked = self._sample[self._proposed : self._proposed + n]
        self._proposed += len(asked)
        return [Proposal(architecture) for architecture in asked]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn nothing."""

    def search_state(self) -> dict[str, Any]:
        """Return how many networks were proposed; the sample itself is drawn again."""
        return {"proposed": self._proposed}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue after so many."""
        self._proposed = state["proposed"]

    def _draw(self, rng: random.Random) -> list[Architecture]:
        if self._space.size <= COUNTABLE:
            everything = list(enumerate_all(self._space.decisions))
            rng.shuffle(everything)
            pool = self._distinct(everything, None if self._strata > 1 else self._count)
        else:
            assert self._count is not None
            pool = self._distinct(self._endless(rng), self._count * (_POOL if self._strata > 1 else 1), _DRAWS)
        if self._strata > 1:
            pool = self._interleaved(pool)
        return pool[: self._count]

    def _distinct(
        self, drawn: Iterable[Architecture], enough: int | None, patience: int | None = None
    ) -> list[Architecture]:
        found: dict[Architecture, Architecture] = {}
        idle = 0
        for architecture in drawn:
            before = len(found)
            if self._problem.feasible(architecture):
                found.setdefault(self._space.canonical(architecture), architecture)
            idle = 0 if len(found) > before else idle + 1
            if len(found) == enough or idle == patience:
                break
        return list(found.values())

    def _endless(self, rng: random.Random) -> Iterable[Architecture]:
        while True:
            yield self._space.sample(rng)

    def _interleaved(self, pool: Sequence[Architecture]) -> list[Architecture]:
        # A stable sort, so networks stay in random order within a stratum but for equal costs across a border.
        costs = {architecture: self._problem.costs(architecture)[self._by] for architecture in pool}
        ordered = sorted(pool, key=costs.__getitem__)
        bounds = [len(ordered) * part // self._strata for part in range(self._strata + 1)]
        position = {architecture: place for place, architecture in enumerate(pool)}
        parts = [sorted(ordered[low:high], key=position.__getitem__) for low, high in pairwise(bounds)]
        longest = max(len(part) for part in parts)
        return [part[place] for place in range(longest) for part in parts if place < len(part)]
