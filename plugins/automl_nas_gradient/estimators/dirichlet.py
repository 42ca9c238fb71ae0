"""The Dirichlet distribution of DrNAS over the weights of options."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence
from torch.nn import functional as F

from automl_nas_gradient.estimators.base import Draw, Estimator
from automl_nas_gradient.parameters import ArchitectureParameters


def concentration(alpha: Tensor) -> Tensor:
    """Return ``ELU(alpha) + 1``: 1 for alpha = 0, where the Dirichlet distribution is uniform on the simplex."""
    return F.elu(alpha) + 1


@final
class DirichletWeights(Estimator):
    """Weights are drawn from Dir(ELU(alpha) + 1), with a pathwise gradient (Chen et al. 2021, arXiv 2006.10355).

    Args:
        alpha: the architecture parameters.
        kl: weight of the divergence of all distributions from the uniform one in the loss of alpha (section 3.1).
    """

    def __init__(self, alpha: ArchitectureParameters, kl: float = 0.0) -> None:
        super().__init__(alpha)
        self._kl = kl

    def draw(self, temperature: float) -> Draw:
        """Return drawn weights, which sum to 1."""
        values = self.alpha.values
        # On the CPU: the draws do not depend on the device. In double precision: small concentrations underflow.
        own = values.double().cpu()
        rows: dict[int, Tensor] = {}
        for size in dict.fromkeys(self.alpha.sizes):
            places = [row for row, other in enumerate(self.alpha.sizes) if other == size]
            drawn = Dirichlet(concentration(own[places, :size]), validate_args=False).rsample()
            rows.update(zip(places, F.pad(drawn, (0, values.shape[1] - size)).unbind(0), strict=True))
        weights = torch.stack([rows[row] for row in range(len(rows))]).to(values)
        selection = self.alpha.selection(weights)
        return Draw(selection, selection)

    def mean(self) -> Tensor:
        """Return the mean of the distributions, 0 in the padding."""
        beta = concentration(self.alpha.values).masked_fill(~self.alpha.mask, 0.0)
        return beta / beta.sum(1, keepdim=True)

    def log_probabilities(self) -> Tensor:
        """Return the logarithm of the mean."""
        return self.mean().log()

    def penalty(self) -> Tensor | None:
        """Return the weighted sum of the divergences KL(Dir(beta) || Dir(1)); None if its weight is 0."""
        if not self._kl:
            return None
        total = self.alpha.values.new_zeros(())
        for size, row in zip(self.alpha.sizes, concentration(self.alpha.values).unbind(0), strict=True):
            beta = row[:size]
            total = total + kl_divergence(
                Dirichlet(beta, validate_args=False), Dirichlet(torch.ones_like(beta), validate_args=False)
            )
        return self._kl * total
