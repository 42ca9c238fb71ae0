"""An installed plugin of toys, a run of them that takes a second, and the command line in this process or another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from automl_nas.cli import cli
from automl_nas.plugin.manager import default_manager
from automl_nas.run.configuration.builtin import complete_manager

HOOKS = """
import click
from automl_nas.plugin import hookimpl

@hookimpl
def register_spaces(register):
    register("toy", "automl_nas.testing.toys:ToySpace", summary="kernels")

@hookimpl
def register_tasks(register):
    register("toy", "automl_nas.testing.toys:ToyTask", summary="blobs")

@hookimpl
def register_evaluators(register):
    register("toy", "automl_nas.testing.toys:ToyEvaluator", summary="a closed form")
    register("stopping", "toys_package.parts:Stopping", summary="presses Ctrl-C")

@hookimpl
def register_cost_models(register):
    register("toy_cost", "automl_nas.testing.toys:ToyCost", summary="Sum of the options.")
    register("squared", "toys_package.parts:Squared", summary="The square of that sum.")

@hookimpl
def register_commands(cli):
    @cli.command()
    def greet():
        '''Say hello.'''
        click.echo("hello")
"""

PARTS = """
import signal
from pathlib import Path
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.evaluator import Evaluator, Outcome
from automl_nas.space.space import SearchSpace
from automl_nas.testing.toys import toy_metric

class Stopping(Evaluator):
    def __init__(self, space: SearchSpace, *, at: int, marker: str) -> None:
        self._space, self._at, self._marker = space, at, Path(marker)

    def evaluate(self, requests):
        for request in requests:
            if request.number == self._at and not self._marker.exists():
                self._marker.touch()
                signal.raise_signal(signal.SIGINT)
            yield Outcome(request.number, {"accuracy": toy_metric(request.architecture, self._space)})

    @classmethod
    def metric_names(cls, task):
        return frozenset({"accuracy"})

class Squared(CostModel):
    metric, unit, integral = "squared", "units", True

    def __init__(self, space: SearchSpace) -> None:
        self._decisions = dict(space.decisions)

    def breakdown(self, architecture):
        return {"": sum(sum(d.encode(architecture[n])) for n, d in self._decisions.items()) ** 2}
"""

CONFIG = """\
seed: 3
space: {name: toy, blocks: 3}
task: {name: toy, train: 32, search: 16, test: 16}
problem:
  constraints: {toy_cost: "<= 4"}
  costs: [toy_cost, params]
runtime: {threads: 1}
stages:
  - name: search
    strategy: random
    evaluator: toy
    budget: {trials: 12}
final:
  train: {epochs: 1}
  baselines: [largest, random]
"""


class Program:
    """The command line, in a folder of its own where the plugin ``toys`` is installed."""

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder, self.site = folder, site
        self._commands = dict(cli.commands)
        self.config = self.write("toy.yaml", CONFIG)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def install(self, plugin: str, code: str, parts: str = "") -> None:
        """Install a distribution with one plugin of the same name."""
        info = self.site / f"{plugin}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {plugin}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[automl_nas]\n{plugin} = {plugin}_package\n")
        package = self.site / f"{plugin}_package"
        package.mkdir()
        (package / "__init__.py").write_text(code)
        (package / "parts.py").write_text(parts)
        self.forget()

    def forget(self) -> None:
        """Let plugins be discovered anew."""
        cli.commands = dict(self._commands)
        default_manager.cache_clear()
        complete_manager.cache_clear()

    def __call__(self, *arguments: object, code: int = 0) -> Result:
        """Run a command line here and expect an exit code."""
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, f"exit code {result.exit_code}\n{result.output}"
        return result

    def apart(self, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command line in a process of its own."""
        return self.python("from automl_nas.cli import main; main()", *arguments, **environ)

    def python(self, code: str, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run Python code in a process of its own."""
        search = os.pathsep.join(filter(None, [str(self.site), os.environ.get("PYTHONPATH", "")]))
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1", **environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    folder, site = tmp_path / "work", tmp_path / "site"
    folder.mkdir()
    site.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(site)
    for name in (
        "AUTOML_NAS_DEBUG",
        "AUTOML_NAS_PLUGINS",
        "AUTOML_NAS_DISABLED_PLUGINS",
        "AUTOML_NAS_STRICT_PLUGINS",
        "AUTOML_NAS_STRICT",
    ):
        monkeypatch.delenv(name, raising=False)
    modules = set(sys.modules)
    made = Program(folder, site)
    made.install("toys", HOOKS, PARTS)
    yield made
    for name in set(sys.modules) - modules:
        if name.partition(".")[0].endswith("_package"):
            del sys.modules[name]
    made.forget()


@pytest.fixture
def finished(program: Program) -> Callable[[], Path]:
    """Makes a complete run and returns its directory."""

    def run() -> Path:
        program("run", program.config, "--out", "done", "--quiet")
        return program.folder / "done"

    return run
