"""The rehearsal of worker processes: whether one can construct the parts of a run is tried before the run begins."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, final

from automl_nas.errors import AutoMLNASError, ConfigurationError
from automl_nas.plugin.component_errors import component_errors
from automl_nas.plugin.references import PYTHON
from automl_nas.plugin.validation_errors import join
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.identity import describe_space, space_difference, weights_difference
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.repeatable_costs import costs_difference, describe_costs
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.trials.child_process import MAIN_GUARD, ChildProcess, ProcessDiedError
from automl_nas.streams import stream_seed

TOP_LEVEL = (
    "define classes and functions at the top level of a module that the script or notebook imports (in a notebook: a "
    "cell that begins with %%writefile my_parts.py, then import my_parts), or use executor: in_process"
)


@final
@dataclass(frozen=True)
class Rehearsal:
    """What an executor can check before a run begins; see `Executor.rehearse`.

    Attributes:
        config: the resolved configuration.
        objects: the components that are Python objects: ``python:module:Class`` -> object.
        timeouts: path of a stage's setting ``timeout`` -> seconds, for the stages that have one.
        description: of the search space, by `describe_space`.
        measurements: `Plan.measurements`.
        costs: of one architecture, by `describe_costs`.
    """

    config: Mapping[str, Any]
    objects: Mapping[str, object]
    timeouts: Mapping[str, float] = field(default_factory=dict)
    description: Mapping[str, Any] = field(default_factory=dict)
    measurements: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, Any] = field(default_factory=dict)

    def require_names(self) -> None:
        """Check that the configuration holds names only, as executors on other machines need.

        Raises:
            ConfigurationError: it holds Python objects.
        """
        if self.objects:
            raise ConfigurationError(
                f"other machines need a configuration of names, but this one holds Python objects: "
                f"{', '.join(self.objects)}; register them in a plugin, or use executor: processes",
                path="executor",
            )

    def refuse_timeouts(self) -> None:
        """Check that no stage has a timeout, for executors that cannot stop an evaluation.

        Raises:
            ConfigurationError: a stage has one.
        """
        for path in self.timeouts:
            raise ConfigurationError(
                "a timeout needs worker processes, which can be stopped; set executor: processes", path=path
            )

    def try_process(self) -> None:
        """Start a worker process that constructs space, task and the classes of all stages; end it.

        Raises:
            ConfigurationError: a Python object cannot be sent to the process or constructed there; the process cannot
                start; or the space or a cost model that it constructs is another one.
        """
        payload = {name: self._pickled(name, value) for name, value in self.objects.items()}
        child = ChildProcess(
            partial(
                _construct,
                dict(self.config),
                payload,
                dict(self.description),
                dict(self.measurements),
                dict(self.costs),
            ),
            name="automl-nas rehearsal",
        )
        try:
            answer = child.receive()
        except ProcessDiedError as death:
            raise ConfigurationError(
                f"a worker process, which was tried before the run begins, {death}; {MAIN_GUARD}; or use executor: "
                "in_process",
                path="executor",
            ) from None
        finally:
            child.end()
        if isinstance(answer, _NotImportableError):
            raise self._not_importable(answer) from None
        if isinstance(answer, BaseException):
            located = isinstance(answer, ConfigurationError) and answer.path
            raise ConfigurationError(
                f"a worker process, which was tried before the run begins, fails: {answer}"
                + ("" if isinstance(answer, AutoMLNASError) else f" ({type(answer).__name__})"),
                path="" if located else "executor",
            ) from answer

    def _pickled(self, name: str, value: object) -> bytes:
        try:
            return pickle.dumps(value)
        except Exception as error:
            raise ConfigurationError(
                f"worker processes (executor: {self.config['executor']['name']}) cannot receive "
                f"{name.removeprefix(PYTHON)}, since it cannot be pickled: {error}; {TOP_LEVEL}",
                path=_path_of(name, self.config),
            ) from None

    def _not_importable(self, error: _NotImportableError) -> ConfigurationError:
        name, reason = error.args
        cause = ""
        if "__main__" in reason and not _is_file(sys.modules.get("__main__")):
            cause = ", which is defined in a notebook or an interactive session: worker processes cannot import that"
        return ConfigurationError(
            f"worker processes (executor: {self.config['executor']['name']}) cannot construct "
            f"{name.removeprefix(PYTHON)}: {reason}{cause}; {TOP_LEVEL}",
            path=_path_of(name, self.config),
        )


def rehearsal_of(plan: Plan) -> Rehearsal:
    """Return the rehearsal of a run."""
    return Rehearsal(
        config=plan.config,
        objects=plan.components.objects,
        timeouts={
            join(stage.path, "timeout"): stage.settings.timeout
            for stage in plan.stages
            if stage.settings.timeout is not None and stage.settings.evaluator is not None
        },
        description=plan.identity["space"],
        measurements=plan.measurements(),
        costs=plan.identity.get("costs", {}),
    )


def rehearse(plan: Plan) -> None:
    """Let the executor of a run check what can be checked before the run, if a stage has an evaluator.

    Raises:
        ConfigurationError: see `Executor.rehearse`.
    """
    if all(stage.settings.evaluator is None for stage in plan.stages):
        return
    spec = plan.config["executor"]
    seed = stream_seed(plan.seed, "executor")
    executor = plan.components.construct("executors", spec, [], seed, "executor")
    registry = plan.components.registry
    with component_errors(registry, plan.components.describe("executors", spec["name"]), path="executor"):
        executor.rehearse(rehearsal_of(plan))


class _NotImportableError(Exception):
    """The worker process cannot construct an object: its name, and the reason."""


def _construct(
    config: dict[str, Any],
    payload: Mapping[str, bytes],
    description: Mapping[str, Any],
    measurements: Mapping[str, Any],
    costs: Mapping[str, Any],
) -> Any:
    """Construct the parts of a run; called in the worker process."""
    objects: dict[str, object] = {}
    for name, content in payload.items():
        try:
            objects[name] = pickle.loads(content)  # noqa: S301 - bytes of our own parent process, through a pipe
        except Exception as error:
            raise _NotImportableError(name, str(error) or type(error).__name__) from error
    plan = make_plan(config, complete_manager().registry, objects, checked=True, measured=measurements)
    with plan.runtime.seeded(plan.seed, "identity"):
        present = describe_space(plan.space, networks=description["modules"] is not None)
        present_costs = describe_costs(plan.costs, plan.exclusions) if costs else {}
    if difference := space_difference(description, present) or weights_difference(description, present):
        raise ConfigurationError(
            f"the space that a worker process constructs is another one: {difference}; what the space depends on must "
            "be the same when the script is imported, so do not change it below `if __name__ == '__main__':`",
            path="space",
        )
    if difference := costs_difference(costs, present_costs):
        raise ConfigurationError(
            f"the cost model that a worker process constructs is another one: {difference}; let the cost depend on the "
            "architecture alone, not on what a script changes below `if __name__ == '__main__':`, on hash(), clocks or "
            "random numbers, or declare a cost that is measured each time by the class attribute noisy = True",
            path="problem.costs",
        )
    return _nothing


def _nothing(request: object) -> None:
    """Answer nothing: the process ends after it has constructed the parts."""


def _path_of(name: str, value: Any, path: str = "") -> str:
    """Return the path of the component of this name in a configuration; empty if it has none."""
    if isinstance(value, Mapping):
        if value.get("name") == name:
            return path
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return ""
    return next((place for key, item in items if (place := _path_of(name, item, join(path, key)))), "")


def _is_file(module: object) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_file()
