"""Lists the images of a folder: class folders, alone or below folders of splits."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError, did_you_mean
from automl_nas_vision.decode import shown

SUFFIXES = frozenset((".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"))
SEARCH_NAMES = ("val", "valid", "validation", "search")
SHOWN = 10
"""The largest number of files or classes that a message names."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """The images of a data set.

    Attributes:
        root: the folder to which the files are relative.
        files: of each image, relative to the root.
        splits: ``train``, ``search`` or ``test`` of each image; images of train are split further if a split is absent.
        labels: classes, int64, shape ``(images,)``; or labels 0 and 1, float32, shape ``(images, labels)``.
        names: of the classes or labels.
        where: what has the labels, for messages; empty: the root.
    """

    root: Path
    files: tuple[str, ...]
    splits: tuple[str, ...]
    labels: NDArray[np.int64] | NDArray[np.float32]
    names: tuple[str, ...]
    where: str = ""

    def chosen(self, places: Sequence[int]) -> Listing:
        """Return the listing of some of the images."""
        return Listing(
            self.root,
            tuple(self.files[k] for k in places),
            tuple(self.splits[k] for k in places),
            self.labels[np.array(places, dtype=np.int64)],
            self.names,
            self.where,
        )


def list_folder(root: Path, search: str | None, test: str | None, classes: Sequence[str] | None) -> Listing:
    """Return the images below class folders.

    Args:
        root: the folder: class folders, or a folder ``train`` (and others of the splits) with class folders.
        search: the folder of the split; ``auto``: one of `SEARCH_NAMES` if it exists; None: it is held out.
        test: likewise; ``auto``: ``test``.
        classes: the classes to use, in this order; None: all, sorted.

    Raises:
        DataError: there are no class folders, or a split has a class that train does not have. Classes without training
            images are in the listing.
    """
    folders = _folders(root)
    if "train" in folders:
        parts = _split_folders(root, folders, search, test)
    else:
        for setting, value in (("search", search), ("test", test)):
            if value not in ("auto", None):
                raise ConfigurationError(
                    f"{shown(str(root))} has no folder 'train', so it cannot have a folder of the split {setting}; its "
                    "folders are classes",
                    path=f"task.{setting}",
                )
        parts = {"train": root}
    names = _class_names(parts["train"], classes)
    files: list[str] = []
    splits: list[str] = []
    labels: list[int] = []
    ignored: list[str] = []
    for split, folder in parts.items():
        present = _folders(folder)
        if not present:
            raise DataError(
                f"{shown(str(folder))} has no class folders, so the labels of the split '{split}' are unknown; set "
                f"task.{split}: null to hold the split out of train"
            )
        unknown = [name for name in present if name not in names]
        if unknown and classes is None:
            raise DataError(
                f"{shown(str(folder))} has {_listed(unknown)}, which train does not have; rename or remove "
                f"{'it' if len(unknown) == 1 else 'them'}, or list the classes to use in task.classes"
            )
        empty = []
        for number, name in enumerate(names):
            images = _images(folder / name, ignored) if name in present else []
            if not images:
                empty.append(name)
            files += [os.path.relpath(image, root) for image in images]
            splits += [split] * len(images)
            labels += [number] * len(images)
        if len(empty) == len(names) and split != "train":
            raise DataError(
                f"{shown(str(folder))} has no images; set task.{split}: null to hold the split out of train"
            )
        if empty and split != "train":
            _log.warning("%s has no images of %s; its metrics do not cover them", shown(str(folder)), _listed(empty))
    if ignored:
        _log.warning(
            "%s: %d files are ignored, since their names do not end like those of images (%s)",
            shown(str(root)),
            len(ignored),
            ", ".join(shown(name) for name in ignored[:3]) + (", ..." if len(ignored) > 3 else ""),
        )
    return Listing(root, tuple(files), tuple(splits), np.array(labels, dtype=np.int64), tuple(names))


def _split_folders(root: Path, folders: list[str], search: str | None, test: str | None) -> dict[str, Path]:
    if test == "auto":
        test = "test" if "test" in folders and search != "test" else None
    if search == "auto":
        candidates = [name for name in SEARCH_NAMES if name in folders and name != test]
        if len(candidates) > 1:
            raise DataError(f"{shown(str(root))} has the folders {', '.join(candidates)}; name one of them task.search")
        search = candidates[0] if candidates else None
    parts = {"train": root / "train"}
    for split, name in (("search", search), ("test", test)):
        if name is None:
            continue
        if name not in folders:
            raise ConfigurationError(
                f"{shown(str(root))} has no folder '{name}'{did_you_mean(name, folders)}", path=f"task.{split}"
            )
        if root / name in parts.values():
            raise ConfigurationError(f"the folder '{name}' has another split already", path=f"task.{split}")
        parts[split] = root / name
    roles = {part.name for part in parts.values()} | {*SEARCH_NAMES, "test"}
    others = [name for name in folders if name not in roles]
    if others:
        raise DataError(
            f"{shown(str(root))} has a folder 'train' beside {_listed(others)}, so it is unclear whether its folders "
            "are splits or classes; move the others away"
        )
    return parts


def _class_names(folder: Path, classes: Sequence[str] | None) -> tuple[str, ...]:
    present = _folders(folder)
    if not present:
        loose = [name for name in os.listdir(folder) if Path(name).suffix.lower() in SUFFIXES]  # noqa: PTH208
        raise DataError(
            f"{shown(str(folder))} has no class folders{f', but {len(loose)} images' * bool(loose)}; put the images of "
            "each class into a folder of its name, or name a CSV file of paths and labels as task.path"
        )
    for name in present:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"the name of the folder {shown(str(folder / name))} is not UTF-8; rename it") from None
    if classes is not None:
        if len(classes) < 2:
            raise ConfigurationError("classification needs at least two classes", path="task.classes")
        if len(set(classes)) != len(classes):
            raise ConfigurationError("a class is listed twice", path="task.classes")
        for name in classes:
            if name not in present:
                raise ConfigurationError(
                    f"{shown(str(folder))} has no folder '{name}'{did_you_mean(name, present)}", path="task.classes"
                )
    names = tuple(present if classes is None else classes)
    if len(names) < 2:
        raise DataError(f"{shown(str(folder))} has {_listed(names)} only; classification needs at least two")
    return names


def _folders(folder: Path) -> list[str]:
    """Return the names of the folders that are not hidden, sorted."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith((".", "__")) and entry.is_dir())
    except OSError as error:
        raise DataError(f"{shown(str(folder))} cannot be listed: {error.strerror}") from error


def _images(folder: Path, ignored: list[str]) -> list[Path]:
    """Return the image files below a folder, sorted; links to folders are not followed, since they may be circular.

    Raises:
        DataError: a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise DataError(f"{shown(str(error.filename))} cannot be listed: {error.strerror}") from error

    images = []
    for parent, below, names in os.walk(folder, onerror=fail):
        below[:] = sorted(name for name in below if not name.startswith((".", "__")))
        for name in sorted(names):
            if name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini"):
                continue
            if Path(name).suffix.lower() in SUFFIXES:
                images.append(Path(parent, name))
            else:
                ignored.append(name)
    return images


def _listed(names: Sequence[str]) -> str:
    quoted = ", ".join(f"'{shown(name)}'" for name in names[:SHOWN])
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN else ""
    return f"the class{'es' * (len(names) > 1)} {quoted}{more}"
