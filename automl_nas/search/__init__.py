"""How a search advances: problems, trials, strategies and wrappers round them.

Names are loaded when they are used. The package itself can be called: ``automl_nas.search(...)`` runs a search (see
`automl_nas.run.api.search`); this package and that function share one name.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automl_nas.search.asktell import AskTellStrategy
    from automl_nas.search.drawing import Drawer
    from automl_nas.search.problem import Constraint, Direction, Problem, parse_constraint
    from automl_nas.search.strategy import Services, Strategy
    from automl_nas.search.trial import Proposal, Trial
    from automl_nas.search.wrappers import Deduplicate, Filter, Retry

_WHERE = {
    "AskTellStrategy": "asktell",
    "Constraint": "problem",
    "Deduplicate": "wrappers",
    "Direction": "problem",
    "Drawer": "drawing",
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
    "Drawer",
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


class _Callable(ModuleType):
    """A package that is also the function of its name, whichever was imported first."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # By name: the layer above this one is not a dependency of it.
        return importlib.import_module("automl_nas.run.api").search(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
