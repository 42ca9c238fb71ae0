"""The evaluator of a stage, constructed in the driver or in a worker process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from automl_nas._version import __version__
from automl_nas.evaluation.evaluator import Evaluator
from automl_nas.evaluation.pruner import Pruner
from automl_nas.plugin.registry import Registry
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.identity_check import check_versions, check_worker
from automl_nas.run.record.artifacts import RunArtifacts
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.trials.pruning import PrunedEvaluator
from automl_nas.run.trials.rehearsal import Rehearsal
from automl_nas.streams import stream_seed


class StageEvaluator:
    """Constructs the evaluator of a stage: in the driver from the plan, in a worker process from the configuration.

    Args:
        plan: of the run.
        directory: the run directory.
        stage: position of the stage.
    """

    def __init__(self, plan: Plan, directory: Path, stage: int) -> None:
        self._plan: Plan | None = plan
        # Of the run's process, if this object was read on another machine.
        self._identity: Mapping[str, Any] = {}
        self._versions: Mapping[str, str] = {}
        self._config, self._objects, self._directory, self._stage = (
            plan.config,
            plan.components.objects,
            directory,
            stage,
        )

    @property
    def directory(self) -> Path:
        """The run directory."""
        return self._directory

    def portable(self) -> dict[str, Any]:
        """Return plain data from which `read` restores this object on another machine.

        Raises:
            ConfigurationError: the configuration holds Python objects.
        """
        Rehearsal(self._config, self._objects).require_names()
        return {
            "config": self._config,
            "directory": str(self._directory.resolve()),  # a worker may run in another folder
            "stage": self._stage,
            "identity": RunDirectory(self._directory).read_identity() or {},
            "versions": self._component_versions(self._registry),
        }

    @property
    def _registry(self) -> Registry:
        return complete_manager().registry if self._plan is None else self._plan.components.registry

    def _component_versions(self, registry: Registry) -> dict[str, str]:
        """Return distribution -> version of the core, and of the space, task, evaluator and pruner of the stage."""
        versions = {"automl-nas": __version__}
        stage = self._config["stages"][self._stage]
        for kind, spec in (
            ("spaces", self._config["space"]),
            ("tasks", self._config.get("task")),
            ("evaluators", stage["evaluator"]),
            ("pruners", stage.get("pruner")),
        ):
            if spec is not None:
                component = registry.get(kind, spec["name"])
                versions[component.distribution] = component.version
        return {name: version for name, version in versions.items() if name}

    @classmethod
    def read(cls, data: Mapping[str, Any], directory: Path) -> StageEvaluator:
        """Restore an object from what `portable` returned.

        Args:
            data: the return value of `portable`.
            directory: the path of the run directory on this machine.
        """
        source = cls.__new__(cls)
        source._plan, source._config, source._objects = None, data["config"], {}
        source._identity, source._versions = data.get("identity", {}), data.get("versions", {})
        source._directory, source._stage = directory, data["stage"]
        return source

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plan": None}

    def __call__(self) -> Evaluator:
        """Return the evaluator, under the pruner of the stage if it has one.

        Raises:
            ConfigurationError: spaces, data or plugins are not those of the run's process.
        """
        if self._versions:
            check_versions(self._versions, self._component_versions(self._registry))
        plan = self._plan or make_plan(
            self._config,
            complete_manager().registry,
            self._objects,
            checked=True,
            measured=RunDirectory(self._directory).read_measured(),
        )
        check_worker(self._identity, plan)
        plan.runtime.activate()
        stage = plan.stages[self._stage]
        if not data_parallel(plan, self._stage):
            plan = replace(plan, runtime=plan.runtime.alone())
        artifacts = RunArtifacts(
            self._directory / "artifacts",
            stage.settings.name,
            plan.config["space"],
            plan.fingerprint,
            lambda: plan.identity["space"],
        )
        seed = stream_seed(plan.seed, f"{stage.settings.name}/evaluator")
        # The constructor may build networks: what it draws must be the same in every process.
        with plan.runtime.seeded(seed, "evaluator"):
            evaluator: Evaluator = plan.components.construct(
                "evaluators",
                stage.settings.evaluator,
                plan.collaborators(stage.problem, artifacts),
                seed,
                f"{stage.path}.evaluator",
            )
        spec = stage.settings.pruner
        if spec is None:
            return evaluator
        pruner_seed = stream_seed(plan.seed, f"{stage.settings.name}/pruner")
        collaborators = plan.collaborators(stage.problem, artifacts)
        pruner: Pruner = plan.components.construct("pruners", spec, collaborators, pruner_seed, f"{stage.path}.pruner")
        return PrunedEvaluator(evaluator, pruner, next(iter(stage.problem.objectives)))


def data_parallel(plan: Plan, stage: int) -> bool:
    """Return whether, under torchrun, all ranks do each evaluation of a stage together (`Evaluator.data_parallel`)."""
    settings = plan.stages[stage].settings.evaluator
    if settings is None:
        return False
    evaluator = plan.components.class_of("evaluators", settings["name"], f"{plan.stages[stage].path}.evaluator")
    return isinstance(evaluator, type) and issubclass(evaluator, Evaluator) and evaluator.data_parallel(settings)
