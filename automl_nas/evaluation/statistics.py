"""How sure a measured share is: intervals for one proportion and for the difference of two."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""The 97.5 % point of the standard normal distribution: half of what a two-sided 95 % interval leaves out."""


def wilson_interval(share: float, count: int, z: float = Z95) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927).

    It keeps its coverage near 0 and 1, where the usual ``p +- 1.96 sqrt(p (1 - p) / n)`` fails.

    Args:
        share: the observed proportion, 0 to 1.
        count: of how many independent samples.
        z: the normal quantile; 1.96 gives 95 %.

    Raises:
        ValueError: the share is outside 0..1, or there are no samples.
    """
    if not 0 <= share <= 1 or count < 1:
        raise ValueError(f"a share of {share} of {count} samples is none")
    denominator = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / denominator
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / denominator
    return max(0.0, centre - half), min(1.0, centre + half)


def difference_interval(
    first: float, first_interval: tuple[float, float], second: float, second_interval: tuple[float, float]
) -> tuple[float, float]:
    """Return the interval of ``first - second`` from the intervals of both (Newcombe 1998, method 10).

    The two values are treated as independent. Measured on the same test images they are positively correlated, so the
    interval is on the wide, cautious side.
    """
    difference = first - second
    low = math.hypot(first - first_interval[0], second_interval[1] - second)
    high = math.hypot(first_interval[1] - first, second - second_interval[0])
    return difference - low, difference + high
