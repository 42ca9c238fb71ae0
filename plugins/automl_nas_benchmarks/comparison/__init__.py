"""Comparison of search strategies on benchmarks with known true values.

The entry points are `compare` in Python and ``automl-nas benchmark`` on the command line. Names load on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_nas_benchmarks.comparison.api import Comparison, compare
    from automl_nas_benchmarks.comparison.findings import Arrival, Curve, Findings, Score, Significance
    from automl_nas_benchmarks.comparison.search import SearchRecord

_HOMES = {
    "compare": "api",
    "Comparison": "api",
    "SearchRecord": "search",
    "Arrival": "findings",
    "Curve": "findings",
    "Findings": "findings",
    "Score": "findings",
    "Significance": "findings",
}

__all__ = ["compare", "Comparison", "Findings", "Score", "Arrival", "Curve", "Significance", "SearchRecord"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
