"""What cost models share that are fitted to samples: `FittedModel`, `FittedCost`, `FittedLatency`."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.evaluation import CostModel, MeasuredCost, Measurement
from automl_nas.space import Architecture, SearchSpace
from automl_nas_costs.latency.model import LatencyMs
from automl_nas_costs.prediction.accuracy import Accuracy
from automl_nas_costs.prediction.predictor_cache import LearnedNetworks
from automl_nas_costs.prediction.samples import MeasuredSamples

if TYPE_CHECKING:
    from torch import nn

_log = logging.getLogger(__name__)


class FittedModel(Protocol):
    """A function of the architecture that was fitted to samples."""

    @property
    def accuracy(self) -> Accuracy | None:
        """How accurate it is on architectures to which it was not fitted; None if there are too few samples."""

    def estimate(self, architecture: Architecture) -> float:
        """Return the cost of one architecture."""

    def estimates(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the costs for the codes of architectures, shape ``(n,)``."""

    def breakdown(self, architecture: Architecture) -> dict[str, float]:
        """Return module path -> cost."""


ModelT = TypeVar("ModelT", bound=FittedModel)


class FittedCost(CostModel, Generic[ModelT]):
    """A cost that a fitted model estimates. The subclass provides the samples and the model.

    Args:
        space: of the architectures.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._model: ModelT | None = None

    @final
    @property
    def fitted(self) -> ModelT:
        """The fitted model, fitted on first use.

        Raises:
            SpaceError: a network cannot be built or measured.
            DataError: there are too few samples.
        """
        if self._model is None:
            self._model = self._fit()
            _log.info("%s: %s", self.metric, self.note())
        return self._model

    @abstractmethod
    def _fit(self) -> ModelT:
        """Collect the samples and fit the model to them."""

    @abstractmethod
    def _origin(self, model: ModelT) -> str:
        """Return what the estimates are derived from, e.g. ``predicted from 100 samples by ridge, raw``."""

    @final
    def note(self) -> str:
        """Return what the estimates are derived from, and their error on networks that were not used."""
        origin, accuracy = self._origin(self.fitted), self.fitted.accuracy
        return origin if accuracy is None else f"{origin}; on held-out networks {accuracy.text()}"

    @final
    def estimate(self, architecture: Architecture) -> float:
        """Return the estimated cost."""
        return self.fitted.estimate(architecture)

    @final
    def estimates(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the estimated costs for the codes of architectures, shape ``(n,)``."""
        return self.fitted.estimates(codes)

    @final
    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return module path -> estimated cost. A predictor gives the whole cost under the empty path."""
        return self.fitted.breakdown(self._space.validate(architecture))

    def _accuracy_row(self) -> dict[str, Any] | None:
        """Return the accuracy of the model as plain data; None before it is fitted."""
        accuracy = self._model.accuracy if self._model is not None else None
        return accuracy.as_dict() if accuracy is not None else None


class FittedLatency(FittedCost[ModelT], MeasuredCost):
    """A latency that is estimated from measured samples, and can be measured on whole networks.

    Args:
        space: of the networks.
        latency: measures networks and files; names the metric and the unit.
        learned: folder of networks that later models learn from; see `LearnedNetworks`.

    Raises:
        ConfigurationError: the folder cannot be used.
    """

    metric: ClassVar[str] = "latency_ms"
    unit: ClassVar[str] = "ms"
    exported_suffix: ClassVar[str] = ".onnx"
    rows: ClassVar[str]
    """The name of the samples of this run in `state_dict`."""

    def __init__(self, space: SearchSpace, latency: MeasuredCost, learned: str | None) -> None:
        super().__init__(space)
        self._latency = latency
        # These are class attributes of every other model; here they are those of the model that measures.
        self.metric, self.unit = latency.metric, latency.unit  # type: ignore[misc]
        self.exported_suffix = latency.exported_suffix  # type: ignore[misc]
        options = latency.options if isinstance(latency, LatencyMs) else None
        self._learned_networks = LearnedNetworks(space, options, learned)
        self._samples = MeasuredSamples()

    @final
    def measure(self, networks: Sequence[nn.Module], input_shape: Sequence[int]) -> list[Measurement]:
        """Measure whole networks; see `MeasuredCost.measure`."""
        return self._latency.measure(networks, input_shape)

    @final
    def measure_files(self, paths: Sequence[Path]) -> list[Measurement]:
        """Measure exported files; see `MeasuredCost.measure_files`."""
        return self._latency.measure_files(paths)

    @final
    def learn(self, measurements: Sequence[tuple[Architecture, Measurement]]) -> None:
        """Keep measured networks for the models of later runs; the estimates of this one stay the same."""
        self._learned_networks.keep(measurements)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the samples of `state_dict`, measuring none again."""
        self._samples = MeasuredSamples.from_rows(state, self.rows, self._space)
        self._model = None
