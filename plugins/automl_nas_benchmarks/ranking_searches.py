"""What searches with a supernet's scores found, beside what costs nothing to find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from automl_nas.space.architecture import Architecture
from automl_nas_benchmarks.coded import CodedSpace
from automl_nas_benchmarks.ranking import Values
from automl_nas_benchmarks.ranking_study import Study, trials_of
from automl_nas_benchmarks.tabular import Benchmark

if TYPE_CHECKING:
    from automl_nas.run.results import Result
    from automl_nas.search.problem import Problem

RANDOM = (1, 10, 100)
"""The numbers of random networks whose best is expected."""


@dataclass(frozen=True)
class Pick:
    """What a search chose, and what it might have been.

    Attributes:
        stage: the search.
        seed: of its run.
        limits: the constraints, as they were written.
        evaluated: how many networks it scored.
        code: of the network that scored best.
        truth: what it is worth.
        rank: among all feasible networks, 1 for the best.
        feasible: how many there are.
        optimum: what the best of them is worth.
        random: k -> what the best of k feasible networks drawn at random is worth on average, if one knew it.
        worth: how many such random networks would be worth as much on average; None: more than there are.
        free: rule -> what its choice is worth: the network of the largest cost, or the most layers, under the limits;
            the mean where several are equal.
    """

    stage: str
    seed: int
    limits: tuple[str, ...]
    evaluated: int
    code: str
    truth: float
    rank: int
    feasible: int
    optimum: float
    random: Mapping[int, float]
    worth: int | None
    free: Mapping[str, float]


def picks(study: Study) -> list[Pick]:
    """Return what every search of every run chose; none for a search without a feasible trial."""
    found = []
    for stage in study.searches:
        for run in study.runs:
            problem = next(each.problem for each in run.plan.stages if each.settings.name == stage)
            feasible = feasible_networks(study.benchmark, problem)
            pick = _pick(study.benchmark, run, stage, problem, feasible)
            found += [pick] if pick is not None else []
    return found


def feasible_networks(benchmark: Benchmark, problem: Problem) -> list[Architecture]:
    """Return the distinct networks of a benchmark's table that meet the constraints on costs."""
    table = benchmark.judged.table
    same = range(len(table)) if table.representatives is None else np.unique(table.representatives).tolist()
    everything = (table.coding.architecture(table.codes[row]) for row in same)
    return [architecture for architecture in everything if problem.feasible(architecture)]


def expected_best(truths: Values, k: int) -> float:
    """Return the mean of the best of k values drawn without replacement: sum of x_i C(i - 1, k - 1) / C(n, k).

    Args:
        truths: ascending, shape ``(n,)``.
        k: at most n are drawn.
    """
    n = len(truths)
    k = min(k, n)
    i = np.arange(k, n + 1, dtype=np.float64)
    logarithm = _log_comb(i - 1, k - 1) - _log_comb(np.array([float(n)]), k)
    return float((truths[k - 1 :] * np.exp(logarithm)).sum())


def _log_comb(n: Values, k: int) -> Values:
    found: Values = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return found


def _pick(benchmark: Benchmark, run: Result, stage: str, problem: Problem, feasible: list[Architecture]) -> Pick | None:
    trials = trials_of(run, stage)
    best = problem.best(trials)
    if best is None:
        return None
    truths = np.sort([benchmark.truth(architecture) for architecture in feasible])
    truth = benchmark.truth(best.architecture)
    rules = {f"largest {name}": model.estimate for name, model in benchmark.costs.items()}
    space = benchmark.space
    if isinstance(space, CodedSpace):
        rules["most layers"] = lambda architecture: float(space.parametric(architecture))
    return Pick(
        stage,
        run.plan.seed,
        tuple(f"{limit.metric} {limit.text}" for limit in problem.constraints),
        len(trials),
        benchmark.judged.table.coding.code(best.architecture),
        truth,
        1 + int((truths > truth).sum()),
        len(feasible),
        float(truths[-1]),
        {k: expected_best(truths, k) for k in RANDOM if k <= len(feasible)},
        _worth(truths, truth),
        {name: _choice(benchmark, feasible, rule) for name, rule in rules.items()},
    )


def _worth(truths: Values, truth: float) -> int | None:
    """Return the least k with expected_best(k) >= truth, by bisection: it rises with k."""
    low, high = 1, len(truths)
    # Rounding in the sum must not keep the best from being worth all of them.
    close = truth - 1e-9 * abs(truth)
    if expected_best(truths, high) < close:
        return None
    while low < high:
        middle = (low + high) // 2
        if expected_best(truths, middle) >= close:
            high = middle
        else:
            low = middle + 1
    return low


def _choice(benchmark: Benchmark, feasible: list[Architecture], rule: object) -> float:
    assert callable(rule)
    values = np.array([rule(architecture) for architecture in feasible])
    chosen = [feasible[place] for place in np.flatnonzero(values == values.max())]
    return float(np.mean([benchmark.truth(architecture) for architecture in chosen]))
