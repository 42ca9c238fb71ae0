"""``automl-nas rank``: studies with a known outcome, as a table is the evaluator, and real ones at toy size."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from end_to_end.runs import in_child
from scipy import stats

from automl_nas.cli import cli
from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas_benchmarks.benchmark import load_benchmark
from automl_nas_benchmarks.rank.command import rank
from automl_nas_benchmarks.rank.plot import draw
from automl_nas_benchmarks.rank.study import Study, open_runs
from automl_nas_benchmarks.report_folder import check_report_folder, write_files
from automl_nas_benchmarks.spaces.coded_space import CodedSpace
from automl_nas_benchmarks.tables.packaged import load_table

ROOT = Path(__file__).parents[4]
EXAMPLE = ROOT / "examples" / "configs" / "rank_macro_cifar10.yaml"

ORACLE = """
space: nasbench_macro
problem:
  objectives: {accuracy: maximize}
  costs: {published: {name: table_cost, table: nasbench_macro, column: flops}}
runtime: {threads: 1}
stages:
  - {name: all_runs, strategy: {name: survey, count: 40}, evaluator: nasbench_macro}
  - {name: one_run, strategy: {name: survey, count: 40}, evaluator: {name: nasbench_macro, run: 1}}
  - name: search
    strategy: random
    evaluator: nasbench_macro
    problem: {constraints: {published: "<= 30M"}}
    budget: {trials: 5}
"""

SUPERNET = """
task: {name: digits, batch_size: 64}
space: {name: nasbench_macro, channels: 4, last_channels: 8, affine: false}
problem: {objectives: {accuracy: maximize}, costs: []}
runtime: {threads: 1}
checkpoint_seconds: 0
stages:
  - {name: supernet, strategy: {name: single_path, iterations_per_step: 5, train: {epochs: 1}}}
  - name: recalibrated
    strategy: {name: survey, count: 8}
    evaluator: {name: inherited, recalibration_images: 64}
  - name: running_statistics
    strategy: {name: survey, count: 8}
    evaluator: {name: inherited, recalibration_images: 0}
final: null
"""


def invoke(*arguments: object, code: int = 0, plots: bool = False) -> Result:
    # A picture is drawn where one is looked at: it takes longer than all the rest.
    command = ["rank", *map(str, arguments), *(() if plots else ("--no-plots",))]
    result = CliRunner().invoke(cli, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study whose first predictor is the truth itself."""
    folder = tmp_path_factory.mktemp("oracle")
    config = folder / "oracle.yaml"
    config.write_text(ORACLE)
    options = ["--seeds", 2, "--out", folder / "out", "--resamples", 20, "--top", 1, "--top", 5]
    invoke(config, *options, plots=True)
    return folder / "out"


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "ranking.json").read_text())
    return content


def scores(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def finding(folder: Path, predictor: str, scope: str, measure: str) -> dict[str, Any]:
    (match,) = (
        each
        for each in report(folder)["findings"]
        if (each["predictor"], each["scope"], each["measure"]) == (predictor, scope, measure)
    )
    assert isinstance(match, dict)
    return match


def column(folder: Path, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([float(row[name]) for row in scores(folder)])


def test_rank_of_the_true_values_is_perfect(oracle: Path) -> None:
    perfect = [each for each in report(oracle)["findings"] if each["predictor"] == "all_runs"]
    assert {each["scope"] for each in perfect} == {"overall", "true top half", "within tenths of flops"}
    for each in perfect:
        # Rounding in sums of a few hundred terms.
        assert each["runs"] == pytest.approx([1, 1], abs=1e-9)
        assert [each["value"], each["low"], each["high"]] == pytest.approx([1, 1, 1], abs=1e-9)


def test_rank_findings_match_the_written_scores(oracle: Path) -> None:
    truth, one_run = column(oracle, "truth"), column(oracle, "one_run_1")
    assert finding(oracle, "one_run", "overall", "kendall_tau")["value"] == pytest.approx(
        stats.somersd(truth, one_run).statistic
    )
    best = np.argsort(-truth)[:20]
    assert finding(oracle, "one_run", "true top half", "spearman")["value"] == pytest.approx(
        stats.spearmanr(one_run[best], truth[best]).statistic
    )
    tenths = np.array_split(np.argsort(column(oracle, "flops"), kind="stable"), 10)
    inside = [stats.somersd(truth[rows], one_run[rows]).statistic for rows in tenths]
    assert finding(oracle, "one_run", "within tenths of flops", "kendall_tau")["value"] == pytest.approx(
        np.mean(inside)
    )
    assert report(oracle)["tau_in_tenths"]["one_run"] == pytest.approx(inside)
    assert 0.5 < finding(oracle, "one_run", "overall", "kendall_tau")["low"] < 1


def test_rank_reports_trivial_predictors(oracle: Path) -> None:
    table = load_table("nasbench_macro")
    rows = [table.find(row["code"]) for row in scores(oracle)]
    assert column(oracle, "flops").tolist() == table.columns["flops"].values[rows].tolist()
    assert column(oracle, "params").tolist() == table.columns["params"].values[rows].tolist()
    assert column(oracle, "layers").tolist() == [8 - row["code"].count("0") for row in scores(oracle)]
    for lead in report(oracle)["leads"]:
        ours, theirs = (
            finding(oracle, name, lead["scope"], "kendall_tau")["value"] for name in (lead["predictor"], lead["over"])
        )
        assert lead["value"] == pytest.approx(ours - theirs)
        assert lead["low"] <= lead["value"] <= lead["high"]
    assert len(report(oracle)["leads"]) == 4 * 3 * 3, "two stages, each alone and with the number of layers; 3 scopes"


def test_rank_sample_codes(oracle: Path) -> None:
    codes = [row["code"] for row in scores(oracle)]
    assert len(set(codes)) == 40 == report(oracle)["networks"]
    assert all(len(code) == 8 for code in codes)  # leading zeros and all


def test_rank_picks_of_a_search(oracle: Path) -> None:
    table = load_table("nasbench_macro")
    truth, flops = table.columns["test_mean"].values, table.columns["flops"].values
    assert table.representatives is not None
    feasible = [row for row in np.unique(table.representatives) if flops[row] <= 30e6]
    picks = report(oracle)["picks"]
    assert [(pick["stage"], pick["seed"]) for pick in picks] == [("search", 0), ("search", 1)]
    for pick in picks:
        tried = [
            json.loads(line) for line in (oracle / f"seed-{pick['seed']}" / "trials.jsonl").read_text().splitlines()
        ]
        best = max(
            each["metrics"]["accuracy"] for each in tried if each["event"] == "finished" and each["stage"] == "search"
        )
        row = table.find(pick["code"])
        assert pick["truth"] == best == truth[row]
        assert flops[row] <= 30e6
        assert pick["evaluated"] == 5
        assert pick["feasible"] == len(feasible)
        assert pick["rank"] == 1 + sum(truth[feasible] > truth[row])
        assert pick["optimum"] == truth[feasible].max()
        assert pick["random"]["1"] == pytest.approx(truth[feasible].mean())
        largest = max(feasible, key=lambda row: flops[row])
        assert pick["free"]["largest flops"] == pytest.approx(truth[largest])
        layers = np.array([8 - table.codes[row].count("0") for row in feasible])
        deepest = np.array(feasible)[layers == layers.max()]
        assert pick["free"]["most layers"] == pytest.approx(truth[deepest].mean())
        # The least number of random networks whose best is worth as much: a simulation says the same.
        rng = np.random.default_rng(0)
        for k, enough in ((pick["worth"], True), (pick["worth"] - 1, False)):
            if k:
                drawn = np.mean([rng.choice(truth[feasible], k, replace=False).max() for _ in range(2000)])
                # Four standard errors of a mean of 2,000; one network deviates by 12 percent points.
                assert (drawn >= pick["truth"] - 4 * 12 / 2000**0.5) if enough else (drawn < pick["truth"] + 1.1)


def test_rank_report_files(oracle: Path) -> None:
    assert (oracle / "ranking.png").read_bytes().startswith(b"\x89PNG")
    with (oracle / "ranking.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(report(oracle)["findings"])
    assert {row["measure"] for row in rows} >= {"kendall_tau", "spearman", "precision_at_5", "best_rank_at_1"}
    text = invoke(oracle / "seed-0", oracle / "seed-1", "--resamples", 5).output
    assert "40 networks of nasbench_macro, 2 runs (seeds 0, 1)" in text
    assert "flops (free)" in text and "published <= 30M" in text


def test_rank_plot_has_a_panel_for_each_predictor(oracle: Path) -> None:
    study = Study(load_benchmark("nasbench_macro"), open_runs([oracle / "seed-0"]))
    sample = study.sample()
    *panels, bar = draw(sample).axes
    titles = [axes.get_title().partition(":")[0].removesuffix(", known for free") for axes in panels]
    assert titles == [predictor.name for predictor in sample.predictors]
    assert len(titles) % 3, "one place is left over, and empty"
    assert bar.get_ylabel() == "flops"
    for axes, predictor in zip(panels, sample.predictors, strict=True):
        points = np.asarray(axes.collections[0].get_offsets())
        assert np.array_equal(points, np.stack([sample.truth, predictor.scores[0]], axis=1))


def test_rank_command_again_reads_complete_runs(oracle: Path) -> None:
    before = {path: path.read_bytes() for path in oracle.rglob("*.json*")}
    invoke(oracle.parent / "oracle.yaml", "--seeds", 2, "--out", oracle, "--resamples", 20, "--top", 1, "--top", 5)
    assert {path: path.read_bytes() for path in oracle.rglob("*.json*")} == before


def test_rank_compares_complete_runs(oracle: Path, tmp_path: Path) -> None:
    out = json.loads(invoke(oracle / "seed-1", "--json", "--resamples", 5, "--out", tmp_path).stdout)
    assert out["seeds"] == [1]
    assert out["runs"] == [str(oracle / "seed-1")]
    assert json.loads((tmp_path / "ranking.json").read_text()) == out
    assert not (tmp_path / "seed-1").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a CONFIG, or --space and --task"),
        (["--space", "nasbench_macro", "--task", "digits"], "--out is missing"),
        (["oracle.yaml", "--space", "nasbench201", "--out", "x"], "for use without CONFIG"),
        (["oracle.yaml", "oracle.yaml", "--out", "x"], "give one CONFIG"),
        (["OUT/seed-0", "x"], "x is not a run directory: the folder does not exist"),
        (["OUT"], "is not a run directory: it holds no config.yaml"),
        (["OUT/seed-0", "OUT/seed-1", "OUT/seed-0"], "seed-0 both have the seed 0, so they are one run"),
        (["OUT/seed-0", "--out", "oracle.yaml"], "oracle.yaml is not a folder; choose another --out"),
        (["oracle.yaml", "--out", "oracle.yaml"], "oracle.yaml is not a folder; choose another --out"),
        (["oracle.yaml", "--set", "space=shufflenet_v2", "--out", "x"], "--benchmark is missing"),
        (["oracle.yaml", "--benchmark", "nasbench_micro", "--out", "x"], "unknown benchmark 'nasbench_micro'"),
        (["oracle.yaml", "--benchmark", "[1]", "--out", "x"], "a name, or a mapping"),
        (["oracle.yaml", "--set", "stages.search.strategy=rnadom", "--out", "x"], "did you mean 'random'"),
        (["OUT/seed-0", "--set", "seed=1"], "these are complete runs"),
        (["OUT/seed-0", "--benchmark", "nasbench201-cifar10"], "the space has no decision '0>1'"),
        (["oracle.yaml", "--benchmark", "nasbench201-cifar10", "--out", "x"], "the space has no decision '0>1'"),
        (
            ["oracle.yaml", "--set", "stages=[{name: a, strategy: random, evaluator: nasbench_macro}]", "--out", "x"],
            "the strategy 'survey'",
        ),
    ],
)
def test_rank_refuses_invalid_arguments_before_any_run(oracle: Path, arguments: list[str], message: str) -> None:
    names = ("OUT", "OUT/seed-0", "OUT/seed-1")
    paths = {name: oracle / name.removeprefix("OUT").removeprefix("/") for name in names}
    paths |= {"oracle.yaml": oracle.parent / "oracle.yaml", "x": oracle.parent / "x"}
    result = invoke(*(paths.get(argument, argument) for argument in arguments), code=2)
    assert message in " ".join(result.output.split())
    assert not (oracle.parent / "x").exists()


def test_rank_with_true_values_of_a_user_table(oracle: Path, tmp_path: Path) -> None:
    """Here it says that a network is the better the worse the published table has it, and it lacks some networks."""
    space = load_benchmark("nasbench_macro").space
    assert isinstance(space, CodedSpace)
    lines = [",".join([*space.decisions, "quality", "cost"])]
    for row in scores(oracle)[:30]:
        layers = [str(option) for option in space.architecture(row["code"]).values()]
        lines.append(",".join([*layers, str(100 - float(row["truth"])), row["flops"]]))
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    decisions = ", ".join(space.decisions)
    mine = f"{{table: {tmp_path / 'mine.csv'}, decisions: [{decisions}], metric: quality, costs: [cost]}}"
    shown = invoke(oracle / "seed-0", "--benchmark", mine, "--resamples", 5, "--out", tmp_path).output
    assert "10 networks left out" in shown
    assert finding(tmp_path, "all_runs", "overall", "kendall_tau")["value"] == pytest.approx(-1)
    assert column(tmp_path, "cost").tolist() == column(oracle, "flops")[:30].tolist()
    # The table of 30 networks does not contain the network that the search chose.
    assert report(tmp_path)["picks"][0]["truth"] is None
    assert "unknown" in shown


def test_rank_refuses_runs_of_different_configurations(oracle: Path, tmp_path: Path) -> None:
    config = tmp_path / "other.yaml"
    config.write_text(ORACLE.replace("one_run", "first_run"))
    invoke(config, "--out", tmp_path / "out", "--resamples", 5)
    message = invoke(oracle / "seed-0", tmp_path / "out" / "seed-0", code=2).output
    assert "differ in their stages" in message


def test_rank_refuses_runs_that_differ_in_more_than_their_seeds(oracle: Path, tmp_path: Path) -> None:
    """The stages have equal names, so the mean over both would be that of two kinds of samples."""
    config = tmp_path / "other.yaml"
    config.write_text(ORACLE.replace("{name: nasbench_macro, run: 1}", "{name: nasbench_macro, run: 2}"))
    invoke(config, "--out", tmp_path / "out", "--resamples", 5, "--set", "seed=7")
    message = invoke(oracle / "seed-0", tmp_path / "out" / "seed-7", code=2).output
    assert (
        "differ in stages[1].evaluator.run: 1 and 2; a report is about runs that differ in their seeds only" in message
    )
    config.write_text(ORACLE.replace("{threads: 1}", "{threads: 2}"))  # it takes less time, and changes no score
    invoke(config, "--out", tmp_path / "faster", "--resamples", 5, "--set", "seed=7")
    assert "2 runs (seeds 0, 7)" in invoke(oracle / "seed-0", tmp_path / "faster" / "seed-7", "--resamples", 5).output


def test_rank_refuses_a_run_whose_record_lacks_trials(oracle: Path, tmp_path: Path) -> None:
    shutil.copytree(oracle / "seed-0", tmp_path / "run")
    lines = (tmp_path / "run" / "trials.jsonl").read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["number"] != 3]
    (tmp_path / "run" / "trials.jsonl").write_bytes(b"".join(kept))
    message = invoke(tmp_path / "run", "--resamples", 5, code=2).output
    assert "it holds 39 of the 40 trials of the stage 'all_runs' that result.json counts; restore it" in message


def test_rank_at_k_has_no_value_where_every_network_is_among_the_best_k(oracle: Path, tmp_path: Path) -> None:
    """A reversed order has the same best 40 of 40 networks as the right one: both would look perfect."""
    invoke(oracle / "seed-0", "--top", 39, "--top", 40, "--top", 50, "--resamples", 5, "--out", tmp_path)
    for measure in ("precision_at", "best_rank_at"):
        assert finding(tmp_path, "all_runs", "overall", f"{measure}_39")["value"] == 1
        for k in (40, 50):
            values = finding(tmp_path, "all_runs", "overall", f"{measure}_{k}")
            assert [values[name] for name in ("value", "low", "high", "runs")] == [None, None, None, [None]]


def test_rank_writes_its_tables_before_the_picture(
    oracle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(sample: object) -> bytes:
        raise ImportError("matplotlib is broken")

    monkeypatch.setattr("automl_nas_benchmarks.rank.plot.scatter", broken)
    message = invoke(oracle / "seed-0", "--resamples", 5, "--out", tmp_path, plots=True, code=1).output
    assert "matplotlib is broken" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ranking.csv", "ranking.json", "scores.csv"]


@pytest.mark.parametrize("place", ["file", "file/report", "link"])
def test_a_report_folder_that_cannot_be_made_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(ConfigurationError, match=r"the report cannot be written to .* is not a folder; choose"):
        check_report_folder(tmp_path / place)
    with pytest.raises(RunFailedError, match=f"cannot write {tmp_path / place}: "):
        write_files(tmp_path / place, {"a.csv": b"1"})
    assert (tmp_path / "file").read_text() == "mine"


def test_a_report_folder_is_made_with_its_parents_and_only_by_writing(tmp_path: Path) -> None:
    check_report_folder(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    (path,) = write_files(tmp_path / "a" / "b", {"c.csv": b"1"})
    assert (path, path.read_bytes()) == (tmp_path / "a" / "b" / "c.csv", b"1")


def test_documented_options_are_those_of_the_rank_command() -> None:
    page = (ROOT / "docs" / "how_to" / "ranking.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`-.*?) \|", page, re.MULTILINE)
    documented = {option for row in rows for option in re.findall(r"`(-[-\w]+)", row)}
    real = {option for parameter in rank.params for option in parameter.opts if option.startswith("--")}
    assert documented == real - {"--quiet"} | {"-q"}


def test_rank_from_options_without_a_configuration(tmp_path: Path) -> None:
    space = "{name: nasbench_macro, channels: 2, last_channels: 4}"
    strategy = "{name: single_path, train: {epochs: 1}}"
    options = ["--space", space, "--task", "digits", "--strategy", strategy, "--count", 5, "--resamples", 5]
    invoke(*options, "--set", "runtime.threads=1", "--out", tmp_path / "out")
    assert report(tmp_path / "out")["networks"] == 5
    predictors = {each["predictor"] for each in report(tmp_path / "out")["findings"] if not each["trivial"]}
    stages = {"recalibrated", "running_statistics"}
    of_stages = {f"{stage}{kind}" for stage in stages for kind in ("", " accuracy", " + layers")}
    assert predictors == of_stages | {f"ridge, {count} trained" for count in (10, 20, 40)}
    # Larger is better for a predictor, so a loss is its negative: that of guessing among ten is about -ln 10.
    assert -20 < column(tmp_path / "out", "recalibrated").mean() < -1


@pytest.mark.process
@pytest.mark.slow
def test_rank_resumes_after_a_kill(tmp_path: Path) -> None:
    """Killed in training and in scoring, it ends with the numbers of a study that was left alone."""
    config = tmp_path / "supernet.yaml"
    config.write_text(SUPERNET)
    options = ["--seeds", 1, "--resamples", 5, "-q", "--out"]
    invoke(config, *options, tmp_path / "whole")
    run = tmp_path / "killed" / "seed-0"
    for file, lines in ((run / "metrics.jsonl", 2), (run / "trials.jsonl", 6)):
        child = in_child(lambda: invoke(config, *options, tmp_path / "killed"), quiet=True)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (file.exists() and file.read_bytes().count(b"\n") >= lines):
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and not (run / "result.json").exists()
    invoke(config, *options, tmp_path / "killed")
    for name in ("ranking.csv", "scores.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_rank_example_runs_at_toy_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 100), ("test", 20)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count, dtype=np.uint8) % 10
    np.savez(tmp_path / "noise.npz", **arrays)
    changes = {
        "task.path": tmp_path / "noise.npz",
        "task.batch_size": 30,
        "space.channels": 2,
        "space.last_channels": 4,
        "stages.supernet.strategy.train.epochs": 1,
        "stages.recalibrated.strategy.count": 4,
        **{f"stages.search_{size}.budget": "{trials: 2}" for size in ("small", "medium", "large")},
    }
    settings = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    invoke(EXAMPLE, *settings, "--out", tmp_path / "out", "--resamples", 2)
    picks = report(tmp_path / "out")["picks"]
    # The limits are the quarters of the table, so the shares under them are a quarter, a half, and three quarters;
    # of distinct networks, of which there are fewer among the cheap ones, somewhat less.
    table = load_table("nasbench_macro")
    flops = np.sort(table.columns["flops"].values)
    for pick, share in zip(picks, (0.25, 0.5, 0.75), strict=True):
        limit = float(pick["limits"][0].split()[-1].removesuffix("M")) * 1e6
        assert abs(np.searchsorted(flops, limit) / len(flops) - share) < 0.01
        assert abs(pick["feasible"] / 3969 - share) < 0.1
