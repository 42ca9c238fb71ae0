"""Reading the arrays of an ``.npz`` file: nothing in it is executed, and its size is checked before it is read."""

from __future__ import annotations

import hashlib
import math
import os
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import IO, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import DataError, did_you_mean

_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_LARGE, _MOST_COMPRESSED = 1 << 28, 200
"""Arrays above this number of bytes must not be compressed more than this: images of MNIST are, about 6 to 1."""


@final
class NpzFile:
    """The arrays of an ``.npz`` file. Arrays of Python objects are refused, so nothing in the file is executed.

    Args:
        path: of the file; ``~`` is the home folder.

    Raises:
        DataError: the file does not exist or is not a readable ``.npz`` file.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).expanduser()
        if self.path.exists() and not self.path.is_file():  # a pipe would block for ever
            kind = "a folder" if self.path.is_dir() else "not an ordinary file"
            raise DataError(f"{self.path} is not a readable .npz file: it is {kind}; set task.path to an .npz file")
        try:
            with zipfile.ZipFile(self.path) as archive:
                self._members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        except FileNotFoundError as error:
            raise DataError(
                f"the file {self.path.absolute()} does not exist; set task.path to an .npz file "
                "(a relative path starts at the current directory)"
            ) from error
        except Exception as error:  # zipfile raises errors of many classes for a file that is not an archive
            raise DataError(
                f"{self.path} is not a readable .npz file ({error}); write one with numpy.savez(path, train_images=...)"
            ) from error
        self.names = list(self._members)

    def read(self, name: str) -> NDArray[np.generic]:
        """Return an array.

        Raises:
            DataError: the file does not have it, or it is damaged, holds Python objects, or does not fit into memory.
        """
        if name not in self.names:
            raise DataError(
                f"{self.path} has no array '{name}'{did_you_mean(name, self.names)} (it has: {', '.join(self.names)})"
            )
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._members[name]) as file:
                self._check_size(name, file)
            with np.load(self.path, allow_pickle=False) as arrays:
                array: NDArray[np.generic] = arrays[self._members[name].filename]
        except DataError:
            raise
        except Exception as error:  # zipfile and numpy raise errors of many classes for damaged content
            raise DataError(
                f"{self.path}: the array '{name}' cannot be read: {type(error).__name__}: {error}"
            ) from error
        return array

    def fingerprint(self) -> str:
        """Return the SHA-256 of the file, read once in a process unless its size or modification time changes."""
        status = self.path.stat()
        return _sha256(self.path, status.st_size, status.st_mtime_ns)

    def _check_size(self, name: str, file: IO[bytes]) -> None:
        """Check the size of an array before memory is allocated for it: a header may promise terabytes.

        Raises:
            DataError: the member is not an array, its header and its size differ, or it does not fit into memory.
            ValueError: the header is malformed.
        """
        member = self._members[name]
        where = f"{self.path}: '{name}'"
        version = np.lib.format.read_magic(file)
        if version not in _READERS:
            raise DataError(f"{where} has version {version} of the .npy format; save it with numpy.savez")
        shape, _, dtype = _READERS[version](file)
        promised, held = math.prod(shape) * dtype.itemsize, member.file_size - file.tell()
        if dtype.hasobject:
            raise DataError(
                f"{where} holds Python objects, which are not read since that could execute code; save an array of "
                "numbers or strings, e.g. numpy.array(values.tolist())"
            )
        if promised != held:
            raise DataError(f"{where} is damaged: its header promises {promised:,} bytes, and the file holds {held:,}")
        if held > (memory := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
            raise DataError(f"{where} takes {held:,} bytes, and this machine has {memory:,} bytes of memory")
        if held > _LARGE and held > _MOST_COMPRESSED * member.compress_size:
            raise DataError(
                f"{where} takes {held:,} bytes and is compressed to {member.compress_size:,}, which images are not: "
                "it may have been made to fill the memory; if it is genuine, save it with numpy.savez, uncompressed"
            )


@lru_cache(maxsize=16)
def _sha256(path: Path, size: int, modified: int) -> str:
    """Return the SHA-256 of a file that has this size and this time of modification in nanoseconds."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
