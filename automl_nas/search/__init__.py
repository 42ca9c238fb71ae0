"""How a search advances: problems, trials, strategies and wrappers round them.

Names are loaded when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from automl_nas.search.asktell import AskTellStrategy
    from automl_nas.search.problem import Constraint, Direction, Problem, parse_constraint
    from automl_nas.search.strategy import Services, Strategy
    from automl_nas.search.trial import Proposal, Trial
    from automl_nas.search.wrappers import Deduplicate, Filter, Retry

_WHERE = {
    "AskTellStrategy": "asktell",
    "Constraint": "problem",
    "Deduplicate": "wrappers",
    "Direction": "problem",
    "Filter": "wrappers",
    "Problem": "problem",
    "Proposal": "trial",
    "Retry": "wrappers",
    "Services": "strategy",
    "Strategy": "strategy",
    "Trial": "trial",
    "parse_constraint": "problem",
}

__all__ = [
    "AskTellStrategy",
    "Constraint",
    "Deduplicate",
    "Direction",
    "Filter",
    "Problem",
    "Proposal",
    "Retry",
    "Services",
    "Strategy",
    "Trial",
    "parse_constraint",
]


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
