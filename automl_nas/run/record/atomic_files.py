"""Atomic writing of files: a crash, a full disk or a power cut leaves the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from automl_nas.errors import DamagedError, RunFailedError

_TEMPORARY = re.compile(r"\..+\.(\d+)\.part")


class CannotWriteError(RunFailedError):
    """A file of the run cannot be written. The run ends: no component and no candidate is the cause."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a CannotWriteError that names the file and the way out."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> CannotWriteError:
    """Return the error that names the file and the way out."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = "the disk is full; free some space and resume the run: nothing recorded is lost"
    else:
        reason = error.strerror or str(error)
    return CannotWriteError(f"cannot write {path}: {reason}")


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, write: Callable[[BinaryIO], object], check: Callable[[Path], object] | None = None) -> None:
    """Write a temporary file in the same folder, flush it to the disk, check it, and rename it.

    Args:
        path: of the file; its folder exists.
        write: writes the content to an open binary file.
        check: reads the temporary file back; if it raises, the old file is kept.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with disk_errors(path):
        try:
            with temporary.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if check is not None:
                check(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files below a folder that processes killed within `write_whole` left behind."""
    for path in folder.rglob(".*.part"):
        process = _TEMPORARY.fullmatch(path.name)
        if process is not None and not _is_alive(int(process[1])):
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        return True
    return process != os.getpid()


def write_text(path: Path, text: str) -> None:
    """Write a file with text in UTF-8 atomically."""
    write_whole(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, indented, in the order of the keys; NaN raises ValueError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DamagedError: the file is not JSON; the message names file, line and column.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
