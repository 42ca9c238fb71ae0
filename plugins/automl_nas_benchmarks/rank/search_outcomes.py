"""What searches with a supernet's scores found, beside what costs nothing to find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from automl_nas.space import Architecture
from automl_nas_benchmarks.rank.metrics import Values
from automl_nas_benchmarks.rank.study import Study, trials_of
from automl_nas_benchmarks.spaces.coded_space import CodedSpace

if TYPE_CHECKING:
    from automl_nas.run import Result
    from automl_nas.strategy import Problem

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
        truth: what it is worth; None if the table does not say, and so for the next.
        rank: among all feasible networks of the table, 1 for the best.
        feasible: how many there are.
        optimum: what the best of them is worth.
        random: k -> what the best of k feasible networks drawn at random is worth on average, if one knew it.
        worth: how many such random networks would be worth as much on average.
        free: rule -> what its choice is worth: the network of the largest cost, or the most layers, under the limits;
            the mean where several are equal.
    """

    stage: str
    seed: int
    limits: tuple[str, ...]
    evaluated: int
    code: str
    truth: float | None
    rank: int | None
    feasible: int
    optimum: float
    random: Mapping[int, float]
    worth: int | None
    free: Mapping[str, float]


def picks(study: Study) -> list[Pick]:
    """Return what every search of every run chose; none for a search that chose nothing, or among nothing."""
    found = []
    for stage in study.searches:
        for run in study.runs:
            pick = _pick(study, run, stage)
            found += [pick] if pick is not None else []
    return found


def feasible_networks(study: Study, problem: Problem) -> dict[Architecture, float]:
    """Return the distinct networks of the table that meet the constraints on costs, and what they are worth."""
    table = study.benchmark.truth_source.table
    same = range(len(table)) if table.representatives is None else np.unique(table.representatives).tolist()
    found = {}
    for row in same:
        architecture = table.coding.architecture(table.codes[row])
        truth = study.truth(architecture)
        if truth is not None and problem.feasible(architecture):
            found[architecture] = truth
    return found


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


def _pick(study: Study, run: Result, stage: str) -> Pick | None:
    benchmark = study.benchmark
    problem = next(each.problem for each in run.plan.stages if each.settings.name == stage)
    trials = trials_of(run, stage)
    best, feasible = problem.best(trials), feasible_networks(study, problem)
    if best is None or not feasible:
        return None
    truths = np.sort(list(feasible.values()))
    truth = study.truth(best.architecture)
    rules = {f"largest {name}": model.estimate for name, model in benchmark.costs.items()}
    space = benchmark.space
    if isinstance(space, CodedSpace):
        rules["most layers"] = lambda architecture: float(space.parametric(architecture))
    return Pick(
        stage,
        run.plan.seed,
        tuple(f"{limit.metric} {limit.text}" for limit in problem.constraints),
        len(trials),
        benchmark.truth_source.table.coding.code(best.architecture),
        truth,
        None if truth is None else 1 + int((truths > truth).sum()),
        len(feasible),
        float(truths[-1]),
        {k: expected_best(truths, k) for k in RANDOM if k <= len(feasible)},
        None if truth is None else _worth(truths, truth),
        {name: _choice(feasible, rule) for name, rule in rules.items()},
    )


def _worth(truths: Values, truth: float) -> int:
    """Return the least k with expected_best(k) >= truth, by bisection: it rises with k."""
    low, high = 1, len(truths)
    # Rounding in the sum must not keep the best from being worth all of them.
    close = truth - 1e-9 * abs(truth)
    while low < high:
        middle = (low + high) // 2
        if expected_best(truths, middle) >= close:
            high = middle
        else:
            low = middle + 1
    return low


def _choice(feasible: Mapping[Architecture, float], rule: Callable[[Architecture], float]) -> float:
    values = {architecture: rule(architecture) for architecture in feasible}
    largest = max(values.values())
    return float(np.mean([feasible[architecture] for architecture, value in values.items() if value == largest]))
