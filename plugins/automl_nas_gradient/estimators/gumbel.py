"""Estimators with Gumbel noise: the straight-through one of GDAS, and the relaxed one of SNAS and FBNet."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor

from automl_nas.space import Decision, Selection, Value, Weighted
from automl_nas_gradient.estimators.base import Draw, Estimator, gumbel_noise
from automl_nas_gradient.parameters import ArchitectureParameters


def relaxed(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """Return ``softmax((logits + noise) / temperature)`` over the last dimension (Jang et al. 2017, equation 2)."""
    return torch.softmax((logits + noise) / temperature, dim=-1)


def straight_through(soft: Tensor) -> Tensor:
    """Return the one-hot vector of the largest weight; its gradient is that of the weights themselves.

    ``one_hot + (soft - stop(soft))`` is exactly 0 and 1 in the forward pass, unlike ``one_hot - stop(soft) + soft``.

    Args:
        soft: weights, shape ``(..., options)``.
    """
    hard = torch.zeros_like(soft).scatter_(-1, soft.argmax(dim=-1, keepdim=True), 1.0)
    return hard + (soft - soft.detach())


@final
class GumbelSoftmax(Estimator):
    """All options run, weighted by ``softmax((alpha + G) / temperature)`` with Gumbel noise G (SNAS, FBNet)."""

    def draw(self, temperature: float) -> Draw:
        """Return relaxed one-hot weights."""
        logits = self.alpha.masked()
        weights = self.alpha.selection(relaxed(logits, gumbel_noise(logits.shape, logits), temperature))
        return Draw(weights, weights)


@final
class StraightThroughGumbel(Estimator):
    """One option runs, drawn by its probability; its gradient is that of the relaxed weights (GDAS).

    Args:
        alpha: the architecture parameters.
        decisions: of the space.
        computed: ``sampled``: only the drawn option runs, so the gradient reaches alpha through its weight alone (Dong
            and Yang 2019, arXiv 1910.04465, section 3.2); ``all``: all options run, the plain straight-through
            estimator.
    """

    def __init__(
        self,
        alpha: ArchitectureParameters,
        decisions: dict[str, Decision],
        computed: Literal["sampled", "all"] = "sampled",
    ) -> None:
        super().__init__(alpha)
        self._options = [decisions[name].options for name in alpha.names]
        self._computed = computed

    def draw(self, temperature: float) -> Draw:
        """Return a sampled option for each decision, with weight 1."""
        weights, places = self._sampled(temperature)
        probabilities = self.alpha.selection(self.alpha.probabilities())
        if self._computed == "all":
            return Draw(self.alpha.selection(weights), probabilities)
        chosen = weights.gather(1, places).unbind(0)
        selection: dict[str, Value | Tensor | Weighted] = dict(self.alpha.fixed(weights))
        for name, options, place, weight in zip(
            self.alpha.names, self._options, places.flatten().tolist(), chosen, strict=True
        ):
            selection[name] = Weighted(options[place], weight)
        return Draw(selection, probabilities)

    def path(self, temperature: float) -> Selection:
        """Return a sampled option for each decision, without weights."""
        with torch.no_grad():
            weights, places = self._sampled(temperature)
        names = zip(self.alpha.names, self._options, places.flatten().tolist(), strict=True)
        return {**self.alpha.fixed(weights), **{name: options[place] for name, options, place in names}}

    def _sampled(self, temperature: float) -> tuple[Tensor, Tensor]:
        """Return one-hot weights in the shape of alpha, and the drawn option of each row, shape ``(rows, 1)``."""
        logits = self.alpha.masked()
        soft = relaxed(logits, gumbel_noise(logits.shape, logits), temperature)
        return straight_through(soft), soft.detach().argmax(dim=1, keepdim=True)
