"""Architectures in an Optuna objective: `suggest`, and the conversion between parameters and architectures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Decision, Ordinal, Scalar, SearchSpace, Subset, Value
from automl_nas_optuna.objective.recorded_options import ARCHITECTURE, record_options
from automl_nas_optuna.strategy.code_parameters import subset_parameter

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

    from automl_nas.strategy import Problem

Distributions: TypeAlias = dict[str, BaseDistribution]


def suggest(
    trial: Trial, space: SearchSpace, problem: Problem | None = None, *, conditional: bool = True
) -> Architecture:
    """Suggest an architecture: each decision is a parameter of the trial with the decision's name.

    A `Choice` is a categorical parameter of its options. An `Ordinal` of numbers in equal steps is an integer or float
    parameter with these values; any other `Ordinal` is a categorical parameter of its options. A `Subset` has one
    categorical parameter for each option, named ``decision["option"]``, which determines whether the subset contains
    it. An option has no parameter if the size limits of the subset already include or exclude it.

    The options are recorded as an attribute of the study, and the architecture as an attribute of the trial.

    Args:
        trial: a trial of any study, with any sampler.
        space: the search space.
        problem: the problem whose constraints on costs become constraints of the trial; None: no constraints.
        conditional: whether options that the size limits determine have no parameter. False: they have one in every
            trial, whose value is ignored, so that all trials have the same parameters. Samplers that model all
            parameters together, such as GP and QMC, need that: otherwise they draw these options at random.

    Raises:
        SpaceError: a choice has options that are equal in Python, such as 1 and True; or the study was begun with other
            options, and Optuna cannot change those of its parameter.
    """
    if (study := getattr(trial, "study", None)) is not None:  # a `FixedTrial` has none
        record_options(study, space, distributions_of(space))
    values = {name: _suggest_value(trial, name, decision, conditional) for name, decision in space.decisions.items()}
    architecture = Architecture(values)
    trial.set_user_attr(ARCHITECTURE, architecture.to_dict())
    if problem is not None:
        for constraint, violation in problem.violations(architecture).items():
            trial.set_constraint(constraint, violation)
    return architecture


def parameters_of(
    architecture: Mapping[str, object], space: SearchSpace, *, conditional: bool = True
) -> dict[str, Any]:
    """Return the parameters with which `suggest` returns this architecture, for example for ``study.enqueue_trial``.

    Args:
        architecture: the architecture.
        space: the search space.
        conditional: as in `suggest`.

    Raises:
        SpaceError: the architecture is not valid in the space.
    """
    parameters: dict[str, Any] = {}
    for name, value in space.validate(architecture).items():
        parameters.update(_parameters(name, space.decisions[name], value, conditional))
    return parameters


def architecture_of(source: Mapping[str, Any] | FrozenTrial, space: SearchSpace) -> Architecture | None:
    """Return an architecture of the space; None if a parameter is missing or has a value that is not an option.

    Args:
        source: a trial, or its parameters. A trial is the better source: it contains its architecture if `suggest` made
            it, and its distributions tell how an earlier version wrote an `Ordinal`.
        space: the search space, which may have other options than those with which the trial was made.
    """
    if isinstance(source, Mapping):
        return _from_parameters(source, space)
    recorded = source.user_attrs.get(ARCHITECTURE)
    if recorded is None:
        return _from_parameters(_with_values(source, space), space)
    try:
        return space.validate(recorded)
    except SpaceError:
        return None


def distributions_of(space: SearchSpace) -> Distributions:
    """Return the distributions of all parameters that `suggest` may use."""
    distributions: Distributions = {}
    for name, decision in space.decisions.items():
        if isinstance(decision, Subset):
            distributions |= {
                subset_parameter(name, option): CategoricalDistribution((False, True)) for option in decision.options
            }
        else:
            distributions[name] = _distribution(name, decision)
    return distributions


def _from_parameters(parameters: Mapping[str, Any], space: SearchSpace) -> Architecture | None:
    values: dict[str, Value] = {}
    for name, decision in space.decisions.items():
        if isinstance(decision, Subset):
            included_options: list[Scalar] = []
            for position, option in enumerate(decision.options):
                forced = _forced(decision, position, len(included_options))
                included = parameters.get(subset_parameter(name, option)) if forced is None else forced
                if included is None:
                    return None
                if included:
                    included_options.append(option)
            values[name] = tuple(included_options)
        else:
            chosen = _position(decision, parameters[name]) if name in parameters else None
            if chosen is None:
                return None
            values[name] = decision.options[chosen]
    return Architecture(values)


def _with_values(trial: FrozenTrial, space: SearchSpace) -> dict[str, Any]:
    """Return the parameters of a trial, in which positions are replaced by values.

    Earlier versions wrote the positions of options for an `Ordinal` that is a categorical or float parameter now.
    """
    parameters = dict(trial.params)
    for name, decision in space.decisions.items():
        distribution = trial.distributions.get(name)
        if not isinstance(decision, Ordinal) or not isinstance(distribution, IntDistribution):
            continue
        if not isinstance(_distribution(name, decision), IntDistribution):
            # With another number of options, the trial was made in another space.
            same = (distribution.low, distribution.high) == (0, len(decision.options) - 1)
            parameters[name] = decision.options[parameters[name]] if same else None
    return parameters


def _suggest_value(trial: Trial, name: str, decision: Decision, conditional: bool) -> Value:
    if isinstance(decision, Subset):
        included_options: list[Scalar] = []
        for position, option in enumerate(decision.options):
            forced = _forced(decision, position, len(included_options))
            included = forced
            if forced is None or not conditional:
                suggested = trial.suggest_categorical(subset_parameter(name, option), (False, True))
                included = suggested if forced is None else forced
            if included:
                included_options.append(option)
        return tuple(included_options)
    distribution = _distribution(name, decision)
    value: Scalar
    if isinstance(distribution, IntDistribution):
        value = trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)
    elif isinstance(distribution, FloatDistribution):
        value = trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step)
    else:
        assert isinstance(distribution, CategoricalDistribution)
        value = trial.suggest_categorical(name, distribution.choices)
    chosen = _position(decision, value)
    if chosen is None:
        raise SpaceError(f"decision '{name}': the trial fixes the value {value!r}, which is not one of its options")
    return decision.options[chosen]


def _distribution(name: str, decision: Decision) -> BaseDistribution:
    options = decision.options
    if isinstance(decision, Ordinal) and (step := _step(options)):
        low, high = options[0], options[-1]
        if all(type(option) is int for option in options):
            return IntDistribution(int(str(low)), int(str(high)), step=int(step))
        return FloatDistribution(float(str(low)), float(str(high)), step=float(step))
    if len(set(options)) < len(options):
        raise SpaceError(
            f"decision '{name}': options that are equal to Python ({options!r}) are one option to Optuna; write them "
            "as strings"
        )
    return CategoricalDistribution(options)


def _position(decision: Decision, value: Any) -> int | None:
    """Return the position of the option with this value of the parameter; None if there is no such option.

    A storage may return a number of another type (1 for 1.0), and a float parameter a rounded one.
    """
    for position, option in enumerate(decision.options):
        if option == value and isinstance(option, bool) == isinstance(value, bool):
            return position
    if isinstance(decision, Ordinal) and isinstance(value, float):
        for position, option in enumerate(decision.options):
            if isinstance(option, int | float) and math.isclose(option, value, rel_tol=1e-9, abs_tol=1e-12):
                return position
    return None


def _parameters(name: str, decision: Decision, value: Value, conditional: bool) -> Iterator[tuple[str, Any]]:
    if isinstance(decision, Subset):
        assert isinstance(value, tuple)
        count = 0
        for position, option in enumerate(decision.options):
            if not conditional or _forced(decision, position, count) is None:
                yield subset_parameter(name, option), option in value
            count += option in value
    elif isinstance(_distribution(name, decision), FloatDistribution):
        yield name, float(str(value))
    else:
        yield name, value


def _forced(decision: Subset, position: int, count: int) -> bool | None:
    """Return whether the size limits include (True) or exclude (False) an option; None: they do neither.

    Args:
        decision: the subset.
        position: the position of the option.
        count: the number of options at earlier positions that the subset contains.
    """
    if count == decision.largest:
        return False
    return True if count + decision.width - position <= decision.min else None


def _step(options: Sequence[Scalar]) -> Decimal | None:
    """Return the step between the options if they are numbers in equal steps; None otherwise."""
    if any(isinstance(option, bool) or not isinstance(option, int | float) for option in options):
        return None
    numbers = [Decimal(str(option)) for option in options]
    if len(numbers) == 1:
        return Decimal(1) if type(options[0]) is int else None
    steps = {after - before for before, after in pairwise(numbers)}
    return steps.pop() if len(steps) == 1 else None
