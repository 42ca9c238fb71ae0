"""Architectures in an Optuna objective: `suggest`, and the conversion between parameters and architectures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Decision, Ordinal, Scalar, SearchSpace, Subset, Value
from automl_nas_optuna.strategy.code_parameters import subset_parameter

if TYPE_CHECKING:
    from optuna.trial import Trial

    from automl_nas.strategy import Problem

Distributions: TypeAlias = dict[str, BaseDistribution]


def suggest(trial: Trial, space: SearchSpace, problem: Problem | None = None) -> Architecture:
    """Suggest an architecture: each decision is a parameter of the trial with the decision's name.

    A `Choice` is a categorical parameter of its options. An `Ordinal` of integers in equal steps is an integer
    parameter with these values; any other `Ordinal` is an integer parameter, the position of the option from 0. A
    `Subset` has one categorical parameter for each option, named ``decision["option"]``, which determines whether the
    subset contains it. An option has no parameter if the size limits of the subset already include or exclude it.

    Args:
        trial: a trial of any study, with any sampler.
        space: the search space.
        problem: the problem whose constraints on costs become constraints of the trial; None: no constraints.

    Raises:
        SpaceError: a choice has options that are equal in Python, such as 1 and True.
    """
    values = {name: _suggest_value(trial, name, decision) for name, decision in space.decisions.items()}
    architecture = Architecture(values)
    if problem is not None:
        for constraint, violation in problem.violations(architecture).items():
            trial.set_constraint(constraint, violation)
    return architecture


def parameters_of(architecture: Mapping[str, object], space: SearchSpace) -> dict[str, Any]:
    """Return the parameters with which `suggest` returns this architecture, for example for ``study.enqueue_trial``.

    Raises:
        SpaceError: the architecture is not valid in the space.
    """
    parameters: dict[str, Any] = {}
    for name, value in space.validate(architecture).items():
        parameters.update(_parameters(name, space.decisions[name], value))
    return parameters


def architecture_of(parameters: Mapping[str, Any], space: SearchSpace) -> Architecture | None:
    """Return the architecture with these parameters; None if a parameter is missing."""
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
        elif name not in parameters:
            return None
        else:
            values[name] = _option(decision, parameters[name])
    return Architecture(values)


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


def _suggest_value(trial: Trial, name: str, decision: Decision) -> Value:
    if isinstance(decision, Subset):
        included_options: list[Scalar] = []
        for position, option in enumerate(decision.options):
            included = _forced(decision, position, len(included_options))
            if included is None:
                included = trial.suggest_categorical(subset_parameter(name, option), (False, True))
            if included:
                included_options.append(option)
        return tuple(included_options)
    distribution = _distribution(name, decision)
    if isinstance(distribution, IntDistribution):
        return _option(decision, trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step))
    assert isinstance(distribution, CategoricalDistribution)
    return _option(decision, trial.suggest_categorical(name, distribution.choices))


def _distribution(name: str, decision: Decision) -> BaseDistribution:
    options = decision.options
    if isinstance(decision, Ordinal):
        step = _step(options)
        if step:
            return IntDistribution(int(str(options[0])), int(str(options[-1])), step=step)
        return IntDistribution(0, len(options) - 1)
    if len(set(options)) < len(options):
        raise SpaceError(
            f"decision '{name}': options that are equal to Python ({options!r}) are one option to Optuna; write them "
            "as strings"
        )
    return CategoricalDistribution(options)


def _option(decision: Decision, value: Any) -> Value:
    """Return the option with this value of the parameter."""
    if isinstance(decision, Ordinal) and not _step(decision.options):
        return decision.options[int(value)]
    # A storage may return a number of another type: 1 for 1.0.
    return next(option for option in decision.options if option == value)


def _parameters(name: str, decision: Decision, value: Value) -> Iterator[tuple[str, Any]]:
    if isinstance(decision, Subset):
        assert isinstance(value, tuple)
        count = 0
        for position, option in enumerate(decision.options):
            if _forced(decision, position, count) is None:
                yield subset_parameter(name, option), option in value
            count += option in value
    elif isinstance(decision, Ordinal) and not _step(decision.options):
        yield name, decision.position(value)
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


def _step(options: Sequence[Scalar]) -> int:
    """Return the step between the options if they are integers in equal steps; 0 otherwise."""
    numbers = [option for option in options if type(option) is int]
    if len(numbers) != len(options):
        return 0
    steps = {after - before for before, after in pairwise(numbers)} or {1}
    return steps.pop() if len(steps) == 1 else 0
