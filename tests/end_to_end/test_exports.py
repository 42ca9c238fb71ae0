"""The end of a run cannot be lost: whatever one format does, the others are exported and the run is complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from end_to_end.failing_candidates import Free
from end_to_end.test_faults import run, search_only
from end_to_end.test_resume import stop_at
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import automl_nas
from automl_nas import ModuleSpace, OneOf
from automl_nas.errors import RunInterrupted
from automl_nas.evaluation import Batch, Delivery, Direction, Exporter, Predictor, Task

VOCABULARY, LENGTH = 7, 5


class Tokens(Task):
    """Rows of tokens; the class of a row is its first token modulo 3."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (LENGTH,)

    @property
    def num_classes(self) -> int:
        return 3

    @property
    def metrics(self) -> Mapping[str, Direction]:
        return {"accuracy": "maximize"}

    def size(self, split: str) -> int:
        return 32

    def batches_per_epoch(self, split: str) -> int:
        return 4

    def _data(self, split: str) -> Batch:
        rng = np.random.default_rng(len(split))
        rows = torch.from_numpy(rng.integers(0, VOCABULARY, (32, LENGTH)))
        return rows, rows[:, 0] % 3

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        rows, classes = self._data(split)
        for batch in range(start, 4):
            yield rows[8 * batch : 8 * batch + 8], classes[8 * batch : 8 * batch + 8]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        rows, classes = self._data(split)
        return {"accuracy": (model(rows).argmax(1) == classes).float().mean().item()}


class Embedded(nn.Module):
    """An embedding, which takes integers from 0 to 6 only."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 4)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens.long()).flatten(1)  # type: ignore[no-any-return]


def token_space() -> ModuleSpace:
    def network() -> nn.Module:
        choice = OneOf({"narrow": nn.Linear(4 * LENGTH, 8), "none": nn.Linear(4 * LENGTH, 8, bias=False)})
        return nn.Sequential(Embedded(), choice, nn.Linear(8, 3))

    return ModuleSpace(network, input_shape=(LENGTH,))


def small_space() -> ModuleSpace:
    def network() -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), OneOf({"a": nn.Linear(64, 6), "b": nn.Linear(64, 6, bias=False)}), nn.Linear(6, 10)
        )

    return ModuleSpace(network, input_shape=(1, 8, 8))


def short(**changes: Any) -> dict[str, Any]:
    return {
        "seed": 1,
        "space": small_space(),
        "task": {"name": "digits", "batch_size": 128},
        "problem": {"objectives": {"params": "maximize"}, "costs": ["params"]},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [{"name": "search", "strategy": {"name": "random"}, "budget": {"trials": 2}}],
        **changes,
    }


def final(*formats: Any) -> dict[str, Any]:
    return {"train": {"epochs": 1}, "export": list(formats)}


class Zeroes(Exporter):
    """Changes the network that it receives."""

    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        with torch.no_grad():
            for parameter in delivery.network.parameters():
                parameter.zero_()
        path = folder / "zeros.txt"
        path.write_text("zeros")
        return [path]


class Breaks(Exporter):
    """Fails with an error that no one foresaw."""

    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        raise IndexError("index out of range in self")


class Exits(Exporter):
    """Wants to end the process."""

    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        raise SystemExit(0)


def test_a_network_of_tokens_is_exported_in_every_format(tmp_path: Path) -> None:
    settings = short(space=token_space(), task=Tokens(), final=final("onnx", "pt2", "safetensors"))
    result = automl_nas.search(settings, out=tmp_path / "run")
    assert result.data["final"]["not_exported"] == []
    assert [path.name for path in result.files] == ["model.onnx", "model.pt2", "model.safetensors", "architecture.json"]
    rows = torch.tensor([[0, 1, 2, 3, 6]])
    with torch.no_grad():
        expected = result.load_trained()(rows)
        torch.testing.assert_close(torch.export.load(result.files[1]).module()(rows), expected)


def test_an_exporter_that_fails_or_changes_the_network_touches_no_other_format(tmp_path: Path) -> None:
    formats = ({"name": Zeroes}, {"name": Breaks}, {"name": Exits}, "safetensors", "pt2")
    settings = short(final={**final(*formats), "rehearse": False})
    result = automl_nas.search(settings, out=tmp_path / "run")
    errors = {item["format"].rpartition(":")[2]: item["error"] for item in result.data["final"]["not_exported"]}
    assert errors.keys() == {"Zeroes", "Breaks", "Exits"}
    assert "changed the network" in errors["Zeroes"]
    assert errors["Breaks"].startswith("final.export[1]: the exporter ")
    assert errors["Breaks"].endswith("Breaks: IndexError: index out of range in self")
    assert errors["Exits"].endswith("Exits: SystemExit: 0")
    assert [path.name for path in result.files] == ["model.safetensors", "architecture.json", "model.pt2"]
    assert not (tmp_path / "run" / "export" / "zeros.txt").exists()
    # The files hold the trained weights, which are not zero.
    trained = result.load_trained().state_dict()
    exported = load_file(result.files[0])
    assert exported.keys() == trained.keys()
    assert all(torch.equal(tensor, trained[name]) and bool(tensor.any()) for name, tensor in exported.items())
    images = torch.ones(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(torch.export.load(result.files[2]).module()(images), result.load_trained()(images))
    (shortcoming,) = result.shortcomings
    assert shortcoming.kind == "failed_exports"


def test_exported_files_do_not_name_folders_of_this_machine(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = tmp_path / "private" / "images.npz"
    data.parent.mkdir()
    np.savez(data, train_images=rng.integers(0, 255, (200, 8, 8, 1), dtype=np.uint8), train_labels=np.arange(200) % 10)
    task = {"name": "npz", "path": str(data), "test_fraction": 0.2, "batch_size": 16, "augment": "none"}
    result = automl_nas.search(short(task=task, final=final("onnx", "safetensors")), out=tmp_path / "run")
    assert len(result.files) == 3
    for path in result.files:
        content = path.read_bytes()
        assert str(tmp_path).encode() not in content
    described = {item.key: item.value for item in onnx.load(result.files[0]).metadata_props}["description"]
    assert '"path": "images.npz"' in described


def test_what_a_killed_process_left_in_the_folder_is_removed(tmp_path: Path) -> None:
    settings = {**search_only(Free), "task": "digits", "final": {"train": {"epochs": 1}}}
    out = tmp_path / "run"
    with pytest.raises(RunInterrupted):
        run(settings, out, handlers=stop_at(19))
    (out / "export" / ".export-abc").mkdir(parents=True)
    for name in (".export-abc/model.pt2", "model.onnx"):
        (out / "export" / name).write_bytes(b"a part")
    result = run(settings, out)
    assert result.final is not None
    assert sorted(result.final.files) == sorted(str(path.relative_to(out)) for path in (out / "export").rglob("*"))
