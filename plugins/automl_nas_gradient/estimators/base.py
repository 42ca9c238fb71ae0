"""The base class of estimators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from automl_nas.space import Selection
from automl_nas_gradient.parameters import ArchitectureParameters


@dataclass(frozen=True)
class Draw:
    """What a forward pass computes.

    Attributes:
        selection: for the supernet.
        weights: decision -> weights whose expected cost enters the loss, one for each option.
    """

    selection: Selection
    weights: Selection


class Estimator(ABC):
    """Makes selections from alpha.

    All random numbers come from torch's global generator of the CPU, which the training seeds before each call: they
    are the same on every device and on every data-parallel process.

    Args:
        alpha: the architecture parameters.
    """

    def __init__(self, alpha: ArchitectureParameters) -> None:
        self.alpha = alpha

    @abstractmethod
    def draw(self, temperature: float) -> Draw:
        """Return what a step of alpha computes; the weights have a gradient with respect to alpha.

        Args:
            temperature: of the relaxation, positive.
        """

    def path(self, temperature: float) -> Selection:
        """Return what a step of the weights computes (default: the selection of `draw`, without its gradient)."""
        with torch.no_grad():
            return self.draw(temperature).selection

    def log_probabilities(self) -> Tensor:
        """Return the log-probability of each option in the distribution from which the network is derived."""
        return self.alpha.log_probabilities()

    def scores(self) -> dict[str, list[float]]:
        """Return decision -> what each option adds to the sum of log-probabilities of a network.

        For an element of a `Subset` whose elements are independent, this is ``ln p - ln(1 - p)``, so that the best sum
        is that of the most probable subset. Decisions without parameters add 0.
        """
        alpha = self.alpha
        matrix = self.log_probabilities()
        if alpha.has_sigmoid:
            matrix = torch.where(alpha.sigmoid, alpha.values, matrix)
        rows = {name: row.double().cpu().tolist() for name, row in alpha.split(matrix).items()}
        return {name: rows.get(name, [0.0] * size) for name, size in alpha.option_counts.items()}

    def penalty(self) -> Tensor | None:
        """Return a further term of the loss of alpha (default: None)."""
        return None

    def stepped(self, before: Tensor) -> None:
        """Adjust alpha in place after a step of its optimiser (default: no adjustment).

        Args:
            before: alpha before the step.
        """
        return


def uniform(shape: torch.Size, like: Tensor) -> Tensor:
    """Return uniform random numbers in the open interval (0, 1), drawn on the CPU, on the device of a tensor."""
    drawn = torch.rand(shape, dtype=like.dtype)
    # torch.rand includes 0, whose Gumbel noise is -inf.
    return drawn.clamp_(min=torch.finfo(like.dtype).tiny).to(like.device)


def gumbel_noise(shape: torch.Size, like: Tensor) -> Tensor:
    """Return standard Gumbel noise ``-ln(-ln u)``, u uniform in (0, 1)."""
    u = uniform(shape, like)
    # -ln(u) is 0 if u rounds to 1, and its logarithm -inf.
    return -(-u.log()).clamp_(min=torch.finfo(like.dtype).tiny).log()
