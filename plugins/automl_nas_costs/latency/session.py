"""Measuring networks in one session, so that they can be compared: `LatencySession`, `measure`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl_nas.errors import SpaceError
from automl_nas.evaluation import Measurement
from automl_nas.streams import stream_seed
from automl_nas_costs.latency.graphs import fixed
from automl_nas_costs.latency.measurement_rounds import DRIFT_LIMIT, ModelError, measure_models
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.latency.reference_network import control_model
from automl_nas_costs.latency.stability import SessionStats

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SessionReport:
    """How steady the machine was during a session.

    Attributes:
        control_ms: latency of the control network.
        drift: the range of the control's rounds as a share of it.
        steady: whether the drift is at most 5 %.
        environment: processor, versions, the provider's full name.
        paired: whether the values are corrected for the drift.
    """

    control_ms: float
    drift: float
    steady: bool
    environment: dict[str, Any]
    paired: bool = False

    def notes(self) -> list[str]:
        """Return the notes for readers of the values; empty if the machine was steady."""
        if self.steady:
            return []
        unsteady = (
            f"the machine was not steady: the control network's latency moved by {100 * self.drift:.0f} % between "
            f"rounds (more than {100 * DRIFT_LIMIT:.0f} %)"
        )
        if self.paired:
            return [f"{unsteady}; values are relative to the control beside each burst, at its median of the session"]
        return [f"{unsteady}; measure again when nothing else runs, with more rounds, or with paired: true"]


class LatencySession:
    """Models that are measured together: in every round each runs once, in random order, and so does the control.

    Args:
        options: how latency is measured.
        seed: of the orders, and of the resampling behind the intervals.
    """

    def __init__(self, options: LatencyOptions | None = None, *, seed: int = 0) -> None:
        self.options = options or LatencyOptions()
        self._seed = seed
        self._names: list[str] = []
        self._models: list[bytes] = []

    def add(self, model: bytes | Path, name: str = "") -> int:
        """Add a model, and return its number.

        Args:
            model: a serialised ONNX model or a file; a free batch is set to that of the session.
            name: for messages.

        Raises:
            SpaceError: the model cannot be measured; see `automl_nas_costs.latency.graphs.fixed`.
        """
        name = name or (str(model) if isinstance(model, Path) else f"model {len(self._models)}")
        self._models.append(fixed(model, self.options.batch, name))
        self._names.append(name)
        return len(self._models) - 1

    def run(self, stats: SessionStats | None = None) -> tuple[list[Measurement], SessionReport]:
        """Measure all models; return a measurement for each, in order, and a report on the session.

        ``details`` of a measurement holds ``rounds`` (the medians of all rounds, in ms), ``control`` (``value`` in ms,
        ``drift``), ``options``, ``environment`` and ``notes``.

        Args:
            stats: of a series of sessions; records the notes of this one. By default they are logged as warnings.

        Raises:
            SpaceError: ONNX Runtime cannot run a model.
        """
        rounds = self.options.rounds
        seeds = [stream_seed(self._seed, "latency/order", number) for number in range(rounds)]
        seeds.append(stream_seed(self._seed, "latency/bootstrap"))
        options = self.options.as_dict()
        try:
            results = measure_models(self._models, control_model(), options, seeds)
        except ModelError as error:
            name = self._names[error.number] if error.number < len(self._names) else "the control network"
            raise SpaceError(f"{name} cannot be measured: {error.reason}") from error
        control = results["control"]
        report = SessionReport(
            control["value"], control["drift"], results["steady"], results["environment"], self.options.paired
        )
        notes = report.notes()
        if stats is not None:
            stats.record(report.drift, notes)
        else:
            for note in notes:
                _log.warning("%s", note)
        shared = {
            "options": options,
            "environment": report.environment,
            "control": {"value": report.control_ms, "drift": report.drift},
            "notes": notes,
        }
        measurements = [
            Measurement(
                item["value"], item["low"], item["high"], item["confidence"], {"rounds": item["rounds"], **shared}
            )
            for item in results["models"]
        ]
        return measurements, report


def measure(
    models: Sequence[bytes | Path],
    options: LatencyOptions | None = None,
    *,
    names: Sequence[str] = (),
    seed: int = 0,
    stats: SessionStats | None = None,
) -> list[Measurement]:
    """Measure models in one session; see `LatencySession`.

    Args:
        models: serialised ONNX models (from `automl_nas_costs.latency.export.export`) or files.
        options: how latency is measured.
        names: of the models, for messages.
        seed: of the orders, and of the resampling behind the intervals.
        stats: see `LatencySession.run`.

    Raises:
        SpaceError: a model cannot be measured.
    """
    session = LatencySession(options, seed=seed)
    for number, model in enumerate(models):
        session.add(model, names[number] if names else "")
    return session.run(stats)[0]


def sentences(measurement: Measurement) -> list[str]:
    """Return a measured latency in sentences: its interval, the options of the measurement, notes on the machine."""
    details = measurement.details
    options, control = details["options"], details["control"]
    return [
        f"median of {options['rounds']} rounds; {100 * measurement.confidence:.0f} % interval {measurement.low:.4g} to "
        f"{measurement.high:.4g} ms; control {control['value']:.4g} ms, moved by {100 * control['drift']:.1f} %",
        f"{LatencyOptions(**options).text()}; {details['environment']['runtime']} on "
        f"{details['environment']['processor']}",
        *details["notes"],
    ]
