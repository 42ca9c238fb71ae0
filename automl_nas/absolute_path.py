"""The form in which configurations record the paths of files: `absolute_path`."""

from __future__ import annotations

import os
from pathlib import Path


def absolute_path(text: str) -> Path:
    """Return a path that begins at the root, with ``~`` replaced by the home folder.

    Links are kept: a link may lead to the new place of files that moved, and a run that recorded the old place goes on.
    ``..`` is replaced, except after a link to another folder, whose parent it means.

    Raises:
        RuntimeError: there is no home folder.
    """
    path = Path(text).expanduser().absolute()
    shorter = Path(os.path.normpath(path))
    return shorter if os.path.realpath(shorter) == os.path.realpath(path) else path
