"""What a supernet is compared with: ridge regression on few trained networks, and free predictors on all networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import Ridge

from automl_nas.evaluation import kendall_tau
from automl_nas.space import Architecture, Choice, Ordinal
from automl_nas.streams import stream
from automl_nas_benchmarks.benchmark import Benchmark
from automl_nas_benchmarks.rank.metrics import Measure, Rows, Values
from automl_nas_benchmarks.spaces.coded_space import CodedSpace

TRAINED = (10, 20, 40)
"""Numbers of trained networks of the ridge regressions."""
DRAWS = 20
"""Draws of the trained networks for each number."""


@dataclass(frozen=True)
class FreeTau:
    """Kendall's tau of a free predictor over all distinct networks of a table.

    Attributes:
        predictor: name of the cost, or ``layers``.
        networks: number of networks.
        overall: over all of them.
        top_half: over those of the true top half.
        within: the mean over tenths of similar cost; NaN if the benchmark has no cost.
    """

    predictor: str
    networks: int
    overall: float
    top_half: float
    within: float


def free_predictors(benchmark: Benchmark, architectures: Sequence[Architecture]) -> dict[str, Values]:
    """Return what is known of networks without training: name -> values, shape ``(networks,)``.

    The costs of the benchmark, and for a `CodedSpace` ``layers``, the number of decisions that chose a layer with
    weights. Larger values predict better networks.
    """
    values = {name: np.array([model.estimate(a) for a in architectures]) for name, model in benchmark.costs.items()}
    space = benchmark.space
    if isinstance(space, CodedSpace):
        values["layers"] = np.array([float(space.parametric(a)) for a in architectures])
    return values


def distinct_networks(benchmark: Benchmark) -> tuple[list[Architecture], Values]:
    """Return the distinct networks of the table that have a true value, and these values, shape ``(networks,)``."""
    table = benchmark.truth_source.table
    rows = range(len(table)) if table.representatives is None else np.unique(table.representatives).tolist()
    truths = benchmark.sign * np.array(benchmark.truth_source.values, dtype=np.float64)
    present = [row for row in rows if not np.isnan(truths[row])]
    return [table.coding.architecture(table.codes[row]) for row in present], truths[present]


def free_taus(benchmark: Benchmark) -> list[FreeTau]:
    """Return Kendall's tau of each free predictor over all distinct networks; a sample may flatter them."""
    architectures, truth = distinct_networks(benchmark)
    predictors = free_predictors(benchmark, architectures)
    strata = tenths(predictors[next(iter(benchmark.costs))]) if benchmark.costs else None
    best = top_half(truth)
    return [
        FreeTau(
            name,
            len(truth),
            kendall_tau(values, truth),
            kendall_tau(values[best], truth[best]),
            float("nan") if strata is None else mean_within(kendall_tau, values, truth, strata),
        )
        for name, values in predictors.items()
    ]


def ridge_scores(benchmark: Benchmark, architectures: Sequence[Architecture], *, seed: int = 0) -> Mapping[int, Values]:
    """Return what ridge regression predicts after a few networks have been trained by themselves.

    The regression (penalty 1, intercept) is fitted to the true values of networks drawn without replacement from the
    distinct networks of the table; the draws are the same for every sample. Its features are the one-hot codes and, for
    a `CodedSpace`, the number of layers, which raises the tau after 10 networks of NAS-Bench-Macro from 0.46 to 0.68.

    Args:
        benchmark: the true values. All its decisions must be `Choice` or `Ordinal`, otherwise the result is empty.
        architectures: the networks to predict.
        seed: of the draws.

    Returns:
        Number of trained networks -> predictions of each draw, shape ``(DRAWS, networks)``; numbers that are not below
        half the table are left out.
    """
    decisions = benchmark.space.decisions
    if not all(isinstance(decision, Choice | Ordinal) for decision in decisions.values()):
        return {}
    encode = _encoder(benchmark)
    candidates, truth = distinct_networks(benchmark)
    codes, predicted = encode(candidates), encode(architectures)
    scores = {}
    for trained in TRAINED:
        if trained >= len(candidates) / 2:
            continue
        rng = stream(seed, "ridge", trained)
        draws = [rng.sample(range(len(candidates)), trained) for _ in range(DRAWS)]
        scores[trained] = np.array(
            [Ridge(alpha=1.0).fit(codes[rows], truth[rows]).predict(predicted) for rows in draws]
        )
    return scores


def top_half(truth: Values) -> Rows:
    """Return the numbers of the networks in the better half, ascending; the middle one of an odd number is in it."""
    return np.sort(np.argsort(-truth, kind="stable")[: (len(truth) + 1) // 2])


def tenths(costs: Values) -> Rows:
    """Return the tenth of each network by cost, from 0 for the cheapest."""
    order = np.argsort(costs, kind="stable")
    part = np.empty(len(costs), dtype=np.int64)
    part[order] = np.arange(len(costs)) * 10 // len(costs)
    return part


def mean_within(measure: Measure, scores: Values, truth: Values, strata: Rows) -> float:
    """Return the mean of a measure over groups of networks; groups in which it is undefined are left out."""
    groups = [np.flatnonzero(strata == part) for part in range(int(strata.max()) + 1)]
    values = [measure(scores[rows], truth[rows]) for rows in groups]
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _encoder(benchmark: Benchmark) -> Callable[[Sequence[Architecture]], Values]:
    """Return a function from networks to features: a column for each option of each decision, then ``layers``."""
    space = benchmark.space
    pairs = [(name, option) for name, decision in space.decisions.items() for option in decision.options]

    def encode(architectures: Sequence[Architecture]) -> Values:
        features = np.array([[float(a[name] == option) for name, option in pairs] for a in architectures])
        if not isinstance(space, CodedSpace):
            return features
        return np.column_stack([features, [space.parametric(a) for a in architectures]])

    return encode
