"""Computes every measure of every predictor of a sample, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from automl_nas.evaluation import kendall_tau
from automl_nas_benchmarks.rank.baselines import mean_within, top_half
from automl_nas_benchmarks.rank.metrics import (
    Measure,
    Rows,
    Values,
    best_rank_at,
    bootstrap,
    precision_at,
    spearman,
)
from automl_nas_benchmarks.rank.study import Predictor, Sample

OVERALL = "overall"
TOP_HALF = "true top half"

CORRELATIONS: dict[str, Measure] = {"kendall_tau": kendall_tau, "spearman": spearman}


@dataclass(frozen=True)
class Finding:
    """The value of one measure of one predictor.

    Attributes:
        predictor: name of the predictor.
        trivial: whether the predictor is known without training.
        scope: the networks that are compared; ``within tenths of ...`` is the mean over ten groups of similar cost.
        networks: number of these networks.
        measure: name of the measure.
        value: mean over the runs.
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
        runs: the value of each run.
    """

    predictor: str
    trivial: bool
    scope: str
    networks: int
    measure: str
    value: float
    low: float
    high: float
    runs: tuple[float, ...]


@dataclass(frozen=True)
class Lead:
    """Kendall's tau of a trained predictor minus that of a trivial one.

    Attributes:
        predictor: name of the trained predictor.
        over: name of the trivial predictor.
        scope: the networks that are compared, as in `Finding`.
        value: mean over the runs.
        low: lower end of the 95 % interval, from the same resamples for both predictors.
        high: upper end of the 95 % interval.
    """

    predictor: str
    over: str
    scope: str
    value: float
    low: float
    high: float


def findings(sample: Sample, *, top: Sequence[int] = (10,), resamples: int = 1000, seed: int = 0) -> list[Finding]:
    """Return all measures of all predictors.

    Args:
        sample: the scored networks.
        top: the values of k for precision at k and best rank at k; NaN where k is not below the number of networks.
        resamples: number of resamples of the bootstrap.
        seed: seed of the bootstrap.
    """
    everything = np.arange(len(sample))
    best = top_half(sample.truth)
    measures = dict(CORRELATIONS)
    for k in top:
        # The best k of at most k networks are all of them, whatever their scores: the values would look perfect.
        measures[f"precision_at_{k}"] = precision_at(k) if k < len(sample) else _undefined
        measures[f"best_rank_at_{k}"] = best_rank_at(k) if k < len(sample) else _undefined
    results = []
    for predictor in sample.predictors:
        for scope, rows, chosen in ((OVERALL, everything, measures), (TOP_HALF, best, CORRELATIONS)):
            for name, measure in chosen.items():
                results.append(
                    _finding(
                        predictor, scope, name, _plain(measure, predictor, sample), rows, resamples=resamples, seed=seed
                    )
                )
        if sample.strata is not None:
            for name, measure in CORRELATIONS.items():
                value = _within(measure, predictor, sample, sample.strata)
                results.append(
                    _finding(predictor, _tenths(sample), name, value, everything, resamples=resamples, seed=seed)
                )
    return results


def leads(sample: Sample, *, resamples: int = 1000, seed: int = 0) -> list[Lead]:
    """Return the lead of each trained predictor over each trivial one, in each scope.

    Args:
        sample: the scored networks.
        resamples: number of resamples of the bootstrap.
        seed: seed of the bootstrap.
    """
    everything = np.arange(len(sample))
    results = []
    for ours in sample.learned:
        for theirs in sample.trivial:
            scopes: list[tuple[str, Rows, Value, Value]] = [
                (scope, rows, _plain(kendall_tau, ours, sample), _plain(kendall_tau, theirs, sample))
                for scope, rows in ((OVERALL, everything), (TOP_HALF, top_half(sample.truth)))
            ]
            if sample.strata is not None:
                within = [_within(kendall_tau, each, sample, sample.strata) for each in (ours, theirs)]
                scopes.append((_tenths(sample), everything, within[0], within[1]))
            for scope, rows, tau, trivial_tau in scopes:
                lead = _difference(tau, trivial_tau)
                value, low, high = _interval(lead, rows, runs=len(ours.scores), resamples=resamples, seed=seed)
                results.append(Lead(ours.name, theirs.name, scope, float(np.mean(value)), low, high))
    return results


def by_part(sample: Sample, predictor: Predictor) -> list[float]:
    """Return Kendall's tau in each tenth by cost, the cheapest first, as means over runs; empty without a cost."""
    if sample.strata is None:
        return []
    means = []
    for part in range(int(sample.strata.max()) + 1):
        rows = np.flatnonzero(sample.strata == part)
        means.append(float(np.mean([kendall_tau(run[rows], sample.truth[rows]) for run in predictor.scores])))
    return means


Value = Callable[[int, Rows], float]
"""(number of the run, numbers of the networks) -> value of a measure."""


def _undefined(scores: Values, truth: Values) -> float:
    return float("nan")


def _plain(measure: Measure, predictor: Predictor, sample: Sample) -> Value:
    return lambda run, rows: measure(predictor.scores[run][rows], sample.truth[rows])


def _within(measure: Measure, predictor: Predictor, sample: Sample, strata: Rows) -> Value:
    return lambda run, rows: mean_within(measure, predictor.scores[run][rows], sample.truth[rows], strata[rows])


def _tenths(sample: Sample) -> str:
    return f"within tenths of {sample.cut}"


def _difference(ours: Value, trivial: Value) -> Value:
    return lambda run, rows: ours(run, rows) - trivial(0, rows)


def _finding(
    predictor: Predictor, scope: str, name: str, value: Value, rows: Rows, *, resamples: int, seed: int
) -> Finding:
    each, low, high = _interval(value, rows, runs=len(predictor.scores), resamples=resamples, seed=seed)
    return Finding(predictor.name, predictor.trivial, scope, len(rows), name, float(np.mean(each)), low, high, each)


def _interval(
    value: Value, rows: Rows, *, runs: int, resamples: int, seed: int
) -> tuple[tuple[float, ...], float, float]:
    """Return the value of each run, and the ends of the interval of their mean."""
    each = tuple(value(run, rows) for run in range(runs))
    low, high = bootstrap(
        lambda run, drawn: value(run, rows[drawn]), runs=runs, size=len(rows), resamples=resamples, seed=seed
    )
    return each, low, high
