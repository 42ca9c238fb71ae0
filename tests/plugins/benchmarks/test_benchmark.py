"""Benchmarks, and the expected result of random search on them."""

from __future__ import annotations

import math
import pickle
import statistics
from itertools import combinations, permutations, product
from pathlib import Path

import numpy as np
import pytest

from automl_nas.errors import ConfigurationError, DataError, SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import enumerate_all
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.strategy.trial import Trial
from automl_nas_benchmarks.benchmark import BENCHMARKS, Benchmark, benchmark_from_table, load_benchmark
from automl_nas_benchmarks.comparison.random_search_expectation import expected_best
from automl_nas_benchmarks.tables.packaged import load_table
from automl_nas_evolution.random_search import RandomSearch

ACCURACY = Problem({"accuracy": "maximize"})


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_signal_truth_rank_and_regret_agree(name: str) -> None:
    benchmark = load_benchmark(name)
    assert benchmark is load_benchmark(name)
    assert benchmark.name == name and benchmark.about == BENCHMARKS[name]
    truths: dict[Architecture, float] = {}
    for architecture in enumerate_all(benchmark.space.decisions):
        truths.setdefault(benchmark.space.canonical(architecture), benchmark.truth(architecture))
        if len(truths) == 60:
            break
    assert len(benchmark.truths) == (3969 if "macro" in name else 6466)
    assert (np.diff(benchmark.truths) <= 0).all() and benchmark.truths[0] == benchmark.optimum
    for architecture, truth in truths.items():
        rank = benchmark.rank(architecture)
        assert rank == sum(other > truth for other in benchmark.truths.tolist())
        assert benchmark.truths[rank] == truth
        assert benchmark.regret(architecture) == benchmark.optimum - truth
        if "-12ep" not in name and "-run" not in name:
            assert benchmark.signal(architecture) == truth


def test_benchmark_noisy_signals_are_other_columns() -> None:
    benchmark = load_benchmark("nasbench201-cifar10-12ep")
    cell = benchmark.space.validate(dict(zip(benchmark.space.decisions, ("avg_pool_3x3",) * 6, strict=True)))
    table = load_table("nasbench201")
    row = table.representative(table.row(cell))
    assert benchmark.signal(cell) == table.columns["cifar10_val_12"].values[row]
    assert benchmark.truth(cell) == table.columns["cifar10_test_200"].values[row]
    for run in (1, 2, 3):
        macro = load_benchmark(f"nasbench_macro-run{run}")
        first = next(enumerate_all(macro.space.decisions))
        assert macro.signal(first) == {1: 45.32, 2: 45.33, 3: 45.44}[run]
        assert macro.truth(first) == 45.363332


def test_benchmark_equal_functions_have_equal_truths() -> None:
    benchmark = load_benchmark("nasbench201-cifar100-12ep")
    worth: dict[object, tuple[float, float]] = {}
    for architecture in list(enumerate_all(benchmark.space.decisions))[::7]:
        values = benchmark.signal(architecture), benchmark.truth(architecture)
        assert worth.setdefault(benchmark.space.canonical(architecture), values) == values


def test_benchmark_costs_and_devices() -> None:
    cell = load_benchmark("nasbench201-cifar10")
    best = next(a for a in enumerate_all(cell.space.decisions) if set(a.values()) == {"nor_conv_3x3"})
    # 7.943872 + 6 * 35.81952 and 0.073306 + 6 * 0.24304 million.
    assert cell.costs["mflops"].estimate(best) == pytest.approx(222.860992)
    assert cell.costs["mparams"].estimate(best) == pytest.approx(1.531546)
    assert set(cell.devices) == {
        f"{device}_latency" for device in ("edgegpu", "raspi4", "edgetpu", "pixel3", "eyeriss", "fpga")
    }
    macro = load_benchmark("nasbench_macro")
    smallest = next(enumerate_all(macro.space.decisions))
    assert {name: cost.estimate(smallest) for name, cost in macro.costs.items()} == {
        "flops": 7713280,
        "params": 387882,
    }


def test_load_benchmark_refuses_unknown_names() -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'nasbench201-cifar10-12ep'"):
        load_benchmark("nasbench201-cifar10-12")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.csv"
    path.write_text("arch,loss,final,size\n00,3,30,1\n01,1,20,2\n10,2,10,3\n11,4,,4\n20,,5,5\n", encoding="utf-8")
    return path


def test_benchmark_from_table(own: Path) -> None:
    benchmark = benchmark_from_table(own, metric="loss", truth="final", codes="arch", maximize=False, costs=("size",))
    assert benchmark.name == "own"
    assert benchmark.truths.tolist() == [-5, -10, -20, -30]  # of those that have one
    assert benchmark.optimum == -5
    code_of = {a: benchmark.space.code(a) for a in enumerate_all(benchmark.space.decisions)}  # type: ignore[attr-defined]
    by_code = {code: architecture for architecture, code in code_of.items()}
    assert [benchmark.signal(by_code[code]) for code in ("00", "01", "10", "11")] == [-3, -1, -2, -4]
    assert [benchmark.rank(by_code[code]) for code in ("00", "01", "10", "20")] == [3, 2, 1, 0]
    assert benchmark.regret(by_code["01"]) == 15
    assert benchmark.costs["size"].estimate(by_code["10"]) == 3
    with pytest.raises(SpaceError, match="has no 'loss' for 20: no value"):
        benchmark.signal(by_code["20"])
    with pytest.raises(SpaceError, match="has no 'final' for 11"):
        benchmark.truth(by_code["11"])
    with pytest.raises(SpaceError, match="has no row for '21'"):
        benchmark.signal(by_code["21"])
    with pytest.raises(ConfigurationError, match="no column 'lass'; did you mean 'loss'"):
        benchmark_from_table(own, metric="lass", codes="arch")
    own.write_text("arch,loss\n00,\n01,\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"the column 'loss' of the table 'own\.csv' is empty"):
        benchmark_from_table(own, metric="loss", codes="arch")


def test_benchmark_can_be_pickled() -> None:
    benchmark = load_benchmark("nasbench_macro-run2")
    architecture = next(enumerate_all(benchmark.space.decisions))
    other = pickle.loads(pickle.dumps(benchmark))  # noqa: S301 - made on the same line
    assert isinstance(other, Benchmark)
    assert other.signal(architecture) == benchmark.signal(architecture)
    assert other.truths.tolist() == benchmark.truths.tolist()


# Equal signals with different truths, and a weight that is not a whole number.
SIGNALS, TRUTHS, WEIGHTS = (1.0, 2.0, 2.0, 3.0, 0.5), (10.0, 30.0, 50.0, 20.0, 99.0), (1.0, 2.0, 0.5, 1.0, 3.0)


def best_of(draw: tuple[int, ...]) -> float:
    """The truth of the best by signal, the first of equal ones."""
    return TRUTHS[max(draw, key=lambda place: (SIGNALS[place], -draw.index(place)))]


@pytest.mark.parametrize("draws", [1, 2, 4])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_expectation_with_replacement_is_that_of_all_sequences(draws: int, weights: tuple[float, ...] | None) -> None:
    shares = np.array(weights or (1.0,) * 5) / sum(weights or (1.0,) * 5)
    chances = {draw: math.prod(shares[list(draw)]) for draw in product(range(5), repeat=draws)}
    mean = sum(chance * best_of(draw) for draw, chance in chances.items())
    deviation = math.sqrt(sum(chance * (best_of(draw) - mean) ** 2 for draw, chance in chances.items()))
    expectation = expected_best(SIGNALS, TRUTHS, draws, weights=weights)
    # Sums of at most 625 doubles.
    assert expectation.mean == pytest.approx(mean, rel=1e-12)
    assert expectation.deviation == pytest.approx(deviation, rel=1e-9)


@pytest.mark.parametrize("draws", [1, 3, 5])
def test_expectation_without_replacement_is_that_of_all_subsets(draws: int) -> None:
    # Of equal signals either may come first: both orders count.
    best = [statistics.fmean((best_of(s), best_of(s[::-1]))) for s in combinations(range(5), draws)]
    squares = [statistics.fmean((best_of(s) ** 2, best_of(s[::-1]) ** 2)) for s in combinations(range(5), draws)]
    mean = statistics.fmean(best)
    got = expected_best(SIGNALS, TRUTHS, draws, replacement=False)
    assert got.mean == pytest.approx(mean, rel=1e-12)
    assert got.deviation == pytest.approx(math.sqrt(statistics.fmean(squares) - mean**2), rel=1e-9)


@pytest.mark.parametrize("draws", [1, 2, 4, 5])
def test_expectation_by_weight_without_replacement_is_that_of_all_orders(draws: int) -> None:
    # Without ties, for which the first to come is taken to be independent of the rest.
    signals = (1.0, 2.0, 2.5, 3.0, 0.5)
    chances: dict[tuple[int, ...], float] = {}
    for order in permutations(range(5), draws):
        left, chance = sum(WEIGHTS), 1.0
        for place in order:
            chance, left = chance * WEIGHTS[place] / left, left - WEIGHTS[place]
        chances[order] = chance
    best = {order: TRUTHS[max(order, key=signals.__getitem__)] for order in chances}
    mean = sum(chance * best[order] for order, chance in chances.items())
    deviation = math.sqrt(sum(chance * (best[order] - mean) ** 2 for order, chance in chances.items()))
    got = expected_best(signals, TRUTHS, draws, weights=WEIGHTS, replacement=False)
    # A quadrature, of a smooth function.
    assert got.mean == pytest.approx(mean, rel=1e-8)
    assert got.deviation == pytest.approx(deviation, rel=1e-7, abs=1e-4)


def test_expectation_with_equal_weights() -> None:
    signals = np.random.default_rng(0).permutation(400).astype(float)
    for draws in (3, 60):
        plain = expected_best(signals, np.sqrt(signals), draws, replacement=False)
        weighted = expected_best(signals, np.sqrt(signals), draws, weights=np.full(400, 2.5), replacement=False)
        assert weighted.mean == pytest.approx(plain.mean, rel=1e-8)
        assert weighted.deviation == pytest.approx(plain.deviation, rel=1e-6)


def test_expectation_matches_random_search_of_distinct_functions() -> None:
    benchmark = load_benchmark("nasbench201-cifar10")
    table = benchmark.signal_source.table
    assert table.representatives is not None
    functions, codes = np.unique(table.representatives, return_counts=True)
    values = np.array(benchmark.signal_source.values)[functions]
    exact = expected_best(values, values, 50, weights=codes, replacement=False)
    truths = [found_by_random(benchmark, 50, seed, duplicates=False) for seed in range(60)]
    # Three standard errors, as above; to draw all functions alike would be better by four.
    assert abs(statistics.fmean(truths) - exact.mean) < 3 * exact.deviation / math.sqrt(60)


def test_expectation_arguments_are_checked() -> None:
    for draws in (0, 6):
        with pytest.raises(ConfigurationError, match=f"cannot draw {draws} of 5"):
            expected_best(SIGNALS, TRUTHS, draws, replacement=False)


def found_by_random(
    benchmark: Benchmark, draws: int, seed: int, *, duplicates: bool, problem: Problem = ACCURACY
) -> float:
    search = RandomSearch(benchmark.space, problem, seed=seed, duplicates=duplicates)
    proposals = search.ask(draws)
    assert len(proposals) == draws
    search.tell([Trial(n, p.architecture, {"accuracy": 0.0}) for n, p in enumerate(proposals)])
    return benchmark.truth(max((p.architecture for p in proposals), key=benchmark.signal))


@pytest.mark.parametrize(("draws", "seeds"), [(10, 300), (100, 60), (1000, 12)])
def test_expectation_matches_random_search(draws: int, seeds: int) -> None:
    # The published comparison, at 500 seeds and on all data sets, is benchmarks/random_and_aging.py.
    benchmark = load_benchmark("nasbench201-cifar10-12ep")
    exact = expected_best(benchmark.signal_source.values, benchmark.truth_source.values, draws)
    truths = [found_by_random(benchmark, draws, seed, duplicates=True) for seed in range(seeds)]
    # Three standard errors: missed by chance once in 370 sets of seeds, and these are fixed.
    assert abs(statistics.fmean(truths) - exact.mean) < 3 * exact.deviation / math.sqrt(seeds)


def test_expectation_matches_random_search_without_replacement(tmp_path: Path) -> None:
    # A table of one's own knows no equal functions, so every row is as likely as another.
    path = tmp_path / "own.csv"
    rows = [f"{code},{(place * 7919) % 1000}" for place, code in enumerate(map("".join, product("012", repeat=5)))]
    path.write_text("\n".join(["arch,accuracy", *rows]) + "\n", encoding="utf-8")
    benchmark = benchmark_from_table(path, metric="accuracy", codes="arch")
    for draws in (5, 50):
        exact = expected_best(benchmark.signal_source.values, benchmark.truth_source.values, draws, replacement=False)
        truths = [found_by_random(benchmark, draws, seed, duplicates=False) for seed in range(100)]
        assert abs(statistics.fmean(truths) - exact.mean) < 3 * exact.deviation / math.sqrt(len(truths))


def test_expectation_matches_random_search_under_a_limit() -> None:
    benchmark = load_benchmark("nasbench_macro-run1")
    table = benchmark.signal_source.table
    flops = table.columns["flops"].values
    limit = float(np.quantile(flops, 0.25))
    problem = Problem(
        {"accuracy": "maximize"}, [parse_constraint("flops", f"<= {limit:.0f}")], {"flops": benchmark.costs["flops"]}
    )
    inside = flops <= round(limit)
    exact = expected_best(
        np.array(benchmark.signal_source.values)[inside], np.array(benchmark.truth_source.values)[inside], 30
    )
    truths = [found_by_random(benchmark, 30, seed, duplicates=True, problem=problem) for seed in range(150)]
    assert abs(statistics.fmean(truths) - exact.mean) < 3 * exact.deviation / math.sqrt(len(truths))
