"""What belongs to one delivered network in the result: its exported files, and the limits on its costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from automl_nas.evaluation.costs.measured import Measurement
from automl_nas.evaluation.exporter import Conversion


@dataclass(frozen=True)
class LimitCheck:
    """Whether a delivered network meets a limit on a cost.

    Attributes:
        cost: name of the cost.
        unit: of its values.
        limit: as in the constraint, e.g. ``<= 5``.
        predicted: value of the cost model.
        measured: measurement of the network with fresh weights; None for an exact cost.
        exported: measurement of the exported file; None if no format can be measured.
        margin: distance to the limit, relative to the limit; negative if it is missed. The last of ``exported``,
            ``measured`` and ``predicted`` that has a value decides, a measurement with its whole interval.
        met: whether the limit is met.
    """

    cost: str
    unit: str
    limit: str
    predicted: float
    measured: Measurement | None
    exported: Measurement | None
    margin: float
    met: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LimitCheck:
        """Read what `to_json` returned."""
        measurements = {
            key: None if data[key] is None else Measurement(**data[key]) for key in ("measured", "exported")
        }
        return cls(**{**data, **measurements})


@dataclass(frozen=True)
class ExportFailure:
    """A format that a delivered network could not be exported in.

    Attributes:
        format: name of the exporter.
        error: its message.
    """

    format: str
    error: str


@dataclass(frozen=True)
class DeliveredNetwork:
    """A network that the final stage delivered.

    Attributes:
        network: its position in `FinalReport.networks`; its weights are the artifact ``final/network-<position>``.
        files: exported files, relative to the run directory.
        not_exported: formats that failed.
        limits: one for each limit on a cost.
        export_notes: what users should know about the exported files, such as a part that could not be written.
        conversions: of exported files that compute other outputs than the network on purpose, such as int8 ones.
        dominated_by: position of another delivered network that is at least as good in every objective and better in
            one, after both were trained, by their costs and test metrics; None without such a network.
    """

    network: int
    files: tuple[str, ...]
    not_exported: tuple[ExportFailure, ...]
    limits: tuple[LimitCheck, ...]
    export_notes: tuple[str, ...] = ()
    conversions: tuple[Conversion, ...] = ()
    dominated_by: int | None = None

    @property
    def missed_limits(self) -> tuple[LimitCheck, ...]:
        """The limits that the network does not meet."""
        return tuple(check for check in self.limits if not check.met)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; keys without a value are left out."""
        return {
            "network": self.network,
            "files": list(self.files),
            "not_exported": [asdict(failure) for failure in self.not_exported],
            "budget": [check.to_json() for check in self.limits],
            **({"export_notes": list(self.export_notes)} if self.export_notes else {}),
            **({"conversions": [each.to_json() for each in self.conversions]} if self.conversions else {}),
            **({"dominated_by": self.dominated_by} if self.dominated_by is not None else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DeliveredNetwork:
        """Read what `to_json` returned."""
        return cls(
            network=data["network"],
            files=tuple(data["files"]),
            not_exported=tuple(ExportFailure(**failure) for failure in data["not_exported"]),
            limits=tuple(LimitCheck.from_json(check) for check in data["budget"]),
            export_notes=tuple(data.get("export_notes", ())),
            conversions=tuple(Conversion.from_json(each) for each in data.get("conversions", ())),
            dominated_by=data.get("dominated_by"),
        )
