"""Additive costs: fitting the contribution of each option, and verifying that the cost is their sum."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import SpaceError
from automl_nas.evaluation.costs.model import CostModel, checked_cost
from automl_nas.space.architecture import Architecture, Value
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.operators import enumerate_all, mutate_one
from automl_nas.streams import stream

TOLERANCE = 1e-9
"""The largest allowed error of a cost that is not a whole number, relative to the largest cost. It is far above the
rounding in sums of a few hundred doubles (1e-13) and far below the cost of any option."""

# A double has 53 bits: on a grid of 2^-50 of the range, all sums of contributions are exact, in any order.
_GRID_BITS = 50


class NotAdditiveError(SpaceError):
    """The cost of a network is not a sum over its decisions; the message names an architecture for which it is not."""


@dataclass(frozen=True)
class AdditiveFit:
    """A cost as ``quantum * (base + sum of units)``, where base and units are whole numbers.

    Attributes:
        base: the constant.
        units: decision name -> contribution of each option; the smallest of a Choice or an Ordinal is 0.
        quantum: 1 for a metric of whole numbers, otherwise a power of two.
    """

    base: int
    units: Mapping[str, tuple[int, ...]]
    quantum: float


def corner(decisions: Mapping[str, Decision], *, first: bool) -> Architecture:
    """Return the architecture of all first options (smallest subsets), or of all last ones (largest subsets)."""
    values: dict[str, object] = {}
    for name, decision in decisions.items():
        if isinstance(decision, Subset):
            size = decision.min if first else decision.largest
            values[name] = decision.options[:size] if first else decision.options[len(decision.options) - size :]
        else:
            values[name] = decision.options[0 if first else -1]
    return Architecture(values)


def checked_estimate(model: CostModel, architecture: Architecture, *, allow_infinite: bool = False) -> float:
    """Return the model's value, as an int for a metric of whole numbers.

    Args:
        model: any cost model.
        architecture: an architecture of the model's space.
        allow_infinite: whether the value may be infinity, which means that the network does not run.

    Raises:
        NotAdditiveError: the value is infinite and ``allow_infinite`` is False.
        SpaceError: the value is not a number, is NaN or negative, or is a fraction although the model is ``integral``.
    """
    value = checked_cost(model.estimate(architecture), model.metric, model, architecture)
    if value == math.inf:
        if allow_infinite:
            return value
        raise NotAdditiveError(
            f"the cost model '{model.metric}' returns inf for {architecture.key}, but a sum over decisions is finite"
        )
    if not model.integral:
        return float(value)
    if value != int(value):
        raise SpaceError(
            f"the cost model '{model.metric}' returns {value!r} for {architecture.key}, but its `integral` is True: "
            "set it to False"
        )
    return int(value)


def fit(model: CostModel, decisions: Mapping[str, Decision]) -> AdditiveFit:
    """Return base and contributions, from a reference architecture and one change for each option.

    Takes ``1 + sum (k - 1)`` estimates for decisions of k options each. The result is not verified.
    """
    reference = corner(decisions, first=True)
    reference_cost = checked_estimate(model, reference)

    def differences(name: str) -> Callable[[tuple[int, ...]], float]:
        """Return the function: positions of options (one for a Choice) -> change of cost if the decision takes them."""
        decision = decisions[name]

        def difference(positions: tuple[int, ...]) -> float:
            options = tuple(decision.options[position] for position in sorted(positions))
            value: Value = options if isinstance(decision, Subset) else options[0]
            return checked_estimate(model, reference.replace({name: value})) - reference_cost

        return difference

    contributions: dict[str, tuple[float, ...]] = {}
    base = reference_cost
    for name, decision in decisions.items():
        if isinstance(decision, Subset):
            contributions[name] = _elements(decision, differences(name))
            base -= sum(contributions[name][: decision.min])
        else:
            others = [differences(name)((position,)) for position in range(1, len(decision.options))]
            cheapest = min(0, *others) if others else 0
            contributions[name] = tuple(value - cheapest for value in (0, *others))
            base += cheapest
    quantum = 1.0 if model.integral else _quantum(base, contributions)
    units = {name: tuple(_whole(value, quantum) for value in values) for name, values in contributions.items()}
    return AdditiveFit(_whole(base, quantum), units, quantum)


def _elements(decision: Subset, difference: Callable[[tuple[int, ...]], float]) -> tuple[float, ...]:
    """Return the contribution of each element of a Subset, from changes of the subset of its first ``min`` elements.

    If all subsets have the same size, contributions are determined up to a common constant: the first one is then 0.
    """
    inside, outside = tuple(range(decision.min)), tuple(range(decision.min, len(decision.options)))
    values: list[float] = [0] * len(decision.options)
    if not outside or not decision.largest:
        return tuple(values)

    def swap(removed: int, added: int) -> float:
        return difference((*(position for position in inside if position != removed), added))

    for position in outside:
        values[position] = difference((*inside, position)) if decision.largest > decision.min else swap(0, position)
    for position in inside:
        values[position] = values[outside[0]] - swap(position, outside[0])
    return tuple(values)


def _quantum(base: float, contributions: Mapping[str, tuple[float, ...]]) -> float:
    magnitude = abs(base) + sum(abs(value) for values in contributions.values() for value in values)
    return math.ldexp(1.0, math.frexp(magnitude)[1] - _GRID_BITS) if magnitude else 1.0


def _whole(value: float, quantum: float) -> int:
    # An integer is returned unchanged: a float would lose digits beyond 2^53.
    return value if isinstance(value, int) else round(value / quantum)


def verification_points(
    decisions: Mapping[str, Decision], extremes: tuple[Architecture, Architecture], seed: int, checks: int
) -> Iterator[Architecture]:
    """Yield the architectures on which additivity is tested.

    All architectures of a space with at most ``checks`` of them. Otherwise the extremes, then ``checks`` others: three
    quarters from `pairwise_covering`, an eighth one change and an eighth two changes away from an extreme, where
    options have an effect that they may not have elsewhere.
    """
    if math.prod(decision.size for decision in decisions.values()) <= checks:
        yield from enumerate_all(decisions)
        return
    yield from extremes
    near = checks // 4
    yield from islice(pairwise_covering(decisions, stream(seed, "cost table, spread")), checks - near)
    for number in range(near):
        rng = stream(seed, "cost table, near extremes", number)
        architecture = mutate_one(extremes[number // 2 % 2], decisions, rng)
        yield architecture if number % 2 == 0 else mutate_one(architecture, decisions, rng)


def pairwise_covering(decisions: Mapping[str, Decision], rng: random.Random) -> Iterator[Architecture]:
    """Yield random architectures, endlessly, the first of which cover every pair of options of any two decisions.

    A greedy covering array (Cohen et al. 1997, AETG): each architecture starts with the option that has the most pairs
    not covered yet; each further decision, in a random order, takes the option with the most uncovered pairs with the
    options chosen before. For 20 decisions of 4 options about 40 architectures cover all 3,040 pairs, so that every
    interaction of two decisions is tested. The elements of a Subset are drawn at random: a few architectures hold all
    four combinations of two elements.
    """
    owners = [name for name, d in decisions.items() if not isinstance(d, Subset) for _ in d.options]
    options = [option for d in decisions.values() if not isinstance(d, Subset) for option in d.options]
    columns = {name: np.array([index for index, owner in enumerate(owners) if owner == name]) for name in owners}
    uncovered = np.ones((len(owners), len(owners)), dtype=bool)
    for own in columns.values():
        uncovered[np.ix_(own, own)] = False

    def best(gains: NDArray[np.int64]) -> int:
        ties = np.flatnonzero(gains == gains.max())
        return int(ties[rng.randrange(len(ties))])

    while True:
        values: dict[str, object] = {name: decision.sample(rng) for name, decision in decisions.items()}
        chosen = [best(uncovered.sum(axis=1))] if owners else []
        for name in rng.sample(list(columns), len(columns)):
            if name != owners[chosen[0]]:
                own = columns[name]
                chosen.append(int(own[best(uncovered[own][:, chosen].sum(axis=1))]))
        values.update((owners[index], options[index]) for index in chosen)
        covered = np.array(chosen, dtype=np.int64)
        uncovered[np.ix_(covered, covered)] = False
        yield Architecture(values)


def verify(model: CostModel, architecture: Architecture, expected: float, scale: float) -> None:
    """Compare the model's cost with the sum of contributions: exactly for whole numbers, else to `TOLERANCE * scale`.

    Raises:
        NotAdditiveError: the two differ.
    """
    value = checked_estimate(model, architecture)
    if abs(value - expected) > (0 if model.integral else TOLERANCE * scale):
        raise NotAdditiveError(
            f"'{model.metric}' is not additive over the decisions: {architecture.key} costs {value}, the sum over its "
            f"decisions is {expected}; use the cost model itself"
        )
