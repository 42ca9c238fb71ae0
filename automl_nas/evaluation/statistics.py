"""Confidence intervals of a proportion and of the difference of two proportions."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution, for two-sided 95 % intervals."""


def wilson_interval(share: float, count: int, z: float = Z95) -> tuple[float, float]:
    """Return the score interval of a proportion (Wilson 1927).

    Its coverage is also right near 0 and 1, unlike that of ``p +- 1.96 sqrt(p (1 - p) / n)``.

    Args:
        share: the observed proportion, between 0 and 1.
        count: the number of independent samples.
        z: the quantile of the normal distribution; 1.96 for 95 %.

    Raises:
        ValueError: the share is not between 0 and 1, or there are no samples.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share must be between 0 and 1, got {share}")
    if count < 1:
        raise ValueError(f"the number of samples must be at least 1, got {count}")
    denominator = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / denominator
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / denominator
    # At the ends the formula gives 0 and 1 exactly; its rounding does not.
    return 0.0 if share == 0 else max(0.0, centre - half), 1.0 if share == 1 else min(1.0, centre + half)


def difference_interval(
    first: float, first_interval: tuple[float, float], second: float, second_interval: tuple[float, float]
) -> tuple[float, float]:
    """Return the interval of ``first - second`` from the intervals of both (Newcombe 1998, method 10).

    The two values are treated as independent. Values measured on the same test images are positively correlated, so the
    interval is wider than necessary.
    """
    difference = first - second
    low = math.hypot(first - first_interval[0], second_interval[1] - second)
    high = math.hypot(first_interval[1] - first, second - second_interval[0])
    return difference - low, difference + high
