"""Architectures whose cost is known, from which a cost is predicted: `Sample`, `MeasuredSamples`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from automl_nas.evaluation import Measurement
from automl_nas.space import Architecture, SearchSpace
from automl_nas.streams import stream


@final
@dataclass(frozen=True)
class Sample:
    """An architecture and its cost.

    Attributes:
        architecture: of the space.
        value: its cost.
        interval: the ends of the interval of a measured cost, if it is recorded.
    """

    architecture: Architecture
    value: float
    interval: tuple[float, float] | None = None

    @classmethod
    def of(cls, architecture: Architecture, measurement: Measurement) -> Sample:
        """Return a measured sample with its interval."""
        return cls(architecture, measurement.value, (measurement.low, measurement.high))

    def to_row(self) -> dict[str, Any]:
        """Return the sample as plain data."""
        row: dict[str, Any] = {"architecture": self.architecture.to_dict(), "value": self.value}
        if self.interval is not None:
            row["low"], row["high"] = self.interval
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any], space: SearchSpace) -> Sample:
        """Invert `to_row`.

        Raises:
            SpaceError: the architecture is not of the space.
        """
        interval = (float(row["low"]), float(row["high"])) if "low" in row else None
        return cls(space.validate(row["architecture"]), float(row["value"]), interval)


@final
@dataclass(frozen=True)
class MeasuredSamples:
    """The measured networks from which a latency is predicted.

    Attributes:
        measured: those of this run.
        learned: those of earlier runs; see `LearnedNetworks`.
    """

    measured: Sequence[Sample] = ()
    learned: Sequence[Sample] = ()

    @property
    def samples(self) -> list[Sample]:
        """All samples, those of this run first."""
        return [*self.measured, *self.learned]

    def text(self) -> str:
        """Return their number in words: ``20 networks of this session and 3 learned from earlier runs``."""
        measured = f"{len(self.measured)} networks of this session"
        return f"{measured} and {len(self.learned)} learned from earlier runs" if self.learned else measured

    def to_rows(self, name: str) -> dict[str, Any]:
        """Return the samples as plain data: those of this run under ``name``, the others under ``learned``."""
        return {
            name: [sample.to_row() for sample in self.measured],
            "learned": [sample.to_row() for sample in self.learned],
        }

    @classmethod
    def from_rows(cls, state: Mapping[str, Any], name: str, space: SearchSpace) -> MeasuredSamples:
        """Invert `to_rows`.

        Raises:
            SpaceError: an architecture is not of the space.
        """
        measured = [Sample.from_row(row, space) for row in state[name]]
        return cls(measured, [Sample.from_row(row, space) for row in state.get("learned", ())])


def draw(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """Return ``count`` distinct architectures drawn uniformly, or all if the space has fewer."""
    drawn: dict[Architecture, None] = {}
    rng = stream(seed, "prediction/samples")
    while len(drawn) < min(count, space.size):
        drawn[space.sample(rng)] = None
    return list(drawn)
