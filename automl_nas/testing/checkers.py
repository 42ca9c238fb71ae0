"""The contract test of the checkers of strategies and evaluators."""

from __future__ import annotations

import inspect

from automl_nas.evaluation.evaluator import Evaluator
from automl_nas.strategy.base import Strategy


def require_checker(component: type[Strategy] | type[Evaluator]) -> None:
    """Assert that all parameters of a class's checker are parameters of its constructor."""
    constructor = inspect.signature(component, eval_str=True).parameters
    checker = component.checker()
    for name, parameter in inspect.signature(checker, eval_str=True).parameters.items():
        assert name in constructor, f"checker(): the constructor has no parameter '{name}'"
        own = constructor[name]
        same = (parameter.annotation, parameter.kind) == (own.annotation, own.kind)
        assert same, f"checker(): '{name}' is {own} in the constructor"
        no_default = parameter.default is parameter.empty
        assert checker is component or no_default, f"checker(): remove the default of '{name}'"
