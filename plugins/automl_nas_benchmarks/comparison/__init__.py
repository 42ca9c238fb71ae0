"""Comparing search strategies on benchmarks whose truth is known.

`compare` is the way in from Python, ``automl-nas benchmark`` from the command line. Names are loaded when they are
used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_nas_benchmarks.comparison.api import Comparison, compare
    from automl_nas_benchmarks.comparison.findings import Arrival, Curve, Findings, Score, Significance
    from automl_nas_benchmarks.comparison.search import SearchRecord

_WHERE = {
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
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
