"""How good predictions are: `Accuracy`, and its estimate where the best of several models was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau

from automl_nas.streams import stream_seed

_RESAMPLES = 200  # the standard error of a mean over resamples is then 7 % of one resample's spread


@dataclass(frozen=True)
class Accuracy:
    """What predictions are worth on architectures they were not fitted on.

    Attributes:
        count: of architectures.
        mape: mean of ``|prediction - value| / value``.
        within_10: the share of architectures for which that is at most 0.1.
        tau: Kendall's rank correlation of predictions and values (tau-b).
    """

    count: int
    mape: float
    within_10: float
    tau: float

    def text(self) -> str:
        """Return one line for people."""
        return (
            f"tau {self.tau:.3f}, error {100 * self.mape:.1f} %, {100 * self.within_10:.0f} % within 10 % "
            f"({self.count} architectures)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def relative_errors(predicted: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Return ``|prediction - value| / |value|``, shape ``(n,)``; infinite where the value is 0 and missed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.abs(predicted - values) / np.abs(values)
    return np.where(predicted == values, 0.0, errors)


def accuracy(predicted: NDArray[Any], values: NDArray[Any]) -> Accuracy:
    """Compare predictions with values, shape ``(n,)`` each; tau is 0 where all predictions or all values are equal."""
    errors = relative_errors(predicted, values)
    return Accuracy(len(values), float(errors.mean()), float((errors <= 0.1).mean()), _tau(predicted, values))


def _tau(predicted: NDArray[Any], values: NDArray[Any]) -> float:
    if len(values) < 2 or np.ptp(predicted) == 0 or np.ptp(values) == 0:
        return 0.0
    return float(kendalltau(predicted, values).statistic)


def losses(predicted: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Return relative errors, none counted as more than 1: a few tiny networks shall not decide which model is best."""
    found: NDArray[Any] = np.minimum(relative_errors(predicted, values), 1.0)
    return found


def criterion(predicted: NDArray[Any], values: NDArray[Any]) -> float:
    """Return what a model is chosen by, less is better: mean loss times the share of pairs in the wrong order.

    Budgets need values and searches need an order; the product weighs a tenth of either the same.
    """
    return float(losses(predicted, values).mean()) * (1 - _tau(predicted, values)) / 2


def selected_accuracy(
    predictions: Mapping[str, NDArray[Any]], values: NDArray[Any], order: Sequence[str], seed: int
) -> Accuracy:
    """Estimate the accuracy of the model of the least `criterion`, without the optimism of a minimum over models.

    Each resample of the held-out predictions chooses a model on the architectures drawn and judges it on those that
    were not (bootstrap bias-corrected cross-validation, Tsamardinos et al. 2018, arXiv 1708.07180).

    Args:
        predictions: model -> its held-out prediction of each value, shape ``(n,)``.
        values: shape ``(n,)``.
        order: the models; of equal ones the first is chosen.
        seed: of the resamples.
    """
    if len(order) == 1 or len(values) < 4:
        return accuracy(predictions[order[0]], values)
    draw = np.random.default_rng(stream_seed(seed, "prediction/resamples"))
    found: list[Accuracy] = []
    while len(found) < _RESAMPLES:
        taken = draw.integers(0, len(values), len(values))
        left = np.setdiff1d(np.arange(len(values)), taken)
        if len(left) < 2:
            continue
        chosen = min(order, key=lambda name: criterion(predictions[name][taken], values[taken]))
        found.append(accuracy(predictions[chosen][left], values[left]))
    means = {name: float(np.mean([getattr(item, name) for item in found])) for name in ("mape", "within_10", "tau")}
    return Accuracy(len(values), **means)
