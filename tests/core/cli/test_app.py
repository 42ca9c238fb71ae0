from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import automl_nas
from automl_nas.cli import cli
from automl_nas.cli.app import CommandLine
from automl_nas.cli.logs import Logs, quiet_libraries
from automl_nas.errors import DamagedError, DataError, DivergedError, RunInterrupted

HEAVY = ("torch", "pydantic", "rich", "numpy")


def test_help_lists_commands_in_the_order_of_use_and_those_of_plugins_last(program: Any) -> None:
    lines = program("--help").stdout.splitlines()
    commands = [line.split()[0] for line in lines[lines.index("Commands:") + 1 :] if re.match(r"  \S", line)]
    order = ["plan", "run", "resume", "retrain", "extend", "show", "cost", "export", "plugins", "new-plugin", "check"]
    core, others = commands[: len(order)], commands[len(order) :]
    assert core == order
    plugins = {
        "init",
        "benchmark",
        "network-cost",
        "bundle",
        "collect",
        "rank",
        "compare-one-shot",
        "compress",
        "mirror",
        "worker",
        "workers",
        "study",
        "report",
        "compare",
    }
    assert {*others} == {*plugins, "greet"}


def test_a_plugin_s_command_works(program: Any) -> None:
    assert program("greet").stdout == "hello\n"


def test_version(program: Any) -> None:
    assert program("--version").stdout == f"automl-nas, version {automl_nas.__version__}\n"


@pytest.mark.process
def test_quick_commands_import_nothing_heavy(program: Any) -> None:
    """One process for each command, since an import is for good."""
    (program.folder / "old").mkdir()
    (program.folder / "old" / "config.yaml").write_text(
        "stages: [{name: search, strategy: {name: random}, problem: {}, budget: {trials: 3}}]\n"
        "problem: {objectives: {a: maximize}, constraints: {}}\n"
        "seed: 0\nspace: {name: toy}\nruntime: {}\nexecutor: {name: in_process}\ncheckpoint_seconds: 60.0\n"
    )
    code = (
        "import sys\n"
        "from automl_nas.cli import main\n"
        "try:\n    main()\n"
        "finally:\n"
        f"    print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    for arguments in (["--help"], ["run", "--help"], ["plugins"], ["show", "old"]):
        shown = program.python(code, *arguments)
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.splitlines()[-1] == "loaded: []", arguments


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (DataError("no such data"), 2, "error: no such data\n"),
        (DivergedError("the loss is NaN"), 1, "error: the loss is NaN\n"),
        (DamagedError("a file is damaged"), 1, "error: a file is damaged\n"),
        (RunInterrupted("stopped; to continue: ..."), 130, "stopped; to continue: ...\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted\n"),
        (click.UsageError("not so"), 2, "Usage: cli fail [OPTIONS]\n\nError: not so\n"),
        (click.exceptions.Exit(5), 5, ""),
    ],
)
def test_errors_are_one_line_and_an_exit_code(error: BaseException, code: int, told: str) -> None:
    @click.group(cls=CommandLine)
    def group() -> None: ...

    @group.command()
    def fail() -> None:
        raise error

    shown = CliRunner().invoke(group, ["fail"], prog_name="cli")
    assert (shown.exit_code, shown.stdout) == (code, "")
    assert shown.stderr.replace("\nTry 'cli fail --help' for help.\n", "\n") == told


@pytest.mark.process
def test_a_bug_of_a_command_names_the_plugin_and_exits_with_1(program: Any) -> None:
    program.install(
        "buggy",
        "from automl_nas.plugin import hookimpl\n"
        "@hookimpl\n"
        "def register_commands(cli):\n"
        "    @cli.command()\n"
        "    def bug():\n"
        "        return [][0]\n"
        "    @cli.command()\n"
        "    def leave():\n"
        "        raise SystemExit(7)\n",
    )
    shown = program.apart("bug")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith("error: the command 'bug' of plugin 'buggy' (distribution ")
    assert "failed: IndexError: list index out of range (" in shown.stderr
    debugged = program.apart("bug", AUTOML_NAS_DEBUG="1")
    assert debugged.returncode == 1
    assert debugged.stderr.startswith("Traceback")
    assert "return [][0]" in debugged.stderr
    assert program.apart("leave").returncode == 7, "a command may choose its exit code"


def test_the_return_value_of_a_command_is_not_an_exit_code() -> None:
    @click.group(cls=CommandLine)
    def group() -> None: ...

    @group.command()
    def count() -> int:
        return 3

    assert CliRunner().invoke(group, ["count"]).exit_code == 0


def test_unknown_commands_are_bad_usage(program: Any) -> None:
    assert "No such command 'rum'" in program("rum", code=2).stderr


@pytest.mark.process
def test_a_closed_pipe_is_not_an_error(program: Any) -> None:
    reader = f'{sys.executable} -c "from automl_nas.cli import main; main()" plugins | head -c 1'
    shown = subprocess.run(
        ["/bin/sh", "-c", reader], capture_output=True, text=True, timeout=60, check=True, env=os.environ
    )
    assert (shown.stdout, shown.stderr) == ("p", "")


@pytest.mark.process
@pytest.mark.parametrize("command", [["plugins"], ["report", "RUN"]])
def test_a_full_disk_behind_the_output_is_one_line(finished: Any, command: list[str]) -> None:
    """A command of the core and one of a plugin."""
    command = [str(finished()) if part == "RUN" else part for part in command]
    code = f"from automl_nas.cli import cli; cli.main({command!r}, prog_name='automl-nas')"
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.stderr == "error: cannot write the output: No space left on device; free some space\n"
    assert process.returncode == 1


@pytest.mark.slow
@pytest.mark.process
def test_a_signal_stops_a_real_run(program: Any) -> None:
    slow = (
        "--set",
        "stages.search.evaluator={name: toy, pause: 0.2}",
        "--set",
        "stages.search.budget.trials=500",
        "--out",
        "slow",
    )
    search = os.pathsep.join(filter(None, [str(program.site), os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(
        [sys.executable, "-c", "from automl_nas.cli import main; main()", "run", str(program.config), *slow],
        env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    trials = program.folder / "slow" / "trials.jsonl"
    deadline = time.monotonic() + 60
    while not (trials.exists() and "finished" in trials.read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    seen = json.loads(program("show", "slow", "--json").stdout)
    assert (seen["status"], seen["stage"]) == ("running", "search")
    assert seen["holder"].startswith(f"process {process.pid} on ")
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert "stopping at the next safe point" in stderr
    assert "\x1b" not in stderr
    assert stderr.splitlines()[-1] == "stopped; to continue: automl-nas resume slow"
    assert json.loads(program("show", "slow", "--json").stdout)["status"] == "interrupted"


def test_only_the_framework_s_and_plugins_warnings_are_shown(program: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with Logs(), quiet_libraries():
        logging.getLogger("torch.onnx").warning("something about %s", "opsets")
        logging.getLogger("automl_nas.run").warning("two\nlines of %d", 1)
        logging.getLogger("automl_nas.run").info("not so important")
        logging.getLogger("automl_nas.plugin.manager").warning("said elsewhere")
    assert capfd.readouterr().err == "warning: two lines of 1\n"


def test_the_innermost_shows() -> None:
    outer: list[str] = []
    inner: list[str] = []
    with Logs(outer.append):
        with Logs(inner.append):
            logging.getLogger("automl_nas").warning("a")
        logging.getLogger("automl_nas").warning("b")
    assert (outer, inner) == (["b"], ["a"])


def test_libraries_warnings_are_hidden_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    monkeypatch.delenv("AUTOML_NAS_DEBUG", raising=False)
    with quiet_libraries():
        warnings.warn("soon to be removed", FutureWarning, stacklevel=1)
        assert os.environ["PYTHONWARNINGS"] == "ignore"  # for worker processes
    assert "PYTHONWARNINGS" not in os.environ
    monkeypatch.setenv("AUTOML_NAS_DEBUG", "1")
    with quiet_libraries(), pytest.warns(FutureWarning):
        warnings.warn("soon to be removed", FutureWarning, stacklevel=1)


def test_the_group_of_the_entry_point_is_this_one() -> None:
    assert isinstance(cli, CommandLine)
    assert Path(automl_nas.__file__).parent.joinpath("cli").is_dir()
