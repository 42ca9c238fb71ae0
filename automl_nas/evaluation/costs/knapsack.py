"""The best architecture under budgets: `best_under_limits`, for a score and costs that are sums over decisions.

A multiple-choice knapsack problem with several constraints, solved decision by decision. Of the partial architectures
those are kept that may still meet all limits and whose upper bound is above the best architecture known: what they have
plus what Lagrange multipliers of the limits promise for the rest (Fisher 1981). With a single limit, one that costs no
less than another and scores no more is dropped as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import InfeasibleError, SpaceError
from automl_nas.evaluation.costs.table import CostTable
from automl_nas.space.architecture import Architecture, Value
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.operators import all_values

Array: TypeAlias = NDArray[np.float64]

MOST_STATES = 200_000
"""Partial architectures kept at once; of more, those of the highest bounds stay, and the rest bounds the error."""

_MOST_VALUES = 4096  # of one decision
_STEPS = 400  # of the search for multipliers: they decide on speed, not on the result
_ROUNDING = 1e-9  # relative to the score's range: bounds are sums of some hundred doubles


@dataclass(frozen=True)
class CostInterval:
    """``low <= cost <= high``, with the cost from a table.

    Attributes:
        table: of the cost.
        low: the lower limit.
        high: the upper limit.
    """

    table: CostTable
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Optimum:
    """An architecture and how good it certainly is.

    Attributes:
        architecture: it meets all limits.
        score: its score.
        bound: no architecture that meets the limits has a higher score (but for rounding).
        exact: whether none is better: the score is the bound.
    """

    architecture: Architecture
    score: float
    bound: float
    exact: bool


@dataclass(frozen=True)
class _Items:
    """Decisions as numbers, padded to the same number of values.

    Attributes:
        names: of the decisions.
        values: of each decision.
        scores: shape ``(decisions, values)``; -inf where there is no value.
        costs: whole numbers, shape ``(decisions, values, constraints)``.
        limits: upper limits of their sums, shape ``(constraints,)``.
    """

    names: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]
    scores: Array
    costs: Array
    limits: Array


def best_under_limits(
    decisions: Mapping[str, Decision],
    score: Mapping[str, Sequence[float]],
    limits: Sequence[CostInterval],
    *,
    most_states: int = MOST_STATES,
) -> Optimum:
    """Return the raw architecture of the highest score that meets all limits.

    Args:
        decisions: of the space.
        score: decision name -> what each option adds, in the order of the options; of a `Subset` what each element
            adds. That of a `CostTable` is its `contributions`; negate it to look for the cheapest.
        limits: on costs of the same space. Costs are compared as `CostTable.count` does.
        most_states: partial architectures kept at once. If more are needed the result may not be exact, and says so.

    Raises:
        InfeasibleError: no architecture meets the limits, or none was found among the states kept.
        SpaceError: a score is missing or no number, or a decision has too many values.
    """
    items = _items(decisions, score, limits)
    multipliers = _multipliers(items)
    # What is left after the first n decisions: least cost, highest reduced score and what the latter takes.
    reduced = items.scores - items.costs @ multipliers
    taken = np.argmax(reduced, axis=1)
    rows = np.arange(len(taken))
    least = _rest(np.where(np.isfinite(items.scores)[:, :, None], items.costs, np.inf).min(axis=1))
    promised = _rest(reduced[rows, taken])
    rest_score, rest_cost = _rest(items.scores[rows, taken]), _rest(items.costs[rows, taken])
    slack = _ROUNDING * (1 + np.abs(np.where(np.isfinite(items.scores), items.scores, 0)).max(axis=1).sum())

    scores, costs = np.zeros(1), np.zeros((1, len(items.limits)))
    history: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    best: tuple[float, int, int] | None = None  # score, layer, state: the rest as the multipliers say
    dropped = -math.inf
    for layer in range(len(items.names) + 1):
        complete = scores + rest_score[layer]
        fits = (costs + rest_cost[layer] <= items.limits).all(axis=1)
        if fits.any():
            place = int(np.argmax(np.where(fits, complete, -np.inf)))
            if best is None or complete[place] > best[0]:
                best = float(complete[place]), layer, place
        if layer == len(items.names):
            break
        real = np.flatnonzero(np.isfinite(items.scores[layer]))
        parent, value = np.repeat(np.arange(len(scores)), len(real)), np.tile(real, len(scores))
        scores, costs = scores[parent] + items.scores[layer, value], costs[parent] + items.costs[layer, value]
        bounds = scores - costs @ multipliers + promised[layer + 1] + items.limits @ multipliers
        kept = (costs + least[layer + 1] <= items.limits).all(axis=1)
        if best is not None:
            kept &= bounds > best[0] - slack
        places = np.flatnonzero(kept)
        if len(items.limits) == 1:
            places = _undominated(places, scores, costs[:, 0])
        if len(places) > most_states:
            order = places[np.argsort(-bounds[places], kind="stable")]
            dropped = max(dropped, float(bounds[order[most_states]]))
            places = np.sort(order[:most_states])
        history.append((parent[places], value[places]))
        scores, costs = scores[places], costs[places]
        if not len(places):
            break
    if best is None:
        raise InfeasibleError(_nothing(limits, searched_all=dropped == -math.inf))
    architecture = _traced(items, history, taken, best[1], best[2])
    found = _score(decisions, score, architecture)
    exact = dropped <= best[0] + slack
    return Optimum(architecture, found, found if exact else max(found, dropped), exact)


def _items(
    decisions: Mapping[str, Decision], score: Mapping[str, Sequence[float]], limits: Sequence[CostInterval]
) -> _Items:
    names, values, scores, costs = [], [], [], []
    bounded = [limit for limit in limits if limit.low > -math.inf or limit.high < math.inf]
    for name, decision in decisions.items():
        _check(name, decision, score)
        for own, weights in _spread(decision):
            names.append(name)
            values.append(own)
            scores.append([math.fsum(w * float(s) for w, s in zip(row, score[name], strict=True)) for row in weights])
            units = [
                [sum(w * u for w, u in zip(row, limit.table._units[name], strict=True)) for row in weights]
                for limit in bounded
            ]
            costs.append(np.array(units, dtype=np.float64).reshape(len(bounded), len(own)).T)
    width = max((len(own) for own in values), default=1)
    columns, ends = [], []
    for place, limit in enumerate(bounded):
        low, high = limit.table._interval(limit.low, limit.high)
        columns += [(place, 1.0)] * (limit.high < math.inf) + [(place, -1.0)] * (limit.low > -math.inf)
        ends += [float(high)] * (limit.high < math.inf) + [-float(low)] * (limit.low > -math.inf)
    all_scores = np.full((len(names), width), -np.inf)
    all_costs = np.zeros((len(names), width, len(columns)))
    for row, (some, cost) in enumerate(zip(scores, costs, strict=True)):
        all_scores[row, : len(some)] = some
        for column, (place, sign) in enumerate(columns):
            all_costs[row, : len(some), column] = sign * cost[:, place]
    return _Items(tuple(names), tuple(values), all_scores, all_costs, np.array(ends, dtype=np.float64))


def _check(name: str, decision: Decision, score: Mapping[str, Sequence[float]]) -> None:
    if name not in score:
        raise SpaceError(f"the score lacks the decision '{name}'")
    if len(score[name]) != len(decision.options):
        raise SpaceError(f"the score of '{name}' has {len(score[name])} numbers for {len(decision.options)} options")
    if not all(math.isfinite(value) for value in score[name]):
        raise SpaceError(f"the score of '{name}' holds something that is no number: {list(score[name])}")


def _spread(decision: Decision) -> list[tuple[tuple[Value, ...], list[tuple[int, ...]]]]:
    """Return independent items: (values, for each of them which options it takes).

    An unrestricted Subset is one item for each element.
    """
    count = len(decision.options)
    if not isinstance(decision, Subset):
        return [(decision.options, [tuple(int(k == place) for k in range(count)) for place in range(count)])]
    if decision.min == 0 and decision.largest == count:
        units = [tuple(int(k == place) for k in range(count)) for place in range(count)]
        return [(((), (option,)), [(0,) * count, unit]) for option, unit in zip(decision.options, units, strict=True)]
    if decision.size > _MOST_VALUES:
        raise SpaceError(f"a Subset with {decision.size:,} values is too large; the most is {_MOST_VALUES:,}")
    own: list[Value] = [value for value in all_values(decision) if isinstance(value, tuple)]
    return [(tuple(own), [decision.encode(value) for value in own])]


def _multipliers(items: _Items) -> Array:
    """Return multipliers >= 0 of the limits that make the bound on the score small (subgradient steps).

    Any multipliers are right; better ones leave less to search.
    """
    count = len(items.limits)
    best, best_bound = np.zeros(count), np.inf
    if not count or not len(items.names):
        return best
    spans = np.maximum(items.costs.max(axis=1) - items.costs.min(axis=1), 0).sum(axis=0)
    spans = np.where(spans > 0, spans, 1.0)
    finite = np.where(np.isfinite(items.scores), items.scores, np.nan)
    size = float(np.nansum(np.nanmax(finite, axis=1) - np.nanmin(finite, axis=1))) or 1.0
    rows = np.arange(len(items.names))
    multipliers = np.zeros(count)  # per span
    for step in range(_STEPS):
        reduced = items.scores - (items.costs / spans) @ multipliers
        taken = np.argmax(reduced, axis=1)
        over = (items.costs[rows, taken].sum(axis=0) - items.limits) / spans
        bound = float(reduced[rows, taken].sum() + (items.limits / spans) @ multipliers)
        if bound < best_bound:
            best, best_bound = multipliers.copy(), bound
        length = float(np.linalg.norm(over))
        if length == 0:
            break
        multipliers = np.maximum(multipliers + size * 0.98**step * over / length, 0.0)
    return best / spans


def _rest(rows: Array) -> Array:
    """Return the sums over the rows from n on, for n = 0, 1, ..., one more than there are rows."""
    zero = np.zeros((1, *rows.shape[1:]))
    return np.concatenate((np.cumsum(rows[::-1], axis=0)[::-1], zero))


def _undominated(places: NDArray[np.int64], scores: Array, costs: Array) -> NDArray[np.int64]:
    order = places[np.lexsort((-scores[places], costs[places]))]
    ahead = np.concatenate(([-np.inf], np.maximum.accumulate(scores[order])[:-1])) if len(order) else np.zeros(0)
    return np.sort(order[scores[order] > ahead])


def _traced(
    items: _Items,
    history: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    taken: NDArray[np.int64],
    layer: int,
    state: int,
) -> Architecture:
    picks = [int(value) for value in taken]
    for back in range(layer - 1, -1, -1):
        parents, values = history[back]
        picks[back], state = int(values[state]), int(parents[state])
    chosen: dict[str, Value] = {}
    for name, values_of, pick in zip(items.names, items.values, picks, strict=True):
        value = values_of[pick]
        before = chosen.get(name)
        # The elements of a Subset come one by one, in their order.
        chosen[name] = (*before, *value) if isinstance(before, tuple) and isinstance(value, tuple) else value
    return Architecture(chosen)


def _score(
    decisions: Mapping[str, Decision], score: Mapping[str, Sequence[float]], architecture: Architecture
) -> float:
    parts: list[float] = []
    for name, decision in decisions.items():
        value = architecture[name]
        options = value if isinstance(decision, Subset) and isinstance(value, tuple) else (value,)
        parts += [float(score[name][decision.position(option)]) for option in options]
    return math.fsum(parts)


def _nothing(limits: Sequence[CostInterval], *, searched_all: bool) -> str:
    texts = [
        f"{limit.table.metric} from {limit.low:,} to {limit.high:,} {limit.table.unit} (the space has "
        f"{limit.table.smallest[1]:,} to {limit.table.largest[1]:,})"
        for limit in limits
    ]
    if searched_all:
        return f"no architecture has {' and '.join(texts)}; relax a limit"
    return f"no architecture was found with {' and '.join(texts)}, and not all were looked at; raise most_states"
