"""Decisions that the sampler `partial_fixed` fixes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import final

from automl_nas.errors import ConfigurationError, SpaceError, did_you_mean
from automl_nas.space import Architecture, Decision, DecisionSpace, SearchSpace, Subset, Value
from automl_nas_optuna.strategy.code_parameters import CodeParameters
from automl_nas_optuna.strategy.samplers import Sampler


def fixed_values(sampler: Sampler, space: SearchSpace) -> Mapping[str, Value]:
    """Return the decisions that a sampler fixes, and their values; empty for all samplers but `partial_fixed`.

    Raises:
        ConfigurationError: a decision does not exist, or a value is not valid.
    """
    values: dict[str, Value] = {}
    for name, value in sampler.fixed.items():
        path = f"sampler.settings.fixed_params.{name}"
        if name not in space.decisions:
            raise ConfigurationError(
                f"the space has no decision '{name}'{did_you_mean(name, space.decisions)}", path=path
            )
        try:
            own = DecisionSpace({name: space.decisions[name]})
            values[name] = own.validate({name: value})[name]
        except SpaceError as error:
            raise ConfigurationError(str(error), path=path) from error
    return values


def with_codes(sampler: Sampler, fixed: Mapping[str, Value], parameters: CodeParameters) -> Sampler:
    """Return a sampler that fixes the parameters of decisions instead of the decisions."""
    if not fixed:
        return sampler
    codes: dict[str, int] = {}
    for name, value in fixed.items():
        codes |= parameters.values_of(name, value)
    return replace(sampler, settings={**sampler.settings, "fixed_params": codes})


def restricted(space: SearchSpace, fixed: Mapping[str, Value]) -> SearchSpace:
    """Return a space with those architectures only that have the fixed values."""
    return _FixedSpace(space, fixed) if fixed else space


@final
class _FixedSpace(DecisionSpace):
    """A space in which some decisions have one value only; it cannot build networks.

    Args:
        space: the whole space.
        fixed: decision -> its value.
    """

    def __init__(self, space: SearchSpace, fixed: Mapping[str, Value]) -> None:
        decisions = space.decisions
        super().__init__(
            {name: _only(decisions[name], fixed[name]) if name in fixed else decisions[name] for name in decisions}
        )
        self._whole = space

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the canonical architecture of the whole space."""
        return self._whole.canonical(architecture)


def _only(decision: Decision, value: Value) -> Decision:
    if not isinstance(decision, Subset):
        assert not isinstance(value, tuple)
        return type(decision)((value,))
    assert isinstance(value, tuple)
    return Subset(value or decision.options, min=len(value), max=len(value))
