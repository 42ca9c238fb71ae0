"""Confidence intervals of any metric by the bootstrap over samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from automl_nas.evaluation.sampling import below, sample_draws


def bootstrap_weights(count: int, resamples: int, seed: int = 0) -> Iterator[NDArray[np.float64]]:
    """Yield how often each sample is in each resample, drawn with replacement (Efron 1979); shape ``(count,)``.

    Args:
        count: the number of samples.
        resamples: the number of resamples.
        seed: of the stream.
    """
    numbers = np.arange(count, dtype=np.int64)
    for resample in range(resamples):
        drawn = below(sample_draws(seed, "bootstrap", resample, numbers)[:, 0], count)
        yield np.bincount(drawn, minlength=count).astype(np.float64)


def percentile_interval(value: float, resampled: Iterable[float]) -> tuple[float, float] | None:
    """Return the 2.5 % and the 97.5 % percentile of resampled values, extended so that they contain the value.

    The bootstrap percentile interval (Efron 1979). Resamples in which the metric is not defined (NaN) do not count.

    Args:
        value: the metric of all samples.
        resampled: the metric of each resample.

    Returns:
        None if no resample defines the metric, or the value is not finite.
    """
    values = [each for each in resampled if math.isfinite(each)]
    if not values or not math.isfinite(value):
        return None
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return min(low, value), max(high, value)
