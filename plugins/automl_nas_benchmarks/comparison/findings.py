"""The findings of a comparison as data: scores, curves and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from automl_nas_benchmarks.comparison.statistics import Friedman, Pair

ALL = "all benchmarks"
"""The scope of tests over the blocks of all benchmarks."""


@dataclass(frozen=True)
class Arrival:
    """The number of evaluations until the searches of a strategy evaluate one of the truly best networks.

    Attributes:
        share: the share of the distinct feasible functions that count as the best ones.
        median: distinct evaluations until half of the searches had evaluated one; None if fewer did within the budget.
        upper: distinct evaluations until three quarters had; None if fewer did within the budget.
        arrived: the share of the searches that evaluated one within the budget.
    """

    share: float
    median: int | None
    upper: int | None
    arrived: float


@dataclass(frozen=True)
class Score:
    """One strategy on one benchmark.

    Attributes:
        strategy: label of the strategy.
        benchmark: label of the benchmark.
        searches: number of searches.
        regret: mean over searches of the optimum minus the true value of the last incumbent, in the unit of the truth.
            A search without a feasible network counts as the worst feasible network. NaN if all searches are such.
        deviation: its sample standard deviation; NaN for a single search.
        median: the median regret.
        missed: mean over searches of the share of the true front's hypervolume that the last front misses; NaN with a
            single objective.
        missed_deviation: its sample standard deviation.
        loss: mean over searches of the quantity that ranks and tests compare; see `Findings.judge`.
        loss_deviation: its sample standard deviation.
        mean_rank: mean over the seeds of the rank among the strategies, on this benchmark.
        arrivals: one for each share of the best networks.
        proposal_seconds: the strategy's own time for each evaluation, median over searches.
        late_seconds: the same over the last tenth of the budget.
        ended_early: share of the searches whose strategy had nothing more to propose.
        evaluations: number of evaluations of all searches together.
        failed: number of evaluations that failed, because the table lacks the network or its value.
        without_result: number of searches that evaluated no feasible network.
        error: the error of the first evaluation that failed; empty without one.
    """

    strategy: str
    benchmark: str
    searches: int
    regret: float
    deviation: float
    median: float
    missed: float
    missed_deviation: float
    loss: float
    loss_deviation: float
    mean_rank: float
    arrivals: tuple[Arrival, ...]
    proposal_seconds: float
    late_seconds: float
    ended_early: float
    evaluations: int
    failed: int
    without_result: int
    error: str

    @property
    def empty(self) -> bool:
        """Whether no search has a result."""
        return self.without_result == self.searches


@dataclass(frozen=True)
class Significance:
    """Tests over the blocks of a scope.

    Attributes:
        scope: the label of a benchmark, or `ALL`.
        friedman: Friedman's test of whether any strategy differs.
        difference: critical difference of mean ranks (Nemenyi).
        groups: labels of the largest sets of strategies whose mean ranks do not differ significantly.
        pairs: the tests of all pairs of strategies, by position.
    """

    scope: str
    friedman: Friedman
    difference: float
    groups: tuple[tuple[str, ...], ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Curve:
    """The trajectories of the searches of one strategy on one benchmark.

    Attributes:
        strategy: label of the strategy.
        benchmark: label of the benchmark.
        values: one row for each seed, one column for each evaluation: regret; with several objectives, the share of the
            best possible hypervolume that is missed. Shape (seeds, evaluations).
    """

    strategy: str
    benchmark: str
    values: NDArray[np.float64] = field(repr=False)

    @property
    def median(self) -> NDArray[np.float64]:
        """The median over seeds, shape (evaluations,)."""
        return np.median(self.values, axis=0)

    def quartiles(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The lower and the upper quartile over seeds, shape (evaluations,) each."""
        low, high = np.quantile(self.values, [0.25, 0.75], axis=0)
        return low, high

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean over seeds, shape (evaluations,)."""
        return np.asarray(self.values.mean(axis=0), dtype=np.float64)

    @property
    def deviation(self) -> NDArray[np.float64]:
        """The sample standard deviation over seeds, shape (evaluations,); NaN for a single one."""
        if len(self.values) < 2:
            return np.full(self.values.shape[1], np.nan)
        return np.asarray(self.values.std(axis=0, ddof=1), dtype=np.float64)


@dataclass(frozen=True)
class Findings:
    """The results of a comparison.

    Attributes:
        strategies: labels, in the order of the configuration.
        benchmarks: labels, in the order of the configuration.
        seeds: number of searches of each strategy on each benchmark.
        evaluations: the budget of each search.
        several: whether the problem has several objectives.
        judge: what ranks and tests compare. ``final``: the share of networks that are truly better than the last
            incumbent; with several objectives, the share of the true front's hypervolume that is missed. ``anytime``:
            the mean of the same over all evaluations. ``arrival``: distinct evaluations until one of the best networks
            (the last share of ``top``) is evaluated; one more than the budget if none is.
        alpha: significance level of the tests.
        scores: one for each benchmark and strategy, benchmark by benchmark.
        mean_ranks: of each strategy over all blocks.
        tests: over all benchmarks first, then of each; empty for a single strategy.
        curves: one for each benchmark and strategy.
        functions: benchmark -> number of distinct feasible functions, and for each share of ``top`` the number of the
            best ones.
        units: benchmark -> unit of regrets; empty if unknown.
    """

    strategies: tuple[str, ...]
    benchmarks: tuple[str, ...]
    seeds: int
    evaluations: int
    several: bool
    judge: Literal["final", "anytime", "arrival"]
    alpha: float
    scores: tuple[Score, ...]
    mean_ranks: Mapping[str, float]
    tests: tuple[Significance, ...]
    curves: tuple[Curve, ...] = field(repr=False)
    functions: Mapping[str, tuple[int, Mapping[float, int]]]
    units: Mapping[str, str]

    def score(self, strategy: str, benchmark: str) -> Score:
        """Return the score of one strategy on one benchmark."""
        return next(s for s in self.scores if (s.strategy, s.benchmark) == (strategy, benchmark))

    @property
    def empty(self) -> tuple[str, ...]:
        """The benchmarks on which no search of any strategy evaluated a feasible network."""
        return tuple(
            name for name in self.benchmarks if all(score.empty for score in self.scores if score.benchmark == name)
        )
