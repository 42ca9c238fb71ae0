"""The cost models `latency_predictor` and `cost_predictor`."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any, ClassVar, final

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import CostModel, MeasuredCost, Measurement
from automl_nas.space import Architecture, SearchSpace
from automl_nas_costs.latency.cache import USER
from automl_nas_costs.latency.model import LatencyMs
from automl_nas_costs.network_builder import networks_of
from automl_nas_costs.prediction.measuring import Remeasured
from automl_nas_costs.prediction.predicted import Fitting, PredictedCost
from automl_nas_costs.prediction.predictor import ModelName, Predictor
from automl_nas_costs.prediction.predictor_cache import as_rows, from_rows, said
from automl_nas_costs.prediction.samples import SampleFile, read_samples


@final
class LatencyPredictor(PredictedCost, Remeasured):
    """Latency predicted from measured samples: networks are measured once, then any number are predicted.

    The samples are measured when a value is first asked for. Networks that earlier runs measured before they delivered
    one are samples, too. Which regressor is used on which features is decided by cross-validation on them; `predictor`
    has its ``accuracy`` on networks it was not fitted on.

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
        learned: folder of networks that runs measured before they delivered one, which are samples of later runs;
            ``user`` for the one in the user's cache folder, null for none. Only where ``latency`` is ``latency_ms``.

    Raises:
        ConfigurationError: a setting out of range.
    """

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
        self._fitting = Fitting(space, samples, model, counts, folds, seed)
        if at_once < 1:
            raise ConfigurationError(f"must be at least 1, not {at_once}", path="at_once")
        super().__init__(space, LatencyMs(space, seed=seed) if latency is None else latency, learned)
        self._at_once = at_once
        self._measured: list[tuple[Architecture, Measurement]] = []
        self._learned: list[tuple[Architecture, float]] = []
        self._predictor: Predictor | None = None

    @property
    def predictor(self) -> Predictor:
        """The fitted predictor; measures the samples if they were not.

        Raises:
            SpaceError: a network cannot be built or measured.
        """
        if self._predictor is None:
            if not self._measured:
                self._measure_samples()
            known = [(architecture, found.value) for architecture, found in self._measured] + self._learned
            architectures, values = [item for item, _ in known], [value for _, value in known]
            self._predictor = self._fitting.fit(architectures, values, self.metric)
        return self._predictor

    def _measure_samples(self) -> None:
        architectures = self._fitting.drawn()
        found: list[tuple[Architecture, Measurement]] = []
        for start in range(0, len(architectures), self._at_once):
            part = architectures[start : start + self._at_once]
            measured = self._latency.measure(networks_of(self._space, part), self._space.input_shape)
            found += zip(part, measured, strict=True)
        controls = [float(item.details["control"]["value"]) for _, item in found if "control" in item.details]
        if controls:
            self._learned = self._kept.known(statistics.median(controls), but=set(architectures))
        self._measured = found

    def sources(self) -> str:
        """Return how many networks it is predicted from."""
        return said(len(self._measured), len(self._learned))

    def state_dict(self) -> dict[str, Any]:
        """Return the samples, and the accuracy of the prediction for whoever reads them."""
        return {
            "samples": [
                {"architecture": architecture.to_dict(), "value": m.value, "low": m.low, "high": m.high}
                for architecture, m in self._measured
            ],
            "learned": as_rows(self._learned),
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
        self._learned = from_rows(state.get("learned", ()), self._space)
        self._predictor = None


@final
class CostPredictor(PredictedCost):
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
        self._fitting = Fitting(space, samples, model, counts, folds, seed)
        if (of is None) == (file is None):
            raise ConfigurationError("give either a cost model to predict, 'of', or a 'file' of samples", path="of")
        self._of = of
        self._read = None if file is None else read_samples(file, space)
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

    def sources(self) -> str:
        """Return how many samples it is predicted from."""
        return f"{self.predictor.accuracy.count} samples"

    def _asked(self) -> tuple[list[Architecture], list[float]]:
        assert self._of is not None
        drawn = self._fitting.drawn()
        known = [(architecture, self._of.estimate(architecture)) for architecture in drawn]
        known = [(architecture, value) for architecture, value in known if math.isfinite(value)]
        if not known:
            raise DataError(f"'{self._of.metric}' has no value for any of {len(drawn)} architectures")
        return [architecture for architecture, _ in known], [value for _, value in known]
