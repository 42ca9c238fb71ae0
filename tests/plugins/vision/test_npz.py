from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from automl_nas.errors import ConfigurationError, DataError
from automl_nas_vision.npz import Npz

CIFAR = Path(__file__).parents[4] / "shared" / "data" / "cifar10_small.npz"


def arrays(**changes: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    result = {
        "train_images": rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8),
        "train_labels": np.arange(40) % 4,
        "test_images": rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8),
        "test_labels": np.arange(12) % 4,
    }
    return {name: value for name, value in {**result, **changes}.items() if value is not None}


def save(folder: Path, **changes: Any) -> str:
    path = folder / "data.npz"
    np.savez(path, **arrays(**changes))
    return str(path)


def shown(task: Npz, split: str) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    task.score(lambda x: seen.append(x) or torch.zeros(len(x), task.num_classes), split)
    return torch.cat(seen)


def test_images_arrive_channels_first_and_the_test_split_is_the_files(tmp_path: Path) -> None:
    task = Npz(path=save(tmp_path), normalize=False)
    assert task.input_shape == (3, 8, 8) and task.num_classes == 4
    assert {split: task.size(split) for split in ("train", "search", "test", "train+search")} == {
        "train": 32,
        "search": 8,
        "test": 12,
        "train+search": 40,
    }
    expected = torch.from_numpy(arrays()["test_images"]).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(shown(task, "test"), expected)
    whole = torch.from_numpy(arrays()["train_images"]).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(shown(task, "train+search"), whole)


def test_grey_images_and_labels_in_a_column(tmp_path: Path) -> None:
    grey = {name: arrays()[name][..., 0] for name in ("train_images", "test_images")}
    columns = {name: arrays()[name][:, None].astype(np.uint8) for name in ("train_labels", "test_labels")}
    assert Npz(path=save(tmp_path, **grey, **columns)).input_shape == (1, 8, 8)


def test_a_test_split_is_held_out_when_the_file_has_none(tmp_path: Path) -> None:
    task = Npz(path=save(tmp_path, test_images=None, test_labels=None), test_fraction=0.3, search_fraction=0.25)
    assert [task.size(split) for split in ("train", "search", "test")] == [21, 7, 12]


def test_statistics_come_from_the_training_split_alone(tmp_path: Path) -> None:
    task = Npz(path=save(tmp_path))
    train = shown(task, "train").double()
    # float32 inputs of size about 1: their mean and deviation are good to about 1e-7.
    assert train.mean(dim=(0, 2, 3)).abs().max() < 1e-6
    assert (train.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-6
    assert shown(task, "train+search").double().mean(dim=(0, 2, 3)).abs().max() > 1e-4
    dark = Npz(path=save(tmp_path, test_images=np.zeros((12, 8, 8, 3), dtype=np.uint8)))
    assert torch.equal(shown(dark, "train"), train.float())


def test_a_home_folder_and_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert Npz(path="~/data.npz").size("test") == 12
    monkeypatch.chdir(tmp_path)
    assert Npz(path="data.npz").size("test") == 12


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({}, {"train_images": "train_image"}, "has no array 'train_image'; did you mean 'train_images'.*it has: train"),
        ({"test_images": None, "test_labels": None}, {}, "has no test arrays .*set test_fraction"),
        ({"test_labels": None}, {}, "has no array 'test_labels'"),
        ({"train_images": np.zeros((40, 8, 8, 3), np.float32)}, {}, "is float32 .* images must be uint8"),
        ({"train_images": np.zeros((40, 64), np.uint8)}, {}, r"of shape \(40, 64\), but images must be"),
        (
            {"train_images": np.zeros((0, 8, 8, 3), np.uint8), "train_labels": np.zeros(0, int)},
            {},
            "so it holds no images",
        ),
        ({"train_images": np.zeros((40, 3, 8, 8), np.uint8)}, {}, r"channels first; save it with \.transpose"),
        ({"train_labels": np.arange(39) % 4}, {}, "has 40 images, but 'train_labels' has 39 labels"),
        ({"train_labels": np.arange(40) % 4 * 1.0}, {}, "is float64 .* labels must be integers"),
        ({"train_labels": np.array(list("abcd") * 10)}, {}, "labels must be integers; number them with .*inverse"),
        ({"class_names": np.array(["a", "b"])}, {}, "'class_names' is <U1 of shape .*have 4 classes.* 4 strings"),
        ({"class_names": np.arange(4)}, {}, "'class_names' is int64 .* must hold 4 strings"),
        ({"train_labels": np.eye(4, dtype=int)[np.arange(40) % 4]}, {}, "one class number for each image"),
        ({"train_labels": np.arange(40) % 4 + 1}, {}, r"the classes 0 .. k - 1.*return_inverse"),
        ({"train_labels": np.zeros(40, int)}, {}, "one class only"),
        ({"train_labels": np.array([0] * 39 + [1]), "test_labels": np.arange(12) % 2}, {}, "class 1 has 1 sample"),
        (
            {"train_labels": np.array([{}] * 40)},
            {},
            "'train_labels' holds Python objects, which are not read since that could execute code",
        ),
        ({"test_images": np.zeros((12, 9, 9, 3), np.uint8)}, {}, r"has shape \(9, 9, 3\), but one of the training"),
        ({"test_labels": np.arange(12)}, {}, "goes from 0 to 11, but the training labels only from 0 to 3"),
    ],
)
def test_a_bad_file_is_described(tmp_path: Path, changes: Any, settings: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        Npz(path=save(tmp_path, **changes), **settings)
    assert str(tmp_path / "data.npz") in str(raised.value) or "class 1 has" in message


def test_a_missing_file_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "pipe.npz")  # whoever opens it waits for ever
    with pytest.raises(DataError, match=r"pipe\.npz is not a readable .*: it is not an ordinary file; set task\.path"):
        Npz(path=tmp_path / "pipe.npz")
    with pytest.raises(DataError, match=r"nowhere.* does not exist; set task\.path") as raised:
        Npz(path="nowhere.npz")
    assert str(tmp_path / "nowhere.npz") in str(raised.value)


def member(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED, name: str = "train_images.npy") -> Path:
    """Write a file whose array has this content; the others are good."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for other, value in arrays().items():
            if f"{other}.npy" != name:
                with archive.open(f"{other}.npy", "w") as file:
                    np.save(file, value)
        archive.writestr(name, content)
    return path


def header(shape: object, kind: str = "|u1") -> bytes:
    """Return the header of an array, version 1.0 of the .npy format."""
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header((2_500_000_000, 10, 10, 10)), r"promises 2,500,000,000,000 bytes, and the file holds 0"),  # 2.3 TiB
        (header((40, 8, 8, 3)) + b"x" * 7679, "promises 7,680 bytes, and the file holds 7,679"),
        (header((40, -8, 8, 3)) + b"x" * 7680, "is damaged: its header promises"),
        (header("(10**9,) * 9"), "cannot be read"),
        (header((40, 8, 8, 3), "|O"), "holds Python objects, which are not read"),
        (header((40, 8, 8, 3), "__import__('os').mkdir('exploded')"), "cannot be read"),
        (b"not an array", "cannot be read: ValueError: the magic string"),
        (b"", "cannot be read: ValueError"),
        (b"\x93NUMPY\x07\x00", "version .7, 0. of the .npy format"),
        (pickle.dumps({"a": 1}), "cannot be read: ValueError: the magic string"),
        (header((40, 8, 8, 3)).replace(b"}", b"("), "cannot be read"),
    ],
    ids=range(11),
)
def test_a_hostile_array_is_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"data\.npz: .*'train_images' .*{message}"):
        Npz(path=member(tmp_path / "data.npz", content))
    assert not (tmp_path / "exploded").exists()


def test_a_file_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """300 MB of zeros compressed to 0.3 MB."""
    zeros = header((100_000, 32, 32, 3)) + bytes(100_000 * 32 * 32 * 3)
    path = member(tmp_path / "data.npz", zeros, zipfile.ZIP_DEFLATED)
    with pytest.raises(
        DataError, match=r"takes 307,200,000 bytes and is compressed to 29\d,\d\d\d, which images are not"
    ):
        Npz(path=path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(40, 2**63, np.uint64), "its largest label is 9223372036854775808"),
        (np.arange(40).astype("timedelta64[s]"), "labels must be integers"),
        (np.full(40, np.nan), "labels must be integers"),
        (np.arange(40) % 4 == 0, "labels must be integers"),
        (np.arange(40) % 4 - 1, r"the classes 0 .. k - 1"),
    ],
    ids=range(5),
)
def test_wrong_labels_are_described(tmp_path: Path, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Npz(path=save(tmp_path, train_labels=labels))


def test_an_encrypted_member_is_described(tmp_path: Path) -> None:
    path = Path(save(tmp_path))
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags in local and central headers
        place = data.find(mark)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(mark, place + 1)
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"cannot be read: RuntimeError: .*encrypted"):
        Npz(path=path)


@pytest.mark.parametrize("content", [b"", b"no zip", "folder", "truncated", "npy", "flipped"])
def test_an_unreadable_file_is_a_data_error(tmp_path: Path, content: bytes | str) -> None:
    path = Path(save(tmp_path))
    if content == "folder":
        path.unlink()
        path.mkdir()
    elif content == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif content == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif content == "flipped":
        data = bytearray(path.read_bytes())
        data[2000] ^= 0xFF  # inside the first array: its checksum no longer holds
        path.write_bytes(bytes(data))
    else:
        assert isinstance(content, bytes)
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"data\.npz.*(is not a readable|cannot be read)"):
        Npz(path=str(path))


def test_a_test_fraction_beside_test_arrays_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"task\.test_fraction: .* has test images"):
        Npz(path=save(tmp_path), test_fraction=0.2)


@pytest.mark.skipif(not CIFAR.is_file(), reason="the CIFAR-10 subset is not beside the repository")
def test_the_cifar_subset() -> None:
    task = Npz(path=str(CIFAR))
    assert [task.size(split) for split in ("train", "search", "test")] == [4000, 1000, 1000]
    assert task.input_shape == (3, 32, 32) and task.num_classes == 10
    # The file is balanced, so exact stratification is too.
    for split, each in (("train", 400), ("search", 100), ("test", 100)):
        assert np.bincount(task._data.labels[task._splits[split]]).tolist() == [each] * 10
    inputs, targets = next(task.batches("train", 0, 0))
    assert inputs.shape == (128, 3, 32, 32) and targets.shape == (128,)


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    def fingerprint(first: int) -> str:
        images = np.full((20, 8, 8, 1), first, dtype=np.uint8)
        labels = np.arange(20) % 2
        np.savez(
            tmp_path / "data.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels
        )
        return Npz(path=tmp_path / "data.npz").fingerprint()

    assert fingerprint(1) == fingerprint(1) != fingerprint(2)


def test_a_file_may_have_the_names_of_its_classes(tmp_path: Path) -> None:
    path = save(tmp_path, class_names=np.array(["ant", "bee", "cat", "dog"]))
    assert Npz(path=path).class_names == ("ant", "bee", "cat", "dog")
    assert Npz(path=path, class_names=("a", "b", "c", "d")).class_names == ("a", "b", "c", "d")


def test_a_file_may_have_its_own_search_split(tmp_path: Path) -> None:
    own = {"search_images": arrays()["test_images"][:8], "search_labels": np.arange(8) % 4}
    task = Npz(path=save(tmp_path, **own), normalize=False, class_names=("a", "b", "c", "d"))
    assert [task.size(split) for split in ("train", "search", "test", "train+search")] == [40, 8, 12, 48]
    expected = torch.from_numpy(own["search_images"]).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(shown(task, "search"), expected)
    assert task.class_names == ("a", "b", "c", "d")
    renamed = {"val_x": own["search_images"], "val_y": own["search_labels"]}
    other = Npz(path=save(tmp_path, **renamed), normalize=False, search_images="val_x", search_labels="val_y")
    assert torch.equal(shown(other, "search"), expected)


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"search_images": np.zeros((4, 8, 8, 3), np.uint8)}, {}, "no array 'search_labels'"),
        ({}, {"search_images": "val_x"}, "no array 'val_x'"),
        (
            {"search_images": np.zeros((4, 9, 8, 3), np.uint8), "search_labels": np.arange(4)},
            {},
            "one of 'search_images' has shape",
        ),
        (
            {"search_images": np.zeros((4, 8, 8, 3), np.uint8), "search_labels": np.arange(4) + 1},
            {},
            "'search_labels' goes from 1 to 4",
        ),
        ({}, {"class_names": ("a", "b")}, "task.class_names: there are 2 names for 4 classes"),
    ],
)
def test_wrong_search_arrays_and_names(tmp_path: Path, changes: Any, settings: Any, message: str) -> None:
    with pytest.raises((DataError, ConfigurationError)) as caught:
        Npz(path=save(tmp_path, **changes), **settings)
    assert message in str(caught.value)
