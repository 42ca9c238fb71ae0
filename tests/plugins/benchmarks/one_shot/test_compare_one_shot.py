"""``automl-nas compare-one-shot``: a comparison with a known outcome, and real supernets at toy size."""

from __future__ import annotations

import csv
import json
import os
import re
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
from automl_nas.run import open_run
from automl_nas_benchmarks.one_shot.command import compare_one_shot
from automl_nas_benchmarks.one_shot.work import Work, recorded_work
from automl_nas_benchmarks.tables.packaged import load_table

ROOT = Path(__file__).parents[4]

# The evaluator is the truth, so the histories are those of the best true value so far.
KNOWN = """
problem: {objectives: {accuracy: maximize}}
runtime: {threads: 1}
spaces:
  - {name: nasbench_macro, label: macro}
methods:
  known:
    - {name: search, strategy: random, evaluator: nasbench_macro, budget: {trials: 9}}
  other:
    - {name: search, strategy: random, evaluator: nasbench_macro, budget: {trials: 3}}
seeds: 3
first_seed: 4
"""

# `darts` and `enas` are one stage, `spos` two. ENAS measures candidates with fidelities.
SUPERNETS = """
task: {name: digits, batch_size: 64, search_fraction: 0.5}
runtime: {threads: 1}
checkpoint_seconds: 0
spaces:
  - {name: nasbench201, channels: 2, cells: 1, affine: false}
methods:
  darts: {name: darts, train: {epochs: 2}, iterations_per_step: 3}
  spos:
    - {name: supernet, strategy: {name: single_path, train: {epochs: 1}}}
    - name: search
      strategy: random
      evaluator: {name: supernet_weights, recalibration_images: 64}
      budget: {trials: 4}
  enas: {name: enas, train: {epochs: 2}, controller_steps: 1, samples: 2, candidates: 2, final_candidates: 2,
         recalibration_images: 64}
seeds: 1
"""


def invoke(*arguments: object, code: int = 0, plots: bool = False) -> Result:
    command = ["compare-one-shot", *map(str, arguments), *(() if plots else ("--no-plots",))]
    result = CliRunner().invoke(cli, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def report(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "one_shot.json").read_text())
    return content


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known")
    (folder / "known.yaml").write_text(KNOWN)
    invoke(folder / "known.yaml", "--out", folder / "out", "-q", plots=True)
    return folder / "out"


def true_values() -> dict[str, float]:
    """Return code -> published mean accuracy, of the distinct networks of NAS-Bench-Macro."""
    table = load_table("nasbench_macro")
    values = table.columns["test_mean"].values
    assert table.representatives is not None
    return {table.codes[row]: float(values[row]) for row in np.unique(table.representatives)}


def test_derived_networks_have_their_true_values_and_ranks(known: Path) -> None:
    truths = true_values()
    table = load_table("nasbench_macro")
    assert [(run["cell"]["method"], run["cell"]["seed"]) for run in report(known)["runs"]] == [
        (method, seed) for method in ("known", "other") for seed in (4, 5, 6)
    ]
    for run in report(known)["runs"]:
        cell = run["cell"]
        folder = known / "macro" / cell["method"] / f"seed-{cell['seed']}"
        trials = [
            json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines() if '"finished"' in line
        ]
        accuracies = [trial["metrics"]["accuracy"] for trial in trials]
        assert run["truth"] == pytest.approx(max(accuracies))
        assert run["truth"] == table.columns["test_mean"].values[table.find(run["code"])]
        assert run["rank"] == 1 + sum(value > run["truth"] for value in truths.values())
        assert run["trials"] == len(trials) == {"known": 9, "other": 3}[cell["method"]]
        # The best so far: each entry of the history is a new maximum of the accuracies, in their order.
        best = [a for place, a in enumerate(accuracies) if a > max([0, *accuracies[:place]])]
        assert [moment["truth"] for moment in run["history"]] == pytest.approx(best)


def test_summaries_are_those_of_the_runs(known: Path) -> None:
    for summary in report(known)["methods"]:
        runs = [run for run in report(known)["runs"] if run["cell"]["method"] == summary["method"]]
        truths = [run["truth"] for run in runs]
        interval = stats.t.interval(0.95, 2, loc=np.mean(truths), scale=stats.sem(truths))
        assert [summary["truth"], summary["low"], summary["high"]] == pytest.approx([np.mean(truths), *interval])
        assert summary["rank"] == np.median([run["rank"] for run in runs])
        codes = [run["code"] for run in runs]
        pairs = [(codes[0], codes[1]), (codes[0], codes[2]), (codes[1], codes[2])]
        equal = [sum(a == b for a, b in zip(one, other, strict=True)) / 8 for one, other in pairs]
        assert summary["agreement"] == pytest.approx(np.mean(equal))
        assert summary["seeds"] == [4, 5, 6]


def test_random_networks_are_those_of_the_table(known: Path) -> None:
    values = np.array(list(true_values().values()))
    chance = report(known)["random_networks"]["macro"]
    assert [chance["networks"], chance["mean"], chance["deviation"], chance["optimum"]] == pytest.approx(
        [len(values), values.mean(), values.std(), values.max()]
    )
    draws = np.random.default_rng(0).choice(values, (4000, 10)).max(axis=1)
    # The simulated mean has a standard error of 0.01 (standard deviation 0.6 over 4,000 draws).
    assert abs(chance["best_of_10"] - draws.mean()) < 5 * draws.std() / 4000**0.5


def test_limits_apply_to_ranks(known: Path, tmp_path: Path) -> None:
    limited = "problem: {objectives: {accuracy: maximize}, costs: {mine: {name: table_cost, table: nasbench_macro, column: flops}}, constraints: {mine: '<= 30M'}}"  # noqa: E501
    config = tmp_path / "limited.yaml"
    config.write_text(KNOWN.replace("problem: {objectives: {accuracy: maximize}}", limited))
    invoke(config, "--out", tmp_path / "out", "--seeds", 1, "-q")
    table = load_table("nasbench_macro")
    assert table.representatives is not None
    rows = np.unique(table.representatives)
    cheap = rows[table.columns["flops"].values[rows] <= 30e6]
    truths = table.columns["test_mean"].values[cheap]
    assert report(tmp_path / "out")["random_networks"]["macro"]["networks"] == len(cheap)
    for run in report(tmp_path / "out")["runs"]:
        assert run["rank"] == 1 + (truths > run["truth"]).sum()


def test_files_of_the_report(known: Path) -> None:
    content = report(known)
    with (known / "one_shot.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["derived"] for row in rows] == [run["code"] for run in content["runs"]]
    with (known / "history.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == sum(len(run["history"]) for run in content["runs"])
    assert (known / "history.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_again_reads_complete_runs(known: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in known.rglob("trials.jsonl")}
    shown = invoke(known.parent / "known.yaml", "--out", known).output
    assert "6 of 6 runs are complete" in shown
    assert {path: path.stat().st_mtime_ns for path in known.rglob("trials.jsonl")} == before
    told = json.loads(invoke(known.parent / "known.yaml", "--out", known, "--json", "-q").stdout)
    assert told == report(known)


def test_more_seeds_can_be_reported_before_they_ran(known: Path, tmp_path: Path) -> None:
    shown = invoke(known.parent / "known.yaml", "--out", known, "--seeds", 5, "--report").output
    assert "4 runs are not complete" in shown
    empty = invoke(known.parent / "known.yaml", "--out", tmp_path / "empty", "--report").output
    assert "no run is complete" in empty and "6 runs are not complete" in empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("methods.known[0].strategy=rnadom", "did you mean 'random'"),
        ("methods=darts", "methods: must be a mapping"),
        ("methods={a: []}", "methods.a: must be a strategy, or a list of stages"),
        ("methods={a/b: random}", "can be the name of a folder"),
        ("methods={a: {name: darts, order: third}}", "methods.a.order"),
        ("methods={a: {name: dso}}", "methods.a: 'dso' needs a Task"),
        ("spaces=nasbench201", "spaces: must be a list"),
        ("spaces=[{name: nasbench201, benchmark: nasbench_macro}]", "the table has no decision '0>1'"),
        ("spaces=[nasbench_macro, nasbench_macro]", "give each entry a label"),
        ("spaces=[{name: nasbench_macro, benchmark: nasbench_micro}]", "unknown benchmark 'nasbench_micro'"),
        ("spaces=[{name: nasbench_macro, chanels: 3}]", "spaces[0].chanels"),
        ("spaces=[shufflenet_v2]", "spaces[0].benchmark: is missing"),
        ("seeds=0", "seeds: must be at least 1"),
        ("stages=[]", "stages: a comparison of one-shot methods has methods instead"),
        ("final={}", "final: leave it out"),
    ],
)
def test_bad_configurations_are_refused_before_any_run(known: Path, tmp_path: Path, change: str, message: str) -> None:
    result = invoke(known.parent / "known.yaml", "--set", change, "--out", tmp_path / "x", code=2)
    assert message in " ".join(result.output.split())
    assert not (tmp_path / "x").exists()


def test_a_run_that_fails_is_listed_and_the_others_go_on(known: Path, tmp_path: Path) -> None:
    """A space of 81 networks whose table does not have the ones that are proposed."""
    config = tmp_path / "failing.yaml"
    config.write_text(
        KNOWN.replace("budget: {trials: 3}}", "budget: {trials: 3}, problem: {constraints: {accuracy: '>= 99'}}}")
    )
    shown = invoke(config, "--out", tmp_path / "out", "--seeds", 1, "-q").output
    assert "failed: " in shown and "seed-4" in shown
    assert [run["cell"]["method"] for run in report(tmp_path / "out")["runs"]] == ["known"]


def test_documented_options_are_those_of_the_command() -> None:
    page = (ROOT / "docs" / "how_to" / "compare_one_shot.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`-.*?) \|", page, re.MULTILINE)
    documented = {option for row in rows for option in re.findall(r"`(-[-\w]+)", row)}
    real = {option for parameter in compare_one_shot.params for option in parameter.opts if option.startswith("--")}
    assert documented == real - {"--quiet"} | {"-q"}


def test_an_incomplete_line_of_the_record_is_ignored(tmp_path: Path) -> None:
    """Steps that are repeated after a kill replace those of before."""
    steps = [{"stage": "a", "step": n, "images": 10 * n, "cpu": 1.0, "clock": 2.0} for n in (1, 2, 2, 3)]
    lines = [json.dumps(step) for step in steps]
    (tmp_path / "work.jsonl").write_text("\n".join([lines[0], lines[1], lines[3][:20], lines[2], lines[3]]))
    assert recorded_work(tmp_path / "work.jsonl") == Work(60, 3.0, 6.0)
    assert recorded_work(tmp_path / "none.jsonl") == Work()


@pytest.mark.process
@pytest.mark.slow
def test_supernets_in_worker_processes_and_after_a_kill(tmp_path: Path) -> None:
    """Images are counted by hand: 1,797 digits have 1,077 training images, of which 538 are held out for the search."""
    config = tmp_path / "supernets.yaml"
    config.write_text(SUPERNETS)
    invoke(config, "--out", tmp_path / "whole", "-q", "--workers", 2)
    runs = {run["cell"]["method"]: run for run in report(tmp_path / "whole")["runs"]}
    task = open_run(tmp_path / "whole" / "nasbench201" / "darts" / "seed-0").plan.task
    assert task is not None
    train, search = task.size("train"), task.size("search")
    steps = train // 64
    assert runs["darts"]["work"]["images"] == 2 * steps * (64 + 64)
    assert runs["spos"]["work"]["images"] == steps * 64 + 4 * (64 + search)
    assert runs["enas"]["work"]["images"] == 2 * steps * 64 + 2 * 2 * 64 + 4 * (64 + search)
    assert runs["darts"]["history"][0]["share"] == 0.5
    assert runs["enas"]["history"][0]["share"] == 0.5

    run = tmp_path / "killed" / "nasbench201" / "darts" / "seed-0"
    child = in_child(lambda: invoke(config, "--out", tmp_path / "killed", "-q"), quiet=True)
    file, deadline = run / "metrics.jsonl", time.monotonic() + 120
    while time.monotonic() < deadline and not (file.exists() and file.read_bytes().count(b"\n") >= 3):
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and not (run / "result.json").exists()
    invoke(config, "--out", tmp_path / "killed", "-q")
    for whole, again in zip(report(tmp_path / "whole")["runs"], report(tmp_path / "killed")["runs"], strict=True):
        assert whole["work"].pop("images") == again["work"].pop("images")
        assert {**whole, "work": None} == {**again, "work": None}
