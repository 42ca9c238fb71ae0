"""The k best architectures under limits, and all architectures in the order of their scores."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from automl_nas.errors import InfeasibleError
from automl_nas.evaluation import CostInterval, Optimum, best_under_limits
from automl_nas.space import Architecture, Decision, Subset, all_values


def k_best_under_limits(
    decisions: Mapping[str, Decision], score: Mapping[str, Sequence[float]], limits: Sequence[CostInterval], k: int
) -> list[Optimum]:
    """Return up to k raw architectures with the highest scores that meet all limits, the best one first.

    After each result, the architectures that remain are divided by the first decision in which they differ from it
    (Lawler 1972, "A procedure for computing the k best solutions to discrete optimization problems"). The best one of
    each part is found by `best_under_limits`, with a penalty on what the part excludes.

    Args:
        decisions: of the space; if k is above 1, `Choice` and `Ordinal` only.
        score: decision name -> contribution of each option to the score.
        limits: limits on costs.
        k: the number of results.

    Raises:
        InfeasibleError: no architecture meets the limits.
    """
    first = best_under_limits(decisions, score, limits)
    if k == 1:
        return [first]
    # An excluded option costs more than any two architectures can differ in their scores.
    penalty = 1 + sum(max(row) - min(row) for row in score.values())
    order, counter = list(decisions), itertools.count()
    # (negated score, tie, optimum, number of leading decisions that are set, options excluded at the next one)
    none: frozenset[int] = frozenset()
    queue = [(-first.score, next(counter), first, 0, none)]
    results: list[Optimum] = []
    while queue and len(results) < k:
        _, _, best, set_count, excluded = heapq.heappop(queue)
        results.append(best)
        places = [decisions[name].position(best.architecture[name]) for name in order]
        for depth in range(set_count, len(order)):
            forbidden = (excluded if depth == set_count else none) | {places[depth]}
            if len(forbidden) == len(decisions[order[depth]].options):
                continue
            part = {
                name: _penalised(
                    score[name],
                    set(range(len(score[name]))) - {places[index]} if index < depth else forbidden,
                    penalty if index <= depth else 0.0,
                )
                for index, name in enumerate(order)
            }
            try:
                candidate = best_under_limits(decisions, part, limits)
            except InfeasibleError:
                continue
            true_score = sum(score[name][decisions[name].position(candidate.architecture[name])] for name in order)
            if candidate.score < true_score - penalty / 2:
                continue  # only excluded architectures meet the limits
            optimum = Optimum(candidate.architecture, true_score, max(true_score, candidate.bound), candidate.exact)
            heapq.heappush(queue, (-true_score, next(counter), optimum, depth, forbidden))
    return results


def _penalised(scores: Sequence[float], excluded: set[int] | frozenset[int], penalty: float) -> list[float]:
    return [score - penalty if place in excluded else score for place, score in enumerate(scores)]


def in_order(
    decisions: Mapping[str, Decision], score: Mapping[str, Sequence[float]]
) -> Iterator[tuple[float, Architecture]]:
    """Yield all raw architectures in the order of falling scores; equal scores in the order of the options.

    Args:
        decisions: of the space.
        score: decision name -> contribution of each option (of each element of a `Subset`) to the score.
    """
    rows: list[list[tuple[float, object]]] = []
    for name, decision in decisions.items():
        values = [(value_score(decision, value, score[name]), value) for value in all_values(decision)]
        rows.append(sorted(values, key=lambda item: -item[0]))
    names = list(decisions)
    start = (0,) * len(rows)
    queue: list[tuple[float, tuple[int, ...]]] = [(-sum(row[0][0] for row in rows), start)]
    seen = {start}
    while queue:
        negated, places = heapq.heappop(queue)
        yield -negated, Architecture({n: row[p][1] for n, row, p in zip(names, rows, places, strict=True)})
        for index, (row, place) in enumerate(zip(rows, places, strict=True)):
            following = (*places[:index], place + 1, *places[index + 1 :])
            if place + 1 < len(row) and following not in seen:
                seen.add(following)
                heapq.heappush(queue, (negated + row[place][0] - row[place + 1][0], following))


def value_score(decision: Decision, value: object, scores: Sequence[float]) -> float:
    """Return the score of a value: of the option, or the sum over the elements of a subset."""
    options = value if isinstance(decision, Subset) and isinstance(value, tuple) else (value,)
    return math.fsum(scores[decision.position(option)] for option in options)
