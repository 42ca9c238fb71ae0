"""The softmax relaxation of DARTS: all options run, each weighted by its probability."""

from __future__ import annotations

from typing import final

from automl_nas_gradient.estimators.base import Draw, Estimator


@final
class Softmax(Estimator):
    """Weights are ``softmax(alpha / temperature)`` (Liu et al. 2019, arXiv 1806.09055, equation 2)."""

    def draw(self, temperature: float) -> Draw:
        """Return the probabilities as weights; no random number is drawn."""
        selection = self.alpha.selection(self.alpha.probabilities(temperature))
        return Draw(selection, selection)
