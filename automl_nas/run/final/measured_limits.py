"""Limits on measured costs: candidates are measured before the final stage trains them, exported files after it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas.errors import PluginError
from automl_nas.evaluation.costs.measured import MeasuredCost, Measurement
from automl_nas.run.configuration.problem import SEARCHED
from automl_nas.run.final.delivered import LimitCheck
from automl_nas.strategy.problem import Constraint, Problem

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CostLimit:
    """A limit on a cost of the delivered network.

    Attributes:
        constraint: the limit.
        unit: of the cost.
        model: measures the cost; None for an exact cost.
    """

    constraint: Constraint
    unit: str
    model: MeasuredCost | None

    def excess(self, measurement: Measurement | None, predicted: float) -> float:
        """Return by how much the limit is missed, relative to the limit; at most 0 if it is met.

        A measurement meets the limit only if its whole interval does.

        Args:
            measurement: of the cost; None: the predicted value is used.
            predicted: value of the cost model.
        """
        if measurement is None:
            return self.constraint.violation(predicted)
        return max(self.constraint.violation(measurement.low), self.constraint.violation(measurement.high))


def limits_of(problem: Problem) -> tuple[CostLimit, ...]:
    """Return the limits of a problem on the costs of the delivered network."""
    limits = []
    for constraint in problem.constraints:
        model = problem.cost_models.get(constraint.metric)
        if model is not None and not constraint.metric.endswith(SEARCHED):
            inner = getattr(model, "model", model)
            limits.append(CostLimit(constraint, model.unit, inner if isinstance(inner, MeasuredCost) else None))
    return tuple(limits)


class MeasuredLimits:
    """Selects the best candidates that meet the limits on measured costs.

    The first ``top_k`` candidates are measured together. If one misses a limit, the next best candidate is measured
    instead. Candidates whose corrected prediction misses a limit are skipped: predictions are multiplied by the median
    of measured by predicted values. If no candidate meets the limits, the one with the smallest excess is selected.

    Candidates are identified by their place: the position in ``costs``; baselines have negative places.

    Args:
        limits: of the problem.
        costs: predicted costs of each candidate, best candidate first.
        top_k: how many candidates to select.

    Attributes:
        limits: of the problem.
        measured: place of a candidate -> cost -> measurement.
    """

    def __init__(self, limits: Sequence[CostLimit], costs: Sequence[Mapping[str, float]], top_k: int) -> None:
        self.limits = tuple(limits)
        self._measurable = [limit for limit in limits if limit.model is not None]
        self._costs, self._top_k = costs, top_k
        self.measured: dict[int, dict[str, Measurement]] = {}

    @property
    def pending(self) -> list[int]:
        """The places to measure next; empty when the selection is complete."""
        return [place for place in self._selection() if place not in self.measured] if self._measurable else []

    @property
    def chosen(self) -> list[int]:
        """The places to train, best first; the place with the smallest excess if no candidate meets the limits."""
        if not self._measurable:
            return list(range(min(self._top_k, len(self._costs))))
        selected = [place for place in self._selection() if place in self.measured]
        candidates = [place for place in self.measured if place >= 0]  # a baseline is never delivered
        return selected or [min(candidates, key=lambda place: (self._excess(place), place))]

    def measure(self, places: Sequence[int], networks: Sequence[nn.Module], input_shape: Sequence[int]) -> None:
        """Measure candidates and baselines, in one session for each cost.

        Args:
            places: of the networks.
            networks: on the CPU; their weights do not matter.
            input_shape: of one input without the batch.
        """
        for place in places:
            self.measured[place] = {}
        for limit in self._measurable:
            assert limit.model is not None
            measurements = limit.model.measure(networks, input_shape)
            _check_measurements(measurements, len(places), limit.model, "measure")
            for place, measurement in zip(places, measurements, strict=True):
                self.measured[place][limit.constraint.metric] = measurement

    def corrections(self) -> dict[str, float]:
        """Return the median of measured by predicted values for each cost; 1 before the first measurement."""
        corrections = {}
        for limit in self._measurable:
            name = limit.constraint.metric
            ratios = [
                measurements[name].value / self._costs[place][name]
                for place, measurements in self.measured.items()
                if place >= 0 and self._costs[place][name] > 0
            ]
            corrections[name] = statistics.median(ratios) if ratios else 1.0
        return corrections

    def check(self, place: int, costs: Mapping[str, float], files: Sequence[Path]) -> tuple[LimitCheck, ...]:
        """Return whether the delivered network meets each limit. Exported files are measured in this call.

        Args:
            place: of the delivered candidate.
            costs: predicted for it.
            files: that were exported.
        """
        return tuple(self._check(limit, place, costs, files) for limit in self.limits)

    def _check(self, limit: CostLimit, place: int, costs: Mapping[str, float], files: Sequence[Path]) -> LimitCheck:
        name = limit.constraint.metric
        measured = self.measured.get(place, {}).get(name)
        exported = None
        if limit.model is not None:
            measurable = [file for file in files if file.name.endswith(limit.model.exported_suffix)]
            if measurable:
                measurements = limit.model.measure_files(measurable[:1])
                _check_measurements(measurements, 1, limit.model, "measure_files")
                exported = measurements[0]
        excess = limit.excess(exported or measured, costs[name])
        return LimitCheck(
            cost=name,
            unit=limit.unit,
            limit=limit.constraint.text,
            predicted=costs[name],
            measured=measured,
            exported=exported,
            margin=-excess,
            met=excess <= 0,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements, as plain data."""
        return {
            str(place): {name: asdict(measurement) for name, measurement in measurements.items()}
            for place, measurements in self.measured.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.measured = {
            int(place): {name: Measurement(**values) for name, values in measurements.items()}
            for place, measurements in state.items()
        }

    def _selection(self) -> list[int]:
        """Return the places of the best candidates that meet the limits, by measurement or by corrected prediction."""
        corrections = self.corrections()
        selection: list[int] = []
        for place, costs in enumerate(self._costs):
            if len(selection) == self._top_k:
                break
            if place in self.measured:
                meets = self._excess(place) <= 0
            else:
                meets = not self.measured or all(
                    c.violation(costs[c.metric] * corrections[c.metric]) <= 0
                    for c in (limit.constraint for limit in self._measurable)
                )
            if meets:
                selection.append(place)
        return selection

    def _excess(self, place: int) -> float:
        measurements = self.measured[place]
        return max(limit.excess(measurements[limit.constraint.metric], math.nan) for limit in self._measurable)


def _check_measurements(measurements: object, count: int, model: MeasuredCost, method: str) -> None:
    """Check what a method of a cost model returned.

    Raises:
        PluginError: it is not a list of as many measurements as there are networks or files.
    """
    wrong = f"{type(model).__name__}.{method} returned"
    way_out = "it must return a list of Measurement, one for each network or file"
    if not isinstance(measurements, Sequence) or not all(isinstance(each, Measurement) for each in measurements):
        raise PluginError(f"{wrong} {measurements!r:.300}, a {type(measurements).__name__}; {way_out}")
    if len(measurements) != count:
        raise PluginError(f"{wrong} {len(measurements)} measurements for {count}; {way_out}")
