"""Compares the networks that searches chose by a supernet's scores with random networks and simple rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import gammaln

from automl_nas.space import Architecture
from automl_nas_benchmarks.rank.metrics import Values
from automl_nas_benchmarks.rank.study import Study, known_truth, trials_of
from automl_nas_benchmarks.spaces.coded_space import CodedSpace

if TYPE_CHECKING:
    from automl_nas.run import Result
    from automl_nas.strategy import Problem
    from automl_nas_benchmarks.benchmark import Benchmark

RANDOM = (1, 10, 100)
"""Sizes of the random samples whose expected best is reported."""


@dataclass(frozen=True)
class Pick:
    """The network that a search chose, compared with the other feasible networks.

    Attributes:
        stage: name of the search stage.
        seed: seed of the run.
        limits: the constraints, as they were written.
        evaluated: number of networks that the search scored.
        code: code of the network with the best score.
        truth: its true value; None if the table does not have it.
        rank: its rank among all feasible networks of the table, 1 for the best; None without a true value.
        feasible: number of feasible networks of the table.
        optimum: true value of the best feasible network.
        random: k -> expected best true value of k random feasible networks.
        worth: number of random feasible networks whose expected best true value reaches ``truth``; None without a true
            value.
        free: rule -> true value of its choice: the feasible network with the largest cost, or with the most layers; the
            mean if several are equal.
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
    """Return the network that each search of each run chose, except for searches without a feasible network."""
    chosen = (_pick(study, run, stage) for stage in study.searches for run in study.runs)
    return [pick for pick in chosen if pick is not None]


def feasible_networks(benchmark: Benchmark, problem: Problem) -> dict[Architecture, float]:
    """Return the distinct networks of the table that meet the constraints on costs, and their true values."""
    table = benchmark.truth_source.table
    rows = range(len(table)) if table.representatives is None else np.unique(table.representatives).tolist()
    networks = {}
    for row in rows:
        architecture = table.coding.architecture(table.codes[row])
        truth = known_truth(benchmark, architecture)
        if truth is not None and problem.feasible(architecture):
            networks[architecture] = truth
    return networks


def expected_maximum(truths: Values, k: int) -> float:
    """Return the expected maximum of k values drawn without replacement: sum of x_i C(i - 1, k - 1) / C(n, k).

    Args:
        truths: values in ascending order, shape ``(n,)``.
        k: number of draws; if it is larger than n, all values are drawn.
    """
    n = len(truths)
    k = min(k, n)
    i = np.arange(k, n + 1, dtype=np.float64)
    logarithm = _log_comb(i - 1, k - 1) - _log_comb(np.array([float(n)]), k)
    return float((truths[k - 1 :] * np.exp(logarithm)).sum())


def _log_comb(n: Values, k: int) -> Values:
    logarithm: Values = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return logarithm


def _pick(study: Study, run: Result, stage: str) -> Pick | None:
    benchmark = study.benchmark
    problem = next(each.problem for each in run.plan.stages if each.settings.name == stage)
    trials = trials_of(run, stage)
    best, feasible = problem.best(trials), feasible_networks(benchmark, problem)
    if best is None or not feasible:
        return None
    truths = np.sort(list(feasible.values()))
    truth = known_truth(benchmark, best.architecture)
    rules = {f"largest {name}": model.estimate for name, model in benchmark.costs.items()}
    space = benchmark.space
    if isinstance(space, CodedSpace):
        rules["most layers"] = lambda architecture: float(space.parametric(architecture))
    return Pick(
        stage=stage,
        seed=run.plan.seed,
        limits=tuple(f"{limit.metric} {limit.text}" for limit in problem.constraints),
        evaluated=len(trials),
        code=benchmark.truth_source.table.coding.code(best.architecture),
        truth=truth,
        rank=None if truth is None else 1 + int((truths > truth).sum()),
        feasible=len(feasible),
        optimum=float(truths[-1]),
        random={k: expected_maximum(truths, k) for k in RANDOM if k <= len(feasible)},
        worth=None if truth is None else _worth(truths, truth),
        free={name: _choice(feasible, rule) for name, rule in rules.items()},
    )


def _worth(truths: Values, truth: float) -> int:
    """Return the smallest k with expected_maximum(k) >= truth, by bisection: the expectation increases with k."""
    low, high = 1, len(truths)
    # Tolerates rounding in the sum: the best network must be worth at most all networks.
    close = truth - 1e-9 * abs(truth)
    while low < high:
        middle = (low + high) // 2
        if expected_maximum(truths, middle) >= close:
            high = middle
        else:
            low = middle + 1
    return low


def _choice(feasible: Mapping[Architecture, float], rule: Callable[[Architecture], float]) -> float:
    """Return the mean true value of the networks with the largest value of a rule."""
    values = {architecture: rule(architecture) for architecture in feasible}
    largest = max(values.values())
    return float(np.mean([feasible[architecture] for architecture, value in values.items() if value == largest]))
