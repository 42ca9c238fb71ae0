"""The parts of a run that a reader of its result needs; each is constructed when it is used, and no other with it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas.errors import AutoMLNASError, ConfigurationError, did_you_mean
from automl_nas.plugin.component_errors import component_errors
from automl_nas.plugin.kinds import KINDS
from automl_nas.plugin.references import PYTHON, consent
from automl_nas.plugin.settings import from_config
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.components import Components, is_constructed, separate_objects
from automl_nas.run.configuration.sections import RunSettings
from automl_nas.run.record.directory import RunDirectory
from automl_nas.streams import stream_seed

if TYPE_CHECKING:
    from automl_nas.evaluation.task import Task
    from automl_nas.run.configuration.plan import Plan
    from automl_nas.run.final.report import FinalNetwork
    from automl_nas.space.space import SearchSpace


@dataclass(frozen=True)
class RunParts:
    """Constructs the parts of a run.

    Attributes:
        directory: of the run.
        config: its resolved configuration.
        components: constructs components, those that the reader passed as Python objects included.
        passed: the sections that the reader passed in place of the recorded ones, as plain data; see
            `separate_objects`.
        trust: whether classes that only the configuration names may be imported.
        known_plan: the plan of the session that worked on the run; None: the run was only opened.
    """

    directory: RunDirectory
    config: Mapping[str, Any]
    components: Components
    passed: Mapping[str, Any]
    trust: bool
    known_plan: Plan | None = None

    @classmethod
    def of_session(cls, directory: Path, plan: Plan) -> RunParts:
        """Return the parts of a run that this process worked on."""
        return cls(RunDirectory(directory), plan.config, plan.components, {}, True, plan)

    @classmethod
    def read(cls, directory: RunDirectory, sections: Mapping[str, Any], *, trust: bool) -> RunParts:
        """Return the parts of a run that is opened.

        Args:
            directory: of the run.
            sections: sections of a configuration written in Python, in place of the recorded ones.
            trust: whether classes that only the configuration names may be imported.

        Raises:
            ConfigurationError: a configuration has no such section.
        """
        names = [field.name for field in fields(RunSettings)] + [kind.noun.replace(" ", "_") for kind in KINDS.values()]
        for name in sections:
            if name not in names:
                raise ConfigurationError(f"a configuration has no section '{name}'{did_you_mean(name, names)}")
        passed, objects = separate_objects(sections)
        config = directory.read_config()
        return cls(directory, config, Components(complete_manager().registry, objects), passed, trust)

    @cached_property
    def plan(self) -> Plan:
        """The whole plan, which needs every component of the run.

        Raises:
            ConfigurationError: a component is a Python object that the reader did not pass, or its class is not
                registered and the reader did not consent to import it.
        """
        from automl_nas.run.configuration.resolver import make_plan

        if self.known_plan is not None:
            return self.known_plan
        with self._consent():
            return make_plan(self.config, self.components.registry, self.objects, checked=True)

    @property
    def objects(self) -> dict[str, object]:
        """Recorded name -> the Python object that the reader passed for it."""
        objects = dict(self.components.objects)
        for path in ("space", "task", "final.space", "final.task"):
            recorded, passed = _name(_section(self.config, path)), _name(_section(self.passed, path))
            if recorded.startswith(PYTHON) and passed in self.components.objects:
                objects[recorded] = self.components.objects[passed]
        return objects

    @cached_property
    def final_space(self) -> SearchSpace:
        """The space of the delivered networks.

        Raises:
            ConfigurationError: the space is a Python object that the reader did not pass.
            RunDirectoryError: the space is not the one that the run began with.
        """
        from automl_nas.run.identity_check import check_space

        if self.known_plan is not None:
            return self.known_plan.final_space
        path = self._path("space")
        space = self._space(_section(self.config, path), path)
        check_space(self.directory, space, path)
        return space

    def delivered_space(self, network: FinalNetwork | None) -> SearchSpace:
        """Return the space that builds the delivered network; see `final_space` for the errors.

        Args:
            network: as the final stage reported it, perhaps with a fitted width; None: the run has no final stage.
        """
        space = self.final_space
        return space if network is None or network.space is None else self._space(network.space, "final.space")

    @cached_property
    def task(self) -> Task | None:
        """The task of the final stage; None: the run has no task.

        Raises:
            ConfigurationError: the task is a Python object that the reader did not pass.
            UserError: the data of the task cannot be read.
        """
        if self.known_plan is not None:
            return self.known_plan.final_task
        path = self._path("task")
        recorded = _section(self.config, path)
        if recorded is None:
            return None
        spec = self._spec("tasks", recorded, path)
        with self._consent():
            task: Task = self.components.construct("tasks", spec, [], stream_seed(self.config["seed"], "task"), path)
        return task

    def task_errors(self) -> AbstractContextManager[None]:
        """Return a context in which errors of the task name it, its plugin and its distribution."""
        spec = _section(self.config, self._path("task"))
        return (
            nullcontext()
            if spec is None
            else component_errors(self.components.registry, self.components.describe("tasks", _name(spec)), path="task")
        )

    def exporter_collaborators(self) -> list[object]:
        """Return what constructors of exporters may ask for: the space, the runtime, and the task if it is available.

        The runtime computes on the CPU if this machine does not have the device of the run.
        """
        from automl_nas.evaluation.runtime import Runtime

        settings = self.config["runtime"]
        try:
            parts: list[object] = [self.final_space, Runtime(**settings)]
        except ConfigurationError as error:
            if error.path not in ("runtime.device", "runtime.precision"):
                raise
            precision = "float32" if settings["precision"] == "float16" else settings["precision"]
            parts = [self.final_space, Runtime(**{**settings, "device": "cpu", "precision": precision})]
        with suppress(AutoMLNASError):
            parts += [] if self.task is None else [self.task]
        return parts

    def _path(self, key: str) -> str:
        """Return the path of the space or the task of the final stage in the configuration."""
        return f"final.{key}" if _section(self.config, f"final.{key}") is not None else key

    def _space(self, recorded: Mapping[str, Any], path: str) -> SearchSpace:
        from automl_nas.run.configuration.space import make_space

        with self._consent():
            return make_space(self.components, self._spec("spaces", recorded, path), self.config["seed"], path)

    def _spec(self, kind: str, recorded: Mapping[str, Any], path: str) -> Mapping[str, Any]:
        """Return the resolved component of a section: the recorded one, or the one that the reader passed instead."""
        section = _section(self.passed, path)
        if section is None:
            return recorded
        written = from_config(section, path=path)
        if is_constructed(self.components.factory(kind, _name(written), path), kind):
            settings = [name for name in recorded if name != "name"]
            if settings and path == "final.space":
                raise ConfigurationError(
                    f"the run chose the settings of its space ({', '.join(settings)}), so the class or function that "
                    "makes the space is needed, not a constructed space",
                    path=path,
                )
            return written
        with self._consent():
            return self.components.resolve(kind, {**recorded, **written}, path)

    def _consent(self) -> Any:
        return consent(self.directory.path, trust=self.trust)


def _section(config: Mapping[str, Any], path: str) -> Any:
    """Return the part of a configuration at a path such as ``final.space``; None if the path does not exist."""
    value: Any = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _name(spec: Any) -> str:
    """Return the name of a component; empty without one."""
    return str(spec.get("name", "")) if isinstance(spec, Mapping) else spec if isinstance(spec, str) else ""
