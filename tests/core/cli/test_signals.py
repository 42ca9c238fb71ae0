"""A signal before the run begins ends the program as one in the run does: exit code 130 and the way out."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import automl_nas
from automl_nas.cli.run import new_directory
from automl_nas.errors import RunInterrupted
from automl_nas.run.interruption import interruptible

HOOKS = """
import os, signal, sys
from automl_nas.plugin import hookimpl

def pressed(place):
    if os.environ.get("SIGNAL_AT") == place:
        signal.raise_signal(getattr(signal, os.environ["SIGNAL"]))

pressed("import")

@hookimpl
def register_spaces(register):
    pressed("hook")
    register("pressing", "presses_package.parts:PressingSpace", summary="sends a signal when it is constructed")
"""

PARTS = """
from automl_nas.testing.toys import ToySpace
from presses_package import pressed

pressed("component")

class PressingSpace(ToySpace):
    def __init__(self, *, blocks: int = 3) -> None:
        try:
            pressed("suppressed")
        except BaseException:
            pass
        pressed("constructor")
        super().__init__(blocks=blocks)
"""


@pytest.fixture
def pressing(program: Any) -> Any:
    program.install("presses", HOOKS, PARTS)
    program.config.write_text(program.config.read_text().replace("name: toy, blocks: 3", "name: pressing, blocks: 3"))
    return program


@pytest.mark.process
@pytest.mark.parametrize("place", ["import", "suppressed"])
def test_a_signal_before_the_run(pressing: Any, place: str) -> None:
    shown = pressing.apart("run", pressing.config, "-q", SIGNAL="SIGTERM", SIGNAL_AT=place)
    assert (shown.returncode, shown.stdout) == (130, ""), shown.stderr
    assert shown.stderr.startswith("stopped")
    assert shown.stderr.endswith("the run had not begun, and nothing was recorded: start it again\n")
    assert not (pressing.folder / "runs").exists()


@pytest.mark.process
def test_a_signal_while_torch_is_imported(pressing: Any) -> None:
    """An interrupted import of torch, and another attempt to import it, aborts the process."""
    code = """
import os, signal, sys
class Presses:
    def find_spec(self, name, path=None, target=None):
        if name == "torch.nn.functional":
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Presses())
from automl_nas.cli import main
main()
"""
    shown = pressing.python(code, "run", pressing.config, "-q")
    assert (shown.returncode, shown.stdout) == (130, "")
    assert shown.stderr == "stopped; the run had not begun, and nothing was recorded: start it again\n"


def test_a_signal_before_the_run_continues(pressing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pressing("run", pressing.config, "-q", "--out", "a run", "--set", "final=null")
    (pressing.folder / "a run" / "result.json").unlink()
    for name, place in (("SIGINT", "constructor"), ("SIGTERM", "constructor"), ("SIGTERM", "suppressed")):
        monkeypatch.setenv("SIGNAL", name)
        monkeypatch.setenv("SIGNAL_AT", place)
        shown = pressing("resume", "a run", "-q", code=130)
        assert shown.stderr == "stopped; to continue: automl-nas resume 'a run'\n"
    monkeypatch.delenv("SIGNAL_AT")
    pressing("resume", "a run", "-q")


@pytest.mark.process
def test_other_commands_and_the_first_imports(pressing: Any) -> None:
    shown = pressing.apart("plugins", SIGNAL="SIGTERM", SIGNAL_AT="import")
    assert shown.returncode == 130
    assert "plugin 'presses'" in shown.stderr
    (pressing.site / "click").mkdir()  # the first import of the command line
    (pressing.site / "click" / "__init__.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    shown = pressing.apart("show", "a run")
    assert (shown.returncode, shown.stderr) == (130, "interrupted before the command began; run it again\n")


def test_python_callers_get_the_same_error(tmp_path: Path) -> None:
    class Pressing(automl_nas.ModuleSpace):
        def __init__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunInterrupted, match="the run had not begun, and nothing was recorded"):
        automl_nas.search(space=Pressing, out=tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_handlers_of_an_application_stay() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with interruptible():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_runs_that_start_at_once_get_numbers_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "toy-2").mkdir(parents=True)
    with ThreadPoolExecutor(8) as threads:
        paths = list(threads.map(new_directory, ["toy"] * 64))
    assert sorted(int(path.name.removeprefix("toy-")) for path in paths) == [1, *range(3, 66)]
    assert all(path.is_dir() for path in paths)


def test_a_run_that_cannot_start_leaves_no_folder(program: Any) -> None:
    program("run", program.config, "--set", "space.name=nonsense", code=2)
    assert not (program.folder / "runs").exists()
    program.write("runs", "a file")
    assert "cannot create the run directory runs/toy-1" in program("run", program.config, code=2).stderr
