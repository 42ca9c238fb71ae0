"""Computes the findings of a comparison from the records of its searches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_nas_benchmarks.comparison.benchmark_problem import BenchmarkProblem
from automl_nas_benchmarks.comparison.findings import ALL, Arrival, Curve, Findings, Score, Significance
from automl_nas_benchmarks.comparison.search import SearchRecord, curve, reached
from automl_nas_benchmarks.comparison.settings import ComparisonSettings
from automl_nas_benchmarks.comparison.statistics import (
    Losses,
    censored_quantile,
    compare_pairs,
    critical_difference,
    friedman,
    groups,
)


def summarise(
    records: Mapping[tuple[str, str, int], SearchRecord],
    benchmark_problems: Mapping[str, BenchmarkProblem],
    strategies: Sequence[str],
    seeds: Sequence[int],
    settings: ComparisonSettings,
) -> Findings:
    """Summarise the searches of all strategies on all benchmarks.

    Args:
        records: (strategy, benchmark, seed) -> record.
        benchmark_problems: label of a benchmark -> its problem and true values.
        strategies: labels.
        seeds: the seeds to use; every strategy must have a record for each of them on every benchmark.
        settings: the settings ``evaluations``, ``top``, ``judge`` and ``alpha``.
    """
    top, alpha, evaluations = settings.top, settings.alpha, settings.evaluations
    scores: list[Score] = []
    curves: list[Curve] = []
    tests: list[Significance] = []
    blocks: list[Losses] = []
    for name, benchmark_problem in benchmark_problems.items():
        searches = {s: [records[s, name, seed] for seed in seeds] for s in strategies}
        own = [Curve(s, name, _curves(benchmark_problem, searches[s], evaluations)) for s in strategies]
        losses = np.stack([_losses(benchmark_problem, searches[line.strategy], line, settings) for line in own], axis=1)
        means = friedman(losses).mean_ranks if len(strategies) > 1 else (1.0,)
        for place, strategy in enumerate(strategies):
            arrivals = tuple(_arrival(benchmark_problem, searches[strategy], share) for share in top)
            missed = own[place].values[:, -1] if benchmark_problem.several else np.full(len(seeds), math.nan)
            regrets = benchmark_problem.truths[0] - _finals(benchmark_problem, searches[strategy])
            scores.append(_score(searches[strategy], regrets, missed, losses[:, place], means[place], arrivals))
        curves += own
        blocks.append(losses)
        if len(strategies) > 1:
            tests.append(_significance(name, losses, strategies, alpha))
    everything = np.concatenate(blocks)
    if len(strategies) > 1:
        tests.insert(0, _significance(ALL, everything, strategies, alpha))
    means = tests[0].friedman.mean_ranks if tests else (1.0,)
    return Findings(
        strategies=tuple(strategies),
        benchmarks=tuple(benchmark_problems),
        seeds=len(seeds),
        evaluations=evaluations,
        several=any(benchmark_problem.several for benchmark_problem in benchmark_problems.values()),
        judge=settings.judge,
        alpha=alpha,
        scores=tuple(scores),
        mean_ranks=dict(zip(strategies, means, strict=True)),
        tests=tuple(tests),
        curves=tuple(curves),
        functions={
            name: (len(benchmark_problem.truths), {share: benchmark_problem.count(share) for share in top})
            for name, benchmark_problem in benchmark_problems.items()
        },
        units={name: benchmark_problem.unit for name, benchmark_problem in benchmark_problems.items()},
    )


def _curves(benchmark_problem: BenchmarkProblem, records: Sequence[SearchRecord], length: int) -> NDArray[np.float64]:
    if benchmark_problem.several:
        return np.stack([1 - curve(record.volume, length, 0.0) for record in records])
    best, worst = float(benchmark_problem.truths[0]), float(benchmark_problem.truths[-1])
    # As in `_finals`: before its first feasible network a search counts as the worst feasible network.
    return np.stack([best - curve(record.incumbent, length, worst) for record in records])


def _finals(benchmark_problem: BenchmarkProblem, records: Sequence[SearchRecord]) -> NDArray[np.float64]:
    worst = float(benchmark_problem.truths[-1])
    return np.array([record.incumbent[-1][1] if record.incumbent else worst for record in records])


def _losses(
    benchmark_problem: BenchmarkProblem, records: Sequence[SearchRecord], line: Curve, settings: ComparisonSettings
) -> NDArray[np.float64]:
    if settings.judge == "arrival":
        threshold = benchmark_problem.threshold(settings.top[-1])
        times = [reached(record.best_truths, threshold) for record in records]
        return np.array([settings.evaluations + 1 if time is None else time for time in times], dtype=float)
    if benchmark_problem.several:
        missed = line.values
    else:
        # Not from regrets: rounded differences could distinguish networks that are equally good.
        worst = float(benchmark_problem.truths[-1])
        missed = benchmark_problem.better(
            np.stack([curve(record.incumbent, settings.evaluations, worst) for record in records])
        )
    losses: NDArray[np.float64] = missed[:, -1] if settings.judge == "final" else missed.mean(axis=1)
    return losses


def _arrival(benchmark_problem: BenchmarkProblem, records: Sequence[SearchRecord], share: float) -> Arrival:
    threshold = benchmark_problem.threshold(share)
    times = [reached(record.best_truths, threshold) for record in records]
    arrived = sum(time is not None for time in times) / len(times)
    return Arrival(share, censored_quantile(times, 0.5), censored_quantile(times, 0.75), arrived)


def _score(
    records: Sequence[SearchRecord],
    regrets: NDArray[np.float64],
    missed: NDArray[np.float64],
    losses: NDArray[np.float64],
    mean_rank: float,
    arrivals: tuple[Arrival, ...],
) -> Score:
    without_result = sum(not record.incumbent for record in records)
    if without_result == len(records):
        regrets = np.full(len(records), math.nan)
    return Score(
        strategy=records[0].strategy,
        benchmark=records[0].benchmark,
        searches=len(records),
        regret=float(regrets.mean()),
        deviation=_deviation(regrets),
        median=float(np.median(regrets)),
        missed=float(missed.mean()),
        missed_deviation=_deviation(missed),
        loss=float(losses.mean()),
        loss_deviation=_deviation(losses),
        mean_rank=mean_rank,
        arrivals=arrivals,
        proposal_seconds=float(np.median([record.proposal_seconds for record in records])),
        late_seconds=float(np.median([record.late_seconds for record in records])),
        ended_early=sum(record.ended == "done" for record in records) / len(records),
        evaluations=sum(record.evaluations for record in records),
        failed=sum(record.failed for record in records),
        without_result=without_result,
        error=next((record.error for record in records if record.error), ""),
    )


def _significance(scope: str, losses: Losses, strategies: Sequence[str], alpha: float) -> Significance:
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
