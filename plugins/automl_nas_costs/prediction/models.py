"""The cost models `latency_predictor` and `cost_predictor`."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation.cost import CostModel
from automl_nas.evaluation.measured import MeasuredCost, Measurement
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream
from automl_nas_costs.latency.model import LatencyMs
from automl_nas_costs.prediction.building import networks_of
from automl_nas_costs.prediction.predictor import FEWEST, ModelName, Predictor
from automl_nas_costs.prediction.samples import SampleFile, read_samples

if TYPE_CHECKING:
    from torch import nn

_log = logging.getLogger(__name__)


@final
@dataclass(frozen=True)
class _Fitting:
    """How a predictor is fitted; see `Predictor`."""

    space: SearchSpace
    model: ModelName
    counts: bool
    folds: int
    seed: int

    def fit(self, architectures: Sequence[Architecture], values: Sequence[float], what: str) -> Predictor:
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


def _check_samples(samples: int) -> None:
    if samples < FEWEST:
        raise ConfigurationError(f"must be at least {FEWEST}, not {samples}", path="samples")


@final
class LatencyPredictor(MeasuredCost):
    """Latency predicted from measured samples: networks are measured once, then any number are predicted.

    The samples are measured when a value is first asked for. Which regressor is used on which features is decided by
    cross-validation on them; `predictor` has its ``accuracy`` on networks it was not fitted on.

    Args:
        space: any search space that can build networks.
        seed: of what is drawn: samples, folds.
        samples: how many networks are measured.
        latency: what measures them; by default ``latency_ms`` with its default settings.
        at_once: networks of one measuring session, all of which are kept in memory.
        model: ``auto``, or only ``additive``, ``gaussian_process`` or ``blocks``. ``additive`` gives a sum over
            decisions, which also serves soft selections.
        counts: whether networks may be taken apart into blocks of which multiply-adds and so on are counted.
        folds: of the cross-validation.

    Raises:
        ConfigurationError: a setting out of range.
    """

    metric: ClassVar[str] = "latency_ms"
    unit: ClassVar[str] = "ms"
    exported_suffix: ClassVar[str] = ".onnx"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        samples: int = 100,
        latency: MeasuredCost | None = None,
        at_once: int = 50,
        model: ModelName = "auto",
        counts: bool = True,
        folds: int = 5,
    ) -> None:
        _check_samples(samples)
        if at_once < 1:
            raise ConfigurationError(f"must be at least 1, not {at_once}", path="at_once")
        self._space, self._samples, self._at_once = space, samples, at_once
        self._latency = LatencyMs(space, seed=seed) if latency is None else latency
        self.metric, self.unit = self._latency.metric, self._latency.unit  # type: ignore[misc]
        self.exported_suffix = self._latency.exported_suffix  # type: ignore[misc]
        self._fitting = _Fitting(space, model, counts, folds, seed)
        self._measured: list[tuple[Architecture, Measurement]] = []
        self._predictor: Predictor | None = None

    @property
    def predictor(self) -> Predictor:
        """The fitted predictor; measures the samples if they were not.

        Raises:
            SpaceError: a network cannot be built or measured.
        """
        if self._predictor is None:
            if not self._measured:
                self._measured = self._measure_samples()
            architectures = [architecture for architecture, _ in self._measured]
            self._predictor = self._fitting.fit(
                architectures, [found.value for _, found in self._measured], self.metric
            )
        return self._predictor

    def _measure_samples(self) -> list[tuple[Architecture, Measurement]]:
        architectures = draw(self._space, self._samples, self._fitting.seed)
        found: list[tuple[Architecture, Measurement]] = []
        for start in range(0, len(architectures), self._at_once):
            part = architectures[start : start + self._at_once]
            measured = self._latency.measure(networks_of(self._space, part), self._space.input_shape)
            found += zip(part, measured, strict=True)
        return found

    def note(self) -> str:
        """Return from how many samples it is predicted, by what, and the error on networks it was not fitted on."""
        found = self.predictor
        made = f"predicted from {len(self._measured)} samples by {found.chosen.name}"
        return f"{made}; on held-out networks {found.accuracy.text()}"

    def estimate(self, architecture: Architecture) -> float:
        """Return the predicted latency."""
        return self.predictor.estimate(architecture)

    def estimates(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the predicted latencies of architectures given by their codes, shape ``(n,)``."""
        return self.predictor.estimates(codes)

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the whole value under the network's own path, the empty text: a regressor knows no modules."""
        return {"": self.estimate(architecture)}

    def measure(self, networks: Sequence[nn.Module], input_shape: Sequence[int]) -> list[Measurement]:
        """Measure networks; see `MeasuredCost.measure`."""
        return self._latency.measure(networks, input_shape)

    def measure_files(self, paths: Sequence[Path]) -> list[Measurement]:
        """Measure exported files; see `MeasuredCost.measure_files`."""
        return self._latency.measure_files(paths)

    def state_dict(self) -> dict[str, Any]:
        """Return the measured samples, and the accuracy of the prediction for whoever reads them."""
        return {
            "samples": [
                {"architecture": dict(architecture.items()), "value": m.value, "low": m.low, "high": m.high}
                for architecture, m in self._measured
            ],
            "model": self._predictor.chosen.name if self._predictor else None,
            "accuracy": self._predictor.accuracy.as_dict() if self._predictor else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the samples of `state_dict`, measuring none again."""
        self._measured = [
            (
                self._space.validate(item["architecture"]),
                Measurement(float(item["value"]), float(item["low"]), float(item["high"])),
            )
            for item in state["samples"]
        ]
        self._predictor = None


@final
class CostPredictor(CostModel):
    """A cost predicted from samples of another cost model, or of a file: for devices that are not at hand.

    Args:
        space: what is searched.
        seed: of what is drawn: samples, folds.
        of: a cost model of which ``samples`` values are asked.
        file: samples measured elsewhere, all of which are used; give this or ``of``.
        samples: how many values of ``of`` are asked; an architecture for which it gives none is left out.
        unit: of the values in the file.
        model: see `LatencyPredictor`.
        counts: whether networks may be taken apart into blocks of which multiply-adds and so on are counted.
        folds: of the cross-validation.

    Raises:
        ConfigurationError: not exactly one of ``of`` and ``file``, or a setting out of range.
        DataError: the file cannot be read.
    """

    metric: ClassVar[str] = "cost_predictor"
    unit: ClassVar[str] = "ms"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        of: CostModel | None = None,
        file: SampleFile | None = None,
        samples: int = 100,
        unit: str = "ms",
        model: ModelName = "auto",
        counts: bool = True,
        folds: int = 5,
    ) -> None:
        _check_samples(samples)
        if (of is None) == (file is None):
            raise ConfigurationError("give either a cost model to predict, 'of', or a 'file' of samples", path="of")
        self._space, self._samples, self._of = space, samples, of
        self._read = None if file is None else read_samples(file, space)
        self._fitting = _Fitting(space, model, counts, folds, seed)
        self._predictor: Predictor | None = None
        self.unit = unit  # type: ignore[misc]
        if of is not None:
            self.metric, self.unit = of.metric, of.unit  # type: ignore[misc]

    @property
    def predictor(self) -> Predictor:
        """The fitted predictor.

        Raises:
            DataError: too few samples have a value.
        """
        if self._predictor is None:
            architectures, values = self._read or self._asked()
            self._predictor = self._fitting.fit(architectures, values, self.metric)
        return self._predictor

    def _asked(self) -> tuple[list[Architecture], list[float]]:
        assert self._of is not None
        drawn = draw(self._space, self._samples, self._fitting.seed)
        known = [(architecture, self._of.estimate(architecture)) for architecture in drawn]
        known = [(architecture, value) for architecture, value in known if math.isfinite(value)]
        if not known:
            raise DataError(f"'{self._of.metric}' has no value for any of {len(drawn)} architectures")
        return [architecture for architecture, _ in known], [value for _, value in known]

    def note(self) -> str:
        """Return from how many samples it is predicted, by what, and the error on networks it was not fitted on."""
        found = self.predictor
        made = f"predicted from {found.accuracy.count} samples by {found.chosen.name}"
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
