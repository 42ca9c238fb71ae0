"""The model of the results so far: `Model`, a Gaussian process over decisions, costs and evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.space import Architecture
from automl_nas_surrogate.evidence import Evidence
from automl_nas_surrogate.features import Features, Featurizer
from automl_nas_surrogate.gaussian_process import PRIOR, Array, GaussianProcess, Pairs, Theta, fit, prior
from automl_nas_surrogate.remembered import Kept, Remembered

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

    def pairs(self, distances: tuple[Array, Array | None], evidence: Array) -> Pairs:
        """Return how these architectures compare with m others.

        Args:
            distances: of decisions and costs, as `Features.distances` returns them.
            evidence: of the others, shape ``(m, columns)``.
        """
        columns = evidence.shape[1]
        if not columns:
            return Pairs(*distances)
        return Pairs(*distances, self.evidence @ evidence.T / columns, (evidence**2).mean(axis=1))

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
        self._remembered, self._kept = Remembered(featurizer), Kept(featurizer, [])
        self._theta: Theta = PRIOR
        self._fitted = 0
        self._conditioned: tuple[GaussianProcess, Described] | None = None
        self._learnt: tuple[Sequence[Architecture], Array, Sequence[Architecture]] | None = None

    @property
    def members(self) -> Sequence[Architecture]:
        """The architectures whose results the model has learnt, in canonical form."""
        return self._learnt[0] if self._learnt is not None else ()

    @property
    def weights(self) -> dict[str, float]:
        """The coefficient of each column of evidence in the predictions, in standard deviations of both."""
        if self._learnt is None or not self._evidence.names:
            return {}
        process, described = self._process()
        return dict(zip(self._evidence.names, process.slopes(described.evidence).tolist(), strict=True))

    @property
    def described(self) -> Described:
        """The members, and the outstanding architectures after them; after `learn`."""
        return self._process()[1]

    def keep(self, architectures: Sequence[Architecture]) -> None:
        """Set the architectures, in canonical form, that `predict_kept` predicts."""
        self._kept = Kept(self._featurizer, architectures)

    @property
    def kept(self) -> Features:
        """The features of the architectures of `keep`."""
        return self._kept.features

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
        self._learnt, self._conditioned = (architectures, values, outstanding), None
        if count < _ALWAYS_REFIT or count >= self._fitted * _REFIT_GROWTH:
            self._theta, self._fitted = fit(self._pairs(architectures)[1], values), count

    def refresh(self) -> None:
        """Compute the process again after further candidates were measured, which changes the ranks of evidence."""
        self._conditioned = None

    def _pairs(self, architectures: Sequence[Architecture]) -> tuple[Described, Pairs]:
        features, decisions, costs = self._remembered(architectures)
        described = Described(features, self._evidence(architectures))
        return described, described.pairs((decisions, costs), described.evidence)

    def _process(self) -> tuple[GaussianProcess, Described]:
        """Return the process, and the architectures that it knows; it is computed when a prediction needs it."""
        if self._conditioned is None:
            assert self._learnt is not None
            architectures, values, outstanding = self._learnt
            described, pairs = self._pairs(architectures)
            # The first measurement brings another hyper-parameter.
            if len(self._theta) != len(prior(pairs.products is not None)):
                self._theta = fit(pairs, values)
            process = GaussianProcess(pairs, values, self._theta)
            if outstanding:
                waiting = Described(self.features(outstanding), self._evidence(outstanding))
                expected, _ = process.predict(
                    described.pairs(described.features.distances(waiting.features), waiting.evidence)
                )
                described = described.concatenated(waiting)
                pairs = described.pairs(described.features.distances(described.features), described.evidence)
                process = GaussianProcess(pairs, np.concatenate([values, expected]), self._theta)
            self._conditioned = process, described
        return self._conditioned

    def predict(self, candidates: Sequence[Architecture], evidence: Array | None = None) -> tuple[Array, Array]:
        """Return predicted means and standard deviations of m candidates, each of shape ``(m,)``; after `learn`.

        Args:
            candidates: in canonical form.
            evidence: of the candidates, shape ``(m, columns)``; None: as measured.
        """
        process, described = self._process()
        measured = self._evidence(candidates) if evidence is None else evidence
        return process.predict(described.pairs(described.features.distances(self.features(candidates)), measured))

    def predict_kept(self, places: NDArray[np.intp], evidence: Array) -> tuple[Array, Array]:
        """Return predictions as `predict` does, of architectures of `keep`; their distances are stored.

        Args:
            places: of m architectures.
            evidence: of them, shape ``(m, columns)``.
        """
        process, described = self._process()
        assert self._learnt is not None
        decisions, costs = self._kept.distances([*self._learnt[0], *self._learnt[2]], described.features)
        distances = decisions[:, places], None if costs is None else costs[:, places]
        return process.predict(described.pairs(distances, evidence))

    def restart(self) -> None:
        """Fit the hyper-parameters again, because the results are other ones."""
        self._fitted = 0

    def state(self) -> dict[str, Any]:
        """Return the hyper-parameters as plain data."""
        return {"fitted": self._fitted, "theta": list(self._theta)}

    def load(self, state: dict[str, Any]) -> None:
        """Invert `state`."""
        self._fitted, self._theta = state["fitted"], tuple(state["theta"])
