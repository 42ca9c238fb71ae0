"""The model of the results so far: `Model`, a Gaussian process over decisions, costs and evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from automl_nas.space import Architecture
from automl_nas_surrogate.evidence import Evidence
from automl_nas_surrogate.features import Features, Featurizer
from automl_nas_surrogate.gaussian_process import PRIOR, Array, GaussianProcess, Pairs, Theta, fit, prior
from automl_nas_surrogate.remembered import Remembered

_REFIT_GROWTH = 1.15  # the hyper-parameters are fitted again when the number of trials has grown by this factor
_ALWAYS_REFIT = 12  # with fewer trials they are fitted at every proposal


@final
@dataclass(frozen=True)
class Described:
    """What the model knows of n architectures before they are evaluated.

    Attributes:
        features: their decisions and costs.
        evidence: normal quantiles, shape ``(n, columns)``.
    """

    features: Features
    evidence: Array

    def pairs(self, other: Described, features: tuple[Array, Array | None] | None = None) -> Pairs:
        """Return how these architectures compare with m other ones.

        Args:
            other: the m architectures.
            features: the distances of decisions and costs, if they are known.
        """
        decisions, costs = self.features.distances(other.features) if features is None else features
        columns = self.evidence.shape[1]
        if not columns:
            return Pairs(decisions, costs)
        return Pairs(decisions, costs, self.evidence @ other.evidence.T / columns, (other.evidence**2).mean(axis=1))

    def concatenated(self, other: Described) -> Described:
        """Return these architectures followed by the other ones."""
        return Described(self.features.concatenated(other.features), np.concatenate([self.evidence, other.evidence]))


@final
class Model:
    """Fits a Gaussian process to trials and predicts candidates.

    Args:
        featurizer: computes decisions and costs as numbers.
        evidence: the measurements of candidates.
    """

    def __init__(self, featurizer: Featurizer, evidence: Evidence) -> None:
        self._featurizer, self._evidence = featurizer, evidence
        self._remembered = Remembered(featurizer)
        self._theta: Theta = PRIOR
        self._fitted = 0
        self._process: GaussianProcess | None = None
        self._known: Described | None = None
        self._learnt: tuple[Sequence[Architecture], Array, Sequence[Architecture]] | None = None

    @property
    def members(self) -> Sequence[Architecture]:
        """The architectures whose results the model has learnt, in canonical form."""
        return self._learnt[0] if self._learnt is not None else ()

    @property
    def weights(self) -> dict[str, float]:
        """The coefficient of each column of evidence in the predictions, in standard deviations of both."""
        if self._process is None or self._known is None or not self._known.evidence.shape[1]:
            return {}
        return dict(zip(self._evidence.names, self._process.slopes(self._known.evidence).tolist(), strict=True))

    def describe(self, architectures: Sequence[Architecture], evidence: Array | None = None) -> Described:
        """Return what is known of architectures in canonical form.

        Args:
            architectures: n of them.
            evidence: shape ``(n, columns)``; None: as measured.
        """
        measured = self._evidence(architectures) if evidence is None else evidence
        return Described(self._featurizer(architectures), measured)

    def features(self, architectures: Sequence[Architecture]) -> Features:
        """Return decisions and costs of architectures in canonical form."""
        return self._featurizer(architectures)

    def learn(
        self, architectures: Sequence[Architecture], values: Array, outstanding: Sequence[Architecture], count: int
    ) -> None:
        """Fit the process to results.

        Outstanding trials enter with predicted means as their values: the "kriging believer" of Ginsbourger et al.
        2010, section 4.2.

        Args:
            architectures: with results, in canonical form.
            values: their scores.
            outstanding: architectures without results, in canonical form.
            count: the number of all trials, which decides whether the hyper-parameters are fitted again.
        """
        self._learnt = architectures, values, outstanding
        self._condition(count < _ALWAYS_REFIT or count >= self._fitted * _REFIT_GROWTH, count)

    def refresh(self) -> None:
        """Compute the process again after further candidates were measured, which changes the ranks of evidence."""
        self._condition(False, self._fitted)

    def _condition(self, refit: bool, count: int) -> None:
        assert self._learnt is not None
        architectures, values, outstanding = self._learnt
        features, decisions, costs = self._remembered(architectures)
        described = Described(features, self._evidence(architectures))
        pairs = described.pairs(described, (decisions, costs))
        # The first measurement brings another hyper-parameter.
        if refit or len(self._theta) != len(prior(pairs.products is not None)):
            self._theta, self._fitted = fit(pairs, values), count
        process = GaussianProcess(pairs, values, self._theta)
        if outstanding:
            waiting = self.describe(outstanding)
            expected, _ = process.predict(described.pairs(waiting))
            described = described.concatenated(waiting)
            process = GaussianProcess(described.pairs(described), np.concatenate([values, expected]), self._theta)
        self._process, self._known = process, described

    def predict(self, candidates: Described) -> tuple[Array, Array]:
        """Return predicted means and standard deviations of m candidates, each of shape ``(m,)``; after `learn`."""
        assert self._process is not None and self._known is not None
        return self._process.predict(self._known.pairs(candidates))

    def restart(self) -> None:
        """Fit the hyper-parameters again, because the results are other ones."""
        self._fitted = 0

    def state(self) -> dict[str, Any]:
        """Return the hyper-parameters as plain data."""
        return {"fitted": self._fitted, "theta": list(self._theta)}

    def load(self, state: dict[str, Any]) -> None:
        """Invert `state`."""
        self._fitted, self._theta = state["fitted"], tuple(state["theta"])
