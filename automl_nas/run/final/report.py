"""The results of the final stage: frozen dataclasses, and the section ``final`` of ``result.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from automl_nas.evaluation.costs.measured import Measurement
from automl_nas.evaluation.exporter import Conversion
from automl_nas.run.final.delivered import DeliveredNetwork, ExportFailure, LimitCheck
from automl_nas.space.architecture import Architecture


@dataclass(frozen=True)
class FinalNetwork:
    """A network that the final stage trained, and what was measured of it.

    Attributes:
        role: ``found`` for a network of the search; ``largest``, ``random`` or ``equal`` for a baseline;
            ``teacher`` for the teacher that the stage trained.
        trial: number of the trial that the network comes from; None for a baseline.
        seed: which of the repeated trainings of the same network this is, from 0.
        architecture: of the network.
        costs: cost -> value that the cost model computes or predicts; NaN if it has none.
        space: the resolved configuration of the space, if a width was fitted for this network; else None.
        measured: cost -> measurement with fresh weights; only costs that are limited and measured.
        search: metric -> value on the search split, if it is a finite number; None if the network was trained on that
            split.
        test: metric -> value on the test split, likewise; None if the network was not tested.
        test_interval: metric -> 95 % interval of the test value, where the task computes one.
        details: results on the test split that are not scalars, such as a confusion matrix; see `TaskReport`.
        warnings: what a user should know about the test result, such as that a constant prediction is as good, or that
            a metric is not defined.
        failed: the error that ended the training; None if the training was completed.
    """

    role: str
    trial: int | None
    seed: int
    architecture: Architecture
    costs: Mapping[str, float]
    space: Mapping[str, Any] | None = None
    measured: Mapping[str, Measurement] = field(default_factory=dict)
    search: Mapping[str, float] | None = None
    test: Mapping[str, float] | None = None
    test_interval: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    failed: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data; keys without a value are left out."""
        data: dict[str, Any] = {
            "role": self.role,
            "trial": self.trial,
            "seed": self.seed,
            "architecture": self.architecture.to_dict(),
            "costs": {name: cost if math.isfinite(cost) else None for name, cost in self.costs.items()},
        }
        if self.space is not None:
            data["space"] = dict(self.space)
        if self.measured:
            data["measured"] = {name: asdict(measurement) for name, measurement in self.measured.items()}
        if self.search is not None:
            data["search"] = dict(self.search)
        if self.test is not None:
            data["test"] = dict(self.test)
            data["test_interval"] = {name: list(interval) for name, interval in self.test_interval.items()}
        if self.details:
            data["details"] = dict(self.details)
        if self.warnings:
            data["warnings"] = list(self.warnings)
        if self.failed is not None:
            data["failed"] = self.failed
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FinalNetwork:
        """Read what `to_json` returned."""
        return cls(
            role=data["role"],
            trial=data["trial"],
            seed=data["seed"],
            architecture=Architecture(data["architecture"]),
            costs={name: math.nan if cost is None else cost for name, cost in data["costs"].items()},
            space=data.get("space"),
            measured={name: Measurement(**values) for name, values in data.get("measured", {}).items()},
            search=data.get("search"),
            test=data.get("test"),
            test_interval={name: (low, high) for name, (low, high) in data.get("test_interval", {}).items()},
            details=data.get("details", {}),
            warnings=tuple(data.get("warnings", ())),
            failed=data.get("failed"),
        )


def finite(metrics: Mapping[str, float]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return the test metrics that are finite numbers, and a warning for each of the others."""
    values = {name: value for name, value in metrics.items() if math.isfinite(value)}
    warnings = [
        f"the test metric '{name}' is {value}: it is not defined for these samples, or outputs are not finite"
        for name, value in metrics.items()
        if name not in values
    ]
    return values, tuple(warnings)


@dataclass(frozen=True)
class BaselineComparison:
    """The test metric of the delivered network minus that of a baseline.

    Attributes:
        role: of the baseline.
        network: position of the baseline in `FinalReport.networks`.
        difference: positive if the value of the delivered network is higher.
        interval: 95 % interval of the difference; None if the task computes no interval of the metric.
    """

    role: str
    network: int
    difference: float
    interval: tuple[float, float] | None = None

    @property
    def exceeds_noise(self) -> bool | None:
        """Whether the interval excludes 0; None without an interval."""
        return None if self.interval is None else self.interval[0] > 0 or self.interval[1] < 0

    def to_json(self) -> dict[str, Any]:
        """Return plain data; keys without a value are left out."""
        data: dict[str, Any] = {"with": self.role, "network": self.network, "difference": self.difference}
        if self.interval is not None:
            data |= {"interval": list(self.interval), "exceeds_noise": self.exceeds_noise}
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BaselineComparison:
        """Read what `to_json` returned."""
        interval = data.get("interval")
        return cls(
            data["with"], data["network"], data["difference"], None if interval is None else (interval[0], interval[1])
        )


@dataclass(frozen=True)
class FinalReport:
    """What the final stage trained, compared, tested and exported.

    Attributes:
        metric: of the task; networks are chosen and compared by it.
        networks: in the order they were trained: those of the search, then the baselines.
        comparisons: of the delivered network with each baseline that was trained.
        settings: the settings of the stage, as plain data.
        deliveries: the delivered networks with their files and limits, the main one first; more than one with
            ``choose: pareto`` only.
    """

    metric: str
    networks: tuple[FinalNetwork, ...]
    comparisons: tuple[BaselineComparison, ...]
    settings: Mapping[str, Any]
    deliveries: tuple[DeliveredNetwork, ...]

    @property
    def chosen(self) -> int:
        """The position of the delivered network in ``networks``; of several, of the main one."""
        return self.deliveries[0].network

    @property
    def delivered(self) -> FinalNetwork:
        """The delivered network; of several, the main one."""
        return self.networks[self.chosen]

    @property
    def others(self) -> tuple[DeliveredNetwork, ...]:
        """The delivered networks besides the main one."""
        return self.deliveries[1:]

    @property
    def files(self) -> tuple[str, ...]:
        """The exported files of the main network, relative to the run directory."""
        return self.deliveries[0].files

    @property
    def not_exported(self) -> tuple[ExportFailure, ...]:
        """The formats that the main network could not be exported in."""
        return self.deliveries[0].not_exported

    @property
    def limits(self) -> tuple[LimitCheck, ...]:
        """One for each limit on a cost of the main network."""
        return self.deliveries[0].limits

    @property
    def export_notes(self) -> tuple[str, ...]:
        """What users should know about the exported files of the main network."""
        return self.deliveries[0].export_notes

    @property
    def conversions(self) -> tuple[Conversion, ...]:
        """What was measured of files of the main network that compute other outputs than it on purpose."""
        return self.deliveries[0].conversions

    @property
    def missed_limits(self) -> tuple[LimitCheck, ...]:
        """The limits that the delivered networks do not meet."""
        return tuple(check for delivered in self.deliveries for check in delivered.missed_limits)

    def to_json(self) -> dict[str, Any]:
        """Return the section ``final`` of ``result.json``; what belongs to the main network is not nested."""
        main = self.deliveries[0].to_json()
        return {
            "metric": self.metric,
            "chosen": main.pop("network"),
            "networks": [network.to_json() for network in self.networks],
            "comparison": [comparison.to_json() for comparison in self.comparisons],
            "settings": dict(self.settings),
            **main,
            **({"others": [delivered.to_json() for delivered in self.others]} if self.others else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FinalReport:
        """Read what `to_json` returned. Earlier versions wrote neither ``not_exported`` nor ``budget``."""
        main = {"not_exported": (), "budget": (), **data, "network": data["chosen"]}
        return cls(
            metric=data["metric"],
            networks=tuple(FinalNetwork.from_json(network) for network in data["networks"]),
            comparisons=tuple(BaselineComparison.from_json(comparison) for comparison in data["comparison"]),
            settings=data["settings"],
            deliveries=tuple(DeliveredNetwork.from_json(each) for each in (main, *data.get("others", ()))),
        )
