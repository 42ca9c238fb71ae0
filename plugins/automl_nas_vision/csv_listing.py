"""Lists the images of a CSV file of paths and labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError, did_you_mean
from automl_nas_vision.scan import SEARCH_NAMES, Listing

SPLITS = {"train": "train", "test": "test", **dict.fromkeys(SEARCH_NAMES, "search")}
IMAGE_COLUMNS = ("path", "image", "file", "filename")


@dataclass(frozen=True)
class Columns:
    """Which columns of a CSV file are what.

    Attributes:
        image: the path of an image; None: the first of `IMAGE_COLUMNS`.
        labels: the column of the class, or several of 0 and 1; None: all other columns.
        split: the column with ``train``, ``val`` or ``test``; None: ``split`` if it exists.
        separator: what separates the labels in a cell of one column; None: a cell is one class.
    """

    image: str | None
    labels: Sequence[str] | None
    split: str | None
    separator: str | None


def list_csv(path: Path, root: Path, columns: Columns, classes: Sequence[str] | None) -> Listing:
    """Return the images of a CSV file with a header.

    Args:
        path: of the CSV file, UTF-8.
        root: the folder at which relative paths of images start.
        columns: which columns are what.
        classes: the classes or labels in this order; rows of other classes are left out. None: all, sorted.

    Raises:
        ConfigurationError: a column does not exist.
        DataError: the file cannot be read, or a row is malformed; the message has the line.
    """
    header, rows, lines = _read(path)

    def place(name: str, setting: str) -> int:
        if name not in header:
            raise ConfigurationError(
                f"{path} has no column '{name}'{did_you_mean(name, header)} (it has: {', '.join(header)})",
                path=f"task.{setting}",
            )
        return header.index(name)

    image = columns.image or next((name for name in IMAGE_COLUMNS if name in header), header[0])
    split = columns.split or ("split" if "split" in header else None)
    targets = columns.labels or [name for name in header if name not in (image, split)]
    if not targets:
        raise DataError(f"{path} has no column of labels (it has: {', '.join(header)})")
    image_at = place(image, "image_column")
    split_at = None if split is None else place(split, "split_column")
    target_at = [place(name, "label_columns") for name in targets]
    files = [row[image_at].strip() for row in rows]
    _check_files(path, files, lines)
    splits = ["train"] * len(rows) if split_at is None else _splits(path, [row[split_at] for row in rows], lines)
    cells = [[row[at].strip() for at in target_at] for row in rows]
    if columns.separator is not None:
        if len(targets) > 1:
            raise ConfigurationError("a separator needs one column of labels", path="task.label_separator")
        return _listing(root, files, splits, *_separated(cells, columns.separator, classes, path))
    if len(targets) > 1:
        if classes is not None:
            raise ConfigurationError("several columns are the labels; choose with label_columns", path="task.classes")
        return _listing(root, files, splits, _binary(path, cells, targets, lines), tuple(targets))
    values = [row[0] for row in cells]
    for value, line in zip(values, lines, strict=True):
        if not value:
            raise DataError(f"{path}, line {line}, column '{targets[0]}': the class is missing")
    names = tuple(_sorted(set(values)) if classes is None else classes)
    for name in names:
        if name not in values:
            raise ConfigurationError(
                f"no row of {path} has the class '{name}'{did_you_mean(name, set(values))}", path="task.classes"
            )
    if len(names) < 2:
        raise DataError(f"{path}, column '{targets[0]}': every row has the class '{names[0]}'; at least two are needed")
    numbers = {name: number for number, name in enumerate(names)}
    used = [k for k, value in enumerate(values) if value in numbers]
    labels = np.array([numbers[values[k]] for k in used], dtype=np.int64)
    where = f"{path}, column '{targets[0]}'"
    return Listing(root, tuple(files[k] for k in used), tuple(splits[k] for k in used), labels, names, where)


def _read(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            rows, lines = [], []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(row)} cells, and the header has {len(header)}"
                    )
                rows.append(row)
                lines.append(reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV file in UTF-8: {error}") from error
    if len(set(header)) != len(header):
        raise DataError(f"{path}: two columns have the same name (the columns are {', '.join(header)})")
    if not rows:
        raise DataError(f"{path} has no rows below its header")
    return header, rows, lines


def _check_files(path: Path, files: list[str], lines: list[int]) -> None:
    first: dict[str, int] = {}
    for file, line in zip(files, lines, strict=True):
        if not file:
            raise DataError(f"{path}, line {line}: the path of the image is missing")
        if file in first:
            raise DataError(
                f"{path}, line {line}: '{file}' is in line {first[file]}, too, so it could be in two splits; list each "
                "image once (with several labels: label_separator, or a column for each label)"
            )
        first[file] = line


def _splits(path: Path, cells: list[str], lines: list[int]) -> list[str]:
    for cell, line in zip(cells, lines, strict=True):
        if cell.strip().lower() not in SPLITS:
            raise DataError(f"{path}, line {line}: unknown split '{cell}' (known: {', '.join(sorted(SPLITS))})")
    return [SPLITS[cell.strip().lower()] for cell in cells]


def _separated(
    cells: list[list[str]], separator: str, classes: Sequence[str] | None, path: Path
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    sets = [{part.strip() for part in row[0].split(separator)} - {""} for row in cells]
    present = set().union(*sets)
    names = tuple(_sorted(present) if classes is None else classes)
    if not present or not names:
        raise DataError(f"{path}: no row has a label")
    for name in names:
        if name not in present:
            raise ConfigurationError(
                f"no row of {path} has the label '{name}'{did_you_mean(name, present)}", path="task.classes"
            )
    return np.array([[name in labels for name in names] for labels in sets], dtype=np.float32), names


def _binary(path: Path, cells: list[list[str]], targets: Sequence[str], lines: list[int]) -> NDArray[np.float32]:
    for row, line in zip(cells, lines, strict=True):
        for cell, name in zip(row, targets, strict=True):
            if cell not in ("0", "1", "0.0", "1.0"):
                raise DataError(
                    f"{path}, line {line}, column '{name}': a label must be 0 or 1, not '{cell}'; name the columns of "
                    "the labels in label_columns, or the one column of the class"
                )
    return np.array(cells, dtype=np.float32)


def _listing(
    root: Path,
    files: list[str],
    splits: list[str],
    labels: NDArray[np.int64] | NDArray[np.float32],
    names: tuple[str, ...],
) -> Listing:
    return Listing(root, tuple(files), tuple(splits), labels, names)


def _sorted(values: set[str]) -> list[str]:
    """Return the values in the order of their numbers if all are whole numbers, otherwise as strings."""
    if all(value.isdecimal() and value.isascii() for value in values):
        return sorted(values, key=lambda value: (int(value), value))
    return sorted(values)
