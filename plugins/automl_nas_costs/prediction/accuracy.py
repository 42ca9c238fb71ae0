"""The error of predictions: `Accuracy`, and its estimate for the best of several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_nas.evaluation import kendall_tau
from automl_nas.streams import stream_seed

_RESAMPLES = 200  # the standard error of a mean over resamples is then 7 % of one resample's standard deviation


@dataclass(frozen=True)
class Accuracy:
    """How accurate predictions are on architectures to which they were not fitted.

    Attributes:
        count: number of architectures.
        mape: mean of ``|prediction - value| / value``.
        within_10: the share of architectures for which that is at most 0.1.
        tau: `automl_nas.evaluation.kendall_tau` of predictions and values: equal predictions count as the mean of their
            orders. 0 where all values are equal.
    """

    count: int
    mape: float
    within_10: float
    tau: float

    def text(self) -> str:
        """Return a description of the accuracy in one line."""
        return (
            f"tau {self.tau:.3f}, error {100 * self.mape:.1f} %, {100 * self.within_10:.0f} % within 10 % "
            f"({self.count} architectures)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def relative_errors(predicted: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Return ``|prediction - value| / |value|``, shape ``(n,)``; infinite where only the value is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.abs(predicted - values) / np.abs(values)
    return np.where(predicted == values, 0.0, errors)


def accuracy(predicted: NDArray[Any], values: NDArray[Any]) -> Accuracy:
    """Compare predictions with values, shape ``(n,)`` each; tau is 0 where all values are equal."""
    errors = relative_errors(predicted, values)
    return Accuracy(len(values), float(errors.mean()), float((errors <= 0.1).mean()), _tau(predicted, values))


def _tau(predicted: NDArray[Any], values: NDArray[Any]) -> float:
    return 0.0 if np.ptp(values) == 0 else kendall_tau(predicted, values)


def losses(predicted: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Return relative errors, at most 1 each, so that a few tiny networks do not decide which model is best."""
    errors: NDArray[Any] = np.minimum(relative_errors(predicted, values), 1.0)
    return errors


def criterion(predicted: NDArray[Any], values: NDArray[Any]) -> float:
    """Return the criterion by which a model is chosen, less is better: mean loss times the share of wrong pairs.

    Limits need values and searches need an order; in the product a tenth of either has the same weight.
    """
    return float(losses(predicted, values).mean()) * (1 - _tau(predicted, values)) / 2


def selected_accuracy(
    predictions: Mapping[str, NDArray[Any]], values: NDArray[Any], order: Sequence[str], seed: int
) -> Accuracy:
    """Estimate the accuracy of the model of the least `criterion`, without the optimism of a minimum over models.

    Each resample of the held-out predictions chooses a model on the architectures drawn, and its accuracy is that on
    the architectures not drawn (bootstrap bias-corrected cross-validation, Tsamardinos et al. 2018, arXiv 1708.07180).

    Args:
        predictions: model -> its held-out prediction of each value, shape ``(n,)``.
        values: shape ``(n,)``.
        order: the models; of equal ones the first is chosen.
        seed: of the resamples.
    """
    if len(order) == 1 or len(values) < 4:
        return accuracy(predictions[order[0]], values)
    draw = np.random.default_rng(stream_seed(seed, "prediction/resamples"))
    resampled: list[Accuracy] = []
    while len(resampled) < _RESAMPLES:
        taken = draw.integers(0, len(values), len(values))
        left = np.setdiff1d(np.arange(len(values)), taken)
        if len(left) < 2:
            continue
        chosen = min(order, key=lambda name: criterion(predictions[name][taken], values[taken]))
        resampled.append(accuracy(predictions[chosen][left], values[left]))
    means = {name: float(np.mean([getattr(item, name) for item in resampled])) for name in ("mape", "within_10", "tau")}
    return Accuracy(len(values), **means)
