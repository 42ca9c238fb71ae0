"""Costs that are sums over pairs of decisions, such as the FLOPs of a chain of layers of searched widths."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_nas.evaluation.costs.additivity import TOLERANCE, verification_points
from automl_nas.space.architecture import Architecture, Value
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.operators import encode

_WORD = 1 << 62


def pairwise_costs(
    estimate: Callable[[Architecture], float], decisions: Mapping[str, Decision], *, seed: int, checks: int
) -> NDArray[Any] | None:
    """Return the costs of all architectures of a space if they are sums over decisions and pairs of decisions.

    A layer of c_in to c_out channels costs a multiple of c_in c_out, so a cost of widths is such a sum if no third
    decision takes part. It takes far fewer estimates than there are architectures: 154 of 4,096 for six widths of four
    options. The sums are compared with the model for ``checks`` architectures that cover all pairs of options, and for
    the cheapest and the most expensive architecture.

    Args:
        estimate: returns the cost of an architecture: a whole number, or a number; infinity if it does not run.
        decisions: of the space. All sums are held in memory, so it must be small.
        seed: of the architectures that are compared.
        checks: the number of these architectures.

    Returns:
        Shape ``(options of the first decision, ...)``, whole numbers if all estimates are; None if the cost is not such
        a sum, a decision is a `Subset`, or it would take more estimates than half of the architectures.
    """
    sizes = [decision.size for decision in decisions.values()]
    needed = 1 + sum(size - 1 for size in sizes) + sum((a - 1) * (b - 1) for a, b in combinations(sizes, 2))
    if any(isinstance(decision, Subset) for decision in decisions.values()):
        return None
    if 2 * (needed + checks) > math.prod(sizes):
        return None
    costs = _sums(estimate, decisions)
    if costs is None:
        return None
    scale = float(np.abs(costs).max())
    whole = costs.dtype == np.int64
    ends = [architecture_at(decisions, int(index)) for index in (costs.argmin(), costs.argmax())]
    for architecture in verification_points(decisions, (ends[0], ends[1]), seed, checks):
        expected = costs[encode(architecture, decisions)]
        if not abs(estimate(architecture) - expected) <= (0 if whole else TOLERANCE * scale):
            return None
    return costs


def architecture_at(decisions: Mapping[str, Decision], index: int) -> Architecture:
    """Return the architecture at a flat index of `pairwise_costs`."""
    places = np.unravel_index(index, [decision.size for decision in decisions.values()])
    values: dict[str, Value] = {}
    for (name, decision), place in zip(decisions.items(), places, strict=True):
        values[name] = decision.options[int(place)]
    return Architecture(values)


def _sums(estimate: Callable[[Architecture], float], decisions: Mapping[str, Decision]) -> NDArray[Any] | None:
    """Fit the terms by changing one and two decisions of the architecture of all first options; return all sums."""
    first = Architecture({name: decision.options[0] for name, decision in decisions.items()})
    names, sizes = list(decisions), [decision.size for decision in decisions.values()]
    base = estimate(first)

    def options(name: str) -> tuple[Value, ...]:
        return decisions[name].options

    single = {name: [estimate(first.replace({name: option})) - base for option in options(name)[1:]] for name in names}
    pairs = {}
    for one, other in combinations(names, 2):
        pairs[one, other] = [
            estimate(first.replace({one: options(one)[a + 1], other: options(other)[b + 1]}))
            - base
            - single[one][a]
            - single[other][b]
            for a, b in product(range(len(single[one])), range(len(single[other])))
        ]
    terms = [base, *(value for part in (*single.values(), *pairs.values()) for value in part)]
    if not all(map(math.isfinite, terms)):
        return None
    whole = all(isinstance(term, int) for term in terms)
    if whole and sum(abs(int(term)) for term in terms) >= _WORD:
        return None
    kind: Any = np.int64 if whole else np.float64
    total: NDArray[Any] = np.full(sizes, base, dtype=kind)
    for place, name in enumerate(names):
        total += np.array([0, *single[name]], dtype=kind).reshape([-1 if p == place else 1 for p in range(len(names))])
    for (one, other), values in pairs.items():
        block = np.zeros((len(options(one)), len(options(other))), dtype=kind)
        block[1:, 1:] = np.array(values, dtype=kind).reshape(block.shape[0] - 1, block.shape[1] - 1)
        shape = [1] * len(names)
        shape[names.index(one)], shape[names.index(other)] = block.shape
        total += block.reshape(shape)
    return total
