"""What a contract asks of the checker of a strategy or an evaluator."""

from __future__ import annotations

import inspect

from automl_nas.evaluation.evaluator import Evaluator
from automl_nas.strategy.base import Strategy


def require_checker(component: type[Strategy] | type[Evaluator]) -> None:
    """Assert that what checks a class's arguments early asks for its constructor's parameters and for no others."""
    constructor = inspect.signature(component, eval_str=True).parameters
    checker = component.checker()
    for name, asked in inspect.signature(checker, eval_str=True).parameters.items():
        assert name in constructor, f"checker(): '{name}' is no parameter of the constructor"
        own = constructor[name]
        assert (asked.annotation, asked.kind) == (own.annotation, own.kind), f"checker(): '{name}' is {own} there"
        assert checker is component or asked.default is asked.empty, f"checker(): leave out the default of '{name}'"
