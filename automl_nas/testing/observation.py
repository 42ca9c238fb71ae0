"""What a use of a component gives and what it leaves changed: `observe`."""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl_nas.testing.file_watch import changed_files
from automl_nas.testing.process_state import differences, process_state


@dataclass
class Observation:
    """The record of one use of a component.

    Attributes:
        store: the folder that the component was given, kept for the second process.
        values: what it gave, as JSON.
        changes: kind of global state -> what was changed.
        lasting: the changes that could not be undone.
        printed: what it wrote to the standard output and the standard error output.
        files: files outside its folder that it changed.
        error: that it raised.
    """

    store: Path
    values: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, list[str]] = field(default_factory=dict)
    lasting: dict[str, list[str]] = field(default_factory=dict)
    printed: str = ""
    files: list[str] = field(default_factory=list)
    error: Exception | None = None


def observe(use: Callable[[Path], Mapping[str, Any]]) -> Observation:
    """Use a component, and record what it gives and what it leaves changed; restore what it changed.

    If it changed a global state, it is used again: what libraries change when they are imported is not caused by the
    component. The working directory is an empty folder.

    Args:
        use: uses the component with a folder, and returns what it gives.
    """
    observation = _observe(use)
    if observation.changes and observation.error is None:
        gc.collect()  # so that no file is closed on the way that garbage of the first use holds open
        lasting = {kind: changes for kind, changes in observation.lasting.items() if kind != "module"}
        observation.changes = {**_observe(use).changes, **lasting}
    return observation


def _observe(use: Callable[[Path], Mapping[str, Any]]) -> Observation:
    home = Path(tempfile.mkdtemp(prefix="elsewhere-"))
    store = Path(tempfile.mkdtemp(prefix="contract-"))
    atexit.register(shutil.rmtree, store, ignore_errors=True)  # the second process reads it later
    observation = Observation(store)
    directory = Path.cwd()
    os.chdir(home)
    try:
        with warnings.catch_warnings(record=True), _captured() as captured, changed_files(store) as files:
            before = process_state()
            try:
                observation.values = _plain(use(store))
            except Exception as error:
                observation.error = error
            observation.changes = differences(before, process_state(before))
            if observation.changes:
                before.restore()
                observation.lasting = differences(before, process_state(before))
        observation.printed, observation.files = captured.text, files
    finally:
        os.chdir(directory)
        shutil.rmtree(home, ignore_errors=True)
    return observation


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(values)))
    return plain


class _Captured:
    text = ""


@contextmanager
def _captured() -> Iterator[_Captured]:
    """Capture what is written to the standard streams, also by libraries that write to the file descriptors."""
    captured, streams = _Captured(), (sys.stdout, sys.stderr)
    for stream in streams:
        _flush(stream)
    with tempfile.TemporaryFile() as file:
        copies = {number: os.dup(number) for number in (1, 2)}
        text = io.TextIOWrapper(io.FileIO(file.fileno(), "w", closefd=False), write_through=True)
        try:
            for number in copies:
                os.dup2(file.fileno(), number)
            sys.stdout = sys.stderr = text
            yield captured
        finally:
            for stream in (*streams, text):
                _flush(stream)
            sys.stdout, sys.stderr = streams
            for number, copy in copies.items():
                os.dup2(copy, number)
                os.close(copy)
            file.seek(0)
            captured.text = file.read().decode(errors="replace")


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except (AttributeError, OSError, ValueError):
        return
