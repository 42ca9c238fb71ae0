"""Mean and deviation by which numbers are standardised, of numbers that may all be the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

_ROUNDING = 1e-12
"""A deviation that is at most this share of the largest magnitude is the rounding of sums and products in float64."""


def mean_and_deviation(values: Floats, axis: int | Sequence[int] = 0) -> tuple[Floats, Floats]:
    """Return the mean and the deviation that standardise numbers, a deviation of 1 for numbers that do not vary.

    The computed deviation of equal numbers is often not 0: that of many times 0.1 is about 1e-17. Divided by it,
    another number would become a huge one. Equal numbers have exactly themselves as their mean.

    Args:
        values: finite, at least one along the axes.
        axis: the axes along which they are averaged.

    Returns:
        Two arrays of the shape of the other axes; deviations are of the population, and positive.
    """
    axes = axis if isinstance(axis, int) else tuple(axis)
    low = values.min(axes)
    mean = np.where(low == values.max(axes), low, values.mean(axes))
    return mean, np.where(varies(values, axes), values.std(axes), 1.0)


def varies(values: Floats, axis: int | Sequence[int] = 0) -> NDArray[np.bool_]:
    """Return whether numbers differ by more than rounding; arguments as of `mean_and_deviation`."""
    axes = axis if isinstance(axis, int) else tuple(axis)
    low, high = values.min(axes), values.max(axes)
    least = _ROUNDING * np.maximum(np.abs(low), np.abs(high))
    differ: NDArray[np.bool_] = (values.std(axes) > least) & (low < high)
    return differ
