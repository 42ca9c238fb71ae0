"""The folder of a report: checked before the work whose results it gets, and written file by file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

from automl_nas.errors import ConfigurationError
from automl_nas.run import disk_errors, write_whole

AGAIN = "free some space and repeat the command: complete runs are only read"
"""The way out of a full disk."""


def check_report_folder(folder: Path) -> None:
    """Check that a report can be written to a folder, without changing anything: a report takes minutes to compute.

    Args:
        folder: need not exist.

    Raises:
        ConfigurationError: something else has its name, or this user may not write to it.
    """
    try:
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    except OSError as error:  # such as a name that is too long
        raise ConfigurationError(f"the report cannot be written to {folder}: {error.strerror}") from error
    if not existing.is_dir():
        raise ConfigurationError(
            f"the report cannot be written to {folder}: {existing} is not a folder; choose another --out"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigurationError(
            f"the report cannot be written to {folder}: this user may not write to {existing}; choose another --out"
        )


def write_files(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write the files of a report to a folder, which is created if needed; return their paths.

    Args:
        folder: of the report.
        contents: name of a file -> its content.

    Raises:
        RunFailedError: the folder or a file cannot be written.
    """
    with disk_errors(folder, AGAIN):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_whole(folder / name, partial(_write, content), full=AGAIN)
    return [folder / name for name in contents]


def _write(content: bytes, file: BinaryIO) -> None:
    file.write(content)
