"""The run directory: all files of a run."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from automl_nas.errors import DamagedError, RunDirectoryError
from automl_nas.run.record.atomic_files import disk_errors, read_json, remove_leftovers, write_json, write_text
from automl_nas.run.record.environment import environment
from automl_nas.run.record.yaml import dump_yaml, read_yaml

SECTIONS = ("seed", "space", "problem", "runtime", "stages", "executor", "checkpoint_seconds")
"""Sections of every resolved configuration. If one is missing, the file was truncated and would mean another run."""


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
    def create(cls, path: Path, config: Mapping[str, Any], identity: Mapping[str, Any] | None = None) -> RunDirectory:
        """Create and lock a run directory that holds the resolved configuration.

        Args:
            path: of the folder, new or empty.
            config: the resolved configuration.
            identity: what the run is besides its configuration; None: it is not recorded, and nothing compares it.

        Raises:
            RunDirectoryError: the folder is not empty, or cannot be created.
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
        write_json(directory.environment, environment())
        if identity is not None:
            write_json(directory.identity, identity)
        # Written last: a folder with a configuration is a run that can be resumed.
        write_text(directory.config, dump_yaml(config))
        return directory

    @classmethod
    def check_new(cls, path: Path) -> None:
        """Check that a new run may be created at a path, without changing anything.

        Raises:
            RunDirectoryError: the folder is not empty, or cannot be read.
        """
        directory = cls(path)
        try:
            names = [entry.name for entry in path.iterdir()] if path.exists() else []
        except OSError as error:
            raise RunDirectoryError(f"cannot create the run directory {path}: {error.strerror}") from error
        # A process that is killed while it creates a run directory leaves these; the configuration is written last.
        ours = {directory.environment.name, directory.identity.name, "lock"}
        if any(name not in ours and not name.endswith(".part") for name in names):
            advice = (
                f"to continue it: automl-nas resume {path}" if directory.config.exists() else "choose another --out"
            )
            raise RunDirectoryError(f"{path} is not empty, and nothing in it is ever overwritten; {advice}")

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Return the run directory at a path, unlocked.

        Raises:
            RunDirectoryError: the path is not a run directory.
        """
        directory = cls(path)
        if not directory.config.is_file():
            reason = "the folder does not exist" if not path.exists() else "it holds no config.yaml"
            raise RunDirectoryError(f"{path} is not a run directory: {reason}")
        return directory

    def lock(self) -> None:
        """Lock the run for this process. The operating system removes the lock when the process ends.

        Temporary files that a killed process left in the run directory are removed.

        Raises:
            RunDirectoryError: another process holds the lock.
        """
        with disk_errors(self.path / "lock"):
            file = (self.path / "lock").open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().decode(errors="replace").strip() or "another process"
            file.close()
            raise RunDirectoryError(f"{self.path} is in use by {holder}; wait for it, or stop it first") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        self._lock = file
        remove_leftovers(self.path)

    def unlock(self) -> None:
        """Remove the lock."""
        if self._lock is not None:
            self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    @property
    def locked(self) -> bool:
        """Whether a process (this one included) is working on the run."""
        try:
            with (self.path / "lock").open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def read_config(self) -> dict[str, Any]:
        """Return the resolved configuration.

        Raises:
            DamagedError: a section is missing.
        """
        value = read_yaml(self.config).value
        missing = [name for name in SECTIONS if not isinstance(value, dict) or name not in value]
        if missing:
            raise DamagedError(f"{self.config} is damaged: {', '.join(missing)} is missing; restore it from a copy")
        assert isinstance(value, dict)
        return value

    def read_identity(self) -> dict[str, Any] | None:
        """Return what the run is besides its configuration; None: an older version began the run.

        Raises:
            DamagedError: the file is damaged.
        """
        if not self.identity.exists():
            return None
        identity: Any = read_json(self.identity)
        if not _is_identity(identity):
            raise DamagedError(f"{self.identity} is damaged: it does not describe a space; restore it from a copy")
        result: dict[str, Any] = identity
        return result

    def read_measured(self) -> dict[str, Any]:
        """Return what cost models measured; empty if no cost is measured.

        Raises:
            DamagedError: the file is damaged.
        """
        measurements: dict[str, Any] = read_json(self.measured) if self.measured.exists() else {}
        return measurements

    def read_result(self) -> dict[str, Any] | None:
        """Return ``result.json``, or None while the run is not complete."""
        if not self.result.exists():
            return None
        try:
            result: dict[str, Any] = read_json(self.result)
        except DamagedError as error:
            raise DamagedError(f"{error}; delete it and resume: it is computed again from the record") from None
        return result

    def changed_packages(self) -> list[str]:
        """Return the differences of the recorded environment and this one, e.g. ``torch 2.6.0 -> 2.13.0``."""
        if not self.environment.exists():
            return []
        try:
            old, new = read_json(self.environment), environment()
        except DamagedError as error:
            return [f"unknown, {error}"]  # the differences only explain errors: the run can continue without them
        return [
            f"{name} {old.get(name)} -> {new.get(name)}"
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ]


def _is_identity(content: Any) -> bool:
    """Whether this is the content of ``identity.json``, with everything that is compared."""
    if not isinstance(content, dict) or not content.keys() >= {"space", "final_space", "task", "final_task"}:
        return False
    spaces = [space for key, space in content.items() if key == "space" or (key == "final_space" and space is not None)]
    texts = [content[key] for key in ("task", "final_task")]
    return all(text is None or isinstance(text, str) for text in texts) and all(
        isinstance(space, dict)
        and isinstance(space.get("decisions"), dict)
        and isinstance(space.get("modules", ""), dict | None)
        for space in spaces
    )
