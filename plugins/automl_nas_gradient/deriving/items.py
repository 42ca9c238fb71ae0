"""The independent parts of an architecture among which a network is derived."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.evaluation import CostModel, CostTable, NotAdditiveError
from automl_nas.space import (
    Architecture,
    Choice,
    Decision,
    SearchSpace,
    Selection,
    Subset,
    SupernetSpace,
    Value,
    all_values,
    sample,
)
from automl_nas.streams import stream
from automl_nas_gradient.deriving.ranked import value_score

_CHECKS = 16  # architectures on which the sum over parts is verified
_ROUNDING = 1e-9  # relative, of a sum of a few parts

MOST_VALUES = 4096
"""The largest number of values of a `Subset` that is treated as one choice among them."""


class GroupedSpace(SupernetSpace):
    """A space some of whose decisions are moot depending on others, so that they are derived together.

    In the DARTS space a node takes two of its inputs; the operations of the other inputs make no difference, neither to
    the network nor to its probability.
    """

    @abstractmethod
    def groups(self) -> Mapping[str, Sequence[Mapping[str, Value]]]:
        """Return group -> the joint values of its decisions that a derived network can have.

        A joint value leaves out decisions that make no difference in it. Every decision is in one group only, and the
        cost of a network is a sum over the groups if it is additive.
        """

    @abstractmethod
    def parts(self, joint: Mapping[str, Value]) -> Sequence[str]:
        """Return the parts of a joint value whose costs add up to its cost, if the cost is additive."""

    @abstractmethod
    def active(self, architecture: Architecture) -> Mapping[str, Value]:
        """Return the decisions of an architecture that make a difference, with their values."""


@final
@dataclass(frozen=True)
class Items:
    """Parts of an architecture that are chosen independently.

    Attributes:
        space: the space.
        decisions: one for each part; those of the space itself, or a choice among the joint values of a group.
        values: part -> its joint values; None: the parts are the decisions of the space.
    """

    space: SearchSpace
    decisions: Mapping[str, Decision]
    values: Mapping[str, Sequence[Mapping[str, Value]]] | None

    def scores(self, scores: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
        """Return part -> the score of each of its values.

        Args:
            scores: decision of the space -> contribution of each option to the score.
        """
        if self.values is None:
            return {name: list(scores[name]) for name in self.decisions}
        decisions = self.space.decisions
        return {
            part: [
                math.fsum(value_score(decisions[name], value, scores[name]) for name, value in joint.items())
                for joint in values
            ]
            for part, values in self.values.items()
        }

    def architecture(self, chosen: Mapping[str, object]) -> Architecture:
        """Return the architecture in which the parts have the given values; moot decisions have their first value."""
        if self.values is None:
            return self.space.validate(chosen)
        joint: dict[str, object] = {name: _first(decision) for name, decision in self.space.decisions.items()}
        for part, place in chosen.items():
            joint.update(self.values[part][int(str(place))])
        return self.space.canonical(self.space.validate(joint))

    def table(self, model: CostModel) -> CostTable:
        """Return the table of a cost over the parts.

        Raises:
            NotAdditiveError: the cost is not a sum over the parts.
        """
        if not isinstance(self.space, GroupedSpace) or self.values is None:
            return CostTable.build(_ItemCost(model, self), _ItemSpace(self.decisions))
        differences = part_differences(self.space, self.values, lambda chosen: self._cost(model, chosen))
        total = _SumCost(model, differences)
        for number in range(_CHECKS):
            chosen = sample(self.decisions, stream(0, "costs of parts", number))
            value, expected = self._cost(model, chosen), total.estimate(chosen)
            if abs(value - expected) > _ROUNDING * abs(value):
                raise NotAdditiveError(
                    f"{self.architecture(chosen).key} costs {value:,}, and the sum of its parts is {expected:,}"
                )
        return CostTable.build(total, _ItemSpace(self.decisions))

    def _cost(self, model: CostModel, chosen: Mapping[str, object]) -> float:
        return model.estimate(self.architecture(chosen))


def make_items(space: SearchSpace, exclude: Sequence[str], *, top: int) -> Items:
    """Return the parts of the architectures of a space.

    Args:
        space: the space.
        exclude: options that no derived network has.
        top: the number of networks that are derived at once.

    Raises:
        ConfigurationError: no option of a decision is left, no decision has an excluded option, or a `Subset` has too
            many values for more than one network.
    """
    if isinstance(space, GroupedSpace):
        values: dict[str, Sequence[Mapping[str, Value]]] = {
            name: [joint for joint in group if not any(_has(value, exclude) for value in joint.values())]
            for name, group in space.groups().items()
        }
    elif exclude or (top > 1 and any(isinstance(each, Subset) for each in space.decisions.values())):
        values = {name: _values(name, decision, exclude) for name, decision in space.decisions.items()}
    else:
        return Items(space, dict(space.decisions), None)
    for option in exclude:
        if not any(option in map(str, decision.options) for decision in space.decisions.values()):
            raise ConfigurationError(f"no decision has the option '{option}'", path="derive.exclude")
    for name, joint in values.items():
        if not joint:
            raise ConfigurationError(f"'{name}' has no option left", path="derive.exclude")
    return Items(space, {name: Choice(tuple(range(len(joint)))) for name, joint in values.items()}, values)


def _values(name: str, decision: Decision, exclude: Sequence[str]) -> list[Mapping[str, Value]]:
    if decision.size > MOST_VALUES:
        raise ConfigurationError(
            f"the decision '{name}' has {decision.size:,} values, more than {MOST_VALUES:,}; set top: 1 and leave "
            "exclude empty",
            path="derive.top",
        )
    return [{name: decision.validate(value)} for value in all_values(decision) if not _has(value, exclude)]


def _has(value: object, exclude: Sequence[str]) -> bool:
    return any(str(option) in exclude for option in (value if isinstance(value, tuple) else (value,)))


def _first(decision: Decision) -> object:
    return decision.options[: decision.min] if isinstance(decision, Subset) else decision.options[0]


def part_differences(
    space: GroupedSpace,
    values: Mapping[str, Sequence[Mapping[str, Value]]],
    cost: Callable[[Mapping[str, object]], float],
) -> dict[str, list[float]]:
    """Return group -> the cost of each joint value; the first values of the other groups are part of the first group's.

    The costs of the parts of a group follow from as many networks as its parts are independent, far fewer than it has
    joint values: 196 instead of 1,960 for the DARTS space.

    Args:
        space: names the parts of a joint value.
        values: group -> joint values.
        cost: of the network in which the groups have the values of these numbers.
    """
    reference: dict[str, object] = dict.fromkeys(values, 0)
    base = cost(reference)
    costs: dict[str, list[float]] = {}
    for group, joint in values.items():
        parts = [Counter(space.parts(value)) for value in joint]
        columns = {part: place for place, part in enumerate(sorted(set().union(*parts)))}
        rows = np.zeros((len(joint), len(columns)))
        for row, counted in enumerate(parts):
            for part, count in counted.items():
                rows[row, columns[part]] = count
        rows -= rows[0].copy()
        probes = _independent_rows(rows)
        measured = np.array([cost({**reference, group: place}) - base for place in probes])
        solution = np.linalg.lstsq(rows[probes], measured, rcond=None)[0] if probes else np.zeros(len(columns))
        own = rows @ solution
        costs[group] = [float(value) for value in own]
    first = next(iter(costs))
    costs[first] = [value + base for value in costs[first]]
    return costs


def _independent_rows(rows: NDArray[np.float64]) -> list[int]:
    """Return the numbers of linearly independent rows that span all of them (Gram-Schmidt)."""
    chosen: list[int] = []
    basis: list[NDArray[np.float64]] = []
    for number, row in enumerate(rows):
        rest = row.copy()
        for vector in basis:
            rest -= (rest @ vector) * vector
        length = float(np.linalg.norm(rest))
        if length > 1e-6:
            chosen.append(number)
            basis.append(rest / length)
    return chosen


@final
class _SumCost(CostModel):
    """A cost that is known as a sum over groups."""

    def __init__(self, model: CostModel, costs: Mapping[str, Sequence[float]]) -> None:
        self.metric, self.unit, self.integral = model.metric, model.unit, model.integral  # type: ignore[misc]
        self._costs = {g: [float(round(v)) if model.integral else v for v in own] for g, own in costs.items()}

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {group: self._costs[group][int(str(place))] for group, place in architecture.items()}


@final
class _ItemSpace(SearchSpace):
    """The parts as a space, which has decisions only."""

    def __init__(self, decisions: Mapping[str, Decision]) -> None:
        self._decisions = decisions

    @property
    def decisions(self) -> Mapping[str, Decision]:
        return self._decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        return ()

    def build(self, architecture: Architecture) -> nn.Module:
        return _no_network()


def _no_network() -> NoReturn:
    raise SpaceError("parts of an architecture are no network")


@final
class _ItemCost(CostModel):
    """A cost as a function of the parts."""

    def __init__(self, model: CostModel, items: Items) -> None:
        self.metric, self.unit, self.integral = model.metric, model.unit, model.integral  # type: ignore[misc]
        self._model, self._items = model, items

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {"": self._model.estimate(self._items.architecture(architecture))}


def uniform_selection(decisions: Mapping[str, Decision]) -> Selection:
    """Return equal weights: 1/k for each of k options; for an element of a `Subset` the mean share of a value."""
    import torch

    weights: dict[str, Value | torch.Tensor] = {}
    for name, decision in decisions.items():
        count = len(decision.options)
        share = (decision.min + decision.largest) / 2 / count if isinstance(decision, Subset) else 1 / count
        weights[name] = torch.full((count,), share, dtype=torch.float64)
    return weights
