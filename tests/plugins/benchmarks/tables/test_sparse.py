"""Tables with few of 10^22 architectures, with several rows of an architecture, and with several columns of codes."""

from __future__ import annotations

import csv
import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import automl_nas
from automl_nas.cli import cli
from automl_nas.errors import DataError, EvaluationError, InfeasibleError
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.strategy import FeasibleSampler, Problem, parse_constraint
from automl_nas_benchmarks.benchmark import benchmark_from_table
from automl_nas_benchmarks.comparison.api import compare
from automl_nas_benchmarks.tables.reader import TableSource, read_table
from automl_nas_benchmarks.tables.table_costs import Listed, TableCost
from automl_nas_benchmarks.tables.table_space import TableSpace

ROWS, DECISIONS = 60, 29
OBJECTIVES: dict[str, Any] = {"accuracy": "maximize"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """60 of 6^29 architectures whose codes have two columns; a third of them has no latency."""
    rng, file = random.Random(0), tmp_path / "sparse.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["first", "second", "accuracy", "ms"])
        for number in range(ROWS):
            code = "x" + "".join(rng.choice("012345") for _ in range(DECISIONS))
            writer.writerow([code[:10], code[10:], 50 + number / 4, "" if number % 3 == 0 else number])
    return file


def space_of(path: Path) -> TableSpace:
    return TableSpace(path=path, codes=("first", "second"))


def constrained(space: TableSpace, **limits: str) -> Problem:
    models = {"listed": TabulatedCost(Listed(space), space), "ms": TabulatedCost(TableCost(space, column="ms"), space)}
    return Problem(OBJECTIVES, [parse_constraint(name, text) for name, text in limits.items()], models)


@pytest.mark.parametrize(("limits", "numbers"), [({"listed": ">= 1"}, range(60)), ({"ms": "<= 30"}, range(31))])
def test_random_architectures_are_drawn_uniformly_from_the_rows(
    path: Path, limits: dict[str, str], numbers: range
) -> None:
    space = space_of(path)
    sampler = FeasibleSampler(space, constrained(space, **limits), 1000)
    rng = random.Random(1)
    drawn = Counter(space.table.row(sampler.draw(rng, ())) for _ in range(2000))  # type: ignore[arg-type]
    expected = [number for number in numbers if "ms" not in limits or number % 3]
    assert sorted(drawn) == expected
    # Chi-square with k - 1 degrees of freedom has the mean k - 1 and the variance 2 (k - 1).
    mean, free = 2000 / len(expected), len(expected) - 1
    assert abs(sum((count - mean) ** 2 / mean for count in drawn.values()) - free) < 4 * math.sqrt(2 * free)


def test_every_row_is_drawn_once_and_then_none(path: Path) -> None:
    space = space_of(path)
    sampler = FeasibleSampler(space, constrained(space, listed=">= 1"), 10)
    taken: set[Any] = set()
    while (architecture := sampler.draw(random.Random(len(taken)), taken)) is not None:
        taken.add(space.canonical(architecture))
    assert len(taken) == ROWS


def test_limits_that_no_row_meets_name_the_nearest_row(path: Path) -> None:
    space = space_of(path)
    sampler = FeasibleSampler(space, constrained(space, listed=">= 1", ms="<= 0.5"), 10)
    with pytest.raises(InfeasibleError, match=rf"none of the {ROWS} architectures that are listed .* misses 'ms <= 0"):
        sampler.draw(random.Random(0), ())


def test_extremes_of_a_sparse_table_are_those_of_its_rows(path: Path) -> None:
    space = space_of(path)
    listed, ms = (TabulatedCost(model, space) for model in (Listed(space), TableCost(space, column="ms")))
    assert (listed.extremes().smallest_value, listed.extremes().largest_value) == (0, 1)
    assert (ms.extremes().smallest_value, ms.extremes().largest_value) == (1, 59)
    assert not ms.additive
    assert "only listed architectures" in ms.reason


def test_a_network_without_a_row_has_the_cost_of_a_missing_value(path: Path) -> None:
    space = space_of(path)
    lacking = space.sample(random.Random(5))
    assert TableCost(space, column="ms").estimate(lacking) == math.inf
    assert TableCost(space, column="ms", missing=7.0).estimate(lacking) == 7.0


@pytest.mark.parametrize("strategy", ["random", "evolution", "aging", "local_search", "surrogate"])
def test_each_strategy_of_a_run_evaluates_rows_only(path: Path, tmp_path: Path, strategy: str) -> None:
    out = tmp_path / "run"
    result = automl_nas.search(
        space={"name": "table", "path": str(path), "codes": ["first", "second"]},
        problem={"objectives": OBJECTIVES, "costs": ["listed"], "constraints": {"listed": ">= 1"}},
        stages=[
            {
                "name": "search",
                "strategy": {"name": strategy},
                "evaluator": {"name": "tabular", "metrics": ["accuracy"]},
                "budget": {"trials": ROWS},
            }
        ],
        final=None,
        out=out,
    )
    assert result.best.metrics["accuracy"] == 50 + (ROWS - 1) / 4
    assert '"failed"' not in (out / "trials.jsonl").read_text(encoding="utf-8")


def call(path: Path, *arguments: str) -> Result:
    table = f"{{table: {path}, metric: accuracy, codes: [first, second]}}"
    fixed = ["--strategies", "random,surrogate", "--seeds", "2", "--workers", "0", "--no-plots", "-q"]
    return CliRunner().invoke(cli, ["benchmark", "--benchmarks", table, *fixed, *arguments])


def test_the_benchmark_command_restricts_searches_to_the_rows(path: Path, tmp_path: Path) -> None:
    listed = ("--constraint", "listed >= 1", "--evaluations", str(ROWS))
    result = call(path, *listed, "--out", str(tmp_path / "out"), "--json")
    assert result.exit_code == 0, result.stderr
    scores = json.loads(result.stdout)["scores"]
    assert [(score["regret"], score["failed"], score["evaluations"]) for score in scores] == [(0.0, 0, 2 * ROWS)] * 2


def test_a_benchmark_in_which_every_evaluation_failed_has_no_result(path: Path, tmp_path: Path) -> None:
    result = call(path, "--evaluations", "5", "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "regret" not in result.stdout
    assert "so there is no result; 20 of 20 evaluations failed, the first: the table 'sparse.csv'" in result.stderr
    assert "--constraint 'listed >= 1'" in result.stderr
    specification = {"table": str(path), "metric": "accuracy", "codes": ["first", "second"]}
    with pytest.raises(EvaluationError, match="no search on 'sparse' evaluated a feasible network"):
        compare(["random"], [specification], seeds=1, evaluations=3)


def test_one_benchmark_without_a_result_is_shown_as_such(path: Path, tmp_path: Path) -> None:
    names = f"nasbench_macro, {{table: {path}, metric: accuracy, codes: [first, second]}}"
    result = call(path, "--benchmarks", names, "--evaluations", "5", "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    sparse = result.stdout.partition("sparse (60")[2].partition("searches of")[0]
    assert sparse.count("no result") == 2
    assert "random: 2 of 2 searches evaluated no feasible network; 10 of 10 evaluations failed" in sparse
    assert "no search on 'sparse' evaluated" in result.stderr
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<td>no result</td>") == 2


DOUBLED = """cell,stem,accuracy,ms
ab,xy,80,1
ab,xz,90,2
ab,xy,85,
bb,xy,70,
ab,xy,81,4
bb,xy,71,
"""


@pytest.mark.parametrize(
    ("duplicates", "accuracy", "ms"),
    [("mean", [82.0, 90.0, 70.5], [2.5, 2.0, math.nan]), ("first", [80.0, 90.0, 70.0], [1.0, 2.0, math.nan])],
)
def test_rows_of_the_same_architecture_are_merged(
    tmp_path: Path, duplicates: Any, accuracy: list[float], ms: list[float]
) -> None:
    file = tmp_path / "doubled.csv"
    file.write_text(DOUBLED, encoding="utf-8")
    table = read_table(TableSource(file, codes=("cell", "stem"), duplicates=duplicates))
    assert table.codes == ("abxy", "abxz", "bbxy")
    assert table.columns["accuracy"].values.tolist() == accuracy
    assert table.columns["ms"].values.tolist() == pytest.approx(ms, nan_ok=True)
    benchmark = benchmark_from_table(file, metric="accuracy", codes=("cell", "stem"), duplicates=duplicates)
    assert benchmark.truths.tolist() == sorted(accuracy, reverse=True)
    assert list(benchmark.space.decisions) == ["choice_1", "choice_2", "choice_3", "choice_4"]
    assert [decision.size for decision in benchmark.space.decisions.values()] == [2, 1, 1, 2]


def test_rows_of_the_same_architecture_are_refused_by_default(tmp_path: Path) -> None:
    file = tmp_path / "doubled.csv"
    file.write_text(DOUBLED, encoding="utf-8")
    with pytest.raises(
        DataError, match=r"'abxy' more than once, in rows 1 and 3 \(3 rows too many\); set 'duplicates'"
    ):
        read_table(TableSource(file, codes=("cell", "stem")))


def test_the_codes_of_each_column_have_one_length(tmp_path: Path) -> None:
    file = tmp_path / "lengths.csv"
    file.write_text("cell,stem,accuracy\nab,xyz,80\nabx,yz,90\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"the column 'cell' of the table lengths\.csv has 3 symbols in row 2"):
        read_table(TableSource(file, codes=("cell", "stem")))
