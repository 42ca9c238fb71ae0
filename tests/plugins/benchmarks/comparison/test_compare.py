"""Whole comparisons, against closed forms and for any number of worker processes."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugins.benchmarks.comparison.fixtures import (
    CODES,
    Scan,
    flops_of,
    signal_of,
    spec,
    truth_of,
    write_table,
)
from scipy import stats

from automl_nas.errors import ConfigurationError, DataError, EvaluationError
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Problem
from automl_nas_benchmarks.comparison import Comparison, compare
from automl_nas_benchmarks.comparison.search import SearchRecord
from automl_nas_benchmarks.comparison.statistics import censored_quantile, wilcoxon

TOOLS = "plugins.benchmarks.comparison.fixtures"
SCAN = f"{TOOLS}:Scan"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "small.csv")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Random search without replacement on a clean and on a noisy signal, 200 seeds."""
    table = write_table(tmp_path_factory.mktemp("many") / "small.csv")
    noisy = spec(table, label="noisy", metric="signal", truth="truth")
    return compare([SCAN], [spec(table), noisy], seeds=200, evaluations=20, top=[0.05])


def regret_of_draws(signal: Callable[[str], float], count: int) -> tuple[float, float]:
    """Mean and standard deviation of the regret after ``count`` draws without replacement, in closed form."""
    ordered = sorted(CODES, key=signal, reverse=True)
    best = max(map(truth_of, CODES))
    n = len(ordered)
    # The first i in the order of the signal are all missed, and the next one is drawn.
    chance = [math.comb(n - i - 1, count - 1) / math.comb(n, count) for i in range(n - count + 1)]
    regrets = [best - truth_of(item) for item in ordered]
    mean = sum(p * r for p, r in zip(chance, regrets, strict=False))
    return mean, math.sqrt(sum(p * (r - mean) ** 2 for p, r in zip(chance, regrets, strict=False)))


@pytest.mark.parametrize(("benchmark", "signal"), [("small", truth_of), ("noisy", signal_of)])
def test_compare_random_search_has_its_expected_regret(
    many: Comparison, benchmark: str, signal: Callable[[str], float]
) -> None:
    score = many.findings.score("Scan", benchmark)
    mean, deviation = regret_of_draws(signal, 20)
    # Four standard errors are missed by chance once in 16,000 sets of seeds.
    assert abs(score.regret - mean) < 4 * deviation / math.sqrt(200)
    line = next(line for line in many.findings.curves if line.benchmark == benchmark)
    for count in (1, 5, 10):
        mean, deviation = regret_of_draws(signal, count)
        assert abs(line.values[:, count - 1].mean() - mean) < 4 * deviation / math.sqrt(200)


def test_compare_arrival_has_its_expected_quantiles(many: Comparison) -> None:
    (arrival,) = many.findings.score("Scan", "small").arrivals
    # 13 of 256 are the top 5 %; the first of them is among n draws unless all n are others.
    assert many.findings.functions["small"] == (256, {0.05: 13})
    by = [1 - stats.hypergeom.pmf(0, 256, 13, n) for n in range(1, 21)]
    assert abs(arrival.arrived - by[-1]) < 4 * math.sqrt(by[-1] * (1 - by[-1]) / 200)
    assert arrival.median is not None
    # The empirical median of 200 lies where the distribution is within 4 standard errors of a half.
    assert by[arrival.median - 1] > 0.5 - 4 * 0.5 / math.sqrt(200)
    assert arrival.median < 2 or by[arrival.median - 2] < 0.5 + 4 * 0.5 / math.sqrt(200)
    assert arrival.upper is None  # 0.65 have arrived by 20


def test_compare_equal_strategies_do_not_differ_significantly(table: Path) -> None:
    summary = compare({"a": SCAN, "b": SCAN, "c": SCAN}, [spec(table)], seeds=30, evaluations=20).findings
    assert summary.mean_ranks == {"a": 2, "b": 2, "c": 2}
    assert summary.tests[0].friedman.chi2_p == 1
    assert summary.tests[0].groups == (("a", "b", "c"),)
    assert all(pair.adjusted == 1 for pair in summary.tests[0].pairs)


def test_compare_ranks_and_tests_are_those_of_the_records(table: Path) -> None:
    strategies = {"long": {"name": SCAN}, "half": {"name": SCAN, "times": 2}, "random": "random"}
    noisy = spec(table, label="noisy", metric="signal", truth="truth")
    result = compare(strategies, [spec(table), noisy], seeds=12, evaluations=25, deduplicate=False)
    summary = result.findings
    blocks: dict[tuple[str, int], list[float]] = {}
    truths = sorted(map(truth_of, CODES))
    for record in result.records:
        better = sum(value > record.incumbent[-1][1] for value in truths) / 256
        blocks.setdefault((record.benchmark, record.seed), []).append(better)
    losses = np.array(list(blocks.values()))
    assert losses.shape == (24, 3)
    overall = summary.tests[0]
    assert overall.friedman.chi2 == pytest.approx(stats.friedmanchisquare(*losses.T)[0])
    assert tuple(summary.mean_ranks.values()) == pytest.approx(stats.rankdata(losses, axis=1).mean(axis=0))
    for pair in overall.pairs:
        assert pair.p == pytest.approx(wilcoxon(losses[:, pair.first], losses[:, pair.second]))
    one = np.array([values for (name, _), values in blocks.items() if name == "noisy"])
    assert summary.tests[2].scope == "noisy"
    assert summary.tests[2].friedman.mean_ranks == pytest.approx(stats.rankdata(one, axis=1).mean(axis=0))
    assert summary.score("half", "noisy").loss == pytest.approx(one[:, 1].mean())
    assert summary.score("half", "noisy").loss_deviation == pytest.approx(one[:, 1].std(ddof=1))


def test_judge_setting_selects_the_compared_quantity(table: Path) -> None:
    def losses(judge: Any) -> tuple[Comparison, float]:
        result = compare([SCAN], [spec(table)], seeds=10, evaluations=30, top=[0.5, 0.02], judge=judge)
        return result, result.findings.scores[0].loss

    result, arrival = losses("arrival")
    limit = sorted(map(truth_of, CODES))[-6]
    times = [next((at for at, value in r.best_truths if value >= limit), None) for r in result.records]
    assert None in times
    assert arrival == np.mean([31 if time is None else time for time in times])
    assert result.findings.scores[0].arrivals[-1].median == censored_quantile(times, 0.5)
    (line,) = result.findings.curves
    best = max(map(truth_of, CODES))
    better = [[sum(truth_of(code) > best - regret for code in CODES) / 256 for regret in row] for row in line.values]
    assert losses("anytime")[1] == pytest.approx(np.mean(better))
    assert losses("final")[1] == pytest.approx(np.mean([row[-1] for row in better]))


def untimed(record: SearchRecord) -> SearchRecord:
    return replace(record, proposal_seconds=0, late_seconds=0, seconds=0)


@pytest.mark.process
def test_compare_results_do_not_depend_on_worker_processes(table: Path, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    strategies = {"one": SCAN, "steps": f"{TOOLS}:Generations", "aging": {"name": "aging", "population": 8}}
    settings: dict[str, Any] = {"seeds": 3, "evaluations": 30, "objectives": ["accuracy", "flops"]}
    in_process = compare(strategies, [spec(table)], **settings)
    there = compare(
        strategies,
        [spec(table)],
        **settings,
        out=tmp_path / "out",
        workers=2,
        progress=lambda count, total: done.append((count, total)),
    )
    assert list(map(untimed, there.records)) == list(map(untimed, in_process.records))
    assert done == [(count, 9) for count in range(10)]
    assert there.folder == tmp_path / "out"
    assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] == "1"


@pytest.mark.process
@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("Broken", "'bad' on 'small' with seed 1: RuntimeError: out of ideas"),
        ("Killer", "ended with exit code 3 during 'bad' on 'small' with seed"),
    ],
)
def test_compare_reports_a_failure_in_a_worker_process(
    table: Path, tmp_path: Path, strategy: str, message: str
) -> None:
    strategies = {"fine": SCAN, "bad": f"{TOOLS}:{strategy}"}
    with pytest.raises(EvaluationError, match=message) as caught:
        compare(strategies, [spec(table)], seeds=2, first_seed=1, evaluations=9, out=tmp_path / "out", workers=1)
    if strategy == "Broken":
        assert "in ask" in "".join(caught.value.__notes__), "where it happened in the other process"
    assert b'"fine"' in (tmp_path / "out" / "searches.jsonl").read_bytes()


def test_compare_adds_seeds_and_strategies_to_recorded_searches(table: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"evaluations": 10, "out": tmp_path / "out"}
    first = compare({"one": SCAN}, [spec(table)], seeds=4, **settings)
    more = compare({"one": SCAN, "r": "random"}, [spec(table)], seeds=6, **settings)
    unchanged = [record for record in more.records if record.strategy == "one" and record.seed < 4]
    assert unchanged == list(first.records), "even their times"
    assert len(more.records) == 12


def test_compare_accepts_classes_that_cannot_be_imported(table: Path) -> None:
    class Mine(Scan):
        pass

    result = compare([Mine, SCAN], [spec(table)], seeds=5, evaluations=10)
    assert result.findings.strategies == ("Mine", "Scan")
    with pytest.raises(ConfigurationError, match="cannot be imported by worker processes"):
        compare([Mine], [spec(table)], seeds=5, evaluations=10, workers=2)


def test_compare_supplies_a_runtime_to_strategies(table: Path) -> None:
    from automl_nas.evaluation.runtime import Runtime

    runtimes: list[object] = []

    class Heavy(Scan):
        def __init__(self, space: SearchSpace, problem: Problem, runtime: Runtime, *, seed: int) -> None:
            super().__init__(space, problem, seed=seed)
            runtimes.append((str(runtime.device), runtime.threads))

    # It is imported here, so it cannot be found by its name in the module.
    Heavy.__init__.__annotations__["runtime"] = Runtime
    compare([Heavy], [spec(table)], seeds=1, evaluations=5)
    assert set(runtimes) == {("cpu", 1)}


def test_compare_accepts_a_benchmark_function(table: Path) -> None:
    named = {"name": f"{TOOLS}:load", "folder": str(table.parent), "label": "small"}
    settings: dict[str, Any] = {"seeds": 3, "evaluations": 10}
    assert list(map(untimed, compare([SCAN], [named], **settings).records)) == list(
        map(untimed, compare([SCAN], [spec(table)], **settings).records)
    )


@pytest.mark.parametrize(
    ("strategies", "benchmark", "message"),
    [
        (["randm"], {}, r"strategies\[0\].name: unknown strategy 'randm'; did you mean 'random'"),
        (
            ["random", {"name": "aging", "populatoin": 3}],
            {},
            r"\[1\].populatoin: .*did you mean 'population'",
        ),
        ([{"name": "aging", "population": 0}], {}, r"strategies\[0\].population: .*at least 1"),
        (["random", "random"], {}, "has the label 'random' already; give each entry a label"),
        ([SCAN, {"name": SCAN, "times": 2}], {}, "has the label 'Scan' already"),
        ([f"{TOOLS}:Weighty"], {}, "needs a Artifacts, which this run does not supply"),
        ([f"{TOOLS}:Scam"], {}, "has no 'Scam'.*did you mean 'Scan'"),
        (["no_such_module:X"], {}, "the module 'no_such_module' .*does not exist"),
        ([{"nome": "random"}], {}, "must be a name or a mapping with a name"),
        ([], {}, "strategies: must have at least one entry"),
        ("random", {}, r"must be a list: \['random'\]"),
        (["random"], {"codec": "code"}, r"benchmarks\[0\].codec: a table has no setting 'codec'; did you mean 'codes'"),
        (["random"], {"metric": "sigmal"}, "no column 'sigmal'; did you mean 'signal'"),
        (["random"], {"codes": 3}, r"benchmarks\[0\].codes: must be a string"),
    ],
)
def test_invalid_strategies_are_refused_before_any_search(
    table: Path, tmp_path: Path, strategies: Any, benchmark: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        compare(strategies, [spec(table, **benchmark)], seeds=2, evaluations=5, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("benchmark", "message"),
    [
        ("nasbench201-cifar", "unknown benchmark 'nasbench201-cifar'; did you mean 'nasbench201-cifar10'"),
        ({"name": "nasbench_macro", "epochs": 12}, r"benchmarks\[0\].epochs: 'nasbench_macro' has no settings"),
        (f"{TOOLS}:flops_of", "this setting is required"),
        ({"name": f"{TOOLS}:flops_of", "code": "012"}, "must return a Benchmark, not int"),
        ({"name": f"{TOOLS}:flops_of", "code": "abc"}, "raised ValueError"),
    ],
)
def test_invalid_benchmarks_are_refused_before_any_search(benchmark: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        compare(["random"], [benchmark], seeds=2, evaluations=5)


def test_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv cannot be read"):
        compare(["random"], [spec(tmp_path / "none.csv")], seeds=2, evaluations=5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 0}, "seeds: must be at least 1"),
        ({"evaluations": 0}, "evaluations: must be at least 1"),
        ({"batch": 0}, "batch: must be at least 1"),
        ({"top": [5]}, r"top\[0\]: must be between 0 and 1"),
        ({"alpha": 1.5}, "alpha: must be between 0 and 1"),
        ({"judge": "speed"}, "judge: must be 'final', 'anytime' or 'arrival'"),
        ({"top": [], "judge": "arrival"}, "top: must have at least one share"),
        ({"seeds": "many"}, "seeds: must be a whole number"),
    ],
)
def test_comparison_settings_out_of_range_are_refused(table: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        compare([SCAN], [spec(table)], **{"seeds": 2, "evaluations": 5, **settings})


class Outline(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells.append(data)


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_report_formats_agree(table: Path, tmp_path: Path) -> None:
    strategies = {"<b>one & two</b>": SCAN, "random": "random"}
    result = compare(strategies, [spec(table)], seeds=6, evaluations=20, constraints={"flops": "<= 0.5 * largest"})
    page = result.write(tmp_path / "report")
    score = result.findings.scores[0]
    assert page == tmp_path / "report" / "report.html"
    outline = Outline()
    outline.feed(page.read_text(encoding="utf-8"))
    assert not outline.open
    assert "<b>one & two</b>" in outline.cells
    assert f"{score.regret:.3f} ± {score.deviation:.3f}" in outline.cells
    assert outline.links
    assert all(link.startswith("data:image/svg+xml;base64,") for link in outline.links), "nothing is loaded"
    rows = lines(page.parent / "scores.csv")
    assert float(rows[0]["regret_mean"]) == score.regret
    assert float(rows[0]["top_0.01_arrived"]) == score.arrivals[0].arrived
    assert rows[0]["strategy"] == "<b>one & two</b>"
    plain = json.loads((page.parent / "result.json").read_text())
    assert plain == json.loads(json.dumps(result.to_json()))
    assert plain["scores"][0]["regret"] == score.regret
    assert plain["scores"][0]["missed"] is None
    curves = lines(page.parent / "curves.csv")
    assert len(curves) == 40
    assert float(curves[19]["median"]) == np.median(result.findings.curves[0].values[:, -1])
    assert float(curves[19]["mean"]) == pytest.approx(score.regret)
    assert float(curves[19]["std"]) == pytest.approx(score.deviation)
    pairs = lines(page.parent / "pairs.csv")
    assert [row["scope"] for row in pairs] == ["all benchmarks", "small"]
    assert f"{score.regret:.3f} ± {score.deviation:.3f}" in str(result)
    allowed = [code for code in CODES if flops_of(code) <= 0.5 * max(map(flops_of, CODES))]
    assert result.findings.functions["small"][0] == len(allowed)


def test_report_of_a_single_search_has_no_tests(table: Path, tmp_path: Path) -> None:
    result = compare([SCAN], [spec(table)], seeds=1, evaluations=5)
    assert result.findings.tests == ()
    assert math.isnan(result.findings.scores[0].deviation)
    assert f"{result.findings.scores[0].regret:.3f} ± -" in str(result)
    result.write(tmp_path, plots=False)
    assert "NaN" not in (tmp_path / "result.json").read_text()
    assert {path.name for path in tmp_path.glob("*.*")} >= {"report.html", "scores.csv"}
    assert not list(tmp_path.glob("*.png"))
