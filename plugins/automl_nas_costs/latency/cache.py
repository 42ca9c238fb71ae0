"""Measurements on disk: one JSON file each, named by a key of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Measurement
from automl_nas_costs.json_file import write_json
from automl_nas_costs.latency.engine import environment
from automl_nas_costs.latency.graphs import digest
from automl_nas_costs.latency.measurement_rounds import METHOD
from automl_nas_costs.latency.options import LatencyOptions

_log = logging.getLogger(__name__)

USER = "user"
"""The setting for the user's cache folder."""


def user_folder() -> Path:
    """Return ``automl_nas/latency`` in the user's cache folder (``XDG_CACHE_HOME``, by default ``~/.cache``).

    Raises:
        ConfigurationError: there is no home folder.
    """
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError as error:
        raise ConfigurationError(
            f"measurements cannot be kept in the user's cache folder: {error} Set another folder, or null for no cache",
            path="cache",
        ) from None
    return home / "automl_nas" / "latency"


def key(model: bytes, options: LatencyOptions) -> str:
    """Return what a measurement depends on, as a SHA-256: graph, options, processor, version of ONNX Runtime, method.

    Args:
        model: with fixed shapes; the values of its weights do not matter.
        options: all are in the key: a measurement of few rounds does not replace one of many.
    """
    parts = {
        "method": METHOD,
        "graph": digest(model),
        "options": options.as_dict(),
        "environment": environment(options.provider),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def to_json(measurement: Measurement) -> dict[str, Any]:
    """Return a measurement as plain data."""
    return {**asdict(measurement), "details": dict(measurement.details)}


def from_json(data: Mapping[str, Any]) -> Measurement:
    """Return a measurement from plain data.

    Raises:
        KeyError, TypeError, ValueError: the data are not those of a measurement.
    """
    value, low, high = (float(data[name]) for name in ("value", "low", "high"))
    return Measurement(value, low, high, float(data["confidence"]), dict(data["details"]))


class LatencyCache:
    """A folder of measurements. Several processes may use it at once.

    Args:
        folder: its path; created on first use. ``user`` for the user's cache folder; None for no cache.

    Raises:
        ConfigurationError: the path is not that of a folder, or the folder cannot be written to.
    """

    def __init__(self, folder: str | None = USER) -> None:
        self.folder = None if folder is None else user_folder() if folder == USER else Path(folder).expanduser()
        if self.folder is None:
            return
        existing = self.folder
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise ConfigurationError(
                f"measurements cannot be kept in {self.folder}: {existing} is not a folder that can be written to; set "
                "another folder, or null for no cache",
                path="cache",
            )

    def get(self, name: str) -> Measurement | None:
        """Return the measurement of a key; None if the cache has none, or none that can be read."""
        if self.folder is None:
            return None
        path = self._path(name)
        try:
            return from_json(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning(
                "%s does not hold a measurement (%s: %s); it is measured again", path, type(error).__name__, error
            )
            return None

    def names(self) -> list[str]:
        """Return the keys of all measurements, sorted."""
        return [] if self.folder is None else sorted(path.stem for path in self.folder.glob("??/*.json"))

    def put(self, name: str, measurement: Measurement) -> None:
        """Write a measurement, completely or not at all."""
        if self.folder is not None:
            write_json(self._path(name), to_json(measurement))

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / name[:2] / f"{name}.json"
