"""Exporting the delivered network of a run: its description, and a file in each format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from automl_nas._version import __version__
from automl_nas.errors import RunFailedError
from automl_nas.evaluation.exporter import Delivery, Exporter
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.space import make_space
from automl_nas.run.final.report import ExportFailure, FinalNetwork
from automl_nas.run.record.atomic_files import disk_errors
from automl_nas.space.space import SearchSpace


def delivered_space(plan: Plan, network: FinalNetwork) -> SearchSpace:
    """Return the space that builds a network of the final stage: the run's, or the one whose width was fitted.

    Args:
        plan: of the run.
        network: as reported.
    """
    if network.space is None:
        return plan.final_space
    return make_space(plan.components, network.space, plan.seed, "final.space")


def make_delivery(plan: Plan, network: FinalNetwork, module: nn.Module) -> Delivery:
    """Return what exporters receive.

    Args:
        plan: of the run.
        network: as reported, with its test metrics.
        module: the trained network, on the CPU.
    """
    description = _description(plan, network)
    return Delivery(module.eval(), network.architecture, plan.final_space.input_shape, description)


def _description(plan: Plan, network: FinalNetwork) -> dict[str, Any]:
    """Return configuration, costs and test metrics of a network, as plain data."""
    final: Mapping[str, Any] = plan.config["final"] or {}
    values = network.to_json()
    return {
        "framework": f"automl_nas {__version__}",
        "space": values.get("space", final.get("space", plan.config["space"])),
        "task": final.get("task", plan.config.get("task")),
        **{key: values[key] for key in ("costs", "test", "test_interval")},
    }


@dataclass(frozen=True)
class Exports:
    """What was exported.

    Attributes:
        folder: the run directory.
        files: relative to ``folder``.
        failures: the formats that failed.
    """

    folder: Path
    files: tuple[str, ...]
    failures: tuple[ExportFailure, ...]

    @property
    def paths(self) -> list[Path]:
        """The exported files, with the folder."""
        return [self.folder / name for name in self.files]


@dataclass(frozen=True)
class RunExporter:
    """Exports the delivered network to the run directory.

    Attributes:
        plan: of the run.
        exporters: by the names of their formats; a format may occur more than once, with other settings.
        folder: the run directory.
        target: the folder for exported files, inside ``folder``.
    """

    plan: Plan
    exporters: tuple[tuple[str, Exporter], ...]
    folder: Path
    target: Path

    def export(self, network: FinalNetwork, module: nn.Module) -> Exports:
        """Write the delivered network in every format.

        A format that cannot represent the network is reported, and the run and the other formats continue. A file that
        cannot be written ends the run: with free space on the disk, resuming the run writes the file.

        Args:
            network: as reported, with its test metrics.
            module: the trained network, on the CPU.
        """
        delivery = make_delivery(self.plan, network, module)
        files: list[str] = []
        failures: list[ExportFailure] = []
        with disk_errors(self.target):
            self.target.mkdir(exist_ok=True)
            for name, exporter in self.exporters:
                try:
                    paths = exporter.export(delivery, self.target)
                except RunFailedError as error:
                    failures.append(ExportFailure(name, str(error)))
                else:
                    files += [str(path.relative_to(self.folder)) for path in paths]
        return Exports(self.folder, tuple(files), tuple(failures))
