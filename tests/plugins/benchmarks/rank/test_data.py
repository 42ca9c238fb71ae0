"""The script that decodes CIFAR-10, on an archive of a few generated images."""

from __future__ import annotations

import hashlib
import importlib.util
import lzma
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

SCRIPT = Path(__file__).parents[4] / "examples" / "prepare_cifar10.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_cifar10", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def encode(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo what the archive's description says, step by step and pixel by pixel."""
    planes = images.transpose(0, 3, 1, 2).astype(np.int64)
    planes[:, 0] -= planes[:, 1]
    planes[:, 2] -= planes[:, 1]
    for axis in (3, 2):
        planes = np.diff(planes, axis=axis, prepend=0)
    return np.frombuffer(lzma.compress((planes % 256).astype(np.uint8).tobytes()), dtype=np.uint8)


@pytest.fixture
def archive(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    rng = np.random.default_rng(0)
    content: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for split, count in (("train", 60), ("test", 20)):
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        labels = rng.permutation(np.arange(count, dtype=np.uint8) % 10)
        plain |= {f"{split}_images": images, f"{split}_labels": labels}
        content |= {f"{split}_images_xz": encode(images), f"{split}_labels": labels}
        content[f"{split}_sha256"] = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    np.savez(tmp_path / "archive.npz", **content)
    return tmp_path / "archive.npz", plain


def prepare(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> dict[str, NDArray[Any]]:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    script.main()
    with np.load(str(arguments[1]), allow_pickle=False) as result:
        return dict(result)


def test_prepare_cifar10_writes_the_images(
    script: ModuleType, archive: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = prepare(script, monkeypatch, archive[0], tmp_path / "new" / "plain.npz")
    assert arrays.keys() == archive[1].keys()
    assert all(np.array_equal(arrays[name], archive[1][name]) for name in arrays)


def test_prepare_cifar10_small_images_of_a_balanced_subset(
    script: ModuleType, archive: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = prepare(script, monkeypatch, archive[0], tmp_path / "small.npz", "--size", 16, "--subset", 20)
    assert np.bincount(arrays["train_labels"]).tolist() == [2] * 10
    plain = archive[1]["test_images"].astype(np.float64)
    corners = [plain[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    # Halves may round either way.
    assert np.abs(arrays["test_images"] - sum(corners) / 4).max() <= 0.5
    # The subset is of the archive's images, in their order.
    whole = prepare(script, monkeypatch, archive[0], tmp_path / "whole.npz", "--size", 16)["train_images"]
    places = [next(n for n, image in enumerate(whole) if np.array_equal(image, one)) for one in arrays["train_images"]]
    assert places == sorted(set(places))


def test_prepare_cifar10_refuses_a_damaged_archive(
    script: ModuleType, archive: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with np.load(archive[0]) as content:
        damaged = {**content, "test_labels": content["test_labels"][::-1]}
    np.savez(tmp_path / "damaged.npz", **damaged)
    with pytest.raises(SystemExit, match=r"the test images of .* are damaged"):
        prepare(script, monkeypatch, tmp_path / "damaged.npz", tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()
