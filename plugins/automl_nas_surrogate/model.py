"""The model of the results so far: `Model`, a Gaussian process over decisions, costs and evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.blas_threads import one_blas_thread
from automl_nas.space import Architecture
from automl_nas_surrogate.evidence import Evidence
from automl_nas_surrogate.factor import Factor, Whitened
from automl_nas_surrogate.features import Features, Featurizer
from automl_nas_surrogate.gaussian_process import (
    PRIOR,
    Array,
    GaussianProcess,
    Pairs,
    Single,
    Theta,
    fit,
    prior,
)
from automl_nas_surrogate.remembered import Remembered

_REFIT_GROWTH = 1.15  # the hyper-parameters are fitted again when the number of trials has grown by this factor
_TOGETHER = 32  # a multiple of this number of trials is factored at once
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
        self._rows: NDArray[np.intp] | None = None  # of what was learnt, in the evidence
        self._factored: Features | None = None  # of what was learnt, if the factor is up to date
        self._conditioned: tuple[GaussianProcess, Described] | None = None
        self._learnt: tuple[Sequence[Architecture], Array, Sequence[Architecture]] | None = None
        self._factor = Factor()

    @property
    def members(self) -> Sequence[Architecture]:
        """The architectures whose results the model has learnt, in canonical form."""
        return self._learnt[0] if self._learnt is not None else ()

    @property
    @one_blas_thread()
    def weights(self) -> dict[str, float]:
        """The coefficient of each column of evidence in the predictions, in standard deviations of both."""
        if self._learnt is None or not self._evidence.names:
            return {}
        return dict(zip(self._evidence.names, self._process()[0].slopes.tolist(), strict=True))

    @property
    @one_blas_thread()
    def described(self) -> Described:
        """The members, and the outstanding architectures after them; after `learn`."""
        return self._process()[1]

    def compared(self, architectures: Sequence[Architecture], *, recurring: bool = False) -> Whitened:
        """Return architectures in canonical form as they are compared with trials; see `whitened`.

        Args:
            architectures: m of them.
            recurring: whether they are compared again after a few proposals, which then takes less time.
        """
        return Whitened(self._featurizer(architectures), recurring=recurring)

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
        self._rows = self._factored = self._conditioned = None
        if count < _ALWAYS_REFIT or count >= self._fitted * _REFIT_GROWTH:
            self._fit()
            self._fitted = count

    def refresh(self) -> None:
        """Compute the process again after further candidates were measured, which changes the ranks of evidence.

        The architectures of `learn` must have been measured before, as far as they are.
        """
        self._conditioned = None

    @one_blas_thread()
    def _fit(self) -> None:
        assert self._learnt is not None
        architectures, values, outstanding = self._learnt
        _, pairs = self._pairs([*architectures, *outstanding])
        first = slice(len(architectures))
        self._theta = fit(pairs.of(first, first), values, self._evidence(architectures))

    def _pairs(self, architectures: Sequence[Architecture]) -> tuple[Features, Pairs]:
        features, decisions, costs = self._remembered(architectures)
        return features, Pairs(decisions, costs)

    def _process(self) -> tuple[GaussianProcess, Described]:
        """Return the process, and the architectures that it knows; it is computed when a prediction needs it."""
        if self._conditioned is None:
            assert self._learnt is not None
            architectures, values, outstanding = self._learnt
            everything, count = [*architectures, *outstanding], len(architectures)
            if self._rows is None:
                self._rows = self._evidence.rows(everything)
            evidence = self._evidence.quantiles(self._rows)
            # The first measurement brings another hyper-parameter.
            if len(self._theta) != len(prior(evidence.shape[1] > 0)):
                self._fit()
                self._factored = None
            if self._factored is None:
                self._factored, pairs = self._pairs(everything)
                self._factor.update(everything, count - count % _TOGETHER, self._theta, pairs)
            lower = self._factor.lower
            process = GaussianProcess(lower[:count, :count], values, evidence[:count], self._theta)
            if outstanding:
                # A row of the factor is what whitening the covariances of its trial and the earlier ones gives.
                expected, _ = process.predict(lower[count:, :count].T, evidence[count:])
                process = GaussianProcess(lower, np.concatenate([values, expected]), evidence, self._theta)
            self._conditioned = process, Described(self._factored, evidence)
        return self._conditioned

    @one_blas_thread()
    def whitened(self, compared: Sequence[Whitened]) -> list[Single]:
        """Return what `predict` takes of each m architectures, shape ``(n, m)``, after `learn`.

        The arrays must not be changed, and the next call overwrites them.
        """
        trials = self._process()[1].features
        return [each.of(self._factor, trials) for each in compared]

    @one_blas_thread()
    def predict(self, whitened: Single, evidence: Array) -> tuple[Array, Array]:
        """Return predicted means and standard deviations of m architectures, each of shape ``(m,)``.

        Args:
            whitened: of the architectures, as `whitened` returns it since the last call of `learn`.
            evidence: of them, shape ``(m, columns)``.
        """
        return self._process()[0].predict(whitened, evidence)

    def restart(self) -> None:
        """Fit the hyper-parameters again, because the results are other ones."""
        self._fitted = 0

    def state(self) -> dict[str, Any]:
        """Return the hyper-parameters as plain data."""
        return {"fitted": self._fitted, "theta": list(self._theta)}

    def load(self, state: dict[str, Any]) -> None:
        """Invert `state`."""
        self._fitted, self._theta = state["fitted"], tuple(state["theta"])
