"""Writing files completely before they get their final names."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder inside ``folder``, from which files are moved by renaming; remove it at the end."""
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as name:
        yield Path(name)


def put_in_place(staged: Sequence[Path], folder: Path) -> list[Path]:
    """Move finished files into ``folder`` under their own names, replacing older ones, and return their new paths.

    The bytes of a file reach the disk before its name does: after a crash the name belongs to the old file or to the
    new one.

    Args:
        staged: the files, the main one first. It is moved last: where it is, the others are too.
        folder: on the same file system.
    """
    for file in reversed(staged):
        with file.open("rb+") as content:
            os.fsync(content.fileno())
        file.replace(folder / file.name)
    return [folder / file.name for file in staged]
