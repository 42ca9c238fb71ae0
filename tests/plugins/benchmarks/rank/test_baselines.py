"""Predictors that need no supernet, on the whole table of NAS-Bench-Macro."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from automl_nas.evaluation import kendall_tau
from automl_nas.space import Architecture
from automl_nas.streams import stream
from automl_nas_benchmarks.benchmark import load_benchmark
from automl_nas_benchmarks.rank.baselines import (
    TRAINED,
    distinct_networks,
    free_predictors,
    free_taus,
    mean_within,
    ridge_scores,
    tenths,
    top_half,
)


def test_distinct_networks_are_the_representatives() -> None:
    benchmark = load_benchmark("nasbench_macro")
    architectures, truth = distinct_networks(benchmark)
    assert len(architectures) == len({benchmark.space.canonical(a) for a in architectures}) == 3969
    assert sorted(truth, reverse=True) == benchmark.truths.tolist()
    assert [benchmark.truth(a) for a in architectures[:50]] == truth[:50].tolist()


def test_free_predictors_on_all_networks() -> None:
    """Somers' D of SciPy, and the values of an independent computation; tau-b gives 0.68, 0.43 and 0.46 for layers."""
    benchmark = load_benchmark("nasbench_macro")
    flops, _, layers = free_taus(benchmark)
    assert [flops.predictor, layers.predictor, layers.networks] == ["flops", "layers", 3969]
    assert [round(tau, 3) for tau in (layers.overall, layers.top_half, layers.within)] == [0.607, 0.365, 0.369]
    assert [round(tau, 3) for tau in (flops.overall, flops.top_half, flops.within)] == [0.546, 0.365, 0.122]
    architectures, truth = distinct_networks(benchmark)
    depth = free_predictors(benchmark, architectures)["layers"]
    assert layers.overall == pytest.approx(stats.somersd(truth, depth).statistic, abs=1e-12)


def test_groups() -> None:
    truth = np.array([3.0, 1.0, 2.0, 5.0, 4.0])
    assert top_half(truth).tolist() == [0, 3, 4]
    assert tenths(np.arange(20.0)[::-1]).tolist() == [9 - place // 2 for place in range(20)]
    strata = np.array([0, 0, 1, 1, 1])
    # One pair in the right order; three pairs, of which two are right: (2 - 1) / 3.
    scores = np.array([2.0, 1.0, 1.0, 3.0, 0.0])
    assert mean_within(kendall_tau, scores, truth, strata) == pytest.approx((1 + 1 / 3) / 2)
    assert np.isnan(mean_within(kendall_tau, scores, np.ones(5), strata))


def test_ridge_improves_with_trained_networks() -> None:
    """The mean tau that a pilot study had with other draws: 0.68, 0.72 and 0.76."""
    benchmark = load_benchmark("nasbench_macro")
    architectures, truth = distinct_networks(benchmark)
    every = slice(None, None, 8)
    scores = ridge_scores(benchmark, architectures[every])
    assert tuple(scores) == TRAINED
    for trained, expected in zip(TRAINED, (0.68, 0.72, 0.76), strict=True):
        assert scores[trained].shape == (20, len(architectures[every]))
        taus = [kendall_tau(draw, truth[every]) for draw in scores[trained]]
        # Three standard errors of the mean over the draws, and 0.02 for 497 instead of all networks.
        assert np.mean(taus) == pytest.approx(expected, abs=3 * np.std(taus) / 20**0.5 + 0.02)
    again = ridge_scores(benchmark, architectures[:1])
    assert np.array_equal(again[10][:, 0], scores[10][:, 0]), "the draws do not depend on the sample"


def test_ridge_is_the_solution_of_the_normal_equations() -> None:
    """Penalty 1 on the centred features, with the networks of the same draw (Hoerl and Kennard 1970, equation 2.1)."""
    benchmark = load_benchmark("nasbench_macro")
    architectures, truth = distinct_networks(benchmark)

    def encode(architecture: Architecture) -> list[float]:
        code = benchmark.space.code(architecture)  # type: ignore[attr-defined]
        return [float(digit == option) for digit in code for option in "012"] + [8.0 - code.count("0")]

    features = np.array([encode(architecture) for architecture in architectures])
    drawn = stream(0, "ridge", 20).sample(range(len(architectures)), 20)  # the first draw
    centre, mean = features[drawn].mean(0), truth[drawn].mean()
    x = features[drawn] - centre
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ (truth[drawn] - mean))
    expected = mean + (features[::100] - centre) @ weights
    # Both solve a well-conditioned system (penalty 1) in float64.
    assert ridge_scores(benchmark, architectures[::100])[20][0] == pytest.approx(expected, rel=1e-9)
