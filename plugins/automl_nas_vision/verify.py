"""Reads every file of a data set once: the contents' digest, broken files, and the pixels if they fit into memory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL

from automl_nas_vision.decode import BrokenImageError, FileImages, Format, quiet
from automl_nas_vision.steps import Pixels

_log = logging.getLogger(__name__)
_CHUNK = 256  # files that are read ahead


@dataclass(frozen=True)
class Checked:
    """The result of reading all files.

    Attributes:
        digest: SHA-256 of the names and contents of all files.
        broken: the number of a broken file -> why it cannot be read.
        pixels: of the other files, uint8 ``(files, channels, height, width)``; None: they were not kept.
    """

    digest: str
    broken: dict[int, str] = field(default_factory=dict)
    pixels: Pixels | None = None


def check_files(root: Path, files: Sequence[str], form: Format, *, keep: bool) -> Checked:
    """Return what all files contain.

    If pixels are not kept, the result is remembered in the user's cache folder by the names, sizes and times of
    modification of the files, so that the next process only asks for these.

    Args:
        root: the folder of the files.
        files: relative to the root.
        form: the form of the images.
        keep: whether to keep the pixels.
    """
    paths = [os.path.join(root, name) for name in files]  # noqa: PTH118 - a path may contain bytes that are not UTF-8
    memory = None if keep else _cache_file(paths)
    if memory is not None and (remembered := _remembered(memory, len(files))) is not None:
        return remembered
    digest = hashlib.sha256()
    broken: dict[int, str] = {}
    pixels = np.empty((len(files), form.channels, *form.size), dtype=np.uint8) if keep else None
    for number, (content, result) in enumerate(_read(paths, form)):
        digest.update(os.fsencode(files[number]) + b"\0" + content)
        if isinstance(result, str):
            broken[number] = result
        elif pixels is not None:
            pixels[number] = result
    if pixels is not None and broken:
        pixels = np.delete(pixels, list(broken), axis=0)
    checked = Checked(digest.hexdigest(), broken, pixels)
    if memory is not None:
        _remember(memory, checked)
    return checked


def _read(paths: Sequence[str], form: Format) -> Iterator[tuple[bytes, Pixels | str]]:
    """Yield the digest of each file and its pixels, or why it is broken; several threads decode."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with quiet(), ThreadPoolExecutor(count) as pool:
        for first in range(0, len(paths), _CHUNK):
            yield from pool.map(lambda path: _one(path, form), paths[first : first + _CHUNK])


def _one(path: str, form: Format) -> tuple[bytes, Pixels | str]:
    try:
        result: Pixels | str = form.read(path)
    except BrokenImageError as error:
        result = str(error)
    try:
        if not Path(path).is_file():
            return b"", result
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest(), result
    except OSError as error:
        return b"", f"it cannot be read: {error.strerror}"


def _cache_file(paths: Sequence[str]) -> Path | None:
    digest = hashlib.sha256(f"1 {PIL.__version__}".encode())
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116
            entry = f"{status.st_size} {status.st_mtime_ns}"
        except (OSError, ValueError):
            entry = "missing"
        digest.update(os.fsencode(os.path.abspath(path)) + f"\0{entry}\0".encode())  # noqa: PTH100
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:  # a user without a home folder, as in a container
        return None
    return home / "automl_nas" / "images" / f"{digest.hexdigest()}.json"


def _remembered(path: Path, count: int) -> Checked | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        broken = {int(number): str(reason) for number, reason in content["broken"].items()}
        if isinstance(content["digest"], str) and all(0 <= number < count for number in broken):
            return Checked(content["digest"], broken)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # not remembered, or damaged: the files are read again
    return None


def _remember(path: Path, checked: Checked) -> None:
    new = path.with_suffix(f".{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps({"digest": checked.digest, "broken": checked.broken}), encoding="utf-8")
        new.replace(path)
    except OSError as error:
        _log.info("the check of the images is not remembered: %s", error)


def reader(root: Path, files: Sequence[str], form: Format) -> FileImages:
    """Return a reader of files that are read when they are needed."""
    return FileImages(tuple(os.path.join(root, name) for name in files), form)  # noqa: PTH118
