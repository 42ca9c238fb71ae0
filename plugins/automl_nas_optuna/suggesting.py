"""Architectures inside anybody's objective: `suggest`, and the parameters that stand for an architecture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Decision, Ordinal, Scalar, SearchSpace, Subset, Value
from automl_nas_optuna.parameters import subset_parameter

if TYPE_CHECKING:
    from optuna.trial import Trial

    from automl_nas.strategy import Problem

Distributions: TypeAlias = dict[str, BaseDistribution]


def suggest(trial: Trial, space: SearchSpace, problem: Problem | None = None) -> Architecture:
    """Return an architecture whose decisions are parameters of a trial, named like them.

    A `Choice` is a categorical of its options. An `Ordinal` of whole numbers in equal steps is an integer with those
    values, any other the place in its order, from 0. A `Subset` asks for each option, in a parameter
    ``decision["option"]``, whether to take it; options that can no longer be taken, or have to be, are not asked for.

    Args:
        trial: of any study, with any sampler.
        space: of the architecture.
        problem: whose constraints on costs become constraints of the trial.

    Raises:
        SpaceError: a choice holds options that are equal to Python, such as 1 and True.
    """
    values = {name: _suggested(trial, name, decision) for name, decision in space.decisions.items()}
    architecture = Architecture(values)
    if problem is not None:
        for text, missed in problem.violations(architecture).items():
            trial.set_constraint(text, missed)
    return architecture


def parameters_of(architecture: Mapping[str, object], space: SearchSpace) -> dict[str, Any]:
    """Return the parameters that `suggest` would read an architecture from, for ``study.enqueue_trial``.

    Raises:
        SpaceError: the architecture is not of the space.
    """
    found: dict[str, Any] = {}
    for name, value in space.validate(architecture).items():
        found.update(_parameters(name, space.decisions[name], value))
    return found


def architecture_of(parameters: Mapping[str, Any], space: SearchSpace) -> Architecture | None:
    """Return the architecture that a trial's parameters stand for; None if they are not all there."""
    values: dict[str, Value] = {}
    for name, decision in space.decisions.items():
        if isinstance(decision, Subset):
            taken: list[Scalar] = []
            for place, option in enumerate(decision.options):
                forced = _forced(decision, place, len(taken))
                told = parameters.get(subset_parameter(name, option)) if forced is None else forced
                if told is None:
                    return None
                if told:
                    taken.append(option)
            values[name] = tuple(taken)
        elif name not in parameters:
            return None
        else:
            values[name] = _option(decision, parameters[name])
    return Architecture(values)


def distributions_of(space: SearchSpace) -> Distributions:
    """Return the distributions of all parameters that `suggest` may ask for."""
    found: Distributions = {}
    for name, decision in space.decisions.items():
        if isinstance(decision, Subset):
            found |= {
                subset_parameter(name, option): CategoricalDistribution((False, True)) for option in decision.options
            }
        else:
            found[name] = _distribution(name, decision)
    return found


def _suggested(trial: Trial, name: str, decision: Decision) -> Value:
    if isinstance(decision, Subset):
        taken: list[Scalar] = []
        for place, option in enumerate(decision.options):
            told = _forced(decision, place, len(taken))
            if told is None:
                told = trial.suggest_categorical(subset_parameter(name, option), (False, True))
            if told:
                taken.append(option)
        return tuple(taken)
    asked = _distribution(name, decision)
    if isinstance(asked, IntDistribution):
        return _option(decision, trial.suggest_int(name, asked.low, asked.high, step=asked.step))
    assert isinstance(asked, CategoricalDistribution)
    return _option(decision, trial.suggest_categorical(name, asked.choices))


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
            "as texts"
        )
    return CategoricalDistribution(options)


def _option(decision: Decision, value: Any) -> Value:
    """Return the option that the value of a parameter stands for."""
    if isinstance(decision, Ordinal) and not _step(decision.options):
        return decision.options[int(value)]
    # Storages give back numbers of another type: 1 for 1.0.
    return next(option for option in decision.options if option == value)


def _parameters(name: str, decision: Decision, value: Value) -> Iterator[tuple[str, Any]]:
    if isinstance(decision, Subset):
        assert isinstance(value, tuple)
        taken = 0
        for place, option in enumerate(decision.options):
            if _forced(decision, place, taken) is None:
                yield subset_parameter(name, option), option in value
            taken += option in value
    elif isinstance(decision, Ordinal) and not _step(decision.options):
        yield name, decision.position(value)
    else:
        yield name, value


def _forced(decision: Subset, place: int, taken: int) -> bool | None:
    """Whether the option at a place must (not) be taken after so many before it; None: it is free."""
    if taken == decision.largest:
        return False
    return True if taken + decision.width - place <= decision.min else None


def _step(options: Sequence[Scalar]) -> int:
    """Return the distance between whole numbers in equal steps; 0 if the options are anything else."""
    numbers = [option for option in options if type(option) is int]
    if len(numbers) != len(options):
        return 0
    steps = {after - before for before, after in pairwise(numbers)} or {1}
    return steps.pop() if len(steps) == 1 else 0
