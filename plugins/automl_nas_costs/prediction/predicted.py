"""Costs that a fitted predictor gives: `PredictedCost`, `Fitting`."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import CostModel
from automl_nas.space import Architecture, SearchSpace
from automl_nas.streams import stream
from automl_nas_costs.prediction.predictor import FEWEST, ModelName, Predictor

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class Fitting:
    """How a predictor is fitted; see `Predictor`.

    Raises:
        ConfigurationError: too few samples.
    """

    space: SearchSpace
    samples: int
    model: ModelName
    counts: bool
    folds: int
    seed: int

    def __post_init__(self) -> None:
        if self.samples < FEWEST:
            raise ConfigurationError(f"must be at least {FEWEST}, not {self.samples}", path="samples")

    def drawn(self) -> list[Architecture]:
        """Return the samples: distinct architectures, drawn uniformly."""
        return draw(self.space, self.samples, self.seed)

    def fit(self, architectures: Sequence[Architecture], values: Sequence[float], what: str) -> Predictor:
        """Fit a predictor and log how good it is.

        Raises:
            DataError: samples that are too few, or a value that is no positive number.
        """
        found = Predictor(
            self.space,
            architectures,
            values,
            model=self.model,
            counts=self.counts,
            folds=self.folds,
            seed=self.seed,
        )
        _log.info("%s predicted from %d samples: %s; %s", what, len(values), found.chosen.name, found.accuracy.text())
        return found


def draw(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Return distinct architectures, drawn uniformly; all of a space that has no more."""
    found: dict[Architecture, None] = {}
    rng = stream(seed, "prediction/samples")
    while len(found) < min(count, space.size):
        found[space.sample(rng)] = None
    return list(found)


class PredictedCost(CostModel):
    """A cost of which only samples are known; where they come from is left to the subclass."""

    @property
    @abstractmethod
    def predictor(self) -> Predictor:
        """The predictor, fitted when it is first asked for."""

    @abstractmethod
    def sources(self) -> str:
        """Return what it is predicted from, e.g. ``100 samples``."""

    def note(self) -> str:
        """Return from what it is predicted, by what, and the error on networks it was not fitted on."""
        found = self.predictor
        made = f"predicted from {self.sources()} by {found.chosen.name}"
        return f"{made}; on held-out networks {found.accuracy.text()}"

    def estimate(self, architecture: Architecture) -> float:
        """Return the predicted cost."""
        return self.predictor.estimate(architecture)

    def estimates(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the predicted costs of architectures given by their codes, shape ``(n,)``."""
        return self.predictor.estimates(codes)

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the whole value under the network's own path, the empty text: a regressor knows no modules."""
        return {"": self.estimate(architecture)}
