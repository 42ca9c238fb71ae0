"""Atomic writing of files: a crash, a full disk or a power cut leaves the old file or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from automl_nas.errors import DamagedError, RunFailedError
from automl_nas.run.record.shapes import Shape, problem_of

_TEMPORARY = re.compile(r"\..+\.(\d+)\.part")


class CannotWriteError(RunFailedError):
    """A file of the run cannot be written. The run ends: no component and no candidate is the cause."""


RESUME = "free some space and resume the run: nothing recorded is lost"
"""The way out of a full disk while a run writes its record."""

ELSEWHERE = "free some space, or write to another disk"
"""The way out for what can be written again, such as an export of a complete run."""

AGAIN = "free some space and begin again: nothing was left"
"""The way out where a run directory could not be made."""


@contextlib.contextmanager
def disk_errors(path: Path, full: str = RESUME) -> Iterator[None]:
    """Turn an OSError into a CannotWriteError that names the file and the way out; ``full`` is that of a full disk."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error, full) from error


def cannot_write(path: Path, error: OSError, full: str = RESUME) -> CannotWriteError:
    """Return the error that names the file and the way out; ``full`` is that of a full disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason = f"the disk is full; {full}"
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


def write_whole(
    path: Path,
    write: Callable[[BinaryIO], object],
    check: Callable[[Path], object] | None = None,
    *,
    full: str = RESUME,
) -> None:
    """Write a temporary file in the same folder, flush it to the disk, check it, and rename it.

    Args:
        path: of the file; its folder exists.
        write: writes the content to an open binary file.
        check: reads the temporary file back; if it raises, the old file is kept.
        full: the way out if the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with disk_errors(path, full):
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


def write_text(path: Path, text: str, *, full: str = RESUME) -> None:
    """Write a file with text in UTF-8 atomically; ``full`` is the way out if the disk is full."""
    write_whole(path, lambda file: file.write(text.encode()), full=full)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, indented, in the order of the keys; NaN raises ValueError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an OSError into a DamagedError that names the file."""
    try:
        yield
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror or error}") from error


def present(path: Path) -> bool:
    """Whether a folder has an entry of this name: also a link that leads nowhere, which `Path.exists` denies."""
    return os.path.lexists(path)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DamagedError: the file cannot be read, or is not JSON; the message names file, line and column.
    """
    with reading(path):
        content = path.read_bytes()
    try:
        return decode_json(content.decode())
    except RecursionError:
        raise DamagedError(f"{path} is damaged: its mappings and lists are nested too deeply") from None
    except ValueError as error:  # not JSON, not UTF-8, or an integer of thousands of digits
        raise DamagedError(f"{path} is damaged: {error}") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


decode_json = json.JSONDecoder(parse_constant=_refuse_constant).decode
"""Returns the value of a JSON text; NaN and infinite numbers raise ValueError, deep nesting RecursionError."""


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Write a file of a run as JSON with the checksum of its content as the last entry, ``crc``; see `write_json`."""
    write_json(path, {**value, "crc": _checksum(value)})


def read_record(path: Path, shape: Shape, way_out: str = "restore it from a copy") -> dict[str, Any]:
    """Read what `write_record` wrote, without its checksum.

    A file without a checksum is accepted: somebody edited it.

    Args:
        path: the file.
        shape: of its content.
        way_out: what users can do if it is damaged.

    Raises:
        DamagedError: the file cannot be read, does not match its checksum, or does not have the shape.
    """
    try:
        content = read_json(path)
    except DamagedError as error:
        if isinstance(error.__cause__, PermissionError):  # the file may be whole
            raise
        raise DamagedError(f"{error}; {way_out}") from error
    if isinstance(content, dict) and "crc" in content:
        crc = content.pop("crc")
        if crc != _checksum(content):
            raise DamagedError(
                f"{path} is damaged: its content does not match its checksum; {way_out}. If you edited it: remove its "
                "entry 'crc'"
            )
    if problem := problem_of(content, shape):
        raise DamagedError(f"{path} is damaged: {problem}; {way_out}")
    record: dict[str, Any] = content
    return record


def _checksum(content: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(content, separators=(',', ':')).encode()):08x}"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises:
        DamagedError: the file cannot be read.
    """
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
