"""Folders of images as they are: layouts, formats, broken files, small classes."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plugins.vision import odd_images
from sklearn.model_selection import StratifiedShuffleSplit

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import Task
from automl_nas.testing import TaskContract
from automl_nas_vision import verify
from automl_nas_vision.decode import Format
from automl_nas_vision.image_folder import ImageFolder


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd") / "images"
    odd_images.write(folder)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Ten images of 8 x 8 in each of two classes."""
    root = tmp_path / "small"
    fill(root, {"cat": 10, "dog": 10})
    return root


def fill(root: Path, counts: dict[str, int], seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / name / f"{k}.png")


def make(path: Path, **settings: Any) -> ImageFolder:
    return ImageFolder(path=path, **{"size": 8, "augment": "none", "batch_size": 4, **settings})


def pixels(task: ImageFolder, split: str) -> np.ndarray[Any, Any]:
    return np.concatenate([inputs.numpy() for inputs, _ in task.scored_batches(split)])


@pytest.mark.process
class TestOddFolder(TaskContract):
    other_dtype = False  # torchvision draws parameters in the default dtype

    def _path(self) -> Path:
        folder = self.folder() / "images"
        odd_images.write(folder)
        return folder

    def make(self, **settings: Any) -> Task:
        return ImageFolder(
            **{"path": self._path(), "size": 16, "augment": ["flip", "RandAugment"], "batch_size": 8, **settings}
        )

    def make_task(self) -> Task:
        return self.make()

    def equivalents(self) -> Iterable[Task]:
        yield self.make(in_memory=False)
        yield self.make(in_memory=False, workers=2, batch_size=5)


class TestManyLabels(TaskContract):
    """Labels in one column with a separator; images are read when they are needed."""

    def _path(self) -> Path:
        root = self.folder() / "small"
        fill(root, {"cat": 10, "dog": 10})
        rows = [f"{name}/{k}.png,{name}|{'odd' if k % 2 else 'even'}" for name in ("cat", "dog") for k in range(10)]
        (root / "labels.csv").write_text("\n".join(["path,labels", *rows]) + "\n", encoding="utf-8")
        return root / "labels.csv"

    def make_task(self) -> Task:
        return make(self._path(), label_separator="|", in_memory=False, augment=["flip"])

    def equivalents(self) -> Iterable[Task]:
        yield make(self._path(), label_separator="|", augment=["flip"], batch_size=3)


def test_every_format_gives_the_pixels_of_the_picture(tmp_path: Path) -> None:
    image = Image.fromarray(odd_images.photographs()[0][5])
    original = np.asarray(image).astype(float)
    grey = np.asarray(image.convert("L")).astype(float)
    read = Format((32, 32), 3, "squash", 0, 255).read
    # kind -> (what is expected, the largest mean error of the compression or of few colours)
    weight = grey[..., None] / 255
    expected: dict[int, tuple[Any, float]] = {
        0: (original, 0),
        1: (original, 6),
        3: (grey[..., None] * np.ones(3), 0),
        4: (original, 12),
        5: (original * weight + 255 * (1 - weight), 1),
        6: (original, 8),
        7: (grey[..., None] * np.ones(3), 0),
        8: (original, 6),
        9: (original, 12),
        10: (original, 6),
    }
    for kind, (ideal, error) in expected.items():
        path = odd_images._write(tmp_path / str(kind), image, kind)
        result = read(str(path)).transpose(1, 2, 0).astype(float)
        assert np.abs(result - ideal).mean() <= error, (kind, np.abs(result - ideal).mean())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_show_the_same_picture(tmp_path: Path, orientation: int) -> None:
    """The transposition that each value of the tag asks viewers to undo (EXIF 2.3, tag 0x0112)."""
    picture = np.zeros((6, 4, 3), dtype=np.uint8)
    picture[0, 0], picture[0, 3], picture[5, 0] = 250, 150, 50
    stored = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, 1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "x.png", exif=exif)
    result = Format((6, 4), 3, "squash", 0, 255).read(str(tmp_path / "x.png"))
    assert np.array_equal(result.transpose(1, 2, 0), picture)


def test_resize_policies(tmp_path: Path) -> None:
    """A white square in the middle of a wide grey image: cropped to the middle, squashed, or padded."""
    wide = np.full((8, 24, 3), 100, dtype=np.uint8)
    wide[:, 8:16] = 250
    Image.fromarray(wide).save(tmp_path / "x.png")

    def read(resize: Any) -> Any:
        return Format((8, 8), 1, resize, 7, 255).read(str(tmp_path / "x.png"))[0]

    assert (read("crop") == 250).all()
    assert read("squash")[4].tolist()[0] == 100 and read("squash").mean() == pytest.approx(150, abs=2)
    padded = read("pad")
    assert (padded[[0, 1, 6, 7]] == 7).all() and (padded[3:5, 0] == 100).all() and (padded[3:5, 4] > 230).all()


def test_sixteen_bits_and_floating_point(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257], [32768, 65535, 65407, 514]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    result = Format((2, 4), 1, "squash", 0, 255).read(str(tmp_path / "x.png"))[0]
    assert result.tolist() == np.rint(values / 257).astype(int).tolist()
    Image.fromarray(np.array([[0.5, 900000]], dtype=np.float32)).save(tmp_path / "x.tif")
    fill(tmp_path / "data", {"a": 9, "b": 9})
    shutil.move(tmp_path / "x.tif", tmp_path / "data" / "a")
    with pytest.raises(DataError, match=r"a/x.tif: its pixels go from 0.5 to 900000; convert it to 8 or 16 bits"):
        make(tmp_path / "data")


def test_a_folder_of_classes_is_split_like_scikit_learn_would(small: Path) -> None:
    task = make(small)
    assert (task.class_names, task.num_classes, task.input_shape) == (("cat", "dog"), 2, (3, 8, 8))
    assert {split: task.size(split) for split in ("train", "search", "test")} == {"train": 12, "search": 4, "test": 4}
    y = np.repeat([0, 1], 10)
    _, theirs = next(StratifiedShuffleSplit(1, test_size=4).split(y[:, None], y))
    ours = np.concatenate([targets.numpy() for _, targets in task.scored_batches("test")])
    assert np.bincount(ours).tolist() == np.bincount(y[theirs]).tolist()


def test_the_layout_of_imagenet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed, (split, count) in enumerate((("train", 6), ("val", 3), ("test", 2))):
        fill(tmp_path / split, {"cat": count, "dog": count}, seed)
    task = make(tmp_path, normalize=False)
    assert {split: task.size(split) for split in ("train", "search", "test")} == {"train": 12, "search": 6, "test": 4}
    expected = np.stack(
        [np.asarray(Image.open(tmp_path / f"test/{c}/{k}.png")) for c in ("cat", "dog") for k in (0, 1)]
    )
    assert pixels(task, "test") == pytest.approx(expected.transpose(0, 3, 1, 2) / 255, abs=1e-6)
    other = make(tmp_path, search=None, test="val")
    assert (other.size("test"), other.size("search")) == (6, 3)
    assert other.fingerprint() != task.fingerprint()
    shutil.rmtree(tmp_path / "test" / "cat")
    assert make(tmp_path).size("test") == 2
    assert "has no images of the class 'cat'" in caplog.text


def test_the_splits_of_a_csv_file(small: Path) -> None:
    rows = [
        f"{name}/{k}.png,{name},{('train', 'train', 'val', 'test')[k % 4]}" for name in ("dog", "cat") for k in range(8)
    ]
    (small / "list.csv").write_text("\n".join(["file,kind,split", *rows]), encoding="utf-8")
    task = make(small / "list.csv", normalize=False)
    assert (task.size("train"), task.size("search"), task.size("test")) == (8, 4, 4)
    assert task.class_names == ("cat", "dog")
    expected = [np.asarray(Image.open(small / f"{name}/{k}.png")) for name in ("dog", "cat") for k in (3, 7)]
    assert pixels(task, "test") == pytest.approx(np.stack(expected).transpose(0, 3, 1, 2) / 255, abs=1e-6)
    assert torch.cat([targets for _, targets in task.scored_batches("test")]).tolist() == [1, 1, 0, 0]


def test_a_pipe_is_neither_a_folder_nor_a_list(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list.csv")  # whoever opens it waits for ever
    with pytest.raises(DataError, match=r"list\.csv is neither a folder nor an ordinary file"):
        make(tmp_path / "list.csv")


def test_a_class_folder_that_cannot_be_listed_is_named(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that is only unreadable must not look like an empty one."""
    scandir = os.scandir

    def refuse(path: Any = ".") -> Any:
        if Path(path).name == "dog":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"/dog cannot be listed: Permission denied"):
        make(small)


def test_columns_of_labels(small: Path) -> None:
    rows = [f"cat/{k}.png,{k % 2},{int(k > 4)}" for k in range(10)]
    (small / "list.csv").write_text("\n".join(["path,odd,large", *rows]), encoding="utf-8")
    task = make(small / "list.csv")
    assert task.class_names == ("odd", "large") and next(iter(task.metrics)) == "average_precision"
    targets = torch.cat([targets for split in ("train", "search", "test") for _, targets in task.scored_batches(split)])
    assert targets.sum(0).tolist() == [5, 5]


def test_too_small_classes_of_a_csv_file_are_named_with_their_column(small: Path) -> None:
    rows = [f"cat/{k}.png,{'rare' if k == 0 else 'ab'[k % 2]}" for k in range(10)]
    (small / "list.csv").write_text("\n".join(["path,weather", *rows]), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"list\.csv, column 'weather': class .*\nadd images, or list the other classes"
    ):
        make(small / "list.csv")


def test_broken_files_are_named_at_once_and_skipped_by_consent(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = (small / "cat" / "0.png").read_bytes()
    (small / "cat" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (small / "cat" / "empty.jpg").touch()
    (small / "dog" / "text.jpg").write_text("not an image", encoding="utf-8")
    (small / "dog" / "gone.png").symlink_to(small / "nowhere")
    os.mkfifo(small / "dog" / "pipe.png")
    with pytest.raises(DataError) as caught:
        make(small)
    message = str(caught.value)
    for name in ("cat/cut.png", "cat/empty.jpg: it is empty", "dog/gone.png: it does not exist", "dog/text.jpg"):
        assert name in message
    assert "5 of 25 files" in message and "pipe.png: it is not an ordinary file" in message
    assert "task.skip_broken: true" in message
    for in_memory in (True, False):
        task = make(small, skip_broken=True, in_memory=in_memory)
        assert task.size("train+search") + task.size("test") == 20
        assert "5 of 25 files" in caplog.text
    for k in range(30):
        (small / "dog" / f"more{k}.png").touch()
    with pytest.raises(DataError, match="and 25 more"):
        make(small)


def test_broken_files_and_small_classes_are_in_one_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "data"
    root.mkdir()
    fill(root, {"a": 12, "b": 20, "empty": 0, "tiny": 1})
    (root / "a" / "text.png").write_text("x")
    with pytest.raises(DataError) as caught:
        make(root)
    message = str(caught.value)
    for part in (
        "1 of 34 files cannot be read",
        "a/text.png",
        "without a readable training image: the class 'empty'",
        "class 'tiny' has 1 sample",
        "task.min_class_images: 12 leaves 2 of 4 classes out",
    ):
        assert part in message
    for in_memory in (True, False):
        caplog.clear()
        task = make(root, skip_broken=True, min_class_images=5, in_memory=in_memory)
        assert task.class_names == ("a", "b")
        assert "left out (min_class_images): the classes 'empty', 'tiny'" in caplog.text
        for split in ("train", "search", "test"):
            files = task.files(split)
            targets = torch.cat([targets for _, targets in task.scored_batches(split)]).tolist()
            assert [Path(file).parent.name for file in files] == [("a", "b")[target] for target in targets]
    lazy, kept = (make(root, skip_broken=True, min_class_images=5, in_memory=kept) for kept in (False, True))
    assert torch.equal(*(torch.cat([x for x, _ in task.scored_batches("test")]) for task in (lazy, kept)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_class_images": 100}, "0 classes have enough images"),
        ({"min_class_images": -1}, "task.min_class_images: min_class_images must be at least 0"),
    ],
)
def test_values_of_min_class_images(tmp_path: Path, settings: dict[str, int], message: str) -> None:
    fill(tmp_path, {"a": 6, "b": 6})
    with pytest.raises((DataError, ConfigurationError)) as caught:
        make(tmp_path, **settings)
    assert message in str(caught.value)


def test_a_file_that_breaks_later_is_named(small: Path) -> None:
    task = make(small, in_memory=False)
    for file in (small / "cat").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"cat/\d.png could be read when .*, and cannot now: it is"):
        pixels(task, "train")


@pytest.mark.parametrize(
    ("counts", "settings", "message"),
    [
        ({"a": 5, "b": 5, "none": 0}, {}, "without a readable training image: the class 'none'"),
        ({"a": 10, "tiny": 1}, {}, "class 'tiny' has 1 sample, too few for the split 'test'"),
        ({"a": 20, "b": 1, "c": 1}, {}, "the same holds for the classes 'c' (1): 2 classes in all"),
        ({"a": 10}, {}, "the class 'a' only; classification needs at least two"),
        ({}, {}, "has no class folders"),
        ({"a": 5, "train": 5}, {}, "a folder 'train' beside the class 'a'"),
        ({"a": 5, "b": 5}, {"classes": ("a", "bb")}, "has no folder 'bb'; did you mean 'b'"),
        ({"a": 5, "b": 5}, {"test": "holdout"}, "task.test: "),
        ({"a": 5, "b": 5}, {"size": (8,)}, "task.size: size must be one number or [height, width]"),
        ({"a": 5, "b": 5}, {"classes": ()}, "task.classes: classification needs at least two classes"),
        ({"a": 5, "b": 5}, {"size": 0}, "task.size: size must be between 1"),
        ({"a": 5, "b": 5}, {"label_separator": "|"}, "task.label_separator: label_separator needs a CSV file"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, counts: dict[str, int], settings: Any, message: str) -> None:
    (tmp_path / "data").mkdir()
    fill(tmp_path / "data", counts)
    with pytest.raises((DataError, ConfigurationError)) as caught:
        make(tmp_path / "data", **settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("path,label\n", {}, "has no rows"),
        ("path\ncat/0.png\n", {}, "has no column of labels"),
        ("path,label\ncat/0.png\n", {}, "line 2: 1 cells, and the header has 2"),
        ("path,label\ncat/0.png,\n", {}, "line 2, column 'label': the class is missing"),
        ("path,label\ncat/0.png,a\ncat/0.png,b\n", {}, "line 3: 'cat/0.png' is in line 2, too"),
        ("path,label\ncat/0.png,a\nnope.png,b\n", {}, "nope.png: it does not exist"),
        ("path,label\ncat/0.png,a\ncat/1.png,a\n", {}, "every row has the class 'a'"),
        ("path,a,b\ncat/0.png,1,2\n", {}, "line 2, column 'b': a label must be 0 or 1, not '2'"),
        ("path,label,split\ncat/0.png,a,holdout\n", {}, "line 2: unknown split 'holdout'"),
        ("path,label\ncat/0.png,a\n", {"label_columns": ("lable",)}, "did you mean 'label'"),
        ("path,label\ncat/0.png,\n", {"label_separator": ";"}, "no row has a label"),
        ("path,label\ncat/\x00.png,a\ncat/1.png,b\n", {}, "ValueError"),
    ],
)
def test_csv_files_that_cannot_be_used(small: Path, content: str, settings: Any, message: str) -> None:
    (small / "list.csv").write_text(content, encoding="utf-8")
    with pytest.raises((DataError, ConfigurationError)) as caught:
        make(small / "list.csv", **settings)
    assert message in str(caught.value)


def test_hidden_files_other_files_and_circular_links(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = make(small).fingerprint()
    (small / ".git").mkdir()
    (small / "cat" / "._0.png").write_bytes(b"resource fork")
    (small / "cat" / "Thumbs.db").touch()
    (small / "cat" / "loop").symlink_to(small)
    assert make(small).fingerprint() == whole and not caplog.text
    (small / "cat" / "notes.txt").touch()
    assert make(small).fingerprint() == whole and "1 files are ignored" in caplog.text


def test_names_with_any_bytes(small: Path) -> None:
    shutil.copy(small / "cat" / "0.png", os.fsencode(small / "cat") + b"/\xff\n.png")
    task = make(small, in_memory=False)
    assert task.size("train+search") + task.size("test") == 21
    (small / "cat" / "0.png").write_bytes(b"")
    (small / "cat").rename(os.fsdecode(os.fsencode(small) + b"/\xff"))
    with pytest.raises(DataError, match=r"\\xff is not UTF-8; rename it"):
        make(small)


def test_imbalance_is_warned_of_and_weighed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, {"common": 120, "rare": 6})
    task = make(tmp_path)
    assert "'common' has 120 training images and 'rare' has 6; consider class_weights: balanced" in caplog.text
    assert [int((t == 1).sum()) for t in [torch.cat([t for _, t in task.scored_batches("test")])]] == [1]
    caplog.clear()
    balanced = make(tmp_path, sampler="balanced", batch_size=20)
    drawn = torch.cat([targets for epoch in range(4) for _, targets in balanced.batches("train", epoch, 0)])
    assert not caplog.text and 0.4 < float((drawn == 1).double().mean()) < 0.6


def test_the_fingerprint_follows_contents_and_the_check_is_remembered(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = make(small, in_memory=False).fingerprint()
    assert lazy == make(small).fingerprint()
    copy = small.parent / "copy"
    shutil.copytree(small, copy)
    assert make(copy, in_memory=False).fingerprint() == lazy
    reads = []
    original = verify._one
    monkeypatch.setattr(verify, "_one", lambda *values: reads.append(values) or original(*values))
    assert make(small, in_memory=False).fingerprint() == lazy and not reads
    file = small / "cat" / "0.png"
    before = file.stat()
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(file)
    assert make(small, in_memory=False).fingerprint() != lazy and len(reads) == 20
    assert before.st_size != file.stat().st_size
    for remembered in (small.parent / "cache" / "automl_nas" / "images").iterdir():
        remembered.write_text("{", encoding="utf-8")
    assert make(small, in_memory=False).fingerprint() != lazy and len(reads) == 40


def test_the_cache_folder_may_be_unwritable(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small.parent / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(small.parent / "file"))

    assert make(small, in_memory=False).size("train") == 12
