"""Is a cost additive over decisions? Fitting the contributions of options, and verifying them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import SpaceError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.space.architecture import Architecture, Value
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.operators import enumerate_all, mutate_one
from automl_nas.streams import stream

TOLERANCE = 1e-9
"""How far a value that is no whole number may be off, relative to the largest cost: far above the rounding in sums of a
few hundred doubles (1e-13), far below what any option costs."""

# A double has 53 bits: on a grid of 2^-50 of the range, all sums of contributions are exact, in any order.
_GRID_BITS = 50


class NotAdditiveError(SpaceError):
    """The cost of a network is not a sum over its decisions; the message shows an architecture that proves it."""


@dataclass(frozen=True)
class AdditiveFit:
    """``cost = quantum * (base + sum of units)``, in whole numbers.

    Attributes:
        base: the constant.
        units: decision name -> contribution of each option; of a Choice or Ordinal the smallest is 0.
        quantum: 1 for a metric of whole numbers, else a power of two.
    """

    base: int
    units: Mapping[str, tuple[int, ...]]
    quantum: float


def corner(decisions: Mapping[str, Decision], *, first: bool) -> Architecture:
    """Return the architecture of the first options (smallest subsets), or that of the last ones (largest subsets)."""
    values: dict[str, object] = {}
    for name, decision in decisions.items():
        if isinstance(decision, Subset):
            size = decision.min if first else decision.largest
            values[name] = decision.options[:size] if first else decision.options[len(decision.options) - size :]
        else:
            values[name] = decision.options[0 if first else -1]
    return Architecture(values)


def checked_estimate(model: CostModel, architecture: Architecture, *, endless: bool = False) -> float:
    """Return the model's value, as an int for a metric of whole numbers.

    Args:
        model: any cost model.
        architecture: of its space.
        endless: whether infinity, which says that a network does not run, is a value too.

    Raises:
        NotAdditiveError: it is infinite, and that is no value here.
        SpaceError: it is not a number, or not whole although the metric says so.
    """
    value = model.estimate(architecture)
    if value == math.inf:
        if endless:
            return value
        raise NotAdditiveError(
            f"the cost model '{model.metric}' gives inf for {architecture.key}: a sum over decisions is finite"
        )
    if not math.isfinite(value):
        raise SpaceError(f"the cost model '{model.metric}' gives {value} for {architecture.key}")
    if not model.integral:
        return float(value)
    if value != int(value):
        raise SpaceError(
            f"the cost model '{model.metric}' says that its values are whole numbers and gives {value!r} for "
            f"{architecture.key}; set its `integral` to False"
        )
    return int(value)


def fit(model: CostModel, decisions: Mapping[str, Decision]) -> AdditiveFit:
    """Find base and contributions from one reference architecture and one change per option.

    Costs ``1 + sum (k - 1)`` estimates for decisions of k options each. Nothing is verified.
    """
    reference = corner(decisions, first=True)
    start = checked_estimate(model, reference)

    def changed(name: str) -> Callable[[tuple[int, ...]], float]:
        """By how much the cost changes if one decision takes the options at some positions (one, for a Choice)."""
        decision = decisions[name]

        def difference(positions: tuple[int, ...]) -> float:
            options = tuple(decision.options[position] for position in sorted(positions))
            value: Value = options if isinstance(decision, Subset) else options[0]
            return checked_estimate(model, reference.replaced({name: value})) - start

        return difference

    found: dict[str, tuple[float, ...]] = {}
    base = start
    for name, decision in decisions.items():
        if isinstance(decision, Subset):
            found[name] = _elements(decision, changed(name))
            base -= sum(found[name][: decision.min])
        else:
            others = [changed(name)((position,)) for position in range(1, len(decision.options))]
            cheapest = min(0, *others) if others else 0
            found[name] = tuple(value - cheapest for value in (0, *others))
            base += cheapest
    quantum = 1.0 if model.integral else _quantum(base, found)
    units = {name: tuple(_whole(value, quantum) for value in values) for name, values in found.items()}
    return AdditiveFit(_whole(base, quantum), units, quantum)


def _elements(decision: Subset, difference: Callable[[tuple[int, ...]], float]) -> tuple[float, ...]:
    """Return the contribution of each element of a Subset, from changes of the subset of the first ``min``.

    If all subsets have one size, contributions are known up to a common constant: the first element's is then 0.
    """
    inside, outside = tuple(range(decision.min)), tuple(range(decision.min, len(decision.options)))
    values: list[float] = [0] * len(decision.options)
    if not outside or not decision.largest:
        return tuple(values)

    def swapped(out: int, new: int) -> float:
        return difference((*(place for place in inside if place != out), new))

    for place in outside:
        values[place] = difference((*inside, place)) if decision.largest > decision.min else swapped(0, place)
    for place in inside:
        values[place] = values[outside[0]] - swapped(place, outside[0])
    return tuple(values)


def _quantum(start: float, found: Mapping[str, tuple[float, ...]]) -> float:
    magnitude = abs(start) + sum(abs(value) for values in found.values() for value in values)
    return math.ldexp(1.0, math.frexp(magnitude)[1] - _GRID_BITS) if magnitude else 1.0


def _whole(value: float, quantum: float) -> int:
    # Integers are left alone: a float would lose digits beyond 2^53.
    return value if isinstance(value, int) else round(value / quantum)


def probe_architectures(
    decisions: Mapping[str, Decision], extremes: tuple[Architecture, Architecture], seed: int, checks: int
) -> Iterator[Architecture]:
    """Yield the architectures on which additivity is tested.

    All of them if there are no more than ``checks``. Else the extremes, then ``checks`` others: three quarters spread
    (see `spread`), an eighth one and an eighth two changes away from an extreme, where options that are moot elsewhere
    matter.
    """
    if math.prod(decision.size for decision in decisions.values()) <= checks:
        yield from enumerate_all(decisions)
        return
    yield from extremes
    near = checks // 4
    yield from islice(spread(decisions, stream(seed, "cost table, spread")), checks - near)
    for number in range(near):
        rng = stream(seed, "cost table, near extremes", number)
        architecture = mutate_one(extremes[number // 2 % 2], decisions, rng)
        yield architecture if number % 2 == 0 else mutate_one(architecture, decisions, rng)


def spread(decisions: Mapping[str, Decision], rng: random.Random) -> Iterator[Architecture]:
    """Yield random architectures without end that soon hold every pair of options of any two decisions.

    Each starts from the option with the most pairs not seen before and takes, decision by decision in a random order,
    the option that makes most of them with those already taken (the greedy covering arrays of Cohen et al. 1997, AETG):
    of 20 decisions of 4 options about 40 architectures hold all 3,040 pairs, so no interaction of two can hide.
    The elements of a Subset are drawn: four combinations of two elements are met by chance within a few architectures.
    """
    owners = [name for name, d in decisions.items() if not isinstance(d, Subset) for _ in d.options]
    options = [option for d in decisions.values() if not isinstance(d, Subset) for option in d.options]
    columns = {name: np.array([place for place, owner in enumerate(owners) if owner == name]) for name in owners}
    unseen = np.ones((len(owners), len(owners)), dtype=bool)
    for own in columns.values():
        unseen[np.ix_(own, own)] = False

    def best(gains: NDArray[np.int64]) -> int:
        ties = np.flatnonzero(gains == gains.max())
        return int(ties[rng.randrange(len(ties))])

    while True:
        values: dict[str, object] = {name: decision.sample(rng) for name, decision in decisions.items()}
        taken = [best(unseen.sum(axis=1))] if owners else []
        for name in rng.sample(list(columns), len(columns)):
            if name != owners[taken[0]]:
                own = columns[name]
                taken.append(int(own[best(unseen[own][:, taken].sum(axis=1))]))
        values.update((owners[place], options[place]) for place in taken)
        held = np.array(taken, dtype=np.int64)
        unseen[np.ix_(held, held)] = False
        yield Architecture(values)


def verify(model: CostModel, architecture: Architecture, expected: float, scale: float) -> None:
    """Compare the model with the sum of contributions: exactly for whole numbers, else to `TOLERANCE` of ``scale``.

    Raises:
        NotAdditiveError: they differ.
    """
    value = checked_estimate(model, architecture)
    if abs(value - expected) > (0 if model.integral else TOLERANCE * scale):
        raise NotAdditiveError(
            f"'{model.metric}' is not additive over the decisions: {architecture.key} costs {value}, the sum over its "
            f"decisions is {expected}; count it with the model itself"
        )
