"""One search, compared with looking its proposals up in the table one by one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plugins.benchmarks.comparison.fixtures import (
    CODES,
    Broken,
    Generations,
    Scan,
    flops_of,
    load,
    signal_of,
    truth_of,
    write_table,
)

from automl_nas.errors import ConfigurationError, EvaluationError, InfeasibleError, RunInterrupted
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.base import Services, Strategy
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas_benchmarks.benchmark import benchmark_from_table, load_benchmark
from automl_nas_benchmarks.comparison.benchmark_problem import BenchmarkProblem
from automl_nas_benchmarks.comparison.search import SearchJob, SearchRecord, curve, reached, run_search
from automl_nas_benchmarks.comparison.settings import ComparisonSettings

CELLS = ["".join(code) for code in itertools.product("01234", repeat=6)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "small.csv")


def benchmark_problem(
    table: Path, *, metric: str = "truth", costs: tuple[str, ...] = ("flops",), **settings: Any
) -> BenchmarkProblem:
    benchmark = benchmark_from_table(table, metric=metric, truth="truth", codes="code", costs=costs)
    return BenchmarkProblem("small", benchmark, ComparisonSettings(**settings))


def code(item: Architecture) -> str:
    return "".join(str(value) for value in item.values())


def order(benchmark_problem: BenchmarkProblem, seed: int) -> list[str]:
    """The codes that `Scan` proposes."""
    scan = Scan(benchmark_problem.space, benchmark_problem.problem, seed=seed)
    return [code(proposal.architecture) for proposal in scan.ask(len(CODES))]


def search(
    benchmark_problem: BenchmarkProblem, strategy: Any, seed: int = 0, evaluations: int = 40, **more: Any
) -> SearchRecord:
    stop = more.pop("stop", lambda: False)
    settings = ComparisonSettings(evaluations=evaluations, **more)
    return run_search(benchmark_problem, strategy, SearchJob("one", benchmark_problem.label, seed), settings, stop)


@pytest.mark.parametrize("metric", ["truth", "signal"])
def test_search_record_matches_the_table(table: Path, metric: str) -> None:
    small = benchmark_problem(table, metric=metric)
    signal = truth_of if metric == "truth" else signal_of
    for seed in range(5):
        record = search(small, Scan(small.space, small.problem, seed=seed), seed)
        codes = order(small, seed)[:40]
        preferred = [max(codes[: n + 1], key=signal) for n in range(40)]
        assert curve(record.incumbent, 40, math.nan).tolist() == [truth_of(item) for item in preferred]
        best = [max(map(truth_of, codes[: n + 1])) for n in range(40)]
        assert curve(record.best_truths, 40, math.nan).tolist() == best
        assert code(Architecture.from_json(record.architecture)) == preferred[-1]
        for share in (0.01, 0.1, 0.5):
            limit = sorted(map(truth_of, CODES))[-math.ceil(share * 256)]
            arrival = next((n + 1 for n, item in enumerate(codes) if truth_of(item) >= limit), None)
            assert reached(record.best_truths, small.threshold(share)) == arrival
        assert (record.evaluations, record.distinct, record.ended, record.volume) == (40, 40, "budget", ())
        assert 0 < record.proposal_seconds < record.seconds


def test_search_record_survives_json(table: Path) -> None:
    small = benchmark_problem(table, objectives=["accuracy", "flops"])
    record = search(small, Scan(small.space, small.problem, seed=0))
    assert record.volume
    assert SearchRecord.from_json(record.to_json()) == record


def test_run_search_does_not_count_repeated_candidates(table: Path) -> None:
    small = benchmark_problem(table)
    once = search(small, Scan(small.space, small.problem, seed=0))
    twice = search(small, Scan(small.space, small.problem, seed=0, times=2))
    assert (twice.incumbent, twice.best_truths, twice.distinct) == (once.incumbent, once.best_truths, 40)


def test_run_search_counts_repeated_candidates_without_deduplicate(table: Path) -> None:
    small = benchmark_problem(table)
    twice = search(small, Scan(small.space, small.problem, seed=0, times=2), deduplicate=False)
    assert (twice.evaluations, twice.distinct) == (40, 20)
    best = [max(map(truth_of, order(small, 0)[: n // 2 + 1])) for n in range(40)]
    # The incumbent counts all evaluations, the best truth distinct ones.
    assert curve(twice.incumbent, 40, math.nan).tolist() == best
    assert curve(twice.best_truths, 20, math.nan).tolist() == best[::2]


def test_run_search_deduplicates_strategies_without_ask_and_tell(table: Path) -> None:
    small = benchmark_problem(table)
    strategy = Generations(small.space, small.problem, seed=0)
    record = search(small, strategy, evaluations=100)
    assert (record.evaluations, record.distinct, record.ended) == (100, 100, "budget")
    new = list(dict.fromkeys(code(trial.architecture) for trial in strategy.seen))
    assert len(strategy.seen) > 100
    assert curve(record.best_truths, 100, math.nan).tolist() == [max(map(truth_of, new[: n + 1])) for n in range(100)]


def test_search_record_of_a_strategy_that_ends_early(table: Path) -> None:
    small = benchmark_problem(table)
    record = search(small, Scan(small.space, small.problem, seed=0), evaluations=1000)
    assert (record.evaluations, record.ended) == (256, "done")
    assert record.best_truths[-1][1] == max(map(truth_of, CODES))


def test_run_search_tells_batches_at_once(table: Path) -> None:
    small = benchmark_problem(table)
    sizes: list[int] = []

    class Batches(Scan):
        def ask(self, n: int) -> list[Proposal]:
            sizes.append(n)
            return super().ask(n)

    search(small, Batches(small.space, small.problem, seed=0), batch=16)
    assert sizes == [16, 16, 8]


def test_run_search_evaluates_equal_functions_once(tmp_path: Path) -> None:
    """In NAS-Bench-201 a cell without any path is the same as other such cells: 6,466 of 15,625 are distinct."""
    cells = BenchmarkProblem("cells", load_benchmark("nasbench201-cifar10"), ComparisonSettings())
    assert len(cells.truths) == 6466
    dead = [cells.benchmark.truth_source.table.coding.architecture(text) for text in ("000000", "000100", "100000")]

    class Three(Scan):
        def __init__(self, space: SearchSpace, problem: Problem, *, seed: int) -> None:
            super().__init__(space, problem, seed=seed)
            self._order = dead

    keys = {cells.space.canonical(item).key for item in dead}
    record = search(cells, Three(cells.space, cells.problem, seed=0))
    assert record.evaluations == record.distinct == len(keys) < 3


def test_run_search_incumbent_is_feasible(table: Path) -> None:
    small = benchmark_problem(table, constraints={"flops": "<= 0.6 * largest"})
    limit = 0.6 * max(map(flops_of, CODES))
    allowed = [item for item in CODES if flops_of(item) <= limit]
    assert 0 < len(allowed) < 256
    assert small.truths.tolist() == sorted(map(truth_of, allowed), reverse=True)
    record = search(small, Scan(small.space, small.problem, seed=3), evaluations=200)
    codes = order(small, 3)[:200]
    assert record.best_truths[-1][1] == max(truth_of(item) for item in codes if item in allowed)
    assert record.incumbent[0][0] == next(n for n, item in enumerate(codes, start=1) if item in allowed)


def test_search_record_volume_uses_true_values(table: Path) -> None:
    small = benchmark_problem(table, metric="signal", objectives=["accuracy", "flops"])
    record = search(small, Scan(small.space, small.problem, seed=1), evaluations=30)
    codes = order(small, 1)[:30]
    highest, lowest = max(map(flops_of, CODES)), min(map(truth_of, CODES))

    def area(codes_of_front: list[str]) -> float:
        """Count the area above the worst corner in strips between true values."""
        levels = sorted({lowest, *(truth_of(item) for item in codes_of_front)})
        return sum(
            (high - low)
            * max((highest - flops_of(item) for item in codes_of_front if truth_of(item) >= high), default=0)
            for low, high in itertools.pairwise(levels)
        )

    for n in (1, 5, 30):
        front = [
            item
            for item in codes[:n]
            if not any(
                (signal_of(o) >= signal_of(item) and flops_of(o) <= flops_of(item)) and o != item for o in codes[:n]
            )
        ]
        assert curve(record.volume, 30, 0.0)[n - 1] == pytest.approx(area(front) / area(CODES))


def test_volume_share_of_the_whole_table_is_one(table: Path) -> None:
    small = benchmark_problem(table, objectives={"accuracy": "maximize", "flops": "minimize"})
    record = search(small, Scan(small.space, small.problem, seed=0), evaluations=256)
    assert record.volume[-1][1] == pytest.approx(1)


def test_run_search_counts_networks_that_the_table_lacks_as_failed(tmp_path: Path) -> None:
    part = write_table(tmp_path / "part.csv", CODES[:-3])
    small = benchmark_problem(part)
    scan = Scan(small.space, small.problem, seed=0)
    record = search(small, scan, evaluations=256, deduplicate=False)
    assert record.evaluations == 256
    failed = [trial for trial in scan.received if trial.state.value == "failed"]
    assert len(failed) == 3 - (code(scan._order[-1]) in CODES[-3:])  # the strategy does not receive the last one
    assert "no row" in failed[0].error


def test_limit_excludes_networks_that_the_table_lacks(tmp_path: Path) -> None:
    part = write_table(tmp_path / "part.csv", CODES[:-3])
    small = benchmark_problem(part, constraints={"flops": "<= 1 * largest"})
    lacking = [item for item in Scan(small.space, small.problem, seed=0)._order if not small.problem.feasible(item)]
    assert sorted(map(code, lacking)) == CODES[-3:]


def test_run_search_can_be_stopped(table: Path) -> None:
    small = benchmark_problem(table)
    answers = iter([False] * 5 + [True])
    with pytest.raises(RunInterrupted):
        search(small, Scan(small.space, small.problem, seed=0), stop=lambda: next(answers))


class Wrong(Scan):
    def ask(self, n: int) -> list[Proposal]:
        return [Proposal(Architecture({"nonsense": 1}))]


class Fine(Scan):
    def ask(self, n: int) -> list[Proposal]:
        return [Proposal(self._order[0], fidelity=12.0)]


class Empty(Scan):
    def ask(self, n: int) -> list[Proposal]:
        return []


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Broken, "RuntimeError: out of ideas"),
        (Wrong, "proposed"),
        (Fine, "fidelity 12"),
        (Empty, "proposed nothing"),
    ],
)
def test_run_search_errors_name_the_search(table: Path, strategy: Callable[..., Scan], message: str) -> None:
    small = benchmark_problem(table)
    for deduplicate in (True, False):
        with pytest.raises(EvaluationError, match=f"'one' on 'small' with seed 7: .*{message}"):
            search(small, strategy(small.space, small.problem, seed=7), 7, deduplicate=deduplicate)


def test_benchmark_problem_infeasible_limit_names_the_nearest_value(table: Path) -> None:
    with pytest.raises(InfeasibleError, match="no network of 'small' meets 'flops <= 99'; the nearest one has 100"):
        benchmark_problem(table, constraints={"flops": "<= 99"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"constraints": {"flop": "<= 1"}}, "did you mean 'flops'"),
        ({"constraints": {"accuracy": ">= 1"}}, "constraints are on costs"),
        ({"constraints": {"flops": "small"}}, "cannot read the constraint"),
        ({"objectives": ["flops"]}, "the first objective must be 'accuracy'"),
        ({"objectives": ["accuracy", "latency"]}, "has no cost 'latency'"),
        ({"objectives": {"accuracy": "up"}}, "not 'up'"),
    ],
)
def test_benchmark_problem_refuses_invalid_settings(table: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        benchmark_problem(table, **settings)


def test_benchmark_problem_costs_are_in_single_units() -> None:
    cells = BenchmarkProblem("cells", load_benchmark("nasbench201-cifar100"), ComparisonSettings())
    best = cells.benchmark.truth_source.table.coding.architecture("333333")
    costs = cells.problem.costs(best)
    # The published formulas: 7.943872 + 6 * 35.81952 million multiply-adds, 0.073306 + 6 * 0.24304 million weights.
    assert costs == {"flops": 222_860_992, "params": 1_531_546}
    assert "edgegpu_latency" not in costs
    devices = ComparisonSettings(objectives=["accuracy", "edgegpu_latency"])
    assert "edgegpu_latency" in BenchmarkProblem(
        "cells", load_benchmark("nasbench201-cifar100"), devices
    ).problem.costs(best)


def test_benchmark_problem_excludes_networks_that_do_not_run_on_a_device() -> None:
    wide = ComparisonSettings(constraints={"edgetpu_latency": "<= 1 * largest"})
    cells = BenchmarkProblem("cells", load_benchmark("nasbench201-cifar10"), wide)
    (limit,) = cells.problem.constraints
    assert math.isfinite(limit.high)
    feasible = sum(map(cells.problem.feasible, map(cells.benchmark.truth_source.table.coding.architecture, CELLS)))
    # HW-NAS-Bench: 4,699 of 15,625 do not run.
    assert feasible == 15_625 - 4_699


def test_benchmark_problem_fingerprint_depends_on_the_numbers(tmp_path: Path) -> None:
    first = benchmark_problem(write_table(tmp_path / "a.csv"))
    same = benchmark_problem(write_table(tmp_path / "b.csv"))
    text = (tmp_path / "b.csv").read_text().replace(repr(truth_of("1230")), repr(truth_of("1230") + 0.25), 1)
    (tmp_path / "c.csv").write_text(text)
    assert first.fingerprint == same.fingerprint != benchmark_problem(tmp_path / "c.csv").fingerprint


def test_in_memory_services_return_evaluated_trials(table: Path) -> None:
    small = benchmark_problem(table)
    seen: list[Any] = []

    class Nosy(Strategy):
        steps = 0

        def step(self, services: Services) -> None:
            self.steps += 1
            (trial,) = services.evaluate([Proposal(Scan(small.space, small.problem, seed=0)._order[self.steps])])
            seen.append((services.remaining, len(services.trials()), services.trials("other"), trial))

        done = False

        def state_dict(self) -> dict[str, Any]:
            return {}

        def load_state_dict(self, state: Any) -> None:
            pass

    search(small, Nosy(), evaluations=3)
    assert [item[:2] for item in seen] == [(2, 1), (1, 2), (0, 3)]
    assert not seen[0][2]
    trial = seen[0][3]
    assert isinstance(trial, Trial)
    assert trial.costs == {"flops": flops_of(code(trial.architecture))}


def test_benchmark_function_equals_the_table(table: Path) -> None:
    assert (
        BenchmarkProblem("small", load(str(table.parent)), ComparisonSettings()).fingerprint
        == benchmark_problem(table).fingerprint
    )
