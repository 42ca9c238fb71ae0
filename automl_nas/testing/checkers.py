"""The contract tests of what the classes of strategies and evaluators say about themselves."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

from automl_nas.errors import ConfigurationError, PluginError
from automl_nas.evaluation.evaluator import Evaluator
from automl_nas.evaluation.shortened import Shortened
from automl_nas.plugin.signature import Signature
from automl_nas.strategy.base import Phase, Strategy
from automl_nas.testing.contract import require


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


def default_settings(component: type) -> tuple[Signature, dict[str, Any]] | None:
    """Return the signature of a class and its default settings; None: its constructor has required settings."""
    try:
        signature = Signature.of(component)
        return signature, signature.validate({})
    except (PluginError, ConfigurationError):
        return None


def require_shortened(component: type[Strategy] | type[Evaluator]) -> None:
    """Assert that `shortened` returns None or valid settings of the class, and more work for a larger share."""
    defaults = default_settings(component)
    if defaults is None:
        return
    signature, settings = defaults
    before = 0.0
    for share in (0.01, 0.5, 1.0):
        result = component.shortened(settings, share)
        if result is None:
            continue
        require(isinstance(result, Shortened), f"shortened(settings, {share}) returns a {type(result).__name__}")
        require(0 < result.share <= 1, f"shortened(settings, {share}) has the share {result.share!r}")
        require(result.share >= before, f"shortened has the share {before} and, of a larger one, {result.share}")
        before = result.share
        _require_settings(signature, settings, result.settings, f"shortened(settings, {share})")


def require_phases(component: type[Strategy]) -> None:
    """Assert that the shares of `Strategy.phases` add up to 1, and that their settings are settings of the class."""
    defaults = default_settings(component)
    if defaults is None:
        return
    signature, settings = defaults
    phases = component.phases(settings)
    require(phases and all(isinstance(phase, Phase) for phase in phases), f"phases(settings) returns {phases!r}")
    # Products of a few settings, which are divided by their sum.
    require(math.isclose(sum(p.share for p in phases), 1.0, rel_tol=1e-6), f"the shares of {phases} do not add up to 1")
    require(all(phase.share > 0 for phase in phases), f"{phases} has a phase without work")
    for phase in phases:
        _require_settings(signature, settings, phase.settings, "a phase")
    names = component.artifact_names(settings)
    require_names(names, "artifact_names(settings)")


def require_names(names: Iterable[str] | None, what: str) -> None:
    """Assert that a value is None or a frozenset of names."""
    valid = names is None or (isinstance(names, frozenset) and all(type(name) is str for name in names))
    require(valid, f"{what} returns {names!r}")


def _require_settings(signature: Signature, settings: Mapping[str, Any], changed: Mapping[str, Any], what: str) -> None:
    try:
        signature.validate({**settings, **changed})
    except ConfigurationError as error:
        raise AssertionError(f"{what}: {error}") from error
