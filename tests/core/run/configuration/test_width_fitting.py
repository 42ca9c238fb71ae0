"""Few values are tried when a width is fitted: the network of each is constructed."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from automl_nas.run.configuration.width_fitting import MAX_VALUE, _next_value

COSTS: dict[str, Callable[[int], float]] = {
    "square": lambda width: 700.0 * width**2 + 5000 * width + 10,
    "line": lambda width: 400.0 * width + 3,
    "cube": lambda width: float(width) ** 3,
    "step": lambda width: 1.0 if width < 777 else 1e9,
    "slow": lambda width: math.log(1 + width),
    "nothing": lambda width: 0.0 if width < 300 else 1e300,
    "infinite": lambda width: 1.0 if width < 300 else math.inf,
}

WANTED = {"step": 776, "nothing": 299, "infinite": 299}
"""The largest value that meets the limit, where it is not 611."""


def tried(cost: str, first: int) -> list[int]:
    """Return the values that are tried until the largest one is known, which is checked."""
    function, wanted = COSTS[cost], WANTED.get(cost, 611)
    limit = function(wanted)
    low, high, value, shares = 0, MAX_VALUE, first, dict[int, float]()
    while True:
        shares[value] = function(value) / limit if limit else function(value)
        low, high = (value, high) if function(value) <= limit else (low, value)
        if high - low < 2:
            break
        value = _next_value(low, high, shares)
        assert low < value < high
    assert low == wanted
    return list(shares)


@pytest.mark.parametrize(("first", "most"), [(8, 7), (48, 6), (1000, 4), (611, 2), (600, 4)])
def test_the_cost_of_a_network_needs_few_values(first: int, most: int) -> None:
    """Parameters of a network of convolutions: quadratic, with a linear part."""
    assert len(tried("square", first)) <= most


@pytest.mark.parametrize("first", [1, 8, 48, 1000])
@pytest.mark.parametrize("cost", COSTS)
def test_the_largest_value_is_found_with_few_trials(cost: str, first: int) -> None:
    shares, wanted = tried(cost, first), WANTED.get(cost, 611)
    # Halving needs about 2 * log2(611) = 19 values from 1, and 10 from 1000; a third of the values halve in any case.
    doublings = max(0, math.ceil(math.log2(wanted / first)))
    assert len(shares) <= doublings + (6 if cost in ("square", "line", "cube") and first < wanted else 30)
