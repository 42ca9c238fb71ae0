"""The versions that a run is recorded with."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata
from typing import Any

RECORDED_PACKAGES = ("automl-nas", "numpy", "onnxruntime", "optuna", "scikit-learn", "scipy", "torch", "torchvision")
"""Distributions on which results depend. Those that install plugins are recorded as well."""


def environment() -> dict[str, Any]:
    """Return versions and processor: results depend on them besides the configuration."""
    return {"python": platform.python_version(), "machine": platform.machine(), **_versions()}


@cache  # reading them takes 10 ms, as long as a short search on a table, and they do not change in a process
def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in sorted({*RECORDED_PACKAGES, *_plugin_distributions()}):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _plugin_distributions() -> set[str]:
    """Return the names of the distributions that install plugins."""
    return {point.dist.name for point in metadata.entry_points(group="automl_nas") if point.dist is not None}
