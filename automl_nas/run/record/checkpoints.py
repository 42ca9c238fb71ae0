"""Checkpoints only save time: the ledger and the seed are enough to repeat a run without them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from automl_nas.errors import DamagedError, PluginError
from automl_nas.run.record.atomic_files import disk_errors, reading, write_whole

_NAME = re.compile(r"^(\d{8})-([0-9a-f]{64})(-boundary)?\.pt$")
KEPT = 2
"""How many of the newest checkpoints are kept, besides those at the start of each stage."""


class Checkpoints:
    """The checkpoints of a run, in a folder.

    The name of a file consists of its serial number and the SHA-256 of its content. It is read back with
    ``weights_only`` before the rename: every checkpoint can be opened without executing code.

    Args:
        folder: of the checkpoints; created if it is missing.
        writable: whether checkpoints may be written.
    """

    def __init__(self, folder: Path, *, writable: bool = True) -> None:
        self.folder = folder
        if writable:
            with disk_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)

    def save(self, state: Mapping[str, Any], *, boundary: bool = False) -> Path:
        """Write a checkpoint; remove old ones.

        Args:
            state: tensors and plain values only.
            boundary: the checkpoint is at the start of a stage: it is small and is never removed.
        """
        import torch

        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        serial = max((serial for serial, _, _ in self._all()), default=-1) + 1
        path = self.folder / f"{serial:08d}-{digest}{'-boundary' if boundary else ''}.pt"
        write_whole(path, lambda file: file.write(content), lambda written: _load(written, digest))
        removable = [file for _, file, boundary in self._all() if not boundary]
        for old in removable[KEPT:]:
            with contextlib.suppress(OSError):  # something else that has the name of a checkpoint is left alone
                old.unlink()
        return path

    def newest_first(self, warn: Callable[[str], object]) -> Iterator[tuple[Path, Any]]:
        """Yield the checkpoints that can be read, each with its file. Nothing but tensors and plain values is read.

        Args:
            warn: called with a message for each checkpoint that is damaged.
        """
        for _, path, _ in self._all():
            try:
                yield path, _load(path, _match(path)[2])
            except DamagedError as error:
                warn(f"{error}; the previous good one is used")

    def _all(self) -> list[tuple[int, Path, bool]]:
        """Return (serial, file, boundary), newest first."""
        with reading(self.folder):
            files = [(path, _NAME.match(path.name)) for path in self.folder.iterdir()]
        return sorted(((int(match[1]), path, bool(match[3])) for path, match in files if match), reverse=True)


def _match(path: Path) -> re.Match[str]:
    match = _NAME.match(path.name)
    assert match is not None
    return match


def _load(path: Path, digest: str) -> Any:
    import torch

    with reading(path):
        content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise DamagedError(f"checkpoint {path} is damaged: its content does not match its digest")
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # the digest is right, so somebody made the file: it may hold anything
        reason = (str(error).splitlines() or [""])[0][:200]
        if isinstance(error, pickle.UnpicklingError):  # torch's text tells how to run the code in the file
            reason = "it holds something else than tensors and plain values"
        raise DamagedError(f"checkpoint {path} cannot be read: {type(error).__name__}: {reason}") from error


def check_state(state: Mapping[str, Any], owner: str) -> None:
    """Check that a checkpoint can hold a state: by writing and reading it with empty tensors in place of the tensors.

    Args:
        state: the result of ``state_dict()``.
        owner: what returned it, for the message.

    Raises:
        PluginError: the state cannot be written, or not be read without executing code; names the entry.
    """
    if not _can_be_held(state):
        place, value = _culprit(state, "state_dict()")
        raise PluginError(
            f"{owner}: a checkpoint cannot hold {place}, a {_type_name(value)}; keep tensors, numbers, strings, None, "
            "and lists, tuples and dicts of them in the state"
        )


def _type_name(value: object) -> str:
    # With its module: a float64 of NumPy is not a plain number.
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _can_be_held(state: Any) -> bool:
    import torch

    buffer = io.BytesIO()
    try:
        torch.save(_without_data(state), buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception:
        return False
    return True


def _without_data(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return torch.empty(0)
    # Exactly these types: what derives from them is what may be refused.
    if type(value) is dict:
        return {key: _without_data(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_without_data(item) for item in value)
    return value


def _culprit(value: Any, place: str) -> tuple[str, Any]:
    """Return the path and value of the innermost entry, or key of an entry, that cannot be written or read."""
    if type(value) is dict:
        for key in value:
            if not _can_be_held(key):
                return f"the key {key!r} of {place}", key
        entries = [(f"{place}[{key!r}]", item) for key, item in value.items()]
    elif type(value) in (list, tuple):
        entries = [(f"{place}[{number}]", item) for number, item in enumerate(value)]
    else:
        entries = []
    for path, item in entries:
        if not _can_be_held(item):
            return _culprit(item, path)
    return place, value
