"""From a configuration to a plan: all resolved, built as far as it is cheap, and checked before long work starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.costs.measured import MeasuredCost
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import SPLITS, Task
from automl_nas.evaluation.training.autotune import tune
from automl_nas.plugin.registry import Registry
from automl_nas.run.configuration.components import Components, separate_objects
from automl_nas.run.configuration.problem import ProblemBuilder
from automl_nas.run.configuration.sections import (
    DEFAULT_STAGES,
    RunSettings,
    StageSettings,
    read_settings,
)
from automl_nas.run.configuration.shape_check import check_shapes
from automl_nas.run.configuration.space import first_difference, make_space, resolve_space
from automl_nas.run.configuration.stages import (
    FinalPlan,
    StagePlan,
    check_exporters,
    check_stage,
    plan_final,
    plan_stage,
)
from automl_nas.run.configuration.width_fitting import WidthFitter, separate_fit
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream, stream_seed


@dataclass(frozen=True)
class Plan:
    """A run, resolved and checked.

    Attributes:
        config: the resolved configuration: plain data; resolving it again changes nothing.
        components: makes strategies, evaluators and exporters when their stage starts.
        seed: of the run.
        runtime: where tensors are computed.
        task: what is learned; None where a search needs none.
        final_task: what the delivered networks learn: the task, perhaps with other augmentation.
        space: what is searched.
        final_space: the space of the networks that are delivered; it has the same decisions.
        fitter: fits a setting of the final space to what was found; None: it has no such setting.
        stages: in order.
        final: the last stage; None: nothing is retrained.
        fingerprint: of the space; weights belong to one.
        measured: the cost models that rest on measurements, by a text that tells them apart.
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
    fingerprint: str
    measured: Mapping[str, MeasuredCost]

    @property
    def digest(self) -> str:
        """A digest of what decides what is found: checkpoints belong to one."""
        return hashlib.sha256(json.dumps(what_matters(self.config), sort_keys=True).encode()).hexdigest()

    def measurements(self) -> dict[str, Any]:
        """Return what the cost models measured so far, as plain data."""
        return {key: model.state_dict() for key, model in self.measured.items()}

    def collaborators(self, *more: object) -> list[object]:
        """Return what constructors may ask for, by type."""
        return [part for part in (self.space, self.task, self.runtime, *more) if part is not None]


def make_plan(
    raw: Mapping[str, Any],
    registry: Registry,
    objects: Mapping[str, object] | None = None,
    *,
    checked: bool = False,
    measured: Mapping[str, Any] | None = None,
) -> Plan:
    """Resolve and check a configuration.

    Args:
        raw: as a user wrote it, in a file or in Python (then components may be objects), or a resolved one.
        registry: of components.
        objects: Python objects that names in ``raw`` stand for, from an earlier `separate_objects`.
        checked: whether this resolved configuration has passed the checks that build networks; they are left out then.
        measured: what `Plan.measurements` gave when the run was worked on before.

    Raises:
        ConfigurationError: with the path of the setting and the way out.
        InfeasibleError: no architecture can meet the constraints.
        PluginError, SpaceError, DataError: from components.
    """
    data, found = separate_objects(raw)
    components = Components(registry, {**(objects or {}), **found})
    wanted = read_settings(RunSettings, data, owner="the configuration")
    config: dict[str, Any] = {"seed": wanted.seed}

    task = None
    if wanted.task is not None:
        config["task"] = components.resolve("tasks", wanted.task, "task")
        task = components.construct("tasks", config["task"], [], stream_seed(wanted.seed, "task"), "task")
    config["space"] = resolve_space(components, wanted.space, task, "space")
    space = make_space(components, config["space"], wanted.seed, "space")
    if task is not None and not checked:
        check_shapes(space, task, "space")

    final_spec: dict[str, Any] | None = None
    if wanted.final is not None:
        final_spec = dict(wanted.final)
    elif "final" not in data and task is not None and space.input_shape:
        final_spec = {}
    config["final"], final_space = final_spec, space
    fitted: str | None = None
    limits: Mapping[str, str] = {}
    if final_spec is not None and "space" in final_spec:
        own, fitted, limits = separate_fit(final_spec["space"], "final.space")
        if fitted in config["space"] and own.get("name", config["space"]["name"]) == config["space"]["name"]:
            own = {**own, fitted: config["space"][fitted]}  # what is fitted begins where the search was
        final_spec["space"] = resolve_space(components, _merged(own, config["space"]), task, "final.space")
        final_space = make_space(components, final_spec["space"], wanted.seed, "final.space")
        if dict(final_space.decisions) != dict(space.decisions):
            raise ConfigurationError(
                "the final space must have the same decisions as the space that is searched; "
                f"{first_difference(space, final_space)}",
                path="final.space",
            )
        if task is not None and not checked:
            check_shapes(final_space, task, "final.space")

    final_task = task
    if final_spec is not None and "task" in final_spec:
        final_spec["task"], final_task = _final_task(components, final_spec["task"], config, task, wanted.seed)

    builder = ProblemBuilder(components, space, final_space, task, wanted.seed, checked=checked, known=measured)
    top = builder.resolve(wanted.problem, "problem")
    config["problem"] = asdict(top)
    runtime = _runtime(wanted, space, task)
    config["runtime"] = {**runtime.settings()}

    stages: list[StagePlan] = []
    given = wanted.stages or [read_settings(StageSettings, stage, "stages") for stage in DEFAULT_STAGES]
    for position, stage in enumerate(given):
        path = f"stages[{position}]"
        planned = plan_stage(stage, path, stages, components, builder, top, space, task)
        if not checked:
            known = [part for part in (space, task, runtime, planned.problem) if part is not None]
            check_stage(planned, components, known, runtime, wanted.seed)
        stages.append(planned)
    config["stages"] = [asdict(stage.settings) for stage in stages]
    final, fitter = None, None
    if final_spec is not None:
        final = plan_final(final_spec, components, stages, space, task)
        if not checked:
            check_exporters(final, components, [space, task, runtime], wanted.seed)
        if fitted is not None:
            fitter = _fitter(components, final_spec["space"], fitted, limits, final, stages, space, wanted.seed)
        section = fitter.config if fitter is not None else final_spec.get("space")
        config["final"] = {
            "from": final.source,
            **({"space": section} if section is not None else {}),
            **({"task": final_spec["task"]} if "task" in final_spec else {}),
            **asdict(final.settings),
            "export": [dict(spec) for spec in final.export],
        }
    config["executor"] = components.resolve("executors", wanted.executor, "executor")
    config["observers"] = [
        components.resolve("observers", spec, f"observers[{position}]")
        for position, spec in enumerate(wanted.observers)
    ]
    config["checkpoint_seconds"] = wanted.checkpoint_seconds
    config = json.loads(json.dumps(config))  # tuples as lists: what a file gives back
    return Plan(
        config,
        components,
        wanted.seed,
        runtime,
        task,
        final_task,
        space,
        final_space,
        fitter,
        tuple(stages),
        final,
        fingerprint(space, config["space"]),
        builder.measured,
    )


def what_matters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a configuration that decide what is found."""
    return {key: value for key, value in config.items() if key not in ("executor", "observers", "checkpoint_seconds")}


def fingerprint(space: SearchSpace, spec: Mapping[str, Any]) -> str:
    """Return a digest of what weights depend on: the space's configuration and decisions."""
    decisions = {name: repr(decision) for name, decision in space.decisions.items()}
    text = json.dumps([dict(spec), decisions], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _fitter(
    components: Components,
    spec: Mapping[str, Any],
    setting: str,
    limits: Mapping[str, str],
    final: FinalPlan,
    stages: Sequence[StagePlan],
    space: SearchSpace,
    seed: int,
) -> WidthFitter:
    if final.inherit is not None:
        raise ConfigurationError(
            f"the supernet's weights do not fit networks whose {setting} is fitted after the search; use weights: "
            "scratch",
            path="final.weights",
        )
    source = next(stage for stage in stages if stage.settings.name == final.source)
    fitter = WidthFitter(components, spec, setting, limits, source.wanted.costs, space, seed, "final.space")
    fitter.check(source.problem, final.source)
    return fitter


def _final_task(
    components: Components, spec: Any, config: Mapping[str, Any], task: Task | None, seed: int
) -> tuple[dict[str, Any], Task]:
    """Make the task of the last stage; it must see the same images in the same splits."""
    if task is None:
        raise ConfigurationError("the run has no task that this could change", path="final.task")
    resolved = components.resolve("tasks", _merged(spec, config["task"]), "final.task")
    made: Task = components.construct("tasks", resolved, [], stream_seed(seed, "task"), "final.task")
    for what, ours, theirs in (
        ("input shape", tuple(made.input_shape), tuple(task.input_shape)),
        ("number of classes", made.num_classes, task.num_classes),
        *((f"number of images in '{split}'", made.size(split), task.size(split)) for split in SPLITS),
    ):
        if ours != theirs:
            raise ConfigurationError(
                f"must differ from the task of the search in how training images are augmented and batched only: the "
                f"{what} is {ours} here and {theirs} there",
                path="final.task",
            )
    return resolved, made


def _merged(spec: Any, base: Mapping[str, Any]) -> Any:
    """Settings without a name change those of the component of the search."""
    if isinstance(spec, Mapping) and "name" not in spec:
        return {**base, **spec}
    return spec


def _runtime(wanted: RunSettings, space: SearchSpace, task: Task | None) -> Runtime:
    settings: dict[str, Any] = asdict(wanted.runtime)
    if "auto" in (settings["precision"], settings["memory_format"]):
        if task is None:
            raise ConfigurationError(
                "'auto' times training steps, which needs a task; name a precision and a memory format", path="runtime"
            )
        architecture = space.sample(stream(wanted.seed, "tune"))
        settings = tune(settings, lambda: space.build(architecture), task, seed=stream_seed(wanted.seed, "tune"))
    return Runtime(**settings)
