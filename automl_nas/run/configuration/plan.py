"""The plan of a run, and the digests by which checkpoints and weights are recognised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from automl_nas.evaluation.costs.measured import MeasuredCost
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Task
from automl_nas.run.configuration.components import Components
from automl_nas.run.configuration.identity import describe_space
from automl_nas.run.configuration.repeatable_costs import describe_costs
from automl_nas.run.configuration.stages import FinalPlan, StagePlan
from automl_nas.run.configuration.weight_files import weight_files
from automl_nas.run.configuration.width_fitting import WidthFitter
from automl_nas.space.exclusions import Exclusions
from automl_nas.space.space import SearchSpace


@dataclass(frozen=True)
class Plan:
    """A resolved and checked run.

    Attributes:
        config: the resolved configuration: plain data; resolving it again changes nothing.
        components: constructs strategies, evaluators and exporters when their stage starts.
        seed: of the run.
        runtime: device, precision, memory format and threads.
        task: data, loss and metrics of the search; None: the run has no task.
        final_task: the task of the final stage: the same images and splits, perhaps with other augmentation.
        space: the search space.
        final_space: the space of the delivered networks; it has the same decisions.
        fitter: fits a setting of the final space to the limits, for each architecture; None: no setting is fitted.
        stages: the resolved stages in order, without the final stage.
        final: the resolved final stage; None: the run has none.
        costs: the cost models of the problems; the key consists of name, space and settings.
        exclusions: the combinations of options that the search space or the final space excludes.
        measured: those cost models that measure.
        requirements: device and threads as the configuration asks for them, ``auto`` and None included; ``runtime`` is
            what this process has.
    """

    config: dict[str, Any]
    components: Components
    seed: int
    runtime: Runtime
    task: Task | None
    final_task: Task | None
    space: SearchSpace
    final_space: SearchSpace
    fitter: WidthFitter | None
    stages: tuple[StagePlan, ...]
    final: FinalPlan | None
    costs: Mapping[str, TabulatedCost]
    exclusions: Exclusions
    measured: Mapping[str, MeasuredCost]
    requirements: Mapping[str, Any]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the run is besides its configuration, as plain data: ``space``, ``final_space`` (None: the same), the
        fingerprints ``task`` and ``final_task``, ``costs`` (`describe_costs`), ``runtime``, the device and threads that
        were asked for, and ``files``, if it begins with files of weights: path -> SHA-256.

        Networks are built once (`describe_space`); a run without a task in a registered space, such as a search on a
        table, needs none: 0.2 s of a search that takes 0.1 s.
        """
        registered = self.config["space"]["name"] in self.components.registry.names("spaces")
        networks = self.task is not None or not registered
        with self.runtime.seeded(self.seed, "identity"):
            final_space = (
                None if self.final_space is self.space else describe_space(self.final_space, networks=networks)
            )
            costs = describe_costs(self.costs, self.exclusions)
            return {
                "space": describe_space(self.space, networks=networks),
                "final_space": final_space,
                "task": None if self.task is None else self.task.fingerprint(),
                "final_task": None if self.final_task is None else self.final_task.fingerprint(),
                **({"costs": costs} if costs else {}),
                "runtime": dict(self.requirements),
                **({"files": files} if (files := weight_files(self.config)) else {}),
            }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the configuration and the decisions of the search space, which weights depend on."""
        return fingerprint(self.space, self.config["space"])

    @property
    def result_stage(self) -> StagePlan:
        """The stage whose trials give the result: the one that the final stage retrains, without it the last one."""
        if self.final is None:
            return self.stages[-1]
        source = self.final.source
        return next(stage for stage in self.stages if stage.settings.name == source)

    @property
    def digest(self) -> str:
        """SHA-256 of the sections that determine the result; a checkpoint is used only with the same digest."""
        return hashlib.sha256(json.dumps(what_matters(self.config), sort_keys=True).encode()).hexdigest()

    def measurements(self) -> dict[str, Any]:
        """Return the measurements of `measured` so far, as plain data: key -> state of the cost model."""
        return {key: model.state_dict() for key, model in self.measured.items()}

    def collaborators(self, *others: object) -> list[object]:
        """Return the objects that constructors may ask for by type: space, task, runtime, and the others."""
        return [part for part in (self.space, self.task, self.runtime, *others) if part is not None]


def what_matters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections of a configuration that determine the result."""
    without = ("executor", "observers", "checkpoint_seconds", "check_networks", "smoke_above_minutes")
    matters = {key: value for key, value in config.items() if key not in without}
    if isinstance(runtime := matters.get("runtime"), Mapping):
        matters["runtime"] = {key: value for key, value in runtime.items() if key != "data_megabytes"}
    return matters


def fingerprint(space: SearchSpace, spec: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the configuration and the decisions of a space, which weights depend on."""
    decisions = {name: repr(decision) for name, decision in space.decisions.items()}
    text = json.dumps([dict(spec), decisions], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
