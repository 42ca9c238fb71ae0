"""Data sets of torchvision, from small files in their original formats; nothing is downloaded."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import Task
from automl_nas.testing import TaskContract
from automl_nas_vision import torchvision_task
from automl_nas_vision.torchvision_task import DATASETS, TorchvisionTask, datasets

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 28, 28), dtype=np.uint8)
LABELS = np.arange(60, dtype=np.uint8) % 10
COLOUR = RNG.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torchvision_task._open.cache_clear()


def write_idx(root: Path, name: str = "MNIST") -> None:
    """Write images and labels in the IDX format (LeCun, 1998): magic number, sizes, bytes."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for split, part in (("train", slice(0, 40)), ("t10k", slice(40, 60))):
        images, labels = PIXELS[part], LABELS[part]
        (folder / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, *images.shape) + images.tobytes())
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, len(labels)) + labels.tobytes())


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch, names: list[Any] | None = None) -> None:
    """Write CIFAR-10's files, and let torchvision expect their MD5 sums."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    contents: dict[str, Any] = {"batches.meta": {"label_names": names or [f"kind {k}" for k in range(10)]}}
    for k in range(6):
        part = slice(10 * k, 10 * k + 10)
        file = f"data_batch_{k + 1}" if k < 5 else "test_batch"
        contents[file] = {"data": COLOUR[part].reshape(10, -1), "labels": LABELS[part].tolist()}
    sums = {}
    for file, content in contents.items():
        (folder / file).write_bytes(pickle.dumps(content))
        sums[file] = hashlib.md5((folder / file).read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[file, sums[file]] for file in sums if file[:4] == "data"])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]})


def inputs(task: Task, split: str) -> np.ndarray[Any, Any]:
    assert isinstance(task, TorchvisionTask)
    return np.concatenate([batch.numpy() for batch, _ in task.scored_batches(split)])


class TestMnist(TaskContract):
    def _root(self) -> Path:
        root = self.folder()
        write_idx(root)
        return root

    def make_task(self) -> Task:
        return TorchvisionTask(dataset="MNIST", root=self._root(), batch_size=8, search_fraction=0.25)

    def equivalents(self) -> Iterable[Task]:
        yield TorchvisionTask(dataset="mnist", root=self._root(), batch_size=5, search_fraction=0.25)


def test_mnist_has_its_own_test_split(tmp_path: Path) -> None:
    write_idx(tmp_path, "FashionMNIST")
    task = TorchvisionTask(dataset="fashion-mnist", root=tmp_path, normalize=False, search_fraction=0.25)
    assert task.input_shape == (1, 28, 28) and task.class_names is not None and task.class_names[9] == "Ankle boot"
    assert [task.size(split) for split in ("train", "search", "test")] == [30, 10, 20]
    assert inputs(task, "test") == pytest.approx(PIXELS[40:, None] / 255, abs=1e-6)


def test_cifar_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path, monkeypatch)
    task = TorchvisionTask(dataset="CIFAR10", root=tmp_path, normalize=False, augment="none")
    assert task.class_names == tuple(f"kind {k}" for k in range(10))
    assert inputs(task, "test") == pytest.approx(COLOUR[50:] / 255, abs=1e-6)
    assert torch.cat([targets for _, targets in task.scored_batches("test")]).tolist() == LABELS[50:].tolist()
    described = task.preprocessing()
    assert described is not None and (described["size"], described["resize"]) == ([32, 32], "none")


class Hostile:
    """Executes code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_file_with_another_md5_sum_is_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    write_cifar(tmp_path, monkeypatch)
    (tmp_path / "cifar-10-batches-py" / file).write_bytes(pickle.dumps(Hostile(tmp_path / "executed")))
    with pytest.raises(DataError, match=r"CIFAR10 \(train\) cannot be read .* not found or corrupted"):
        TorchvisionTask(dataset="CIFAR10", root=tmp_path)
    assert not (tmp_path / "executed").exists()


def test_svhn_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = {}
    for split, part in (("train", slice(0, 40)), ("test", slice(40, 60))):
        file = tmp_path / f"{split}_32x32.mat"
        labels = np.where(LABELS[part] == 0, 10, LABELS[part])  # the digit 0 has the label 10 in these files
        savemat(file, {"X": COLOUR[part].transpose(2, 3, 1, 0), "y": labels[:, None]})
        sums[split] = ["url", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(datasets.SVHN, "split_list", sums)
    task = TorchvisionTask(dataset="SVHN", root=tmp_path, normalize=False, search_fraction=0.25)
    assert inputs(task, "test") == pytest.approx(COLOUR[40:] / 255, abs=1e-6)
    assert torch.cat([targets for _, targets in task.scored_batches("test")]).tolist() == LABELS[40:].tolist()


def write_flowers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "flowers-102"
    (folder / "jpg").mkdir(parents=True)
    classes = 102
    for k in range(1, 3 * classes + 1):
        pixels = RNG.integers(0, 256, (20 + k % 5, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "jpg" / f"image_{k:05d}.jpg")
    numbers = np.arange(1, 3 * classes + 1)
    savemat(folder / "imagelabels.mat", {"labels": (numbers - 1) % classes + 1})
    thirds = dict(zip(("trnid", "valid", "tstid"), numbers.reshape(3, -1), strict=True))
    savemat(folder / "setid.mat", thirds)
    sums = {
        key: (name, hashlib.md5((folder / name).read_bytes()).hexdigest())
        for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))
    }
    monkeypatch.setattr(datasets.Flowers102, "_file_dict", {**datasets.Flowers102._file_dict, **sums})


def test_flowers_have_own_search_images_of_different_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_flowers(tmp_path, monkeypatch)
    with pytest.raises(DataError, match=r"image \d of train has 30 x \d+ pixels, and others .*; set task.size"):
        TorchvisionTask(dataset="Flowers102", root=tmp_path)
    task = TorchvisionTask(dataset="Flowers102", root=tmp_path, size=16, batch_size=50)
    assert [task.size(split) for split in ("train", "search", "test")] == [102, 102, 102]
    assert task.class_names is not None and task.class_names[73] == "rose" and task.input_shape == (3, 16, 16)
    monkeypatch.setattr(torchvision_task, "IN_MEMORY", 0)
    lazy = TorchvisionTask(dataset="Flowers102", root=tmp_path, size=16, batch_size=50)
    for ours, theirs in zip(lazy.batches("train", 3, 1), task.batches("train", 3, 1), strict=True):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


def test_data_sets_without_splits_are_split_by_class(tmp_path: Path) -> None:
    folder = tmp_path / "eurosat" / "2750"
    for name in ("Forest", "River"):
        (folder / name).mkdir(parents=True)
        for k in range(10):
            Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / name / f"{k}.jpg")
    task = TorchvisionTask(dataset="EuroSAT", root=tmp_path, size=8)
    assert task.class_names == ("Forest", "River")
    assert [task.size(split) for split in ("train", "search", "test")] == [12, 4, 4]


def test_every_name_is_a_class_of_torchvision_with_these_arguments() -> None:
    import inspect

    for name, parts in DATASETS.items():
        kind = getattr(datasets, name)
        for arguments in parts.values():
            inspect.signature(kind).bind("root", download=False, **arguments)


def test_errors_name_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"task.dataset: unknown data set 'CIFAR11'; did you mean 'CIFAR10"):
        TorchvisionTask(dataset="CIFAR11", root=tmp_path)
    for name in DATASETS:
        if name == "PCAM":
            continue  # needs h5py
        with pytest.raises(DataError, match=rf"{name} \(train\) cannot be read from .* or task.download: true"):
            TorchvisionTask(dataset=name, root=tmp_path / "nothing", size=8)

    def unreachable(self: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.MNIST, "download", unreachable)
    with pytest.raises(DataError, match=r"MNIST cannot be downloaded to .*no route to host; without a network copy"):
        TorchvisionTask(dataset="MNIST", root=tmp_path / "nothing", download=True)


def test_damaged_files_are_errors(tmp_path: Path) -> None:
    write_idx(tmp_path)
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(gzip.compress(file.read_bytes()))
    with pytest.raises(DataError, match=r"MNIST \(train\) cannot be read"):
        TorchvisionTask(dataset="MNIST", root=tmp_path)
