"""The script that reads Fashion-MNIST's files, on a few made-up images."""

from __future__ import annotations

import gzip
import importlib
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

EXAMPLES = Path(__file__).parents[3] / "examples"
MODULES = ("prepare_fashion_mnist", "prepare_cifar10")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module(MODULES[0])
    for name in MODULES:
        sys.modules.pop(name, None)


def write_idx(path: Path, array: NDArray[np.uint8], *, kind: int = 8, cut: int = 0) -> None:
    header = struct.pack(">HBB", 0, kind, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    data = header + array.tobytes()
    path.write_bytes(gzip.compress(data[: len(data) - cut]))


def test_images_and_labels_come_out_as_they_went_in(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (20, 28, 28), dtype=np.uint8) for name in ("train", "t10k")}
    labels = np.arange(20, dtype=np.uint8) % 10
    for name, pixels in images.items():
        write_idx(tmp_path / f"{name}-images-idx3-ubyte.gz", pixels)
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", labels)
    monkeypatch.setattr(sys, "argv", ["prepare", str(tmp_path), str(tmp_path / "out.npz"), "--subset", "10"])
    script.main()
    with np.load(tmp_path / "out.npz", allow_pickle=False) as written:
        assert np.array_equal(written["test_images"], images["t10k"])
        assert np.array_equal(written["test_labels"], labels)
        # Ten of twenty training images, one of each class, each still with its label.
        assert sorted(written["train_labels"]) == list(range(10))
        for image, label in zip(written["train_images"], written["train_labels"], strict=True):
            assert any(np.array_equal(image, images["train"][place]) for place in (label, label + 10))


@pytest.mark.parametrize("damage", [{"kind": 9}, {"cut": 1}])
def test_other_files_are_refused_by_name(script: ModuleType, tmp_path: Path, damage: dict[str, int]) -> None:
    write_idx(tmp_path / "a.gz", np.zeros((2, 3), dtype=np.uint8), **damage)
    with pytest.raises(SystemExit, match=r"a\.gz .* IDX file"):
        script.read_idx(tmp_path / "a.gz")
