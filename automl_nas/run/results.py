"""The result of a run: ``result.json`` and its typed view."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas._version import __version__
from automl_nas.errors import AutoMLNASError, ConfigurationError, RunFailedError
from automl_nas.run.final.report import FinalNetwork, FinalReport
from automl_nas.run.parts import RunParts
from automl_nas.run.record.json_values import to_json_values
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.result_view import as_html, as_text
from automl_nas.run.shortcomings import Shortcoming, shortcomings
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.trial import Trial

if TYPE_CHECKING:
    from torch import nn

    from automl_nas.evaluation.exporter import Delivery
    from automl_nas.run.configuration.plan import Plan

_log = logging.getLogger(__name__)


def make_result(plan: Plan, ledger: Ledger, report: FinalReport | None) -> dict[str, Any]:
    """Return the content of ``result.json``. It depends on configuration and seed only and contains no times.

    Args:
        plan: of the run.
        ledger: the trials of the run.
        report: of the final stage; None: the run has no final stage.
    """
    stages: list[dict[str, Any]] = []
    for stage in plan.stages:
        trials = [trial for _, trial in sorted(ledger.trials.items()) if trial.stage == stage.settings.name]
        states = Counter(trial.state for trial in trials)
        pareto = stage.problem.pareto(trials)
        stages.append(
            {
                "name": stage.settings.name,
                "trials": len(trials),
                "states": {state.value: states[state] for state in sorted(states)},
                "problem": stage.problem.describe(),
                "best": _summary(pareto[0]) if pareto else None,
                "pareto": [_summary(trial) for trial in pareto],
                "units": {name: model.unit for name, model in stage.problem.cost_models.items()},
            }
        )
    name = plan.result_stage.settings.name
    source = next(stage for stage in stages if stage["name"] == name)
    best = source["best"]
    architecture = best["architecture"] if best is not None else None
    if report is not None:
        architecture = report.delivered.architecture.to_dict()
    return {
        "status": "complete",
        "version": __version__,
        "seed": plan.seed,
        "stage": name,
        "architecture": architecture,
        "best": best,
        "pareto": source["pareto"],
        "stages": stages,
        "final": report.to_json() if report is not None else None,
    }


def _summary(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "architecture": trial.architecture.to_dict(),
        "metrics": dict(trial.metrics),
        "costs": to_json_values(trial.costs),
        "fidelity": trial.fidelity,
    }


@dataclass(frozen=True)
class Candidate:
    """A trial of a result.

    Attributes:
        number: of the trial.
        architecture: of the network.
        metrics: metric -> value that the search measured.
        costs: cost -> value; NaN if the network does not run where the cost is measured.
    """

    number: int
    architecture: Architecture
    metrics: Mapping[str, float]
    costs: Mapping[str, float]


@dataclass(frozen=True, repr=False)
class Result:
    """The result of a complete run.

    Reading it constructs nothing: no strategy, evaluator or task. `build` and `load_trained` construct the space,
    `delivery` the space and the task, `plan` all that the configuration names.

    Attributes:
        directory: the run directory.
        data: the content of ``result.json``.
        parts: constructs the parts of the run.
    """

    directory: Path
    data: Mapping[str, Any]
    parts: RunParts

    def __repr__(self) -> str:
        return as_text(self.directory, self.data)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return as_html(self.directory, self.data)

    @property
    def plan(self) -> Plan:
        """The resolved run.

        Raises:
            ConfigurationError: a component is a Python object that was not passed to `open_run`, or its class is not
                registered and was not trusted.
        """
        return self.parts.plan

    @property
    def found(self) -> bool:
        """Whether the run found a network, so that `architecture` and `best` exist.

        False if no trial is feasible or no trial was made, which is a shortcoming, and after a run that only trains a
        supernet.
        """
        return self.data["architecture"] is not None

    @property
    def architecture(self) -> Architecture:
        """The delivered architecture; without a final stage the best one.

        Raises:
            RunFailedError: the run found no network; the message says why. `found` asks without an error.
        """
        self._require_found()
        return Architecture(self.data["architecture"])

    @property
    def best(self) -> Candidate:
        """The best trial of the search.

        Raises:
            RunFailedError: the run found no network; the message says why. `found` asks without an error.
        """
        self._require_found()
        return _candidate(self.data["best"])

    @property
    def pareto(self) -> tuple[Candidate, ...]:
        """The trials that no other trial dominates, the best in the main objective first."""
        return tuple(_candidate(trial) for trial in self.data["pareto"])

    @property
    def final(self) -> FinalReport | None:
        """The networks that the final stage trained, their comparison and the exports; None without a final stage."""
        section = self.data["final"]
        return None if section is None else FinalReport.from_json(section)

    @property
    def shortcomings(self) -> tuple[Shortcoming, ...]:
        """What the run did not achieve: no feasible network, limits that are missed, formats that failed."""
        return shortcomings(self.directory, self.data)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The test metrics of the delivered network; without a final stage the metrics of the best trial."""
        final = self.final
        if final is not None:
            return final.delivered.test or {}
        return self.best.metrics if self.found else {}

    @property
    def files(self) -> tuple[Path, ...]:
        """The exported files, of all delivered networks."""
        final = self.final
        delivered = () if final is None else final.deliveries
        return tuple(self.directory / name for each in delivered for name in each.files)

    def build(self, network: int | None = None) -> nn.Module:
        """Return the delivered network, or another one of the final stage, with fresh weights.

        Args:
            network: its position in ``final.networks``; None: the delivered network.

        Raises:
            RunFailedError: the run found no network, or the final stage trained none at that position.
            ConfigurationError: the space is a Python object that was not passed to `open_run`.
            RunDirectoryError: the space is not the one that the run began with.
        """
        from automl_nas.evaluation.runtime import Runtime

        chosen = None if network is None and self.final is None else self._network(network)
        architecture = self.architecture if chosen is None else chosen.architecture
        space = self.parts.delivered_space(chosen)
        with Runtime(device="cpu").seeded(self.data["seed"], "result"):
            return space.build(architecture)

    def load_trained(self, network: int | None = None) -> nn.Module:
        """Return the delivered network with its trained weights: a plain nn.Module, on the CPU, in evaluation mode.

        Args:
            network: the position of another network of the final stage in ``final.networks``: one of several delivered
                ones, a baseline; None: the delivered network.

        Raises:
            RunFailedError: the run has no final stage, so no network was trained, or none at that position.
            DamagedError: the weights on disk do not match their digest.
        """
        from automl_nas.run.record.artifacts import load_into

        self._network(network)
        module = self.build(network)
        name = "weights" if network in (None, self._require_final().chosen) else f"network-{network}"
        load_into(module, self.directory / "artifacts" / "final" / f"{name}.safetensors")
        return module.eval()

    def delivery(self, network: int | None = None) -> Delivery:
        """Return the delivered network with its description, as exporters receive it.

        If the task cannot be constructed (a Python object that was not passed to `open_run`, data that are not on this
        machine), a warning is logged, and the delivery has no samples.

        Args:
            network: see `load_trained`.

        Raises:
            RunFailedError: the run has no final stage, so no network was trained, or none at that position.
            DamagedError: the weights on disk do not match their digest.
        """
        from automl_nas.run.configuration.final_section import training_split
        from automl_nas.run.final.delivery import described

        delivered, module = self._network(network), self.load_trained(network)
        config, shape = self.parts.config, self.parts.final_space.input_shape
        split = training_split(config["final"]["data"], config["final"]["top_k"])
        units = next(stage for stage in self.data["stages"] if stage["name"] == self.data["stage"]).get("units", {})
        try:
            with self.parts.task_errors():
                return described(config, delivered, module, shape, self.parts.task, split, units)
        except AutoMLNASError as error:
            _log.warning(
                "without samples of the task, formats are traced and compared on normal numbers, which not every "
                "network accepts: %s",
                error,
            )
        return described(config, delivered, module, shape, None, split, units)

    def export(
        self,
        *formats: str | Mapping[str, Any],
        out: str | os.PathLike[str] | None = None,
        replace: bool = False,
        network: int | None = None,
    ) -> tuple[Path, ...]:
        """Write the delivered network in one or several formats: what ``automl-nas export`` does.

        Args:
            formats: names of exporters, such as ``onnx``, or mappings with ``name`` and settings.
            out: the folder to write to; None: `export_folder`.
            replace: whether files that exist and differ are replaced.
            network: see `load_trained`.

        Returns:
            The files.

        Raises:
            ConfigurationError: a format is unknown or a setting is invalid.
            RunDirectoryError: the folder has files that differ.
            RunFailedError: a format cannot hold the network (the others are written), or the run has no final stage.
        """
        from automl_nas.run.final.later_export import export_delivery

        if not formats:
            raise ConfigurationError("name at least one format, such as result.export('onnx')", path="formats")
        specs = [
            self.parts.components.resolve("exporters", spec, f"formats[{position}]")
            for position, spec in enumerate(formats)
        ]
        files, failures = export_delivery(
            self.delivery(network),
            self.parts,
            specs,
            self.export_folder(network) if out is None else Path(out),
            path="formats",
            replace=replace,
            way_out="use another folder, or replace=True",
        )
        if failures:
            raise RunFailedError("; ".join(failures))
        return tuple(files)

    def export_folder(self, network: int | None = None) -> Path:
        """Return the folder for files of a network of the final stage.

        ``export`` in the run directory for the only delivered network; otherwise a folder of its own inside.

        Args:
            network: see `load_trained`.
        """
        from automl_nas.run.final.conclusion import folder_of

        final, folder = self._require_final(), self.directory / "export"
        position = final.chosen if network is None else network
        alone = final.settings.get("choose", "best") == "best" and position == final.chosen
        return folder if alone else folder / folder_of(position)

    def _network(self, position: int | None) -> FinalNetwork:
        """Return the record of a trained network of the final stage; None: of the delivered one."""
        final = self._require_final()
        if position is None:
            return final.delivered
        trained = [place for place, network in enumerate(final.networks) if network.failed is None]
        if position not in trained:
            raise RunFailedError(
                f"the final stage of {self.directory} trained no network {position}; it trained the networks "
                f"{', '.join(map(str, trained))}"
            )
        return final.networks[position]

    def _require_found(self) -> None:
        if self.found:
            return
        reasons = [item.message for item in self.shortcomings if item.kind == "no_feasible_network"]
        reason = reasons[0] if reasons else "it only trained a supernet, and made no trials to choose a network from"
        raise RunFailedError(f"the run {self.directory} found no network: {reason}")

    def _require_final(self) -> FinalReport:
        final = self.final
        if final is None:
            raise RunFailedError(
                "this run has no final stage, so no network was trained; build() returns the network with fresh weights"
            )
        return final


def _candidate(trial: Mapping[str, Any]) -> Candidate:
    costs = {name: math.nan if cost is None else cost for name, cost in trial["costs"].items()}
    return Candidate(trial["number"], Architecture(trial["architecture"]), trial["metrics"], costs)
