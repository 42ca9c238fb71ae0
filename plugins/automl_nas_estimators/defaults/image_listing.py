"""The columns of a CSV file of images: paths, classes or labels, splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from automl_nas.errors import ConfigurationError, DataError

SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
GUESS = "a guess"
"""Is in the reason of a setting that was guessed; `automl-nas init` prints such settings."""
_PATHS = ("path", "image", "file", "filename")
"""The columns in which the task `image_folder` looks for paths by itself."""
_CLASSES = ("label", "class", "target", "category", "labels", "tags")
_SPLITS = frozenset(("train", "val", "valid", "validation", "search", "test"))
_SEPARATORS = (";", "|", ",")


def image_column(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str | None:
    """Return the column of which most cells end like names of image files; None: no column is one.

    Args:
        columns: the names in the header.
        rows: the cells below it.
    """
    names = sorted(columns, key=lambda name: name not in _PATHS)  # keeps the order otherwise
    for name in names:
        at = columns.index(name)
        cells = [row[at] for row in rows if len(row) == len(columns)]
        if 2 * sum(cell.strip().lower().endswith(SUFFIXES) for cell in cells) > len(cells):
            return name
    return None


def image_settings(
    path: str, place: Path, columns: Sequence[str], rows: Sequence[Sequence[str]], images: str, target: str | None
) -> tuple[dict[str, Any], dict[str, str], list[Path]]:
    """Return settings of the task `image_folder` for a CSV file, why they have their values, and the image files.

    A column that is called ``label``, ``class`` or the like has the class, or several labels with a separator. Without
    one, several columns of 0 and 1 are labels; else the last column has the class.

    Args:
        path: of the file, for messages.
        place: the file.
        columns: the names in the header.
        rows: the cells below it.
        images: the column of paths.
        target: the column of classes or labels, or several with commas between them; None: they are guessed.

    Raises:
        ConfigurationError: a column of the target does not exist.
        DataError: there is no column of classes or labels.
    """
    settings: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    if images != next((name for name in _PATHS if name in columns), columns[0]):
        settings["image_column"] = images
    whole = [row for row in rows if len(row) == len(columns)]
    cells = {name: [row[at].strip() for row in whole] for at, name in enumerate(columns)}
    others = [name for name in columns if name != images]
    if "split" in others and target != "split" and {cell.lower() for cell in cells["split"]} <= _SPLITS:
        others.remove("split")
    labels = _labels(path, columns, others, cells, target)
    if labels != others:
        settings["label_columns"] = labels
        if target is None:
            ignored = [name for name in others if name not in labels]
            reasons["label_columns"] = f"{GUESS}; not used: {', '.join(ignored)}"
    if len(labels) == 1 and (separator := _separator(cells[labels[0]])):
        settings["label_separator"] = separator
        reasons["label_separator"] = "images may have several labels; without this setting each cell is one class"
    folder = place.parent
    names = cells[images]
    working = Path.cwd()
    if names and not (folder / names[0]).exists() and (working / names[0]).exists():
        folder = working
        settings["images"] = str(working)
        reasons["images"] = "the folder at which the paths of the images start"
    return settings, reasons, [folder / name for name in names]


def _labels(
    path: str, columns: Sequence[str], others: Sequence[str], cells: dict[str, list[str]], target: str | None
) -> list[str]:
    if target is not None:
        names = [target] if target in columns else [name.strip() for name in target.split(",")]
        for name in names:
            if name not in others:
                raise ConfigurationError(
                    f"{path} has no column '{name}'; it has {', '.join(others)}", source="--target"
                )
        return names
    if not others:
        raise DataError(f"{path} has paths of images, and no column of classes or labels")
    # First of all by name: columns of 0 and 1 beside it may be flags, such as whether an image was verified.
    named = next((name for name in others if name.lower() in _CLASSES), None)
    if named is not None:
        return [named]
    binary = [name for name in others if cells[name] and set(cells[name]) <= {"0", "1", "0.0", "1.0"}]
    return binary if len(binary) > 1 else [others[-1]]


def _separator(cells: Sequence[str]) -> str | None:
    """Return what separates the labels in cells; None if every cell is one class.

    Labels recur: there are fewer different parts than different cells.
    """
    for separator in _SEPARATORS:
        if any(separator in cell for cell in cells):
            parts = {part.strip() for cell in cells for part in cell.split(separator)} - {""}
            if len(parts) < len(set(cells)):
                return separator
    return None
