"""The run directory: all files of a run."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import socket
import weakref
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from automl_nas.errors import AutoMLNASError, DamagedError, RunDirectoryError
from automl_nas.run.hints import way_to_resume
from automl_nas.run.record.atomic_files import (
    AGAIN,
    CannotWriteError,
    cannot_write,
    disk_errors,
    present,
    read_record,
    remove_leftovers,
    write_record,
    write_text,
)
from automl_nas.run.record.contents import CONFIG, ENVIRONMENT, IDENTITY, MEASURED, RESULT
from automl_nas.run.record.environment import environment
from automl_nas.run.record.shapes import problem_of
from automl_nas.run.record.yaml import dump_yaml, parse_yaml, read_text

_CHECKSUM = re.compile(r"^# crc ([0-9a-f]{8})\n\Z", re.MULTILINE)
"""The last line of ``config.yaml``: the CRC-32 of the text before it."""


_locks: weakref.WeakSet[BinaryIO] = weakref.WeakSet()
"""The files whose locks this process holds."""


def _close_locks() -> None:
    for file in list(_locks):
        file.close()
    _locks.clear()


# A forked process, such as a worker of somebody's data loader, may outlive a run that is killed; the run could not be
# resumed as long as that process held its lock. Closing the file does not remove the lock of the parent.
os.register_at_fork(after_in_child=_close_locks)


class RunDirectory:
    """A folder with ``config.yaml``, ``environment.json``, ``identity.json``, ``trials.jsonl``, ``metrics.jsonl``,
    ``checkpoints/``, ``artifacts/``, ``export/``, ``result.json`` and ``lock``, and ``measured.json`` if costs are
    measured. To open it never executes code.

    Use `create` for a new run and `open` for an existing one.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.environment = path / "environment.json"
        self.identity = path / "identity.json"
        self.trials = path / "trials.jsonl"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.artifacts = path / "artifacts"
        self.export = path / "export"
        self.scratch = path / "scratch"
        self.result = path / "result.json"
        self.measured = path / "measured.json"
        self._lock: BinaryIO | None = None

    @classmethod
    def create(
        cls,
        path: Path,
        config: Mapping[str, Any],
        identity: Mapping[str, Any] | None = None,
        fill: Callable[[RunDirectory], object] | None = None,
    ) -> RunDirectory:
        """Create and lock a run directory that holds the resolved configuration.

        Args:
            path: of the folder, new or empty.
            config: the resolved configuration.
            identity: what the run is besides its configuration; None: it is not recorded, and nothing compares it.
            fill: writes the record that the run begins with; None: the run begins with an empty one.

        Raises:
            RunDirectoryError: the folder is not empty, or cannot be created.
            CannotWriteError: the disk is full; nothing of the record is left.
        """
        directory = cls(path)
        cls.check_new(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(f"cannot create the run directory {path}: {error.strerror}") from error
        directory.lock()
        try:
            cls.check_new(path)  # again: another process may have been faster and may have finished
        except RunDirectoryError:
            directory.unlock()
            raise
        try:
            write_record(directory.environment, environment())
            if identity is not None:
                write_record(directory.identity, identity)
            if fill is not None:
                fill(directory)
            # Written last: a folder with a configuration is a run that can be resumed.
            text = dump_yaml(config)
            write_text(directory.config, f"{text}# crc {zlib.crc32(text.encode()):08x}\n")
        except BaseException as error:
            directory._remove_record()
            directory.unlock()
            if isinstance(error, CannotWriteError) and isinstance(error.__cause__, OSError):
                raise cannot_write(path, error.__cause__, AGAIN) from error.__cause__
            raise
        return directory

    def _remove_record(self) -> None:
        """Remove what `create` wrote, so that the folder can be used again."""
        for folder in (self.checkpoints, self.artifacts):
            shutil.rmtree(folder, ignore_errors=True)
        for file in (self.trials, self.metrics, self.measured, self.identity, self.environment):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)

    @classmethod
    def check_new(cls, path: Path) -> None:
        """Check that a new run may be created at a path, without changing anything.

        Raises:
            RunDirectoryError: the folder is not empty, cannot be read, or cannot be written to.
        """
        directory = cls(path)
        try:
            names = [entry.name for entry in path.iterdir()] if path.exists() else []
            parent = next(each for each in (path, *path.absolute().parents) if each.exists())
            writable = os.access(parent, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
        except OSError as error:
            raise RunDirectoryError(f"cannot create the run directory {path}: {error.strerror}") from error
        if not parent.is_dir():
            raise RunDirectoryError(f"cannot create the run directory {path}: {parent} is not a folder")
        if not writable:
            raise RunDirectoryError(
                f"cannot create the run directory {path}: this user may not write to {parent}; choose another --out"
            )
        # A process that is killed while it creates a run directory leaves these; the configuration is written last.
        ours = {directory.environment.name, directory.identity.name, "lock"}
        if any(name not in ours and not name.endswith(".part") for name in names):
            advice = "choose another --out"
            if directory.config.exists():
                config: Mapping[str, Any] = {}
                with contextlib.suppress(AutoMLNASError):  # damaged: resuming says how
                    config = directory.read_config()
                advice = f"to continue it: {way_to_resume(path, config)}"
            raise RunDirectoryError(f"{path} is not empty, and nothing in it is ever overwritten; {advice}")

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Return the run directory at a path, unlocked.

        Raises:
            RunDirectoryError: the path is not a run directory.
        """
        directory = cls(path)
        try:
            reason = "" if directory.config.is_file() else "it holds no config.yaml"
            if not path.exists():
                reason = "the folder does not exist"
        except (OSError, ValueError) as error:  # such as a name that is too long
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if reason:
            raise RunDirectoryError(f"{path} is not a run directory: {reason}")
        return directory

    def lock(self) -> None:
        """Lock the run for this process. The operating system removes the lock when the process ends.

        Temporary files that a killed process left in the run directory are removed.

        Raises:
            RunDirectoryError: another process holds the lock.
        """
        with disk_errors(self.path / "lock"):
            file = (self.path / "lock").open("a+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise RunDirectoryError(
                f"{self.path} is in use by {self.holder or 'another process'}; wait for it, or stop it first"
            ) from None
        # The text is for messages only; what is written next says that the disk is full.
        with contextlib.suppress(OSError):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        self._lock = file
        _locks.add(file)
        remove_leftovers(self.path)

    def unlock(self) -> None:
        """Remove the lock."""
        if self._lock is not None and not self._lock.closed:
            _locks.discard(self._lock)
            with contextlib.suppress(OSError):
                self._lock.truncate(0)
            self._lock.close()
        self._lock = None

    @property
    def locked(self) -> bool:
        """Whether a process (this one included) is working on the run."""
        try:
            with (self.path / "lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # there is no lock, or something else has its name
            return False
        return False

    @property
    def holder(self) -> str:
        """The process that works on the run; empty if none does."""
        if not self.locked:
            return ""
        with contextlib.suppress(OSError):
            text = (self.path / "lock").read_bytes()[:200].decode(errors="replace")
            return "".join(filter(str.isprintable, text)).strip()
        return ""

    def read_config(self) -> dict[str, Any]:
        """Return the resolved configuration.

        Raises:
            DamagedError: the file does not match its checksum, or a section is missing or has a wrong type.
            ConfigurationError: the file cannot be read or is not YAML.
        """
        text = read_text(self.config)
        checksum = _CHECKSUM.search(text)
        if checksum and f"{zlib.crc32(text[: checksum.start()].encode()):08x}" != checksum[1]:
            raise DamagedError(
                f"{self.config} is damaged: its content does not match its checksum; restore it from a copy, or remove "
                "its last line if you edited it"
            )
        config: Any = parse_yaml(text, str(self.config)).value
        if problem := problem_of(config, CONFIG):
            raise DamagedError(f"{self.config} is damaged: {problem}; restore it from a copy")
        result: dict[str, Any] = config
        return result

    def read_identity(self) -> dict[str, Any] | None:
        """Return what the run is besides its configuration; None: an older version began the run.

        Raises:
            DamagedError: the file is damaged.
        """
        return read_record(self.identity, IDENTITY) if present(self.identity) else None

    def read_measured(self) -> dict[str, Any]:
        """Return what cost models measured; empty if no cost is measured.

        Raises:
            DamagedError: the file is damaged.
        """
        return read_record(self.measured, MEASURED) if present(self.measured) else {}

    def read_result(self) -> dict[str, Any] | None:
        """Return ``result.json``, or None while the run is not complete."""
        if not present(self.result):
            return None
        return read_record(self.result, RESULT, "delete it and resume: it is computed again from the record")

    def changed_packages(self) -> list[str]:
        """Return the differences of the recorded environment and this one, e.g. ``torch 2.6.0 -> 2.13.0``."""
        if not present(self.environment):
            return []
        try:
            old, new = read_record(self.environment, ENVIRONMENT), environment()
        except DamagedError as error:
            return [f"unknown, {error}"]  # the differences only explain errors: the run can continue without them
        return [
            f"{name} {old.get(name)} -> {new.get(name)}"
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ]
