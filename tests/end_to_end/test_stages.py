"""What stages give each other: weights of this run and of others, several budgets, several retrained networks."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from end_to_end.runs import config, record
from safetensors.torch import load_file

import automl_nas
from automl_nas.errors import ConfigurationError, DamagedError, RunDirectoryError, RunFailedError
from automl_nas.evaluation.exporter import Delivery, Exporter
from automl_nas.evaluation.statistics import wilson_interval
from automl_nas.run.final.delivered import ExportFailure
from automl_nas.run.record.yaml import read_yaml


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> automl_nas.Result:
    return automl_nas.search(config(), out=tmp_path_factory.mktemp("first") / "run")


def again(result: automl_nas.Result, **changes: Any) -> dict[str, Any]:
    """Return the configuration of another search with the supernet of a run."""
    search = config()["stages"][1]
    search["evaluator"]["weights"] = f"{result.directory}:supernet"
    return {**config(), "stages": [search], **changes}


def test_the_result_is_typed_and_complete(first: automl_nas.Result) -> None:
    assert first.best is not None
    assert first.architecture == first.best.architecture
    assert set(first.best.costs) == {"flops", "params"}
    assert set(first.metrics) == {"accuracy", "loss"}
    assert first.pareto[0] == first.best
    assert [path.name for path in first.files] == ["model.safetensors", "architecture.json"]
    with pytest.raises(ConfigurationError, match="is the Python object"):
        automl_nas.open_run(first.directory).build()


def test_the_found_network_is_a_plain_module_with_its_weights(first: automl_nas.Result) -> None:
    """By the numbers: its parameters are those counted, its test accuracy is the one reported."""
    network = first.load_trained()
    assert not [type(m) for m in network.modules() if type(m).__module__.startswith("automl_nas.")]
    assert first.best is not None
    assert sum(p.numel() for p in network.parameters()) == first.best.costs["params"]
    task = first.plan.task
    assert task is not None

    def predict(inputs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return network(inputs)  # type: ignore[no-any-return]

    assert task.score(predict, "test")["accuracy"] == first.metrics["accuracy"]
    exported = load_file(first.files[0])
    assert all(torch.equal(tensor, exported[name]) for name, tensor in network.state_dict().items())


def test_comparisons_carry_their_intervals(first: automl_nas.Result) -> None:
    networks = first.data["final"]["networks"]
    assert [network["role"] for network in networks] == ["found", "random"]
    for network in networks:
        accuracy = network["test"]["accuracy"]
        assert network["test_interval"]["accuracy"] == pytest.approx(wilson_interval(accuracy, 360))
    (comparison,) = first.data["final"]["comparison"]
    low, high = comparison["interval"]
    assert comparison["difference"] == pytest.approx(networks[0]["test"]["accuracy"] - networks[1]["test"]["accuracy"])
    assert low < comparison["difference"] < high
    assert comparison["exceeds_noise"] == (low > 0 or high < 0)
    report = first.final
    assert report is not None
    assert [network.role for network in report.networks] == ["found", "random"]
    assert report.delivered.test == networks[0]["test"] == first.metrics
    assert report.comparisons[0].interval == (low, high)
    assert report.comparisons[0].exceeds_noise == comparison["exceeds_noise"]
    assert json.dumps(report.to_json()) == json.dumps(first.data["final"])
    assert first.shortcomings == ()


def test_train_once_search_many_times(first: automl_nas.Result, tmp_path: Path) -> None:
    """The same stage with the supernet of another run finds the same as in that run."""
    result = automl_nas.search(again(first, final=None), out=tmp_path / "run")
    metrics = [trial["metrics"] for trial in record_trials(tmp_path / "run")]
    assert metrics == [trial["metrics"] for trial in record_trials(first.directory)]
    assert result.architecture == first.architecture


def record_trials(directory: Path) -> list[dict[str, Any]]:
    import json

    lines = [json.loads(line) for line in (directory / "trials.jsonl").read_text().splitlines()]
    return sorted((line for line in lines if line["event"] == "finished"), key=lambda line: line["number"])


def test_weights_of_another_space_are_refused(first: automl_nas.Result, tmp_path: Path) -> None:
    from torch import nn

    def other() -> nn.Module:
        return nn.Sequential(
            automl_nas.OneOf([nn.Conv2d(1, 4, 1), nn.Conv2d(1, 4, 3, padding=1)]), nn.Flatten(), nn.Linear(256, 10)
        )

    space = automl_nas.ModuleSpace(other, input_shape=(1, 8, 8))
    with pytest.raises(ConfigurationError, match="belong to another search space"):
        automl_nas.search(again(first, space=space, final=None, problem={}), out=tmp_path / "run")


def test_damaged_weights_are_refused(first: automl_nas.Result, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(first.directory, copy)
    path = copy / "artifacts" / "supernet" / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    search = again(first)
    search["stages"][0]["evaluator"]["weights"] = f"{copy}:supernet"
    with pytest.raises(DamagedError, match=r"weights\.safetensors is damaged"):
        automl_nas.search({**search, "final": None}, out=tmp_path / "run")


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_damaged_weights_of_a_run_that_repeats_itself_are_mended(
    first: automl_nas.Result, tmp_path: Path, suffix: str
) -> None:
    """Without checkpoints the run starts anew; half of what it saved is damaged, the other half tells it so."""
    copy = tmp_path / "copy"
    shutil.copytree(first.directory, copy)
    shutil.rmtree(copy / "checkpoints")
    (copy / "result.json").unlink()
    os.truncate(copy / "artifacts" / "supernet" / f"weights{suffix}", 100)
    automl_nas.search(config(), out=copy, resume=True)
    assert record(copy) == record(first.directory)


def test_the_best_few_are_retrained_and_chosen_on_the_search_split(first: automl_nas.Result, tmp_path: Path) -> None:
    final = {"train": {"epochs": 2}, "top_k": 2, "seeds": 2, "baselines": ["largest"]}
    result = automl_nas.search(again(first, final=final), out=tmp_path / "run")
    report = result.data["final"]
    assert [n["role"] for n in report["networks"]] == ["found"] * 4 + ["largest"] * 2
    scores = [n["search"]["accuracy"] for n in report["networks"][:4]]
    assert report["chosen"] == scores.index(max(scores))
    chosen = report["networks"][report["chosen"]]["architecture"]
    # The test split is touched for what is delivered and for the baselines, and for nothing that was only a candidate.
    for network in report["networks"]:
        assert ("test" in network) == (network["role"] != "found" or network["architecture"] == chosen)
    limit = result.plan.stages[0].problem.constraints[0].high
    largest = report["networks"][4]["costs"]["flops"]
    space, problem = result.plan.space, result.plan.stages[0].problem
    from automl_nas.space.operators import enumerate_all

    assert largest == max(problem.costs(a)["flops"] for a in enumerate_all(space.decisions) if problem.feasible(a))
    assert largest <= limit


def test_fine_tuning_starts_from_the_supernets_weights(first: automl_nas.Result, tmp_path: Path) -> None:
    """With a learning rate of next to nothing the delivered weights are the inherited ones (batch statistics aside)."""
    final = {"weights": "inherited", "train": {"epochs": 1, "learning_rate": 1e-12, "weight_decay": 0.0}}
    result = automl_nas.search(again(first, final=final), out=tmp_path / "run")
    weights = load_file(first.directory / "artifacts" / "supernet" / "weights.safetensors")
    network = result.load_trained()
    inherited = {tuple(t.shape): t for t in weights.values()}
    conv = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    torch.testing.assert_close(
        conv.weight,
        weights["0.weight"] if "0.weight" in weights else inherited[tuple(conv.weight.shape)],
        rtol=0,
        atol=1e-6,
    )
    scratch = automl_nas.search(again(first, final={"train": final["train"]}), out=tmp_path / "scratch").load_trained()
    other = next(m for m in scratch.modules() if isinstance(m, torch.nn.Conv2d))
    assert not torch.allclose(conv.weight, other.weight)


def test_nothing_feasible_is_said(first: automl_nas.Result, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A limit on what is measured is known only afterwards."""
    problem = {"constraints": {"accuracy": ">= 1.01"}, "costs": ["params"]}
    with pytest.raises(
        RunFailedError,
        match=r"no trial of the stage 'search' meets the constraints; the nearest one .* misses accuracy >= 1.01 by",
    ):
        automl_nas.search(again(first, problem=problem), out=tmp_path / "run")
    result = automl_nas.search(again(first, problem=problem, final=None), out=tmp_path / "none")
    assert not result.found
    for name in ("best", "architecture"):
        with pytest.raises(RunFailedError, match="found no network: no trial of the stage 'search' meets"):
            getattr(result, name)
    assert result.pareto == ()
    with pytest.raises(RunFailedError, match="found no network"):
        result.build()
    # Without a final stage the result is returned, and Python callers get the judgement of the command.
    (shortcoming,) = result.shortcomings
    assert shortcoming.kind == "no_feasible_network"
    assert "meets the constraints; the nearest one" in shortcoming.message and shortcoming.message in caplog.messages


def test_a_run_without_trials_has_a_shortcoming(first: automl_nas.Result, caplog: pytest.LogCaptureFixture) -> None:
    stage = {"name": "search", "strategy": "random", "evaluator": "train", "budget": {"seconds": 1e-9}}
    result = automl_nas.search(again(first, stages=[stage], final=None))
    assert not result.found
    (shortcoming,) = result.shortcomings
    assert shortcoming.message == (
        "the stage 'search' ended without a trial, so there is no network; give it a larger budget"
    )
    assert caplog.messages == [shortcoming.message]
    supernet = {"name": "supernet", "strategy": {"name": "single_path", "train": {"epochs": 1}}}
    trained = automl_nas.search(again(first, stages=[supernet], final=None))
    assert trained.shortcomings == () and trained.metrics == {}
    with pytest.raises(RunFailedError, match="it only trained a supernet"):
        _ = trained.architecture


def test_a_temporary_directory_is_made_where_none_is_named(first: automl_nas.Result) -> None:
    result = automl_nas.search(again(first, final=None))
    assert (result.directory / "result.json").exists()
    with pytest.raises(RunFailedError, match="no final stage"):
        result.load_trained()
    with pytest.raises(RunDirectoryError, match="needs out="):
        automl_nas.search(again(first), resume=True)


def test_two_runs_do_not_disturb_each_other(first: automl_nas.Result, tmp_path: Path) -> None:
    """The global generators are as they were: a run in a notebook changes nothing around it."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    automl_nas.search(config(), out=tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)
    assert record(tmp_path / "run") == record(first.directory)


class Refuses(Exporter):
    """Cannot hold the network."""

    def export(self, delivery: Delivery, folder: Path) -> list[Path]:
        raise RunFailedError("it branches on values")


class Strides(Exporter):
    """Writes how the weights lie in memory, which programs depend on."""

    def export(self, delivery: Delivery, folder: Path) -> list[Path]:
        weights = delivery.network.state_dict().values()
        path = folder / "strides.txt"
        path.write_text(str(all(tensor.is_contiguous() for tensor in weights)))
        return [path]


def test_what_is_exported_does_not_depend_on_the_memory_format_of_training(
    first: automl_nas.Result, tmp_path: Path
) -> None:
    """An export later reads the weights from a file, contiguous; the run's own shall be the same."""
    settings = again(first, final={"train": {"epochs": 1}, "export": [{"name": Strides}]})
    settings["runtime"] = {**settings["runtime"], "memory_format": "channels_last"}
    (path,) = automl_nas.search(settings, out=tmp_path / "run").files
    assert path.read_text() == "True"


class Fills(Exporter):
    """Meets a full disk until there is space."""

    def __init__(self, *, space: str) -> None:
        self._space = Path(space)

    def export(self, delivery: Delivery, folder: Path) -> list[Path]:
        if not self._space.exists():
            raise OSError(errno.ENOSPC, "no space left on device")
        (folder / "done").touch()
        return [folder / "done"]


def test_a_format_that_cannot_hold_the_network_ends_neither_the_run_nor_the_other_formats(
    first: automl_nas.Result, tmp_path: Path
) -> None:
    final = {"train": {"epochs": 1}, "export": [{"name": Refuses}, "safetensors"], "rehearse": False}
    result = automl_nas.search(again(first, final=final), out=tmp_path / "run")
    assert [path.name for path in result.files] == ["model.safetensors", "architecture.json"]
    place = f"final.export[0]: the exporter {__name__}:Refuses"
    failure = {"format": f"python:{__name__}:Refuses", "error": f"{place}: it branches on values"}
    assert result.data["final"]["not_exported"] == [failure]
    assert result.final is not None and result.final.not_exported == (ExportFailure(**failure),)
    (shortcoming,) = result.shortcomings
    assert shortcoming.kind == "failed_exports" and f"not exported as {failure['format']}" in shortcoming.message
    assert not result.load_trained().training


def test_a_full_disk_while_exporting_is_resumed_from(first: automl_nas.Result, tmp_path: Path) -> None:
    space = tmp_path / "run" / "space"
    final = {"train": {"epochs": 1}, "export": [{"name": Fills, "space": str(space)}], "rehearse": False}
    settings = again(first, final=final)
    with pytest.raises(RunFailedError, match="the disk is full"):
        automl_nas.search(settings, out=tmp_path / "run")
    space.touch()
    assert automl_nas.search(settings, out=tmp_path / "run", resume=True).files == (
        tmp_path / "run" / "export" / "done",
    )


def test_a_finished_run_is_opened_with_its_objects(first: automl_nas.Result) -> None:
    opened = automl_nas.open_run(first.directory, space=config()["space"])
    assert opened.data == first.data
    assert torch.equal(opened.load_trained()[0].weight, first.load_trained()[0].weight)  # type: ignore[index]


def test_a_run_in_object_storage_gives_its_weights_and_is_opened(
    first: automl_nas.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'automl-nas[storage]'")
    monkeypatch.setenv("AUTOML_NAS_CACHE", str(tmp_path / "cache"))
    fsspec.filesystem("memory").put(str(first.directory), "/bucket/first", recursive=True)
    search = again(first, final=None)
    here = automl_nas.search(search, out=tmp_path / "here")
    search["stages"][0]["evaluator"]["weights"] = "memory://bucket/first:supernet"
    there = automl_nas.search(search, out=tmp_path / "there")
    assert there.architecture == here.architecture
    assert record(tmp_path / "there")["trials"] == record(tmp_path / "here")["trials"]
    config = read_yaml(tmp_path / "there" / "config.yaml").value
    assert config["stages"][0]["evaluator"]["weights"] == "memory://bucket/first:supernet"
    with pytest.raises(ConfigurationError, match=r"the run memory://bucket/first has no weights 'other'") as error:
        search["stages"][0]["evaluator"]["weights"] = "memory://bucket/first:other"
        automl_nas.search(search, out=tmp_path / "other")
    assert error.value.path == "stages[0].evaluator.weights"
    with pytest.raises(ConfigurationError, match=r"name a stage of the run: 'memory://bucket/first:STAGE'"):
        search["stages"][0]["evaluator"]["weights"] = "memory://bucket/first"
        automl_nas.search(search, out=tmp_path / "other")
    opened = automl_nas.open_run("memory://bucket/first", space=first.plan.space)
    assert opened.data == first.data
    assert str(opened.directory).startswith(str(tmp_path / "cache"))
    assert torch.equal(opened.load_trained()[0].weight, first.load_trained()[0].weight)  # type: ignore[index]


def test_relative_paths_hold_in_another_folder(
    first: automl_nas.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (200, 8, 8, 1), dtype=np.uint8)
    np.savez("data.npz", train_images=images, train_labels=np.arange(200) % 10)
    task = {"name": "npz", "path": "data.npz", "test_fraction": 0.2, "batch_size": 16, "augment": "none"}
    relative = os.path.relpath(first.directory)
    search = again(first, task=task, final=None)
    search["stages"][0]["evaluator"] |= {"weights": f"{relative}:supernet", "recalibration_images": 16}
    result = automl_nas.search(search, out=tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    monkeypatch.chdir(tmp_path / "there")
    raw = {**search, "task": {**task, "path": tmp_path / "here" / "data.npz"}}
    raw["stages"][0]["evaluator"]["weights"] = f"{first.directory}:supernet"
    assert automl_nas.search(raw, out=tmp_path / "run", resume=True).data == result.data
    assert automl_nas.open_run(tmp_path / "run", space=search["space"]).plan.config["task"]["path"] == str(
        tmp_path / "here" / "data.npz"
    )
