"""The record of a comparison: a folder with its configuration and one line for each finished search."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import zlib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, final

from automl_nas.errors import DamagedError, RunDirectoryError
from automl_nas.run import (
    cannot_write,
    disk_errors,
    dump_yaml,
    environment,
    read_json,
    read_yaml,
    write_json,
    write_text,
)
from automl_nas_benchmarks.comparison.search import SearchRecord
from automl_nas_benchmarks.comparison.settings import changes

_FORGET = "forget"
"""The key of a line that removes all searches of a strategy on the lines before it."""

CONFIG, SEARCHES, STATE = "comparison.yaml", "searches.jsonl", "state.json"


@final
class Records:
    """A folder with the records of searches. While it is open it is locked against other processes.

    ``searches.jsonl`` is append-only. Each line contains one search, or removes the searches of a strategy, and ends
    with a CRC-32 of the rest of the line. A last line without a newline was interrupted by a crash and is removed. A
    line whose CRC does not match is damaged: a warning names it, and its search is run again.

    Args:
        folder: the folder; created if needed.
        config: the resolved configuration.
        fingerprints: label of a benchmark -> its fingerprint.
        warn: called with warnings of damaged lines and of changed versions.
        redo: labels of strategies whose recorded searches are removed, and whose settings may have changed.

    Attributes:
        searches: (strategy, benchmark, seed) -> record.

    Raises:
        RunDirectoryError: the folder holds other files, is in use, or holds searches of another configuration.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        fingerprints: Mapping[str, str],
        warn: Callable[[str], object],
        redo: Collection[str] = (),
    ) -> None:
        self.folder = folder
        self.searches: dict[tuple[str, str, int], SearchRecord] = {}
        self._check_usable()
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._file = self._open_locked()
        try:
            self._check_unchanged(config, fingerprints, warn, redo)
            self._length = self._read(warn)
            for label in redo:
                self._append(json.dumps({_FORGET: label})[:-1])
                self._forget(label)
            write_json(folder / STATE, {"environment": environment(), "fingerprints": dict(fingerprints)})
            write_text(folder / CONFIG, dump_yaml(dict(config)))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Records:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the record."""
        with contextlib.suppress(OSError):
            os.fsync(self._file.fileno())
        self._file.close()

    def add(self, record: SearchRecord) -> None:
        """Append a search to the file. The record survives if the process is killed after this call.

        Raises:
            RunFailedError: the file cannot be written, for instance because the disk is full.
        """
        self._append(json.dumps(record.to_json(), separators=(",", ":"), allow_nan=False)[:-1])
        self.searches[record.key] = record

    def _forget(self, strategy: str) -> None:
        self.searches = {key: record for key, record in self.searches.items() if record.strategy != strategy}

    def _append(self, body: str) -> None:
        line = f'{body},"crc":"{zlib.crc32(body.encode()):08x}"}}\n'.encode()
        try:
            written = self._file.write(line)
            if written != len(line):
                self._file.write(line[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._length)
            raise cannot_write(self.folder / SEARCHES, error) from error
        self._length += len(line)

    def _check_usable(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise RunDirectoryError(f"{self.folder} is a file; choose another --out")
        if self.folder.exists() and not (self.folder / CONFIG).exists():
            # A process that is killed while it creates the folder can leave these files.
            others = [p.name for p in self.folder.iterdir() if p.name not in (SEARCHES, STATE) and p.suffix != ".part"]
            if others:
                raise RunDirectoryError(f"{self.folder} is not empty and is not a comparison; choose another --out")

    def _open_locked(self) -> BinaryIO:
        path = self.folder / SEARCHES
        with disk_errors(path):
            file = path.open("ab", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise RunDirectoryError(f"{self.folder} is in use by another process; wait for it, or stop it") from None
        return file

    def _check_unchanged(
        self,
        config: Mapping[str, Any],
        fingerprints: Mapping[str, str],
        warn: Callable[[str], object],
        redo: Collection[str],
    ) -> None:
        old = recorded_config(self.folder)
        if old is None:
            return
        changed = changes(old, config, redo)
        state = _state(self.folder)
        recorded = state.get("fingerprints", {})
        changed += [
            f"benchmarks, {label}: its numbers have changed"
            for label, fingerprint in fingerprints.items()
            if recorded.get(label, fingerprint) != fingerprint
        ]
        if changed:
            raise RunDirectoryError(
                f"{self.folder} holds searches of another configuration:\n  "
                + "\n  ".join(changed)
                + "\nchoose another --out, or the recorded configuration; --redo LABEL runs them again"
            )
        versions, now = state.get("environment", {}), environment()
        for name in sorted({*versions, *now}):
            if versions.get(name) != now.get(name):
                warn(f"recorded searches were run with {name} {versions.get(name)}, new ones with {now.get(name)}")

    def _read(self, warn: Callable[[str], object]) -> int:
        path, whole = self.folder / SEARCHES, 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                content = _checked(line)
                if content is None:
                    warn(f"{path}, line {number}: damaged; its search is run again")
                elif _FORGET in content:
                    self._forget(content[_FORGET])
                else:
                    record = SearchRecord.from_json(content)
                    self.searches[record.key] = record
        self._file.truncate(whole)
        return whole


def recorded_config(folder: Path) -> dict[str, Any] | None:
    """Return the resolved configuration of the searches in a folder; None if the folder has no configuration.

    Raises:
        DamagedError: the configuration cannot be read.
    """
    path = folder / CONFIG
    if not path.exists():
        return None
    value = read_yaml(path).value
    if not isinstance(value, dict) or "strategies" not in value:
        raise DamagedError(f"{path} is damaged; restore it from a copy, or choose another --out")
    return value


def _state(folder: Path) -> dict[str, Any]:
    path = folder / STATE
    state: dict[str, Any] = read_json(path) if path.exists() else {}
    return state


def _checked(line: bytes) -> dict[str, Any] | None:
    """Return the content of a line; None if its CRC does not match."""
    body, mark, tail = line.rpartition(b',"crc":"')
    if not mark or tail != f'{zlib.crc32(body):08x}"}}\n'.encode():
        return None
    content: dict[str, Any] = json.loads(line)
    return content
