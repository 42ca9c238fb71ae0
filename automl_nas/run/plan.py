"""From a configuration to a plan: everything resolved, built as far as it is cheap, and checked before long work starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas.evaluation.artifacts import Artifacts
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Task
from automl_nas.evaluation.tuning import tune
from automl_nas.plugin.located import join
from automl_nas.plugin.registry import Registry
from automl_nas.run.components import Components, separate_objects
from automl_nas.run.final import FinalSettings
from automl_nas.run.problems import ProblemBuilder
from automl_nas.run.settings import (
    DEFAULT_EXPORT,
    DEFAULT_STAGES,
    ProblemSettings,
    RunSettings,
    StageSettings,
    read_settings,
)
from automl_nas.run.shapes import check_shapes
from automl_nas.search.problem import Problem
from automl_nas.space.space import SearchSpace, SupernetSpace
from automl_nas.streams import stream, stream_seed


@dataclass(frozen=True)
class StagePlan:
    """A stage, resolved.

    Attributes:
        settings: with resolved specifications of strategy and evaluator.
        problem: what this stage is to find.
        path: where it stands in the configuration.
    """

    settings: StageSettings
    problem: Problem
    path: str


@dataclass(frozen=True)
class FinalPlan:
    """The last stage, resolved.

    Attributes:
        settings: what to do.
        source: the stage whose result is retrained.
        export: resolved specifications of exporters.
        inherit: the artifact to fine-tune from; None: fresh weights.
    """

    settings: FinalSettings
    source: str
    export: tuple[Mapping[str, Any], ...]
    inherit: str | None


@dataclass(frozen=True)
class Plan:
    """A run, resolved and checked.

    Attributes:
        config: the resolved configuration: plain data; resolving it again changes nothing.
        components: makes strategies, evaluators and exporters when their stage starts.
        seed: of the run.
        runtime: where tensors are computed.
        task: what is learned; None where a search needs none.
        space: what is searched.
        final_space: the space of the networks that are delivered; it has the same decisions.
        stages: in order.
        final: the last stage; None: nothing is retrained.
        fingerprint: of the space; weights belong to one.
    """

    config: dict[str, Any]
    components: Components
    seed: int
    runtime: Runtime
    task: Task | None
    space: SearchSpace
    final_space: SearchSpace
    stages: tuple[StagePlan, ...]
    final: FinalPlan | None
    fingerprint: str

    def collaborators(self, *more: object) -> list[object]:
        """Return what constructors may ask for, by type."""
        return [part for part in (self.space, self.task, self.runtime, *more) if part is not None]


def make_plan(
    raw: Mapping[str, Any], registry: Registry, objects: Mapping[str, object] | None = None, *, checked: bool = False
) -> Plan:
    """Resolve and check a configuration.

    Args:
        raw: as a user wrote it, in a file or in Python (then components may be objects), or a resolved one.
        registry: of components.
        objects: Python objects that names in ``raw`` stand for, from an earlier `separate_objects`.
        checked: whether this resolved configuration has passed the checks that build networks; they are left out then.

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
    config["space"] = _resolve_space(components, wanted.space, task, "space")
    space = _construct_space(components, config["space"], wanted.seed, "space")
    if task is not None and not checked:
        check_shapes(space, task, "space")

    final_spec: dict[str, Any] | None = None
    if wanted.final is not None:
        final_spec = dict(wanted.final)
    elif "final" not in data and task is not None and space.input_shape:
        final_spec = {}
    config["final"], final_space = final_spec, space
    if final_spec is not None and "space" in final_spec:
        final_spec["space"] = _resolve_space(
            components, _merged(final_spec["space"], config["space"]), task, "final.space"
        )
        final_space = _construct_space(components, final_spec["space"], wanted.seed, "final.space")
        if dict(final_space.decisions) != dict(space.decisions):
            raise ConfigurationError(
                "the final space must have the same decisions as the space that is searched", path="final.space"
            )
        if task is not None and not checked:
            check_shapes(final_space, task, "final.space")

    builder = ProblemBuilder(components, space, final_space, task, wanted.seed, checked=checked)
    top = builder.resolve(wanted.problem, "problem")
    config["problem"] = asdict(top)
    runtime = _runtime(wanted, space, task)
    config["runtime"] = {**runtime.settings()}

    stages: list[StagePlan] = []
    given = wanted.stages or [read_settings(StageSettings, stage, "stages") for stage in DEFAULT_STAGES]
    for position, stage in enumerate(given):
        path = f"stages[{position}]"
        stages.append(_stage(stage, path, stages, components, builder, top, space, task))
    config["stages"] = [asdict(stage.settings) for stage in stages]
    final = None
    if final_spec is not None:
        final = _final(final_spec, components, stages, space, task)
        config["final"] = {
            "from": final.source,
            **({"space": final_spec["space"]} if "space" in final_spec else {}),
            **asdict(final.settings),
            "export": [dict(spec) for spec in final.export],
        }
    config["executor"] = components.resolve("executors", wanted.executor, "executor")
    config["checkpoint_seconds"] = wanted.checkpoint_seconds
    config = json.loads(json.dumps(config))  # tuples as lists: what a file gives back
    return Plan(
        config,
        components,
        wanted.seed,
        runtime,
        task,
        space,
        final_space,
        tuple(stages),
        final,
        fingerprint(space, config["space"]),
    )


def fingerprint(space: SearchSpace, spec: Mapping[str, Any]) -> str:
    """Return a digest of what weights depend on: the space's configuration and decisions."""
    decisions = {name: repr(decision) for name, decision in space.decisions.items()}
    text = json.dumps([dict(spec), decisions], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _merged(spec: Any, base: Mapping[str, Any]) -> Any:
    """Settings without a name change those of the space that is searched."""
    if isinstance(spec, Mapping) and "name" not in spec:
        return {**base, **spec}
    return spec


def _resolve_space(components: Components, spec: Any, task: Task | None, path: str) -> dict[str, Any]:
    name = spec if isinstance(spec, str) else spec.get("name") if isinstance(spec, Mapping) else None
    if task is not None and isinstance(name, str):
        known = {setting.name for setting in components.settings("spaces", name, path)}
        given = {} if isinstance(spec, str) else dict(spec)
        defaults = {"num_classes": task.num_classes, "input_shape": list(task.input_shape)}
        spec = {**{key: value for key, value in defaults.items() if key in known}, **given, "name": name}
    return components.resolve("spaces", spec, path)


def _construct_space(components: Components, spec: Mapping[str, Any], seed: int, path: str) -> SearchSpace:
    space = components.construct("spaces", spec, [], stream_seed(seed, "space"), path)
    assert isinstance(space, SearchSpace)
    if not space.decisions:
        raise ConfigurationError("the space has no decisions: there is nothing to search", path=path)
    return space


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


def _stage(
    stage: StageSettings,
    path: str,
    earlier: Sequence[StagePlan],
    components: Components,
    builder: ProblemBuilder,
    top: ProblemSettings,
    space: SearchSpace,
    task: Task | None,
) -> StagePlan:
    strategy = components.resolve("strategies", stage.strategy, f"{path}.strategy")
    made = components.factory("strategies", strategy["name"], f"{path}.strategy")
    if not isinstance(space, made.space_type):
        raise ConfigurationError(
            f"the strategy '{strategy['name']}' needs a {made.space_type.__name__}, and the space is none "
            f"({type(space).__name__})",
            path=f"{path}.strategy",
        )
    available = [type(space), Problem, Runtime, Artifacts, *([type(task)] if task is not None else [])]
    components.check_collaborators("strategies", strategy["name"], available, f"{path}.strategy")
    evaluator, metrics = None, frozenset[str]()
    if stage.evaluator is not None:
        evaluator = components.resolve("evaluators", stage.evaluator, f"{path}.evaluator")
        components.check_collaborators("evaluators", evaluator["name"], available, f"{path}.evaluator")
        metrics = components.factory("evaluators", evaluator["name"], f"{path}.evaluator").metric_names(task)
        _check_weights(evaluator.get("weights"), earlier, f"{path}.evaluator.weights")
    own = read_settings(ProblemSettings, stage.problem, f"{path}.problem")
    merged = builder.merge(top, builder.resolve(own, f"{path}.problem", partial=True))
    # A stage that trains a supernet has no trials of its own: objectives are judged where trials are evaluated.
    problem = builder.build(
        merged, metrics if evaluator is not None else None, f"{path}.problem" if stage.problem else "problem"
    )
    settings = replace(stage, strategy=strategy, evaluator=evaluator, problem=stage.problem)
    return StagePlan(settings, problem, path)


def _check_weights(reference: object, earlier: Sequence[StagePlan], path: str) -> None:
    """A setting ``weights`` names an artifact: of an earlier stage, or of another run, which must be there."""
    if not isinstance(reference, str):
        return
    run, _, local = reference.rpartition(":")
    if run:
        stage, _, name = local.partition("/")
        if not (Path(run).expanduser() / "artifacts" / stage / f"{name or 'weights'}.safetensors").exists():
            raise ConfigurationError(f"the run {run} holds no weights '{local}'", path=path)
        return
    names = [stage.settings.name for stage in earlier]
    if local.partition("/")[0] not in names:
        hint = did_you_mean(local, names) or "; no stage stands before it"
        raise ConfigurationError(f"no earlier stage is called '{local}'{hint}", path=path)


def _final(
    spec: Mapping[str, Any], components: Components, stages: Sequence[StagePlan], space: SearchSpace, task: Task | None
) -> FinalPlan:
    if task is None:
        raise ConfigurationError("retraining needs a task; add one, or set final: null", path="final")
    rest = {key: value for key, value in spec.items() if key not in ("from", "space", "export")}
    settings = read_settings(FinalSettings, rest, "final", owner="'final'")
    names = [stage.settings.name for stage in stages]
    source = spec.get("from", names[-1])
    if source not in names:
        raise ConfigurationError(f"no stage is called '{source}'{did_you_mean(str(source), names)}", path="final.from")
    inherit = None
    if settings.weights == "inherited":
        evaluator = next(stage for stage in stages if stage.settings.name == source).settings.evaluator
        inherit = (evaluator or {}).get("weights")
        if not isinstance(inherit, str) or not isinstance(space, SupernetSpace):
            raise ConfigurationError(
                f"the stage '{source}' has no evaluator with inherited weights to start from; use scratch",
                path="final.weights",
            )
    export = spec.get("export", list(DEFAULT_EXPORT) if "safetensors" in components.registry.names("exporters") else [])
    if not isinstance(export, list | tuple):
        raise ConfigurationError(f"must be a list of formats, not {export!r}", path="final.export")
    resolved = tuple(components.resolve("exporters", item, join("final.export", n)) for n, item in enumerate(export))
    return FinalPlan(settings, source, resolved, inherit)
