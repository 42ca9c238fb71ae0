"""Putting files in place whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Give a temporary folder inside ``folder``: moving a file out of it is a rename. It vanishes at the end."""
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as name:
        yield Path(name)


def put_in_place(staged: Path, folder: Path) -> Path:
    """Move a finished file into ``folder`` under its own name, replacing an older one, and return where it is.

    The bytes reach the disk before the name does: after a crash the name stands for the old file or the new one.
    """
    with staged.open("rb+") as file:
        os.fsync(file.fileno())
    final = folder / staged.name
    staged.replace(final)
    return final
