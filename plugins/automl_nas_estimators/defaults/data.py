"""What data are: a folder of images, a CSV file, an npz file; and the settings of the task that reads them."""

from __future__ import annotations

import csv
import statistics
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import NpzFile
from automl_nas_estimators.defaults.image_listing import GUESS, SUFFIXES, image_column, image_settings

DIGITS = "digits"
_ABSOLUTE = "absolute, so that the configuration works in every working directory"
_TARGETS = ("target", "label", "class", "y")
_ARRAYS = {
    "train_images": ("train_images", "x_train", "X_train"),
    "train_labels": ("train_labels", "y_train"),
    "test_images": ("test_images", "x_test", "X_test"),
    "test_labels": ("test_labels", "y_test"),
}
_SIDES = (8, 12, 16, 24, 28, 32, 48, 64)
_SHIFTED = 16
"""Images whose shorter side has at most this number of pixels are only shifted."""
_LOOKED_AT = 200
"""The number of image files whose size and mode are read."""
_GREY = ("1", "L", "LA", "La", "F", "I", "I;16", "I;16B", "I;16L", "I;16N")
"""Modes of Pillow without colours."""


@dataclass
class TaskChoice:
    """The section ``task``.

    Attributes:
        settings: of the task.
        comments: setting -> why it has this value.
    """

    settings: dict[str, Any]
    comments: dict[str, str] = field(default_factory=dict)


def choose_task(path: str, target: str | None = None) -> TaskChoice:
    """Return the task for a data set.

    Args:
        path: a folder of images, a CSV file, an npz file, or ``digits``.
        target: for a CSV file: the column to predict; for labels of images perhaps several, with commas. None: a column
            called ``target``, ``label``, ``class`` or ``y``, or the last one.

    Raises:
        ConfigurationError: the path is something else.
        DataError: the data cannot be read.
    """
    if path == DIGITS and not Path(path).exists():
        if target is not None:
            raise ConfigurationError("only a table has columns; leave the target out", source="--target")
        return TaskChoice({"name": "digits"})
    try:
        place = Path(path).expanduser().absolute()
    except RuntimeError as error:  # a user without a home folder
        raise ConfigurationError(f"{path} does not exist: {error}") from None
    if not place.exists():
        raise ConfigurationError(
            f"{path} does not exist; give a folder of images, a CSV file, an npz file, or no path for scikit-learn's "
            "digits"
        )
    if place.is_file() and place.suffix.lower() == ".csv":
        return _csv(path, place, target)
    if target is not None:
        raise ConfigurationError("only a table has columns; leave the target out", source="--target")
    if place.is_dir():
        return _folder(path, place)
    if place.suffix.lower() == ".npz":
        return _npz(path, place)
    raise ConfigurationError(
        f"{path} is neither a folder of images nor a CSV or npz file; docs/how_to/tasks.md describes tasks for other "
        "data"
    )


def _folder(path: str, place: Path) -> TaskChoice:
    files = [file for file in sorted(place.rglob("*")) if file.suffix.lower() in SUFFIXES]
    if not files:
        raise DataError(f"{path} holds no images ({', '.join(SUFFIXES)}); it needs a folder for each class")
    return _image_files(place, files)


def _image_files(place: Path, files: Sequence[Path]) -> TaskChoice:
    step = max(1, len(files) // _LOOKED_AT)
    sides, coloured = _sides_and_colour(files[::step][:_LOOKED_AT])
    settings: dict[str, Any] = {"name": "image_folder", "path": str(place)}
    comments = {"path": _ABSOLUTE}
    if not sides:
        comments["size"] = "the sizes of the files could not be read"
        return TaskChoice({**settings, "size": 32}, comments)
    median = int(statistics.median(sides))
    size = max((side for side in _SIDES if side <= median), default=_SIDES[0])
    reason = f"pixels; the shorter side of the images is {min(sides)} to {max(sides)}, the median is {median}"
    if median > _SIDES[-1]:
        reason += ". Larger inputs show more and train more slowly"
    augment, why = _augmentation((len(files), size, size, 3 if coloured else 1))
    return TaskChoice({**settings, "size": size, "augment": augment}, {**comments, "size": reason, "augment": why})


_FLIP = "mirrors images: set shift or none if left and right differ, as in writing"


def _sides_and_colour(files: Sequence[Path]) -> tuple[list[int], bool]:
    """Return the shorter sides of the readable images in pixels, and whether one of them has colours."""
    try:
        from PIL import Image
    except ImportError:
        return [], False
    sides, coloured = [], False
    for file in files:
        if not file.is_file():  # a pipe would block for ever
            continue
        try:
            with Image.open(file) as image:
                sides.append(min(image.size))
                coloured |= image.mode not in _GREY
        except Exception:  # Pillow raises errors of many classes for damaged content; the task names broken files
            continue
    return sides, coloured


def _csv(path: str, place: Path, target: str | None) -> TaskChoice:
    try:
        text = place.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a CSV file: {error}") from None
    header = text.partition("\n")[0]
    separator = max(",;\t|", key=header.count) if any(mark in header for mark in ",;\t|") else ","
    try:
        lines = [row for row in csv.reader(text.splitlines(), delimiter=separator) if row]
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as a CSV file: {error}") from None
    if not lines or len(lines[0]) < 2:
        raise DataError(f"{path} needs a header with at least two columns")
    columns, rows = [name.strip() for name in lines[0]], lines[1:]
    images = image_column(columns, rows)
    if images is not None and images != target:
        if separator != ",":
            raise DataError(
                f"{path} lists images with {separator!r} between its columns; image_folder reads files with commas only"
            )
        settings, reasons, files = image_settings(path, place, columns, rows, images, target)
        choice = _image_files(place, [file for file in files if file.is_file()])
        choice.settings = {**choice.settings, **settings}
        choice.comments |= reasons
        return choice
    if target is not None and target not in columns:
        raise ConfigurationError(f"{path} has no column '{target}'; it has {', '.join(columns)}", source="--target")
    chosen = target or next((name for name in columns if name.lower() in _TARGETS), columns[-1])
    settings = {"name": "csv", "path": str(place), "target": chosen}
    if separator != ",":
        settings["separator"] = separator
    reason = "the column to predict" if target else f"the column to predict, {GUESS}; other columns: "
    others = [name for name in columns if name != chosen]
    if not target:
        reason += ", ".join(others[:6]) + (" and others" if len(others) > 6 else "")
    return TaskChoice(settings, {"path": _ABSOLUTE, "target": " ".join(reason.split())})


def _npz(path: str, place: Path) -> TaskChoice:
    try:
        with zipfile.ZipFile(place) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as an npz file: {error}") from None
    if "x" in names and "y" in names:
        return TaskChoice({"name": "arrays", "path": str(place)}, {"path": _ABSOLUTE})
    settings: dict[str, Any] = {"name": "npz", "path": str(place)}
    comments = {"path": _ABSOLUTE}
    missing = []
    for setting, possible in _ARRAYS.items():
        name = next((name for name in possible if name in names), None)
        if name is None:
            missing.append(setting)
        elif name != setting:
            settings[setting] = name
    if "train_images" in missing or "train_labels" in missing:
        raise DataError(
            f"{path} holds the arrays {', '.join(names) or 'none'}; it needs train_images and train_labels (or x_train "
            "and y_train), or x and y for inputs of any kind; for other names, set task.train_images and so on in a "
            "configuration of your own"
        )
    if missing:
        settings["test_fraction"] = 0.2
        comments["test_fraction"] = "the file has no test arrays, so images are held out"
    images = NpzFile(place).read(settings.get("train_images", "train_images"))
    settings["augment"], comments["augment"] = _augmentation(images.shape)
    return TaskChoice(settings, comments)


def _augmentation(shape: Sequence[int]) -> tuple[str, str]:
    """Return the augmentation of images ``(samples, height, width[, channels])``, and why."""
    if len(shape) == 4 and shape[3] > 1 and min(shape[1:3]) > _SHIFTED:
        return "crop_flip", _FLIP
    if min(shape[1:3]) > _SHIFTED:
        return "shift", "shifts images by a pixel; grey images are often writing, which is not mirrored"
    return "shift", "shifts images by a pixel; crop_flip would move small images too far"
