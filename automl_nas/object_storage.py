"""Objects of s3, gs, abfs, http and other storages, read through fsspec into copies on this machine.

A copy is made when it is first needed, and again when the object changed. Objects are only read, and nothing in them is
executed. Credentials and endpoints are those of fsspec and the libraries of the storages (their files and environment
variables), so that configurations contain none.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

from automl_nas.errors import ConfigurationError, DamagedError

CACHE = "AUTOML_NAS_CACHE"
"""Environment variable: the folder of the copies (default: ``automl_nas`` in the user's folder for caches)."""

INSTALL = "pip install 'automl-nas[storage]'"

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_COLLAPSED = re.compile(r"(s3|s3a|gs|gcs|abfs|az|memory|https?):/(?!/)")
_WRAPPERS = {
    *("async_wrapper", "asynclocal", "asyncwrapper", "blockcache", "cached", "dask"),
    *("dir", "filecache", "generic", "reference", "simplecache"),
}
"""Protocols of fsspec that are no storages: they wrap others, or evaluate templates."""

_ATTEMPTS = 2
_CHUNK = 1 << 20


def is_url(value: object) -> bool:
    """Whether a value is a URL and not a path."""
    return isinstance(value, str) and _URL.match(value) is not None


def cache_folder() -> Path:
    """Return the folder of the copies.

    Raises:
        ConfigurationError: there is no home folder.
    """
    try:
        if folder := os.environ.get(CACHE):
            return Path(folder).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "automl_nas"
    except RuntimeError as error:
        raise ConfigurationError(
            f"objects cannot be copied to the user's cache folder: {error} Set {CACHE} to a folder"
        ) from None


def local_file(file: str, path: str = "") -> Path:
    """Return a file on this machine: a path as it is, and for a URL its copy.

    Args:
        file: a path or a URL.
        path: of the setting, for error messages.

    Raises:
        ConfigurationError: the URL cannot be read; see `RemoteFolder`.
        DamagedError: the download is not complete.
    """
    if not is_url(file):
        return Path(file).expanduser()
    folder, _, name = file.rpartition("/")
    return RemoteFolder(folder, path).copied([name]) / name


@final
class RemoteFolder:
    """A folder of object storage.

    Args:
        url: ``protocol://...``.
        path: of the setting, for error messages.

    Raises:
        ConfigurationError: fsspec or the package of the protocol is not installed, there is no such protocol, or the
            URL contains a password.
    """

    def __init__(self, url: str, path: str = "") -> None:
        self.url, self._path = url.rstrip("/"), path
        match = _URL.match(url)
        assert match is not None
        protocol = match[1].lower()
        if "::" in url or protocol in _WRAPPERS:
            raise self._error("chained URLs and protocols that wrap others are not read; name the storage itself")
        if _has_password(url):
            raise ConfigurationError(
                "the URL contains a password, which the run would record; give it by the environment variables or the "
                "configuration files of the storage",
                path=path,
            )
        try:
            core = importlib.import_module("fsspec.core")
        except ImportError as error:
            raise self._error(f"needs the package fsspec, which is not installed: {INSTALL}") from error
        try:
            self._files, self._root = core.url_to_fs(self.url)
        except ImportError as error:
            raise self._error(f"the protocol {protocol} needs another package: {error}") from error
        except ValueError as error:
            raise self._error(f"{error}; usual ones are s3, gs, abfs, https and file") from error
        except Exception as error:
            raise self._error(_reason(error)) from error
        self._is_local = protocol in ("file", "local")

    def names(self) -> list[str]:
        """Return the files below the folder, relative to it, in order.

        Raises:
            ConfigurationError: the storage cannot be reached, or there is no such folder.
        """
        try:
            self._files.invalidate_cache()
            files = self._files.find(self._root)
        except Exception as error:
            raise self._error(_reason(error)) from error
        root = self._root.rstrip("/")
        return sorted(name.removeprefix(root).lstrip("/") for name in files if name != root)

    def copied(self, names: Iterable[str], optional: Iterable[str] = ()) -> Path:
        """Return a folder on this machine with copies of some files, under their names.

        Args:
            names: of files, relative to the folder.
            optional: of files that need not exist.

        Raises:
            ConfigurationError: a file does not exist or cannot be read.
            DamagedError: a download is not complete.
        """
        if self._is_local:
            return Path(self._root)
        folder = cache_folder() / "objects" / hashlib.sha256(self.url.encode()).hexdigest()[:24]
        self._files.invalidate_cache()
        for name in names:
            self._copy(name, folder)
        for name in optional:
            if self.has(name):
                self._copy(name, folder)
            else:
                (folder / "files" / name).unlink(missing_ok=True)
        return folder / "files"

    def has(self, name: str) -> bool:
        """Whether there is a file of this name, relative to the folder.

        Raises:
            ConfigurationError: the storage cannot be reached.
        """
        try:
            return bool(self._files.exists(f"{self._root}/{name}"))
        except Exception as error:
            raise self._error(_reason(error), name) from error

    def _copy(self, name: str, folder: Path) -> None:
        """Download a file, unless its copy is that of the same version."""
        if ".." in Path(name).parts or Path(name).is_absolute():  # a storage's own list is not trusted with our disk
            raise self._error("the name of the object leads out of its folder", name)
        remote, copy, note = f"{self._root}/{name}", folder / "files" / name, folder / "versions" / f"{name}.json"
        try:
            info = self._files.info(remote)
            version = {"size": info["size"], "version": self._files.ukey(remote)}
        except FileNotFoundError:
            raise self._error("there is no such object", name) from None
        except Exception as error:
            raise self._error(_reason(error), name) from error
        if info.get("type") == "directory":
            raise self._error("is a folder and not an object", name)
        if _is_current(copy, note, version):
            return
        for attempt in range(1, _ATTEMPTS + 1):
            received = self._download(remote, name, copy)
            if version["size"] is None or received == version["size"]:
                break
            copy.unlink()
            if attempt == _ATTEMPTS:
                raise DamagedError(
                    f"the download of {self.url}/{name} ended after {received:,} of {version['size']:,} bytes, "
                    f"{_ATTEMPTS} times; try again, or copy the file to this machine"
                )
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(version))

    def _download(self, remote: str, name: str, copy: Path) -> int:
        """Write a file as a whole; return its number of bytes."""
        copy.parent.mkdir(parents=True, exist_ok=True)
        temporary = copy.with_name(f".{copy.name}.{os.getpid()}.part")
        received = 0
        try:
            with self._files.open(remote, "rb") as source, temporary.open("wb") as target:
                while chunk := source.read(_CHUNK):
                    received += target.write(chunk)
            temporary.replace(copy)
        except Exception as error:
            raise self._error(_reason(error), name) from error
        finally:
            temporary.unlink(missing_ok=True)
        return received

    def _error(self, reason: str, name: str = "") -> ConfigurationError:
        url = f"{self.url}/{name}" if name else self.url
        return ConfigurationError(f"cannot read {url}: {reason}", path=self._path)


def copied_run(url: str, is_needed: Callable[[str], bool] = lambda name: True) -> Path:
    """Return a copy of a run directory on this machine, without checkpoints and intermediate files.

    Args:
        url: of the run directory.
        is_needed: whether a file is copied, by its name in the run directory.

    Raises:
        ConfigurationError: the URL cannot be read, or is not a run directory.
        DamagedError: a download is not complete.
    """
    folder = RemoteFolder(url)
    names = [name for name in folder.names() if _belongs_to_record(name) and is_needed(name)]
    if "config.yaml" not in names:
        raise ConfigurationError(f"{url} is not a run directory: it holds no config.yaml")
    return folder.copied(names)


def local_run(directory: str | os.PathLike[str]) -> Path:
    """Return a run directory on this machine: a path as it is, and for a URL its copy; see `copied_run`.

    Raises:
        ConfigurationError: the URL cannot be read, or was made a `Path`, which merges its two slashes.
    """
    text = os.fspath(directory)
    if is_url(text):
        return copied_run(text)
    if _COLLAPSED.match(text) and not Path(text).exists():
        raise ConfigurationError(f"{text} was a URL before it was made a Path; pass it as a string")
    return Path(text)


def _belongs_to_record(name: str) -> bool:
    first, last = name.partition("/")[0], name.rpartition("/")[2]
    return first not in ("checkpoints", "scratch", "lock") and not last.endswith(".part")


def _is_current(copy: Path, note: Path, version: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(note.read_text()) == version) and copy.stat().st_size == version["size"]
    except (OSError, ValueError):
        return False


def _has_password(url: str) -> bool:
    with contextlib.suppress(ValueError):  # a malformed address
        return bool(urlsplit(url).password)
    return False


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such object or folder"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
