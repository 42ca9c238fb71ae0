"""The best architecture under limits: `best_under_limits`, for a score and costs that are sums over decisions.

A multiple-choice knapsack problem with several constraints, solved decision by decision. A partial architecture is kept
if it can still meet all limits and if the upper bound of its score is above the best architecture so far. The upper
bound is its score plus a bound for the remaining decisions from Lagrange multipliers of the limits (Fisher 1981). With
one limit, a partial architecture is also dropped if another one costs no more and has no lower score.
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
"""The largest number of partial architectures kept at once. Those with the highest bounds are kept; the highest bound
of the others limits the error of the result."""

_MOST_VALUES = 4096  # of one decision
_STEPS = 400  # of the search for multipliers, which influence the speed but not the result
_ROUNDING = 1e-9  # relative to the range of the score: bounds are sums of a few hundred doubles


@dataclass(frozen=True)
class CostInterval:
    """The constraint ``low <= cost <= high``.

    Attributes:
        table: the table of the cost.
        low: the lower limit.
        high: the upper limit.
    """

    table: CostTable
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class Optimum:
    """An architecture and an upper bound of all scores.

    Attributes:
        architecture: an architecture that meets all limits.
        score: its score.
        bound: an upper bound of the scores of all architectures that meet the limits, up to rounding.
        exact: whether the architecture has the highest score: score and bound are then equal.
    """

    architecture: Architecture
    score: float
    bound: float
    exact: bool


@dataclass(frozen=True)
class _Items:
    """Decisions as arrays, padded to the same number of values.

    Attributes:
        names: the names of the decisions.
        values: the values of each decision.
        scores: shape ``(decisions, values)``; -inf in the padding.
        costs: whole numbers, shape ``(decisions, values, constraints)``.
        limits: upper limits of the sums of costs, shape ``(constraints,)``.
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
    """Return the raw architecture with the highest score that meets all limits.

    Args:
        decisions: the decisions of the space.
        score: decision name -> contribution of each option (of each element of a `Subset`) to the score, in the order
            of the options. For the cheapest architecture use the negated `contributions` of a `CostTable`.
        limits: limits on costs of the same space. Costs are compared as in `CostTable.count`.
        most_states: the largest number of partial architectures kept at once. If more are needed, the result may have
            ``exact=False``.

    Raises:
        InfeasibleError: no architecture meets the limits, or the search that was cut by ``most_states`` reached none.
        SpaceError: a score is missing or is not a finite number, or a decision has too many values.
    """
    items = _items(decisions, score, limits)
    multipliers = _multipliers(items)
    # For the decisions after the first n: the lowest cost, the highest reduced score, and score and cost of the latter.
    reduced = items.scores - items.costs @ multipliers
    relaxed = np.argmax(reduced, axis=1)
    rows = np.arange(len(relaxed))
    lowest_cost = _suffix_sums(np.where(np.isfinite(items.scores)[:, :, None], items.costs, np.inf).min(axis=1))
    highest_reduced = _suffix_sums(reduced[rows, relaxed])
    rest_score, rest_cost = _suffix_sums(items.scores[rows, relaxed]), _suffix_sums(items.costs[rows, relaxed])
    slack = _ROUNDING * (1 + np.abs(np.where(np.isfinite(items.scores), items.scores, 0)).max(axis=1).sum())

    scores, costs = np.zeros(1), np.zeros((1, len(items.limits)))
    history: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    best: tuple[float, int, int] | None = None  # score, layer, state; the remaining decisions as in `relaxed`
    dropped_bound = -math.inf
    for layer in range(len(items.names) + 1):
        complete = scores + rest_score[layer]
        fits = (costs + rest_cost[layer] <= items.limits).all(axis=1)
        if fits.any():
            state = int(np.argmax(np.where(fits, complete, -np.inf)))
            if best is None or complete[state] > best[0]:
                best = float(complete[state]), layer, state
        if layer == len(items.names) or not len(items.limits):
            break  # without limits, the best value of each decision is the best architecture
        unpadded = np.flatnonzero(np.isfinite(items.scores[layer]))
        parent, value = np.repeat(np.arange(len(scores)), len(unpadded)), np.tile(unpadded, len(scores))
        scores, costs = scores[parent] + items.scores[layer, value], costs[parent] + items.costs[layer, value]
        bounds = scores - costs @ multipliers + highest_reduced[layer + 1] + items.limits @ multipliers
        promising = (costs + lowest_cost[layer + 1] <= items.limits).all(axis=1)
        if best is not None:
            promising &= bounds > best[0] - slack
        states = np.flatnonzero(promising)
        if len(items.limits) == 1:
            states = _undominated(states, scores, costs[:, 0])
        if len(states) > most_states:
            order = states[np.argsort(-bounds[states], kind="stable")]
            dropped_bound = max(dropped_bound, float(bounds[order[most_states]]))
            states = np.sort(order[:most_states])
        history.append((parent[states], value[states]))
        scores, costs = scores[states], costs[states]
        if not len(states):
            break
    if best is None:
        raise InfeasibleError(_infeasible_message(limits, complete_search=dropped_bound == -math.inf))
    architecture = _trace_back(items, history, relaxed, best[1], best[2])
    best_score = _score(decisions, score, architecture)
    exact = bool(dropped_bound <= best[0] + slack)
    return Optimum(architecture, best_score, best_score if exact else max(best_score, dropped_bound), exact)


def _items(
    decisions: Mapping[str, Decision], score: Mapping[str, Sequence[float]], limits: Sequence[CostInterval]
) -> _Items:
    names, values, scores, costs = [], [], [], []
    bounded = [limit for limit in limits if limit.low > -math.inf or limit.high < math.inf]
    for name, decision in decisions.items():
        _check(name, decision, score)
        for own, weights in _independent_items(decision):
            names.append(name)
            values.append(own)
            scores.append([math.fsum(w * float(s) for w, s in zip(row, score[name], strict=True)) for row in weights])
            units = [
                [sum(w * u for w, u in zip(row, limit.table.units[name], strict=True)) for row in weights]
                for limit in bounded
            ]
            costs.append(np.array(units, dtype=np.float64).reshape(len(bounded), len(own)).T)
    width = max((len(own) for own in values), default=1)
    columns, ends = [], []
    for index, limit in enumerate(bounded):
        low, high = limit.table.unit_interval(limit.low, limit.high)
        columns += [(index, 1.0)] * (limit.high < math.inf) + [(index, -1.0)] * (limit.low > -math.inf)
        ends += [float(high)] * (limit.high < math.inf) + [-float(low)] * (limit.low > -math.inf)
    all_scores = np.full((len(names), width), -np.inf)
    all_costs = np.zeros((len(names), width, len(columns)))
    for row, (own_scores, own_costs) in enumerate(zip(scores, costs, strict=True)):
        all_scores[row, : len(own_scores)] = own_scores
        for column, (index, sign) in enumerate(columns):
            all_costs[row, : len(own_scores), column] = sign * own_costs[:, index]
    return _Items(tuple(names), tuple(values), all_scores, all_costs, np.array(ends, dtype=np.float64))


def _check(name: str, decision: Decision, score: Mapping[str, Sequence[float]]) -> None:
    if name not in score:
        raise SpaceError(f"the score lacks the decision '{name}'")
    if len(score[name]) != len(decision.options):
        raise SpaceError(f"the score of '{name}' has {len(score[name])} numbers for {len(decision.options)} options")
    if not all(math.isfinite(value) for value in score[name]):
        raise SpaceError(f"the scores of '{name}' must be finite numbers, not {list(score[name])}")


def _independent_items(decision: Decision) -> list[tuple[tuple[Value, ...], list[tuple[int, ...]]]]:
    """Return independent items: (values, for each value a 1 for each option it has and a 0 for each other).

    A Subset without limits on its size is one item for each element.
    """
    count = len(decision.options)
    if not isinstance(decision, Subset):
        return [(decision.options, [tuple(int(k == index) for k in range(count)) for index in range(count)])]
    if decision.min == 0 and decision.largest == count:
        units = [tuple(int(k == index) for k in range(count)) for index in range(count)]
        return [(((), (option,)), [(0,) * count, unit]) for option, unit in zip(decision.options, units, strict=True)]
    if decision.size > _MOST_VALUES:
        raise SpaceError(f"a Subset with {decision.size:,} values is too large; at most {_MOST_VALUES:,} are supported")
    own: list[Value] = [value for value in all_values(decision) if isinstance(value, tuple)]
    return [(tuple(own), [decision.encode(value) for value in own])]


def _multipliers(items: _Items) -> Array:
    """Return multipliers >= 0 of the limits that make the bound of the score small (subgradient steps).

    The bound is valid for all multipliers; a smaller bound makes the search shorter.
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
        choices = np.argmax(reduced, axis=1)
        excess = (items.costs[rows, choices].sum(axis=0) - items.limits) / spans
        bound = float(reduced[rows, choices].sum() + (items.limits / spans) @ multipliers)
        if bound < best_bound:
            best, best_bound = multipliers.copy(), bound
        length = float(np.linalg.norm(excess))
        if length == 0:
            break
        multipliers = np.maximum(multipliers + size * 0.98**step * excess / length, 0.0)
    return best / spans


def _suffix_sums(rows: Array) -> Array:
    """Return the sums over all rows from the n-th on, for n = 0, 1, ..., len(rows)."""
    zero = np.zeros((1, *rows.shape[1:]))
    return np.concatenate((np.cumsum(rows[::-1], axis=0)[::-1], zero))


def _undominated(states: NDArray[np.int64], scores: Array, costs: Array) -> NDArray[np.int64]:
    order = states[np.lexsort((-scores[states], costs[states]))]
    ahead = np.concatenate(([-np.inf], np.maximum.accumulate(scores[order])[:-1])) if len(order) else np.zeros(0)
    return np.sort(order[scores[order] > ahead])


def _trace_back(
    items: _Items,
    history: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    relaxed: NDArray[np.int64],
    layer: int,
    state: int,
) -> Architecture:
    picks = [int(value) for value in relaxed]
    for back in range(layer - 1, -1, -1):
        parents, values = history[back]
        picks[back], state = int(values[state]), int(parents[state])
    chosen: dict[str, Value] = {}
    for name, values_of, pick in zip(items.names, items.values, picks, strict=True):
        value = values_of[pick]
        before = chosen.get(name)
        # The items of a Subset are its elements, in their order.
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


def _infeasible_message(limits: Sequence[CostInterval], *, complete_search: bool) -> str:
    conditions = [
        f"{limit.table.metric} from {limit.low:,} to {limit.high:,} {limit.table.unit} (the space has "
        f"{limit.table.smallest[1]:,} to {limit.table.largest[1]:,})"
        for limit in limits
    ]
    if complete_search:
        return f"no architecture has {' and '.join(conditions)}; relax a limit"
    return f"an incomplete search found no architecture with {' and '.join(conditions)}; raise most_states"
