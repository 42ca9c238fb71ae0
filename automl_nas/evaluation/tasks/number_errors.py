"""The metrics of numbers for the resamples of an interval, without scikit-learn's checks of every call.

scikit-learn checks its arguments for some 0.3 ms, a hundred times as long as it computes for a few hundred samples, and
an interval needs a thousand resamples.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


def rmse(targets: Floats, outputs: Floats, weights: Floats) -> float:
    """Return the root of the weighted mean squared error, averaged over the numbers of a sample.

    Args:
        targets: shape ``(samples, numbers)``.
        outputs: of the same shape.
        weights: of the samples, positive, shape ``(samples,)``.
    """
    return float(np.sqrt(weights @ (targets - outputs) ** 2 / weights.sum()).mean())


def mae(targets: Floats, outputs: Floats, weights: Floats) -> float:
    """Return the weighted mean absolute error, averaged over the numbers of a sample; arguments as of `rmse`."""
    return float((weights @ np.abs(targets - outputs) / weights.sum()).mean())


def r2(targets: Floats, outputs: Floats, weights: Floats) -> float:
    """Return the coefficient of determination, averaged over the numbers of a sample; arguments as of `rmse`.

    As in scikit-learn, it is NaN for less than two samples; for targets that are all the same it is 1 if the outputs
    are right and 0 otherwise.
    """
    if len(targets) < 2:
        return math.nan
    errors = weights @ (targets - outputs) ** 2
    spread = weights @ (targets - np.average(targets, axis=0, weights=weights)) ** 2
    varied = spread > 0
    scores = np.where(errors > 0, 0.0, 1.0)
    scores[varied] = 1 - errors[varied] / spread[varied]
    return float(scores.mean())
