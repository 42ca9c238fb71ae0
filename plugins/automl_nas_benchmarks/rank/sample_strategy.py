"""A strategy that evaluates a sample of a space instead of searching it: `SampleStrategy`."""

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
"""Largest number of raw assignments for which a space is enumerated, which takes seconds."""

_POOL = 20
"""Uniform draws from a larger space for each network of a stratified sample."""

_DRAWS = 1000
"""Consecutive draws from a larger space without a new network after which the sample is complete."""


@final
class SampleStrategy(AskTellStrategy):
    """Evaluates a fixed sample of the space, to measure how well an evaluator ranks networks.

    The sample depends on the space, the constraints and ``sample_seed``, not on the seed of the run: several supernets
    are compared on the same networks. The networks are proposed in random order, so the first n of them are a sample as
    well. No network is drawn twice; networks with the same ``canonical`` architecture are equal.

    Args:
        space: the space to sample.
        problem: its constraints on costs exclude networks; its costs can define the strata.
        seed: seed of the run; used without a ``sample_seed``.
        count: maximum number of networks; None: all networks of the space.
        sample: ``uniform``, or ``stratified``: the space is divided into strata of equal size by a cost, and the same
            number of networks is drawn from each.
        by: the cost that defines the strata.
        strata: number of strata.
        sample_seed: seed of the sample; None: the seed of the run.

    Raises:
        ConfigurationError: a setting is out of its range, the problem does not have the cost ``by``, or ``count`` is
            missing in a space that is too large to enumerate.
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
                f"must be a number: a space of {space.size:,} architectures is too large to propose all", path="count"
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
        """Maximum number of networks that are proposed; None for all networks of the space.

        A space may have fewer networks than ``count``. How many of them are equal or miss a limit is known when the
        sample is drawn.
        """
        if self._sample is not None:
            return len(self._sample)
        return None if self._count is None else min(self._count, self._space.size)

    def ask(self, n: int) -> list[Proposal]:
        """Propose the next n networks of the sample.

        Raises:
            InfeasibleError: no network meets the constraints on costs.
        """
        if self._sample is None:
            self._sample = self._draw(stream(self._seed, "survey"))
            if not self._sample:
                limits = ", ".join(f"{limit.metric} {limit.text}" for limit in self._problem.constraints)
                raise InfeasibleError(f"no drawn network meets the constraints ({limits}); relax them")
        proposed = self._sample[self._proposed : self._proposed + n]
        self._proposed += len(proposed)
        return [Proposal(architecture) for architecture in proposed]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Do nothing: the sample does not depend on results."""

    def search_state(self) -> dict[str, Any]:
        """Return the number of proposed networks; after a restart the sample is drawn again."""
        return {"proposed": self._proposed}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue after the proposed networks."""
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
        by_canonical: dict[Architecture, Architecture] = {}
        idle = 0
        for architecture in drawn:
            before = len(by_canonical)
            if self._problem.feasible(architecture):
                by_canonical.setdefault(self._space.canonical(architecture), architecture)
            idle = 0 if len(by_canonical) > before else idle + 1
            if len(by_canonical) == enough or idle == patience:
                break
        return list(by_canonical.values())

    def _endless(self, rng: random.Random) -> Iterable[Architecture]:
        while True:
            yield self._space.sample(rng)

    def _interleaved(self, pool: Sequence[Architecture]) -> list[Architecture]:
        # Within a stratum the networks keep their random order.
        costs = {architecture: self._problem.costs(architecture)[self._by] for architecture in pool}
        ordered = sorted(pool, key=costs.__getitem__)
        bounds = [len(ordered) * part // self._strata for part in range(self._strata + 1)]
        position = {architecture: place for place, architecture in enumerate(pool)}
        parts = [sorted(ordered[low:high], key=position.__getitem__) for low, high in pairwise(bounds)]
        longest = max(len(part) for part in parts)
        return [part[place] for place in range(longest) for part in parts if place < len(part)]
