"""A run of Python objects is read with no object; networks are built with the space only."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from end_to_end.failing_candidates import Free
from safetensors.torch import load_file
from torch import nn

import automl_nas
from automl_nas import ModuleSpace, OneOf
from automl_nas.cli import cli
from automl_nas.errors import ConfigurationError, RunDirectoryError
from automl_nas.evaluation import Evaluator, Outcome, Task
from automl_nas.strategy import AskTellStrategy, Proposal
from automl_nas.testing import ToyTask

MODULE = """
from automl_nas import ModuleSpace
from end_to_end.test_reading import network
from pathlib import Path

Path(__file__).with_name("executed").touch()

def space() -> ModuleSpace:
    return ModuleSpace(network, input_shape=(1, 4, 4))

made, width = space(), 3

def bare():
    return network()
"""


def network(width: int = 3) -> nn.Module:
    return nn.Sequential(
        OneOf({"one": nn.Conv2d(1, width, 1), "three": nn.Conv2d(1, width, 3, padding=1)}),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 3),
    )


def small_space(*, width: int = 3) -> ModuleSpace:
    return ModuleSpace(lambda: network(width), input_shape=(1, 4, 4))


def task() -> Task:
    return ToyTask(train=32, search=16, test=16)


class Measures(Evaluator):
    """The number of weights in the first layer, as a metric: constructed with an argument that no file can hold."""

    def __init__(self, made: list[int]) -> None:
        self.made = made

    def evaluate(self, requests: Any) -> Iterator[Outcome]:
        for request in requests:
            self.made.append(request.number)
            yield Outcome(request.number, {"accuracy": 0.1 if request.architecture["0"] == "one" else 0.9})

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        return frozenset({"accuracy"})


class Both(AskTellStrategy):
    """Proposes both architectures."""

    def __init__(self, left: list[str]) -> None:
        self.left = left

    def ask(self, n: int) -> list[Proposal]:
        taken, self.left = self.left[:n], self.left[n:]
        return [Proposal(automl_nas.Architecture({"0": name})) for name in taken]

    def tell(self, trials: Any) -> None:
        pass

    def search_state(self) -> dict[str, Any]:
        return {"left": self.left}

    def load_search_state(self, state: Any) -> None:
        self.left = state["left"]


def sections(**changes: Any) -> dict[str, Any]:
    return {
        "space": small_space(),
        "task": task(),
        "problem": {"objectives": {"accuracy": "maximize"}, "costs": ["params"]},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [{"name": "search", "strategy": Both(["one", "three"]), "evaluator": Measures([])}],
        "final": {"train": {"epochs": 1}, "baselines": [], "export": ["safetensors"]},
        **changes,
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reading") / "run"
    automl_nas.search(sections(), out=path)
    return path


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with the module ``spaces_of_mine``; return the file that its import leaves."""
    (tmp_path / "spaces_of_mine.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "spaces_of_mine", raising=False)
    return tmp_path / "executed"


def test_a_result_is_read_with_no_object(run: Path) -> None:
    result = automl_nas.open_run(run)
    assert result.architecture == automl_nas.Architecture({"0": "three"})
    assert [(trial.number, trial.metrics["accuracy"]) for trial in result.pareto] == [(1, 0.9)]
    assert result.final is not None
    assert result.final.delivered.costs["params"] == 3 * 9 + 3 + 3 * 3 + 3
    assert result.metrics.keys() == {"accuracy", "loss"}
    assert result.shortcomings == ()
    assert CliRunner().invoke(cli, ["show", str(run)]).exit_code == 0
    with pytest.raises(
        ConfigurationError, match=r"^space: the space of this run is .*open_run\(DIRECTORY, space=\.\.\.\)"
    ):
        result.build()
    with pytest.raises(ConfigurationError, match=r"open_run\(DIRECTORY, task=\.\.\.\)"):
        result.plan  # noqa: B018 - a property
    with pytest.raises(ConfigurationError, match=r"^a configuration has no section 'spce'; did you mean 'space'"):
        automl_nas.open_run(run, spce=small_space())


def test_networks_need_the_space_only(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    exported = load_file(run / "export" / "model.safetensors")
    for space in (small_space(), small_space):  # an equal object, and the function that makes it
        result = automl_nas.open_run(run, space=space)
        state = result.load_trained().state_dict()
        assert state.keys() == exported.keys()
        assert all(torch.equal(state[name], exported[name]) for name in exported)
        assert sum(parameter.numel() for parameter in result.build().parameters()) == 42
    with pytest.raises(
        RunDirectoryError, match=r"another search space: the module '0' .*\[3, 1, 1, 1\].*\[4, 1, 1, 1\]"
    ):
        automl_nas.open_run(run, space=small_space(width=4)).build()
    with caplog.at_level(logging.WARNING, "automl_nas"):
        assert automl_nas.open_run(run, space=small_space()).delivery().samples is None
    assert "task of this run is the Python object" in caplog.text
    assert "task=..." in caplog.text
    samples = automl_nas.open_run(run, space=small_space(), task=task()).delivery().samples
    assert samples is not None
    assert samples.shape == (3, 1, 4, 4)


def test_a_result_exports_and_keeps_files_of_others(run: Path, tmp_path: Path) -> None:
    result = automl_nas.open_run(run, space=small_space(), task=task())
    (weights, *_) = result.export("safetensors", out=tmp_path / "out")
    assert load_file(weights).keys() == result.load_trained().state_dict().keys()
    assert result.export("safetensors", out=tmp_path / "out")[0] == weights  # the same bytes again
    weights.write_bytes(b"mine")
    with pytest.raises(RunDirectoryError, match=r"would replace .*replace=True"):
        result.export("safetensors", out=tmp_path / "out")
    assert weights.read_bytes() == b"mine"
    result.export({"name": "safetensors"}, out=tmp_path / "out", replace=True)
    assert weights.read_bytes() != b"mine"
    with pytest.raises(ConfigurationError, match="did you mean 'safetensors'"):
        result.export("safetensor", out=tmp_path / "out")
    with pytest.raises(ConfigurationError, match="at least one format"):
        result.export()


def test_the_whole_plan_needs_all_objects(run: Path) -> None:
    objects = {"space": small_space(), "task": task(), "strategy": Both([]), "evaluator": Measures([])}
    assert automl_nas.open_run(run, **objects).plan.stages[0].settings.name == "search"
    objects.pop("evaluator")
    with pytest.raises(
        ConfigurationError, match=r"^stages\[0\].evaluator: the evaluator of this run .*evaluator=\.\.\."
    ):
        automl_nas.open_run(run, **objects).plan  # noqa: B018 - a property


@pytest.mark.parametrize("reference", ["spaces_of_mine:space", "spaces_of_mine:made"])
def test_export_takes_the_space_from_a_module(run: Path, module: Path, reference: str) -> None:
    arguments = ["export", str(run), "--format", "safetensors", "--out", "exported"]
    missing = CliRunner().invoke(cli, arguments)
    assert missing.exit_code == 2
    assert "--space module:function --trust" in missing.output
    refused = CliRunner().invoke(cli, [*arguments, "--space", reference])
    assert (refused.exit_code, module.exists()) == (2, False)
    assert "add --trust" in refused.output
    accepted = CliRunner().invoke(cli, [*arguments, "--space", reference, "--trust"])
    assert accepted.exit_code == 0, accepted.output
    assert accepted.stderr.startswith("warning: without samples of the task")
    with_task = [*arguments, "--space", reference, "--task", "end_to_end.test_reading:task", "--trust"]
    silent = CliRunner().invoke(cli, with_task)
    assert (silent.exit_code, silent.stderr) == (0, "")
    old = load_file(run / "export" / "model.safetensors")
    new = load_file(module.parent / "exported" / "model.safetensors")
    assert all(torch.equal(old[name], new[name]) for name in old)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("spaces_of_nobody:made", "No module named 'spaces_of_nobody'"),
        ("spaces_of_mine:other", "has no attribute 'other'"),
        ("spaces_of_mine", "must be written as module:object"),
        ("spaces_of_mine:bare", "made a Sequential, which is not a SearchSpace"),
        ("spaces_of_mine:width", "must be a name or a mapping with a 'name', not 3"),
    ],
)
def test_a_wrong_reference_is_an_error(run: Path, module: Path, reference: str, message: str) -> None:
    shown = CliRunner().invoke(cli, ["export", str(run), "--space", reference, "--trust", "--format", "safetensors"])
    assert shown.exit_code == 2, shown.output
    assert message in shown.output


def test_two_spaces_are_told_apart_by_their_sections(tmp_path: Path) -> None:
    final = {"space": small_space(width=5), "train": {"epochs": 1}, "baselines": [], "export": []}
    automl_nas.search(sections(final=final), out=tmp_path / "run")
    result = automl_nas.open_run(tmp_path / "run", final={"space": small_space(width=5)}, space=small_space())
    assert [module.out_channels for module in result.load_trained().modules() if isinstance(module, nn.Conv2d)] == [5]
    with pytest.raises(RunDirectoryError, match="another final space"):
        automl_nas.open_run(tmp_path / "run", final={"space": small_space()}).build()
    with pytest.raises(ConfigurationError, match=r"final\.space: .*open_run\(DIRECTORY, final=\{'space': \.\.\.\}\)"):
        automl_nas.open_run(tmp_path / "run", space=small_space()).build()


def test_a_result_is_read_without_the_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import numpy as np

    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    parts = {"train_images": images, "train_labels": np.arange(40) % 3}
    np.savez(tmp_path / "data.npz", **parts, test_images=images, test_labels=np.arange(40) % 3)
    task = {"name": "npz", "path": str(tmp_path / "data.npz"), "batch_size": 8}
    evaluator = {"stages": [{"name": "search", "strategy": "random", "evaluator": Free, "budget": {"trials": 2}}]}
    automl_nas.search(sections(task=task, **evaluator), out=tmp_path / "run")
    (tmp_path / "data.npz").unlink()
    result = automl_nas.open_run(tmp_path / "run", space=small_space())
    assert isinstance(result.load_trained(), nn.Module)
    assert result.data["stages"][0]["trials"] == 2
    with caplog.at_level(logging.WARNING, "automl_nas"):
        assert result.delivery().samples is None
    assert "data.npz" in caplog.text
