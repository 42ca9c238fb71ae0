"""Settings that all strategies share: the recipe of alpha, the cost in the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from automl_nas.errors import ConfigurationError


@dataclass(frozen=True)
class AlphaRecipe:
    """How alpha is trained: Adam, and penalties.

    Attributes:
        learning_rate: of Adam.
        beta1: of Adam, below 1.
        beta2: of Adam, below 1.
        weight_decay: L2 penalty, which pulls alpha to 0, that is, to equal probabilities.
        entropy: weight of the mean entropy of the decisions (in nats) in the loss of alpha; a positive weight makes
            the probabilities sharper.
        initial_std: standard deviation of alpha at the beginning.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    learning_rate: float = 3e-4
    beta1: float = 0.5
    beta2: float = 0.999
    weight_decay: float = 1e-3
    entropy: float = 0.0
    initial_std: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf:
            raise ConfigurationError(f"must be positive, not {self.learning_rate}", path="learning_rate")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"must be at least 0 and below 1, not {getattr(self, name)}", path=name)
        for name in ("weight_decay", "initial_std"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(f"must be at least 0, not {getattr(self, name)}", path=name)
        if not math.isfinite(self.entropy):
            raise ConfigurationError(f"must be a finite number, not {self.entropy}", path="entropy")


@dataclass(frozen=True)
class CostTerm:
    """The expected cost in the loss of alpha. E is the expected cost and L the loss without it.

    Attributes:
        metric: the name of a cost of the problem, such as ``flops``; empty: no cost in the loss.
        form: ``expected``: ``L + weight * (E - reference) / reference``; ``hinge``:
            ``L + weight * max(0, E - limit) / limit``, with the upper limit of the problem's constraint on the cost;
            ``log``: ``L * weight * ln(E)^exponent``; with a reference, ``ln(E)`` is divided by its logarithm.
        weight: of the term.
        exponent: of the form ``log``.
        reference: of the forms ``expected`` and ``log``, in the unit of the cost; null: for ``expected`` the cost at
            equal probabilities, for ``log`` none.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    metric: str = ""
    form: Literal["expected", "hinge", "log"] = "expected"
    weight: float = 0.1
    exponent: float = 0.6
    reference: float | None = None

    def __post_init__(self) -> None:
        for name in ("weight", "exponent"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(f"must be at least 0, not {getattr(self, name)}", path=name)
        if self.reference is not None and not 1 < self.reference < math.inf:
            raise ConfigurationError(
                f"must be above 1, since its logarithm is a divisor, not {self.reference}", path="reference"
            )
        if self.reference is not None and self.form == "hinge":
            raise ConfigurationError(
                "the form hinge has the limit of the constraint as its reference; leave it out", path="reference"
            )


def temperature(epoch: int, epochs: int, start: float, end: float | None) -> float:
    """Return the temperature of an epoch, linear from ``start`` in the first to exactly ``end`` in the last one (GDAS).

    Args:
        epoch: counted from 0.
        epochs: the number of epochs.
        start: of the first epoch.
        end: of the last epoch; None: the temperature is constant.
    """
    if end is None or epochs == 1:
        return start
    share = epoch / (epochs - 1)
    return start * (1 - share) + end * share
