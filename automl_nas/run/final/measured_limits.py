"""Limits on measured costs, held by what is delivered: candidates are measured before they are trained, files after."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas.evaluation.costs.measured import MeasuredCost, Measurement
from automl_nas.run.configuration.problem import SEARCHED
from automl_nas.strategy.problem import Constraint, Problem

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class CostLimit:
    """A limit on a cost of the delivered network.

    Attributes:
        constraint: the limit.
        unit: of the cost.
        model: what measures it; None where the cost is exact.
    """

    constraint: Constraint
    unit: str
    model: MeasuredCost | None

    def excess(self, measured: Measurement | None, predicted: float) -> float:
        """Return by how much the limit is missed, relative to it; at most 0 if it is met.

        A measurement meets it only if its whole interval does.
        """
        if measured is None:
            return self.constraint.violation(predicted)
        return max(self.constraint.violation(measured.low), self.constraint.violation(measured.high))


def limits_of(problem: Problem) -> tuple[CostLimit, ...]:
    """Return the limits of a problem on the costs of the delivered network."""
    found = []
    for constraint in problem.constraints:
        model = problem.cost_models.get(constraint.metric)
        if model is not None and not constraint.metric.endswith(SEARCHED):
            inner = getattr(model, "model", model)
            found.append(CostLimit(constraint, model.unit, inner if isinstance(inner, MeasuredCost) else None))
    return tuple(found)


class MeasuredLimits:
    """Which of the best candidates keep the measured limits.

    The first ones are measured together; in the place of one that misses a limit comes the next best, unless what was
    measured so far says that it will miss too: predictions are corrected by the median of measured by predicted. If
    none is left, the nearest one is delivered.

    Args:
        limits: of the problem.
        costs: predicted costs of each candidate, best candidate first.
        top_k: how many are wanted.
    """

    def __init__(self, limits: Sequence[CostLimit], costs: Sequence[Mapping[str, float]], top_k: int) -> None:
        self.limits = tuple(limits)
        self._measurable = [limit for limit in limits if limit.model is not None]
        self._costs, self._top_k = costs, top_k
        self.measured: dict[int, dict[str, Measurement]] = {}

    @property
    def pending(self) -> list[int]:
        """The candidates to measure next; empty when it is settled."""
        return [place for place in self._wanted() if place not in self.measured] if self._measurable else []

    @property
    def chosen(self) -> list[int]:
        """The candidates to train, best first; the nearest one where none keeps the limits."""
        if not self._measurable:
            return list(range(min(self._top_k, len(self._costs))))
        kept = [place for place in self._wanted() if place in self.measured]
        found = [place for place in self.measured if place >= 0]  # a baseline is never delivered
        return kept or [min(found, key=lambda place: (self._excess(place), place))]

    def measure(self, places: Sequence[int], networks: Sequence[nn.Module], input_shape: Sequence[int]) -> None:
        """Measure candidates, or baselines (which have negative places), in one session for each cost."""
        for place in places:
            self.measured[place] = {}
        for limit in self._measurable:
            assert limit.model is not None
            for place, found in zip(places, limit.model.measure(networks, input_shape), strict=True):
                self.measured[place][limit.constraint.metric] = found

    def corrections(self) -> dict[str, float]:
        """Return the median of measured by predicted for each cost; 1 before anything is measured."""
        found = {}
        for limit in self._measurable:
            name = limit.constraint.metric
            ratios = [
                known[name].value / self._costs[place][name]
                for place, known in self.measured.items()
                if place >= 0 and self._costs[place][name] > 0
            ]
            found[name] = statistics.median(ratios) if ratios else 1.0
        return found

    def report(
        self, place: int, costs: Mapping[str, float], folder: Path, files: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return what the delivered network has of each limit; exported files are measured now.

        Args:
            place: of the delivered candidate.
            costs: predicted for it.
            folder: of the run.
            files: that were exported, relative to it.
        """
        rows = []
        for limit in self.limits:
            name = limit.constraint.metric
            measured = self.measured.get(place, {}).get(name)
            exported = None
            if limit.model is not None:
                fitting = [folder / file for file in files if file.endswith(limit.model.exported_suffix)]
                exported = limit.model.measure_files(fitting[:1])[0] if fitting else None
            excess = limit.excess(exported or measured, costs[name])
            rows.append(
                {
                    "cost": name,
                    "unit": limit.unit,
                    "limit": limit.constraint.text,
                    "predicted": costs[name],
                    "measured": None if measured is None else asdict(measured),
                    "exported": None if exported is None else asdict(exported),
                    "margin": -excess,
                    "met": excess <= 0,
                }
            )
        return rows

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements, as plain data."""
        return {
            str(place): {name: asdict(found) for name, found in known.items()} for place, known in self.measured.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.measured = {
            int(place): {name: Measurement(**found) for name, found in known.items()} for place, known in state.items()
        }

    def _wanted(self) -> list[int]:
        """Return the best candidates that keep the limits, as far as is known."""
        corrections = self.corrections()
        found: list[int] = []
        for place in range(len(self._costs)):
            if len(found) == self._top_k:
                break
            if place in self.measured:
                hopeful = self._excess(place) <= 0
            else:
                costs = self._costs[place]
                hopeful = not self.measured or all(
                    c.violation(costs[c.metric] * corrections[c.metric]) <= 0
                    for c in (limit.constraint for limit in self._measurable)
                )
            if hopeful:
                found.append(place)
        return found

    def _excess(self, place: int) -> float:
        known = self.measured[place]
        return max(limit.excess(known[limit.constraint.metric], math.nan) for limit in self._measurable)
