"""From the records of searches to the result of a comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_nas_benchmarks.comparison.ground import Ground
from automl_nas_benchmarks.comparison.search import SearchRecord, curve, reached
from automl_nas_benchmarks.comparison.statistics import (
    Friedman,
    Losses,
    Pair,
    censored_quantile,
    compare_pairs,
    critical_difference,
    friedman,
    groups,
)

ALL = "all benchmarks"
"""The scope of tests over everything."""


@dataclass(frozen=True)
class Arrival:
    """How soon the searches of a strategy evaluate one of the truly best networks.

    Attributes:
        share: of the distinct feasible functions that count as the best ones.
        median: distinct evaluations by which half of the searches had; None: fewer did within the budget.
        upper: distinct evaluations by which three quarters had; None: fewer did.
        arrived: share of the searches that did at all.
    """

    share: float
    median: int | None
    upper: int | None
    arrived: float


@dataclass(frozen=True)
class Score:
    """One strategy on one benchmark.

    Attributes:
        strategy: its label.
        benchmark: its label.
        searches: how many.
        regret: mean over searches of the optimum minus the true value of the last incumbent, in the unit of the truth.
        deviation: its sample standard deviation; NaN for a single search.
        median: the median regret.
        loss: mean over searches of what ranks compare: the share of networks that are truly better than the last
            incumbent; with several objectives, the share of the best possible hypervolume that is missed.
        loss_deviation: its sample standard deviation.
        mean_rank: among the strategies, over the seeds of this benchmark.
        arrivals: at the truly best networks.
        proposal_seconds: the strategy's own time for one evaluation, median over searches.
        late_seconds: the same over the last tenth of the budget.
        ended_early: share of the searches whose strategy had nothing more to propose.
    """

    strategy: str
    benchmark: str
    searches: int
    regret: float
    deviation: float
    median: float
    loss: float
    loss_deviation: float
    mean_rank: float
    arrivals: tuple[Arrival, ...]
    proposal_seconds: float
    late_seconds: float
    ended_early: float


@dataclass(frozen=True)
class Significance:
    """Tests over the blocks of a scope.

    Attributes:
        scope: the label of a benchmark, or `ALL`.
        friedman: whether any strategy differs.
        difference: critical difference of mean ranks (Nemenyi).
        groups: largest sets of strategies, by label, that mean ranks do not tell apart.
        pairs: of strategies, by position.
    """

    scope: str
    friedman: Friedman
    difference: float
    groups: tuple[tuple[str, ...], ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Curve:
    """How the searches of one strategy on one benchmark went.

    Attributes:
        strategy: its label.
        benchmark: its label.
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


@dataclass(frozen=True)
class Findings:
    """What a comparison found.

    Attributes:
        strategies: labels, in the order of the configuration.
        benchmarks: labels, in the order of the configuration.
        seeds: searches of each strategy on each benchmark that all of them have finished.
        evaluations: the budget of each search.
        several: whether strategies are judged by the hypervolume of several objectives.
        alpha: probability of an error in the tests.
        scores: one for each benchmark and strategy, benchmark by benchmark.
        mean_ranks: of each strategy over all blocks.
        tests: over all benchmarks first, then of each; empty for a single strategy.
        curves: one for each benchmark and strategy.
        functions: benchmark -> how many distinct feasible functions there are, and how many of them are the best ones.
    """

    strategies: tuple[str, ...]
    benchmarks: tuple[str, ...]
    seeds: int
    evaluations: int
    several: bool
    alpha: float
    scores: tuple[Score, ...]
    mean_ranks: Mapping[str, float]
    tests: tuple[Significance, ...]
    curves: tuple[Curve, ...] = field(repr=False)
    functions: Mapping[str, tuple[int, Mapping[float, int]]]

    def score(self, strategy: str, benchmark: str) -> Score:
        """Return the score of one strategy on one benchmark."""
        return next(s for s in self.scores if (s.strategy, s.benchmark) == (strategy, benchmark))


def summarise(
    records: Mapping[tuple[str, str, int], SearchRecord],
    grounds: Mapping[str, Ground],
    strategies: Sequence[str],
    seeds: Sequence[int],
    evaluations: int,
    top: Sequence[float],
    alpha: float,
) -> Findings:
    """Summarise the searches of seeds that every strategy has finished on every benchmark.

    Args:
        records: by (strategy, benchmark, seed).
        grounds: benchmark -> what is true there.
        strategies: labels.
        seeds: which to use; all of them must be on record.
        evaluations: the budget of each search.
        top: shares of the best networks.
        alpha: probability of an error in the tests.
    """
    scores: list[Score] = []
    curves: list[Curve] = []
    tests: list[Significance] = []
    blocks: list[Losses] = []
    for name, ground in grounds.items():
        found = {s: [records[s, name, seed] for seed in seeds] for s in strategies}
        own = [Curve(s, name, _curves(ground, found[s], evaluations)) for s in strategies]
        finals = [_finals(ground, found[s]) for s in strategies]
        losses = np.stack(
            [
                line.values[:, -1] if ground.several else ground.better(final)
                for line, final in zip(own, finals, strict=True)
            ],
            axis=1,
        )
        means = friedman(losses).mean_ranks if len(strategies) > 1 else (1.0,)
        for place, strategy in enumerate(strategies):
            arrivals = tuple(_arrival(ground, found[strategy], share) for share in top)
            scores.append(
                _score(found[strategy], ground.truths[0] - finals[place], losses[:, place], means[place], arrivals)
            )
        curves += own
        blocks.append(losses)
        if len(strategies) > 1:
            tests.append(_tested(name, losses, strategies, alpha))
    everything = np.concatenate(blocks)
    if len(strategies) > 1:
        tests.insert(0, _tested(ALL, everything, strategies, alpha))
    means = tests[0].friedman.mean_ranks if tests else (1.0,)
    return Findings(
        strategies=tuple(strategies),
        benchmarks=tuple(grounds),
        seeds=len(seeds),
        evaluations=evaluations,
        several=any(ground.several for ground in grounds.values()),
        alpha=alpha,
        scores=tuple(scores),
        mean_ranks=dict(zip(strategies, means, strict=True)),
        tests=tuple(tests),
        curves=tuple(curves),
        functions={
            name: (len(ground.truths), {share: ground.count(share) for share in top})
            for name, ground in grounds.items()
        },
    )


def _curves(ground: Ground, records: Sequence[SearchRecord], length: int) -> NDArray[np.float64]:
    if ground.several:
        return np.stack([1 - curve(record.volume, length, 0.0) for record in records])
    best, worst = float(ground.truths[0]), float(ground.truths[-1])
    # As in `_finals`: while nothing feasible is found a search is as good as the worst feasible network.
    return np.stack([best - curve(record.incumbent, length, worst) for record in records])


def _finals(ground: Ground, records: Sequence[SearchRecord]) -> NDArray[np.float64]:
    worst = float(ground.truths[-1])
    return np.array([record.incumbent[-1][1] if record.incumbent else worst for record in records])


def _arrival(ground: Ground, records: Sequence[SearchRecord], share: float) -> Arrival:
    threshold = ground.threshold(share)
    times = [reached(record.found, threshold) for record in records]
    arrived = sum(time is not None for time in times) / len(times)
    return Arrival(share, censored_quantile(times, 0.5), censored_quantile(times, 0.75), arrived)


def _score(
    records: Sequence[SearchRecord],
    regrets: NDArray[np.float64],
    losses: NDArray[np.float64],
    mean_rank: float,
    arrivals: tuple[Arrival, ...],
) -> Score:
    return Score(
        strategy=records[0].strategy,
        benchmark=records[0].benchmark,
        searches=len(records),
        regret=float(regrets.mean()),
        deviation=_deviation(regrets),
        median=float(np.median(regrets)),
        loss=float(losses.mean()),
        loss_deviation=_deviation(losses),
        mean_rank=mean_rank,
        arrivals=arrivals,
        proposal_seconds=float(np.median([record.proposal_seconds for record in records])),
        late_seconds=float(np.median([record.late_seconds for record in records])),
        ended_early=sum(record.ended == "done" for record in records) / len(records),
    )


def _tested(scope: str, losses: Losses, strategies: Sequence[str], alpha: float) -> Significance:
    test = friedman(losses)
    difference = critical_difference(len(strategies), len(losses), alpha)
    return Significance(
        scope=scope,
        friedman=test,
        difference=difference,
        groups=tuple(tuple(strategies[place] for place in group) for group in groups(test.mean_ranks, difference)),
        pairs=compare_pairs(losses),
    )


def _deviation(values: NDArray[Any]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan
