"""The cost models `latency_predictor` and `cost_predictor`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import CostModel, MeasuredCost
from automl_nas.space import Architecture, SearchSpace
from automl_nas_costs.latency.cache import USER
from automl_nas_costs.latency.model import LatencyMs
from automl_nas_costs.network_builder import networks_of
from automl_nas_costs.prediction.fitted_costs import FittedCost, FittedLatency
from automl_nas_costs.prediction.predictor import FEWEST, ModelName, Predictor
from automl_nas_costs.prediction.samples import MeasuredSamples, Sample, draw
from automl_nas_costs.prediction.table_files import SampleFile, read_samples


@final
@dataclass(frozen=True)
class PredictorFitter:
    """The settings of a predictor; see `Predictor`.

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

    def draw(self) -> list[Architecture]:
        """Return the architectures of the samples: distinct, drawn uniformly."""
        return draw(self.space, self.samples, self.seed)

    def fit(self, samples: Sequence[Sample]) -> Predictor:
        """Fit a predictor.

        Raises:
            DataError: there are too few samples, or a value is not a positive number.
        """
        return Predictor(
            self.space,
            [sample.architecture for sample in samples],
            [sample.value for sample in samples],
            model=self.model,
            counts=self.counts,
            folds=self.folds,
            seed=self.seed,
        )


@final
class LatencyPredictor(FittedLatency[Predictor]):
    """Latency predicted from measured samples: some networks are measured once, then any number are predicted.

    The samples are measured when a value is first needed. Networks that earlier runs measured before they delivered one
    are samples, too. Cross-validation on the samples chooses the regressor and its features; ``fitted.accuracy`` is
    that on networks to which the predictor was not fitted.

    Args:
        space: any search space that can build networks.
        seed: of the samples and of the folds.
        samples: number of networks that are measured.
        latency: the cost model that measures them; by default ``latency_ms`` with its default settings.
        at_once: networks of one measuring session, all of which are kept in memory.
        model: ``auto``, or only ``additive``, ``gaussian_process`` or ``blocks``. ``additive`` gives a sum over
            decisions, which also serves soft selections.
        counts: whether networks may be split into blocks of which multiply-adds and so on are counted.
        folds: of the cross-validation.
        learned: folder of the networks that runs measure before they deliver one, which are samples of later runs;
            ``user`` for the one in the user's cache folder, null for none. Used only if ``latency`` is ``latency_ms``.

    Raises:
        ConfigurationError: a setting out of range.
    """

    rows: ClassVar[str] = "samples"

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
        learned: str | None = USER,
    ) -> None:
        self._fitter = PredictorFitter(space, samples, model, counts, folds, seed)
        if at_once < 1:
            raise ConfigurationError(f"must be at least 1, not {at_once}", path="at_once")
        super().__init__(space, LatencyMs(space, seed=seed) if latency is None else latency, learned)
        self._at_once = at_once

    def _fit(self) -> Predictor:
        if not self._samples.measured:
            self._samples = self._measure_samples()
        return self._fitter.fit(self._samples.samples)

    def _measure_samples(self) -> MeasuredSamples:
        architectures = self._fitter.draw()
        measured: list[Sample] = []
        controls: list[float] = []
        for start in range(0, len(architectures), self._at_once):
            part = architectures[start : start + self._at_once]
            measurements = self.measure(networks_of(self._space, part), self._space.input_shape)
            measured += [Sample.of(item, measurement) for item, measurement in zip(part, measurements, strict=True)]
            details = [measurement.details for measurement in measurements]
            controls += [float(item["control"]["value"]) for item in details if "control" in item]
        if not controls:
            return MeasuredSamples(measured)
        control_ms = statistics.median(controls)
        return MeasuredSamples(measured, self._learned_networks.samples(control_ms, without=set(architectures)))

    def _origin(self, model: Predictor) -> str:
        return f"predicted from {self._samples.text()} by {model.chosen.name}"

    def state_dict(self) -> dict[str, Any]:
        """Return the samples, and the accuracy of the prediction for readers of the file."""
        return {
            **self._samples.to_rows(self.rows),
            "model": self._model.chosen.name if self._model is not None else None,
            "accuracy": self._accuracy_row(),
        }


@final
class CostPredictor(FittedCost[Predictor]):
    """A cost predicted from samples of another cost model or of a file, such as the latency of another device.

    Args:
        space: any search space.
        seed: of the samples and of the folds.
        of: a cost model that computes the costs of ``samples`` architectures.
        file: samples measured elsewhere, all of which are used; set this or ``of``.
        samples: number of architectures whose cost ``of`` computes; one for which it has none is left out.
        unit: of the values in the file.
        model: see `LatencyPredictor`.
        counts: whether networks may be split into blocks of which multiply-adds and so on are counted.
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
        super().__init__(space)
        self._fitter = PredictorFitter(space, samples, model, counts, folds, seed)
        if (of is None) == (file is None):
            raise ConfigurationError("set either a cost model to predict, 'of', or a 'file' of samples", path="of")
        self._of = of
        self._samples = None if file is None else read_samples(file, space)
        self.unit = unit  # type: ignore[misc]
        if of is not None:
            self.metric, self.unit = of.metric, of.unit  # type: ignore[misc]

    def _fit(self) -> Predictor:
        return self._fitter.fit(self._samples or self._computed_samples())

    def _origin(self, model: Predictor) -> str:
        return f"predicted from {model.accuracy.count} samples by {model.chosen.name}"

    def _computed_samples(self) -> list[Sample]:
        assert self._of is not None
        drawn = self._fitter.draw()
        samples = [Sample(architecture, self._of.estimate(architecture)) for architecture in drawn]
        finite = [sample for sample in samples if math.isfinite(sample.value)]
        if not finite:
            raise DataError(f"'{self._of.metric}' has no value for any of {len(drawn)} architectures")
        return finite
