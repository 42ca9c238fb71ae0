"""The folder of an estimator: its data, its configuration, and the run directory."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import DataError, RunDirectoryError
from automl_nas.evaluation import NpzFile
from automl_nas.run import read_yaml, write_whole

DATA, CONFIGURATION, RUN = "data.npz", "configuration.yaml", "run"


@final
class Workspace:
    """A folder with ``data.npz``, ``configuration.yaml`` and the run directory ``run``.

    Files that exist are compared with what is to be written and never replaced, so a run is only continued with the
    data and the configuration that it began with.

    Args:
        directory: of the user; None: a temporary folder, which is removed when this object is.

    Raises:
        RunDirectoryError: the folder cannot be made, or contains something else.
    """

    def __init__(self, directory: str | os.PathLike[str] | None) -> None:
        self.temporary = directory is None
        self._written: list[Path] = []
        if directory is None:
            self.folder = Path(tempfile.mkdtemp(prefix="automl_nas-"))
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
            return
        self.folder = Path(directory).expanduser().absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunDirectoryError(f"cannot make the folder {self.folder}: {error.strerror}") from error
        others = sorted({path.name for path in self.folder.iterdir()} - {DATA, CONFIGURATION, RUN})
        if others and not (self.folder / CONFIGURATION).exists():
            raise RunDirectoryError(
                f"{self.folder} contains {others[0]} and no run of an estimator; use an empty or a new directory"
            )

    @property
    def run(self) -> Path:
        """The run directory."""
        return self.folder / RUN

    def recorded_seed(self) -> int | None:
        """Return the seed of the configuration that the folder contains; None without one."""
        path = self.folder / CONFIGURATION
        if not path.exists():
            return None
        value = read_yaml(path).value
        seed = value.get("seed") if isinstance(value, Mapping) else None
        return seed if isinstance(seed, int) else None

    def save_data(self, arrays: Mapping[str, NDArray[Any]]) -> Path:
        """Write the data, and return their file.

        Raises:
            RunDirectoryError: the folder contains other data.
        """
        path = self.folder / DATA
        if path.exists():
            if not _same(path, arrays):
                raise RunDirectoryError(
                    f"{path} contains other data than those of this fit; pass the data that the run was begun with, or "
                    "use another directory"
                )
            return path
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        write_whole(path, lambda stream: stream.write(buffer.getbuffer()))
        self._written.append(path)
        return path

    def save_configuration(self, text: str) -> Path:
        """Write the configuration, and return its file.

        Raises:
            RunDirectoryError: the folder contains another one.
        """
        path = self.folder / CONFIGURATION
        if path.exists():
            present = path.read_text(encoding="utf-8")
            if present != text:
                raise RunDirectoryError(
                    f"{path} is not the configuration of this fit: {_difference(present, text)}; use the same "
                    f"parameters or another directory; an edited configuration is run by `automl-nas run {path}`"
                )
            return path
        write_whole(path, lambda stream: stream.write(text.encode()))
        self._written.append(path)
        return path

    def discard(self) -> None:
        """Remove what this object wrote if no run began with it, so that other parameters can be used."""
        if not self.run.exists():
            for path in self._written:
                path.unlink(missing_ok=True)


def _same(path: Path, arrays: Mapping[str, NDArray[Any]]) -> bool:
    try:
        file = NpzFile(path)
        return set(file.names) == set(arrays) and all(
            np.array_equal(file.read(name), array) and file.read(name).dtype == array.dtype
            for name, array in arrays.items()
        )
    except DataError:
        return False


def _difference(present: str, expected: str) -> str:
    """Return the first line that differs."""
    old, new = present.splitlines(), expected.splitlines()
    for line, (before, now) in enumerate(zip(old, new, strict=False), start=1):
        if before != now:
            return f"line {line} is {before.strip()!r} instead of {now.strip()!r}"
    return f"it has {len(old)} lines instead of {len(new)}"
