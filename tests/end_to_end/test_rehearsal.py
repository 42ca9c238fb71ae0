"""Whether worker processes can construct the parts of a run is tried before the run begins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import automl_nas
from automl_nas.errors import ConfigurationError
from automl_nas.space import ModuleSpace, OneOf
from automl_nas.testing import ToyEvaluator, ToySpace, ToyTask

SCRIPT = Path(__file__).with_name("rehearsed_run.py")


def python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=240, check=False)
    return done.stdout + done.stderr


def refused(tmp_path: Path, match: str, **sections: Any) -> None:
    """Check that a run is refused, and that nothing was written."""
    stage = {"name": "search", "strategy": "random", "evaluator": ToyEvaluator, **sections.pop("stage", {})}
    raw = {"space": ToySpace(), "task": ToyTask(), "stages": [stage], "final": None, **sections}
    with pytest.raises(ConfigurationError, match=match):
        automl_nas.search(raw, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def factory() -> nn.Module:
    return nn.Sequential(
        OneOf([nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(1, 4, 1)]),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        (0, "must be at least 1, but is 0"),
        (-1, "must be at least 1, but is -1"),
        (True, "must be a whole number, not true"),
        ("2", "must be a whole number, not '2'; remove the quotes"),
    ],
)
def test_the_number_of_workers_is_checked(tmp_path: Path, workers: object, message: str) -> None:
    executor = {"name": "processes", "workers": workers}
    refused(tmp_path, rf"^executor\.workers: {message}", executor=executor)


def test_a_timeout_in_the_process_of_the_run(tmp_path: Path) -> None:
    refused(tmp_path, r"^stages\[0\]\.timeout: a timeout needs worker processes", stage={"timeout": 3.0})


def test_an_object_that_cannot_be_pickled_is_named(tmp_path: Path) -> None:
    refused(
        tmp_path,
        r"^space: worker processes \(executor: processes\) cannot receive .*ModuleSpace, .*<lambda>.*in_process",
        space=ModuleSpace(lambda: factory(), input_shape=(1, 4, 4)),
        executor="processes",
    )

    class Local(ToyEvaluator):
        pass

    refused(
        tmp_path,
        r"^stages\[0\]\.evaluator: worker processes .* cannot receive .*Local, .*define classes and functions at",
        stage={"evaluator": Local},
        executor="processes",
    )


def test_workers_on_other_machines_need_names(tmp_path: Path) -> None:
    refused(
        tmp_path,
        "^executor: other machines need a configuration of names",
        executor={"name": "optuna", "storage": f"sqlite:///{tmp_path}/trials.db"},
    )


@pytest.mark.slow
@pytest.mark.process
def test_a_script_whose_space_is_another_one_or_fails_when_it_is_imported(tmp_path: Path) -> None:
    output = python(str(SCRIPT), str(tmp_path))
    first, second, third = output.splitlines()
    assert first == "complete"
    assert "fails: space: the space that a worker process constructs is another one" in second
    assert "float32[6, 1, 3, 3]" in second and "is Conv2d" in second and "float32[4, 1, 3, 3]" in second
    assert third.startswith(
        "ConfigurationError: executor: a worker process, which was tried before the run begins, fails:"
    )
    assert "no space in a worker" in third
    assert not (tmp_path / "two").exists()
    assert not (tmp_path / "three").exists()


@pytest.mark.slow
@pytest.mark.process
def test_a_notebook(tmp_path: Path) -> None:
    # As in a notebook, the module __main__ has no file.
    output = python("-c", f"exec(open({str(SCRIPT)!r}).read())", str(tmp_path))
    assert "ConfigurationError: space: worker processes (executor: processes) cannot construct" in output
    assert "Can't get attribute 'network' on <module '__main__'" in output
    assert "defined in a notebook or an interactive session" in output and "%%writefile" in output
    assert not (tmp_path / "one").exists()


@pytest.mark.slow
@pytest.mark.process
def test_a_script_without_a_guard_whose_task_loads_in_processes(tmp_path: Path) -> None:
    output = python(str(SCRIPT), str(tmp_path), "noguard")
    assert "this script starts a run while a worker process of that run imports it" in output
    last = output.splitlines()[-1]
    assert last.startswith("automl_nas.errors.DataError: the processes of the task's loader (workers: 2) ended")
    assert "set workers of the task to 0" in last
    assert not (tmp_path / "three").exists()
