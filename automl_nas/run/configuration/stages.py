"""From the sections of stages to their plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas.evaluation.artifacts import Artifacts
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Task
from automl_nas.plugin.validation_errors import join
from automl_nas.run.configuration.components import Components
from automl_nas.run.configuration.final_section import FinalSettings
from automl_nas.run.configuration.problem import ProblemBuilder
from automl_nas.run.configuration.sections import DEFAULT_EXPORT, ProblemSettings, StageSettings, read_settings
from automl_nas.space.space import SearchSpace, SupernetSpace
from automl_nas.strategy.problem import Problem
from automl_nas.streams import stream_seed


@dataclass(frozen=True)
class StagePlan:
    """A stage, resolved.

    Attributes:
        settings: with resolved specifications of strategy and evaluator.
        problem: what this stage is to find.
        path: where it stands in the configuration.
        wanted: the section that the problem was made from, resolved and merged.
    """

    settings: StageSettings
    problem: Problem
    path: str
    wanted: ProblemSettings


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


def plan_stage(
    stage: StageSettings,
    path: str,
    earlier: Sequence[StagePlan],
    components: Components,
    builder: ProblemBuilder,
    top: ProblemSettings,
    space: SearchSpace,
    task: Task | None,
) -> StagePlan:
    """Resolve and check one stage.

    Args:
        stage: as written.
        path: where it stands in the configuration.
        earlier: the stages before it, whose weights it may use.
        components: makes components.
        builder: makes problems.
        top: the problem of the whole run, over which the stage's own is merged.
        space: what is searched.
        task: what is learned, if anything.

    Raises:
        ConfigurationError: with the path of the setting and the way out.
        InfeasibleError: no architecture meets the stage's constraints.
    """
    strategy = components.resolve("strategies", stage.strategy, f"{path}.strategy")
    made = components.class_of("strategies", strategy["name"], f"{path}.strategy")
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
        given = components.class_of("evaluators", evaluator["name"], f"{path}.evaluator").metric_names(task)
        metrics = given or frozenset()
        _check_weights(evaluator.get("weights"), earlier, f"{path}.evaluator.weights")
        run, colon, local = str(evaluator.get("weights", "")).rpartition(":")
        if colon:  # recorded absolute: a run is resumed from any folder
            evaluator["weights"] = f"{Path(run).expanduser().resolve()}:{local}"
    own = read_settings(ProblemSettings, stage.problem, f"{path}.problem")
    merged = builder.merge(top, builder.resolve(own, f"{path}.problem", over=top))
    # A stage that trains a supernet has no trials of its own: objectives are judged where trials are evaluated.
    problem = builder.build(
        merged, metrics if evaluator is not None else None, f"{path}.problem" if stage.problem else "problem"
    )
    settings = replace(stage, strategy=strategy, evaluator=evaluator, problem=stage.problem)
    return StagePlan(settings, problem, path, merged)


def check_stage(stage: StagePlan, components: Components, known: Sequence[object], runtime: Runtime, seed: int) -> None:
    """Let a stage's strategy and evaluator refuse, before there is a run, what they would refuse when it starts.

    Args:
        stage: resolved.
        components: makes components.
        known: the collaborators that there are before a run.
        runtime: where networks would be.
        seed: of the run.

    Raises:
        UserError: from the strategy or the evaluator.
    """
    name = stage.settings.name
    for kind, key, purpose in (("strategies", "strategy", name), ("evaluators", "evaluator", f"{name}/evaluator")):
        spec, path = getattr(stage.settings, key), f"{stage.path}.{key}"
        if spec is not None:
            checker = components.class_of(kind, spec["name"], path).checker()
            own = stream_seed(seed, purpose)
            with runtime.seeded(own, key):
                components.check(kind, spec, checker, known, own, path)


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
    source = earlier[names.index(local.partition("/")[0])]
    for limit in ("seconds", "steps"):
        if getattr(source.settings.budget, limit) is not None:
            raise ConfigurationError(
                f"this budget would end the stage before its strategy does, so before it saves the weights that {path} "
                "names; leave it out, and train for fewer epochs",
                path=f"{source.path}.budget.{limit}",
            )


def plan_final(
    spec: Mapping[str, Any], components: Components, stages: Sequence[StagePlan], space: SearchSpace, task: Task | None
) -> FinalPlan:
    """Resolve and check the last stage.

    Args:
        spec: the section, with its space resolved.
        components: makes components.
        stages: those before it.
        space: what is searched.
        task: what is learned, if anything.

    Raises:
        ConfigurationError: with the path of the setting and the way out.
    """
    if task is None:
        raise ConfigurationError("retraining needs a task; add one, or set final: null", path="final")
    rest = {key: value for key, value in spec.items() if key not in ("from", "space", "task", "export")}
    settings = read_settings(FinalSettings, rest, "final", owner="'final'")
    names = [stage.settings.name for stage in stages]
    source = spec.get("from", names[-1])
    if source not in names:
        raise ConfigurationError(f"no stage is called '{source}'{did_you_mean(str(source), names)}", path="final.from")
    inherit = None
    if settings.weights == "inherited":
        evaluator = next(stage for stage in stages if stage.settings.name == source).settings.evaluator
        inherit = (evaluator or {}).get("weights")
        if not isinstance(inherit, str):
            raise ConfigurationError(
                f"the stage '{source}' has no evaluator with inherited weights to start from; use scratch",
                path="final.weights",
            )
        if not isinstance(space, SupernetSpace):
            raise ConfigurationError(
                f"networks are cut out of a supernet, and this space has none ({type(space).__name__} is no "
                "SupernetSpace); use scratch",
                path="final.weights",
            )
    export = spec.get("export", list(DEFAULT_EXPORT) if "safetensors" in components.registry.names("exporters") else [])
    if not isinstance(export, list | tuple):
        raise ConfigurationError(f"must be a list of formats, not {export!r}", path="final.export")
    resolved = tuple(components.resolve("exporters", item, join("final.export", n)) for n, item in enumerate(export))
    return FinalPlan(settings, source, resolved, inherit)


def check_exporters(final: FinalPlan, components: Components, known: Sequence[object], seed: int) -> None:
    """Construct the exporters once, before there is a run.

    Args:
        final: the last stage, resolved.
        components: makes components.
        known: the collaborators that there are before a run.
        seed: of the run.

    Raises:
        ConfigurationError: one refuses a setting.
    """
    for n, spec in enumerate(final.export):
        components.construct("exporters", spec, known, stream_seed(seed, "final"), f"final.export[{n}]")
