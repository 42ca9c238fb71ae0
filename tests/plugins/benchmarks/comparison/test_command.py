"""``automl-nas benchmark``: arguments, output, files, and how it is interrupted and continued."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from plugins.benchmarks.comparison import fixtures
from plugins.benchmarks.comparison.fixtures import write_table
from rich.console import Console

from automl_nas.cli import cli
from automl_nas_benchmarks.comparison.command import benchmark
from automl_nas_benchmarks.comparison.progress import BarComparisonProgress, PlainComparisonProgress

PAGE = Path(__file__).parents[4] / "docs" / "how_to" / "benchmark_command.md"
TOOLS = "plugins.benchmarks.comparison.fixtures"
QUICK = ("--workers", "0", "--no-plots", "--seeds", "3", "--evaluations", "10")


def call(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, ["benchmark", *map(str, arguments)])


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The small benchmark as an option writes it; the test runs in its folder."""
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "small.csv")
    return "{table: small.csv, metric: truth, codes: code, costs: [flops]}"


def test_benchmark_options_and_file_give_equal_results(table: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        f"""
strategies:
  - random
  - {{name: aging, population: 4, sample_size: 2, label: small aging}}
  - {TOOLS}:Scan
benchmarks:
  - {table}
seeds: 3
evaluations: 10
constraints: {{flops: "<= 0.5 * largest"}}
"""
    )
    by_file = call("mine.yaml", "--workers", 0, "--no-plots")
    assert by_file.exit_code == 0, by_file.output
    strategies = f"random,{{name: aging, population: 4, sample_size: 2, label: small aging}},{TOOLS}:Scan"
    limit = ("--constraint", "flops <= 0.5 * largest")
    by_options = call("--strategies", strategies, "--benchmarks", table, *limit, *QUICK)
    assert by_options.exit_code == 0, by_options.output
    assert "report: runs/mine-1/report.html" in by_file.stdout
    assert "report: runs/benchmark-1/report.html" in by_options.stdout

    def table_of(text: str) -> list[list[str]]:
        # But for the times.
        return [line.split()[:-1] for line in text.splitlines() if re.search(r"\d ± \d", line)]

    assert len(table_of(by_file.stdout)) == 3
    assert table_of(by_file.stdout) == table_of(by_options.stdout)
    configs = [(tmp_path / "runs" / name / "comparison.yaml").read_text() for name in ("mine-1", "benchmark-1")]
    assert configs[0] == configs[1]


def test_strategy_option_adds_to_recorded_comparison(table: str, tmp_path: Path) -> None:
    first = call("--strategies", "random", "--benchmarks", table, *QUICK, "--out", "out")
    assert first.exit_code == 0, first.output
    recorded = (tmp_path / "out" / "searches.jsonl").read_bytes()
    for _ in range(2):
        more = call("--out", "out", "--strategy", f"{TOOLS}:Scan", "--workers", 0, "--no-plots")
        assert more.exit_code == 0, more.output
    now = (tmp_path / "out" / "searches.jsonl").read_bytes()
    assert now.startswith(recorded)
    assert now.count(b"\n") == 6
    assert re.search(r"^ +Scan .*^ *first +second", more.stdout, re.MULTILINE | re.DOTALL)
    changed = ("--out", "out", "--strategy", f"{{name: {TOOLS}:Scan, times: 2}}", "--workers", 0, "--no-plots")
    refused = call(*changed)
    assert refused.exit_code == 2
    assert "strategies, Scan: times: 1 -> 2" in refused.stderr
    redone = call(*changed, "--redo", "Scan")
    assert redone.exit_code == 0, redone.output
    assert (tmp_path / "out" / "searches.jsonl").read_bytes().count(b"\n") == 6 + 1 + 3


def test_strategy_is_imported_from_the_current_folder(table: str, tmp_path: Path) -> None:
    (tmp_path / "my_own_search.py").write_text(f"from {TOOLS} import Scan\n\nclass Mine(Scan):\n    pass\n")
    done = call("--strategies", "my_own_search:Mine", "--benchmarks", table, *QUICK, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["strategies"] == ["Mine"]


def test_plots_are_drawn_by_default(table: str, tmp_path: Path) -> None:
    done = call("--strategies", f"random,{TOOLS}:Scan", "--benchmarks", table, *QUICK, "--plots", "--out", "out")
    assert done.exit_code == 0, done.output
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "comparison.yaml",
        "curves.csv",
        "pairs.csv",
        "ranks.png",
        "regret-small.png",
        "report.html",
        "result.json",
        "scores.csv",
        "searches.jsonl",
        "state.json",
    }


def test_objectives_are_compared_by_the_hypervolume(table: str) -> None:
    done = call("--strategies", f"random,{TOOLS}:Scan", "--benchmarks", table, *QUICK, "--objectives", "accuracy,flops")
    assert done.exit_code == 0, done.output
    assert "missed hypervolume" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategies", "randm"], "--strategies randm: strategies[0].name: unknown strategy 'randm'; did you mean"),
        (["--strategy", "agin"], "--strategy agin: strategies[4].name: unknown strategy 'agin'; did you mean 'aging'"),
        (["--benchmarks", "nasbench_makro"], "unknown benchmark 'nasbench_makro'; did you mean 'nasbench_macro'"),
        (["--seeds", "0"], "--seeds 0: seeds: must be at least 1"),
        (["--constraint", "<= 3"], "--constraint <= 3: must be a cost and its limit"),
        (["--set", "seedz=3"], "a comparison has no setting 'seedz'; did you mean 'seeds'"),
        (["--strategies", "{name: aging"], "not valid YAML"),
        (["--strategy", "random,aging"], "name one strategy, and repeat the option"),
        (["nothing.yaml"], "cannot read nothing.yaml"),
        (["--redo", "agging"], "has no strategy 'agging'; did you mean 'aging'"),
        (["--out", "small.csv"], "small.csv is a file"),
    ],
)
def test_invalid_arguments_are_refused_before_any_search(
    table: str, tmp_path: Path, arguments: list[str], message: str
) -> None:
    if "--benchmarks" not in arguments and "nothing.yaml" not in arguments:
        arguments = ["--benchmarks", table, *arguments]
    done = call(*arguments, "--workers", 0, "-q")
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.count("\n") - done.stderr.count("warning: ") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["small.csv"]


def test_configuration_error_names_the_line_of_the_file(table: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"seeds: 2\nstrategies:\n  - random\n  - aginng\nbenchmarks: [{table}]\n")
    done = call("mine.yaml", "--workers", 0)
    assert "mine.yaml:4: strategies[1].name: unknown strategy 'aginng'" in done.stderr


def test_plots_without_matplotlib_are_refused_before_any_search(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec

    def without(name: str, *rest: Any) -> Any:
        return None if name == "matplotlib" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    done = call("--benchmarks", table, "--workers", 0)
    assert done.exit_code == 2
    assert "pip install 'automl-nas[benchmark]'" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_list_option_prints_the_benchmarks() -> None:
    listed = call("--list").stdout
    as_json = json.loads(call("--list", "--json").stdout)
    assert {"nasbench201-cifar10", "nasbench_macro"} <= as_json.keys()
    assert all(name in listed for name in as_json)


def test_failing_strategy_keeps_finished_searches(table: str, tmp_path: Path) -> None:
    done = call("--strategies", f"random,{TOOLS}:Broken", "--benchmarks", table, *QUICK, "--out", "out")
    assert done.exit_code == 1
    assert "error: 'Broken' on 'small' with seed 0: RuntimeError: out of ideas" in done.stderr
    assert (tmp_path / "out" / "searches.jsonl").read_bytes().count(b"\n") == 1


@pytest.mark.process
def test_ctrl_c_exits_with_130_and_prints_the_command_to_continue(table: str, tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(fixtures.__file__).parents[3]), *sys.path]),
    }
    command = [sys.executable, "-c", "from automl_nas.cli import main; main()", "benchmark"]
    options = ["--strategies", f"{TOOLS}:Sleeper", "--benchmarks", table, "--seeds", "300", "--evaluations", "20"]
    options += ["--no-plots", "--workers", "1", "--out", "out here"]
    process = subprocess.Popen([*command, *options], env=environ, stderr=subprocess.PIPE, text=True)
    record = tmp_path / "out here" / "searches.jsonl"
    while not record.exists() or record.read_bytes().count(b"\n") < 2:
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    count = record.read_bytes().count(b"\n")
    assert 2 <= count < 300
    line = stderr.splitlines()[-1]
    assert line.startswith(f"{count} of 300 searches are done; to continue: automl-nas benchmark --out ")
    assert shlex.split(line.partition("to continue: ")[2])[1:] == ["benchmark", "--out", "out here"]
    # Going on is asked for what is missing only: the strategy itself need not be named again.
    more = call("--out", "out here", "--evaluations", 19)
    assert more.exit_code == 2
    assert "evaluations: 20 -> 19" in more.stderr


def test_plain_progress_prints_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with PlainComparisonProgress() as progress:
        for done in range(5, 31):
            progress(done, 30)
        progress.warning("odd")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("5/30 searches, ")
    assert [line.partition("/")[0] for line in lines[1:-1]] == ["6", "9", "12", "15", "18", "21", "24", "27", "30"]
    assert all(" left" in line for line in lines[1:-2])
    assert " left" not in lines[-2]
    assert lines[-1] == "warning: odd"


def test_bar_progress_in_a_terminal() -> None:
    screen = io.StringIO()
    with BarComparisonProgress(Console(file=screen, force_terminal=True, width=100)) as progress:
        progress(5, 30)
        progress(30, 30)
        progress.stopping()
        progress.warning("odd")
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", screen.getvalue())
    assert "searches" in shown
    assert "30/30" in shown
    assert "warning: odd" in shown


def test_documented_options_are_those_of_the_benchmark_command() -> None:
    text = PAGE.read_text(encoding="utf-8")
    real = {option for p in benchmark.params if isinstance(p, click.Option) for option in (*p.opts, *p.secondary_opts)}
    rows = re.findall(r"^\| (`-.*?) \|", text, re.MULTILINE)
    assert {option for row in rows for option in re.findall(r"`(-[-\w]+)", row)} == real
    for line in re.findall(r"^automl-nas benchmark(.*)$", text, re.MULTILINE):
        benchmark.make_context("benchmark", shlex.split(line))
