"""Which files code writes or removes: `changed_files`."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Events of Python's audit hooks -> the positions of the paths among their arguments.
_EVENTS = {
    "os.mkdir": (0,),
    "os.remove": (0,),
    "os.rename": (0, 1),
    "os.rmdir": (0,),
    "os.truncate": (0,),
    "os.symlink": (1,),
    "os.link": (1,),
    "os.chmod": (0,),
    "os.utime": (0,),
    "shutil.rmtree": (0,),
    "sqlite3.connect": (0,),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

FOLDERS = "contract-"
"""The names of the folders of contracts begin with this."""

_watching: list[list[str]] = []
_installed = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, int) or not (flags & _WRITING or set(mode or "") & set("wax+")):
            return
        paths: tuple[Any, ...] = (path,)
    elif event in _EVENTS:
        paths = tuple(arguments[place] for place in _EVENTS[event])
    else:
        return
    for path in paths:
        try:
            _watching[-1].append(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100 - called inside pathlib
        except (TypeError, ValueError):
            continue


@contextmanager
def changed_files(store: Path) -> Iterator[list[str]]:
    """Collect the files outside a folder that are written or removed in this context.

    Not counted are: caches of bytecode and the user's cache folder, devices, and temporary files that are gone
    afterwards. Files that libraries write without Python are found in the working directory only.

    Args:
        store: the folder.
    """
    global _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True
    files: list[str] = []
    touched: list[str] = []
    directory = Path.cwd()
    before = _listing(directory)
    _watching.append(touched)
    try:
        yield files
    finally:
        _watching.remove(touched)
        touched += sorted(_listing(directory) ^ before)
        files += [path for path in dict.fromkeys(touched) if _counts(Path(path), store)]


def _listing(folder: Path) -> set[str]:
    return {os.path.abspath(path) for path in folder.rglob("*")}  # noqa: PTH100 - as in the hook


def _counts(path: Path, store: Path) -> bool:
    parts = path.parts
    if (
        path == Path(tempfile.gettempdir())
        or path.is_relative_to(store)
        or "__pycache__" in parts
        or parts[:2] in (("/", "dev"), ("/", "proc"))
    ):
        return False
    if any(
        part.startswith(("torchinductor", "pymp-")) for part in parts
    ):  # of the compiler of torch, of multiprocessing
        return False
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if path.is_relative_to(cache):
        return False
    temporary = Path(tempfile.gettempdir())
    if not path.is_relative_to(temporary):
        return True
    return path.exists() and not path.relative_to(temporary).parts[0].startswith(FOLDERS)
