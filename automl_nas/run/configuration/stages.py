"""Resolves and checks the stages and the final stage."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from automl_nas.absolute_path import absolute_path
from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas.evaluation.artifacts import Artifacts
from automl_nas.evaluation.evaluator import Evaluator
from automl_nas.evaluation.runtime import Runtime
from automl_nas.object_storage import is_url
from automl_nas.plugin.validation_errors import join
from automl_nas.run.configuration.components import Components
from automl_nas.run.configuration.context import RunContext
from automl_nas.run.configuration.final_section import OF_SPACE, DistillSettings, FinalSettings
from automl_nas.run.configuration.problem import ProblemBuilder
from automl_nas.run.configuration.sections import DEFAULT_EXPORT, ProblemSettings, StageSettings, read_settings
from automl_nas.run.configuration.weight_files import SETTING, with_initial_weights
from automl_nas.run.record.artifacts import remote_artifact
from automl_nas.space.space import SearchSpace, SupernetSpace
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.problem import Problem
from automl_nas.streams import stream_seed


@dataclass(frozen=True)
class StagePlan:
    """A resolved stage.

    Attributes:
        settings: the section, with strategy and evaluator resolved.
        problem: its objectives, constraints and cost models.
        path: of the section in the configuration.
        problem_settings: the section that ``problem`` was built from, resolved and merged.
    """

    settings: StageSettings
    problem: Problem
    path: str
    problem_settings: ProblemSettings


@dataclass(frozen=True)
class TrainingLimit:
    """Where trainings end in a short run, before the end of their recipe.

    Attributes:
        iterations: after this number of iterations ...
        seconds: ... but not before this time.
    """

    iterations: int
    seconds: float = 0.0


@dataclass(frozen=True)
class FinalPlan:
    """The resolved final stage.

    Attributes:
        settings: how to retrain, compare and deliver.
        source: the name of the stage whose result is retrained.
        export: the resolved exporters.
        inherit: the artifact to fine-tune from; None: fresh weights.
        limit: where trainings end in a short run; None: at the end of their recipe.
    """

    settings: FinalSettings
    source: str
    export: tuple[Mapping[str, Any], ...]
    inherit: str | None
    limit: TrainingLimit | None = None


def resolve_stage(
    section: StageSettings, earlier: Sequence[StagePlan], problems: ProblemBuilder, context: RunContext
) -> StagePlan:
    """Resolve one stage.

    Args:
        section: as written.
        earlier: the resolved stages before it, whose weights it may use.
        problems: resolves and builds the problem of the stage.
        context: the space, the task, the seed and what constructs components.

    Raises:
        ConfigurationError: with the path of the setting and the way out.
        InfeasibleError: no architecture meets the stage's constraints.
    """
    path = f"stages[{len(earlier)}]"
    strategy = _strategy(section.strategy, f"{path}.strategy", context)
    _check_stages(strategy.get("stages"), earlier, f"{path}.strategy.stages")
    # A stage that only trains a supernet has no trials: objectives are judged where trials are measured.
    strategy_class = context.components.class_of("strategies", strategy["name"], f"{path}.strategy")
    evaluator, metrics = None, strategy_class.metric_names(context.task)
    # Its own weights too, if the strategy saves some before it has candidates evaluated.
    saves = context.components.takes("strategies", strategy["name"], Artifacts, f"{path}.strategy")
    own_name = section.name if saves else None
    strategy = _with_weights("strategies", strategy, earlier, own_name, f"{path}.strategy", context.components)
    own = read_settings(ProblemSettings, section.problem, f"{path}.problem")
    if section.evaluator is not None:
        evaluator, metrics = _evaluator(section.evaluator, earlier, own_name, f"{path}.evaluator", context)
        evaluator_class = context.components.class_of("evaluators", evaluator["name"], f"{path}.evaluator")
        _check_fidelities(strategy, evaluator, evaluator_class, f"{path}.strategy", context.components)
        preferred = problems.own_section(own, evaluator_class.default_metric)
        if preferred is not own:
            # Written into the resolved configuration, whose top-level objectives count as named on resume.
            own, section = preferred, replace(section, problem={**section.problem, "objectives": preferred.objectives})
    problem_settings = problems.merged(own, f"{path}.problem")
    problem = problems.build(problem_settings, metrics, f"{path}.problem" if section.problem else "problem")
    pruner = None if section.pruner is None else _pruner(section, problem, f"{path}.pruner", context)
    settings = replace(section, strategy=strategy, evaluator=evaluator, pruner=pruner)
    return StagePlan(settings, problem, path, problem_settings)


def _check_fidelities(
    strategy: Mapping[str, Any],
    evaluator: Mapping[str, Any],
    evaluator_class: type[Evaluator],
    path: str,
    components: Components,
) -> None:
    """Check that evaluations can have the fidelities for which a strategy, or one inside its settings, asks."""
    fidelities = components.class_of("strategies", strategy["name"], path).fidelities(strategy)
    for fidelity in filter(math.isfinite, fidelities):
        try:
            evaluator_class.check_fidelity(evaluator, fidelity)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"the strategy '{strategy['name']}' has candidates evaluated at the fidelity {fidelity:g}, and "
                f"{error.message}",
                path=path,
            ) from error
    if not fidelities:
        for place, inner in components.inside("strategies", strategy, path):
            if inner.kind == "strategies":
                _check_fidelities(inner.spec, evaluator, evaluator_class, join(path, *place), components)


def _strategy(spec: Any, path: str, context: RunContext) -> dict[str, Any]:
    components, space = context.components, context.space
    strategy = _resolved("strategies", spec, path, context)
    strategy_class = components.class_of("strategies", strategy["name"], path)
    if not isinstance(space, strategy_class.space_type):
        raise ConfigurationError(
            f"the strategy '{strategy['name']}' needs a {strategy_class.space_type.__name__}; "
            f"{type(space).__name__} is not one",
            path=path,
        )
    components.check_collaborators("strategies", strategy, _collaborator_types(context), path)
    return strategy


def _evaluator(
    spec: Any, earlier: Sequence[StagePlan], own: str | None, path: str, context: RunContext
) -> tuple[dict[str, Any], frozenset[str]]:
    """Resolve an evaluator; return its configuration, and the names of its metrics (empty if they are not known).

    Args:
        spec: as written.
        earlier: the resolved stages before it.
        own: the name of its own stage, if the strategy of the stage may save weights.
        path: of the evaluator in the configuration.
        context: constructs components.
    """
    components = context.components
    evaluator = _resolved("evaluators", spec, path, context)
    components.check_collaborators("evaluators", evaluator, _collaborator_types(context), path)
    metrics = components.class_of("evaluators", evaluator["name"], path).metric_names(context.task)
    return _with_weights("evaluators", evaluator, earlier, own, path, components), metrics or frozenset()


def _with_weights(
    kind: str,
    spec: dict[str, Any],
    earlier: Sequence[StagePlan],
    own: str | None,
    path: str,
    components: Components,
) -> dict[str, Any]:
    """Check the weights that an evaluator names, or evaluators inside the settings of a component; return its settings.

    Args:
        kind: of the component.
        spec: its resolved configuration.
        earlier: the resolved stages before it.
        own: the name of its own stage, if the strategy of the stage may save weights.
        path: of the component in the configuration.
        components: resolves components.
    """
    spec = copy.deepcopy(spec)
    for place, inner in components.inside(kind, spec, path):
        holder: Any = spec
        for key in place[:-1]:
            holder = holder[key]
        inner_path = join(path, *place)
        holder[place[-1]] = _with_weights(inner.kind, holder[place[-1]], earlier, own, inner_path, components)
    if kind != "evaluators" or not isinstance(spec.get("weights"), str):
        return spec
    reference: str = spec["weights"]
    if own is None or reference.partition("/")[0] != own:
        _check_weights(reference, earlier, f"{path}.weights", components)
    run, colon, local = reference.rpartition(":")
    if colon and not is_url(run):  # recorded as an absolute path: a run may be resumed from another folder
        spec["weights"] = f"{absolute_path(run)}:{local}"
    return spec


def _pruner(section: StageSettings, problem: Problem, path: str, context: RunContext) -> dict[str, Any]:
    """Resolve a pruner; check that the stage measures one objective, which it can judge."""
    components = context.components
    pruner = components.resolve("pruners", section.pruner, path)
    components.check_collaborators("pruners", pruner, _collaborator_types(context), path)
    if section.evaluator is None:
        raise ConfigurationError("a pruner stops evaluations, and this stage has no evaluator; add one", path=path)
    names = list(problem.objectives)
    if len(names) > 1:
        raise ConfigurationError(
            f"a pruner judges one objective, and this stage has {len(names)}: {', '.join(names)}; make the others "
            "constraints, or leave the pruner out",
            path=path,
        )
    if names[0] in problem.cost_models:
        raise ConfigurationError(
            f"the objective '{names[0]}' is a cost, which is known before an evaluation; leave the pruner out",
            path=path,
        )
    return pruner


def _resolved(kind: str, spec: Any, path: str, context: RunContext) -> dict[str, Any]:
    """Resolve a strategy or an evaluator; its initial weights are by default those of the space."""
    component = context.components.resolve(kind, with_initial_weights(spec), path)
    if context.initial_weights is None or component.get(SETTING, ...) is not None:
        return component
    return context.components.resolve(kind, {**component, SETTING: context.initial_weights}, path)


def _collaborator_types(context: RunContext) -> list[type]:
    """Return the types of what a run supplies to the constructors of its stages."""
    return [type(context.space), Problem, Runtime, Artifacts, *([] if context.task is None else [type(context.task)])]


def check_stage(stage: StagePlan, context: RunContext, runtime: Runtime) -> None:
    """Call the checkers of a stage's strategy, evaluator and pruner, and of components inside their settings.

    They raise what the constructors would raise.

    Args:
        stage: the resolved stage.
        context: the space, the task, the seed and what constructs components.
        runtime: where tensors are computed.

    Raises:
        ConfigurationError: trials of an ask-and-tell strategy could not be compared.
        UserError: from a checker.
    """
    _check_comparable(stage, context)
    name = stage.settings.name
    collaborators = context.collaborators(runtime, stage.problem)
    for kind, key, purpose in (
        ("strategies", "strategy", name),
        ("evaluators", "evaluator", f"{name}/evaluator"),
        ("pruners", "pruner", f"{name}/pruner"),
    ):
        spec, path = getattr(stage.settings, key), f"{stage.path}.{key}"
        if spec is not None:
            seed = stream_seed(context.seed, purpose)
            with runtime.seeded(seed, key):
                context.components.check(kind, spec, collaborators, seed, path)


def _check_comparable(stage: StagePlan, context: RunContext) -> None:
    """Check that trials without an evaluator are compared by costs, if the stage may have more than one."""
    settings, path = stage.settings, f"{stage.path}.strategy"
    if settings.evaluator is not None or settings.budget.trials == 1:
        return
    strategy = context.components.class_of("strategies", settings.strategy["name"], path)
    missing = [name for name in stage.problem.objectives if name not in stage.problem.cost_models]
    if missing and issubclass(strategy if isinstance(strategy, type) else type(strategy), AskTellStrategy):
        raise ConfigurationError(
            f"candidates of this stage are compared by '{missing[0]}', which is not a cost, and the stage has no "
            "evaluator that measures it: give the stage an evaluator, or an objective that is a cost (for a single "
            "candidate: budget: {trials: 1})",
            path=f"{stage.path}.evaluator",
        )


def _check_weights(reference: str, earlier: Sequence[StagePlan], path: str, components: Components) -> None:
    """Check that a setting ``weights`` names an artifact of an earlier stage, or an existing one of another run."""
    run, _, local = reference.rpartition(":")
    if is_url(reference) and (local.startswith("//") or not local):
        raise ConfigurationError(f"name a stage of the run: '{reference.rstrip(':')}:STAGE'", path=path)
    if is_url(run):
        remote_artifact(run, local, path)
        return
    if run:
        stage, _, name = local.partition("/")
        folder = Path(run).expanduser() / "artifacts"
        if not (folder / stage / f"{name or 'weights'}.safetensors").exists():
            raise ConfigurationError(f"the run {run} has no weights '{local}'{_existing(folder)}", path=path)
        return
    names = [stage.settings.name for stage in earlier]
    if local.partition("/")[0] not in names:
        hint = did_you_mean(local, names) or "; it is the first stage"
        raise ConfigurationError(f"no earlier stage is called '{local}'{hint}", path=path)
    source = earlier[names.index(local.partition("/")[0])]
    _check_saved(source, local.partition("/")[2] or "weights", path, components)
    for limit in ("seconds", "steps"):
        if getattr(source.settings.budget, limit) is not None:
            raise ConfigurationError(
                f"this budget can end the stage before its strategy saves the weights that {path} names; leave it out, "
                "and train for fewer epochs",
                path=f"{source.path}.budget.{limit}",
            )


def _check_saved(source: StagePlan, name: str, path: str, components: Components) -> None:
    """Check that the strategy of a stage saves an artifact of a name, if the strategy says what it saves."""
    strategy = source.settings.strategy
    factory = components.class_of("strategies", strategy["name"], source.path)
    saved = factory.artifact_names(strategy)
    if saved is not None and name not in saved:
        stage = source.settings.name
        references = sorted(stage if each == "weights" else f"{stage}/{each}" for each in saved)
        raise ConfigurationError(
            f"the stage '{stage}' saves no weights '{name}', only {', '.join(references)}; set one of these, or have "
            f"the strategy '{strategy['name']}' keep the others",
            path=path,
        )


def _existing(folder: Path) -> str:
    """Return a clause that names the artifacts in a folder; empty without artifacts."""
    files = sorted(folder.glob("*/*.safetensors"))
    references = [f"{file.parent.name}/{file.stem}".removesuffix("/weights") for file in files]
    return f"; it has {', '.join(references)}" if references else ""


def _check_stages(names: object, earlier: Sequence[StagePlan], path: str) -> None:
    """Check that a strategy's setting ``stages``, if it is a list of names, names earlier stages of the run."""
    earlier_names = [stage.settings.name for stage in earlier]
    for position, name in enumerate(names if isinstance(names, list | tuple) else ()):
        if isinstance(name, str) and name not in earlier_names:
            hint = did_you_mean(name, earlier_names) if earlier_names else "; it is the first stage"
            raise ConfigurationError(f"no earlier stage is called '{name}'{hint}", path=f"{path}[{position}]")


def resolve_final(section: Mapping[str, Any], stages: Sequence[StagePlan], context: RunContext) -> FinalPlan:
    """Resolve the final stage, except its space and task.

    Args:
        section: as written.
        stages: the resolved stages of the run.
        context: the space, the task, the seed and what constructs components.

    Raises:
        ConfigurationError: with the path of the setting and the way out.
    """
    if context.task is None:
        raise ConfigurationError("the final stage needs a task; add one, or set final: null", path="final")
    if context.initial_weights is not None and section.get("weights", "scratch") == "scratch":
        section = {SETTING: context.initial_weights, **section}
    settings = final_settings(with_initial_weights(section))
    names = [stage.settings.name for stage in stages]
    source = section.get("from", names[-1])
    if source not in names:
        raise ConfigurationError(f"no stage is called '{source}'{did_you_mean(str(source), names)}", path="final.from")
    if settings.choose == "pareto" and len(objectives := stages[names.index(source)].problem.objectives) < 2:
        raise ConfigurationError(
            f"a Pareto front needs two objectives or more, and the stage '{source}' has one ({', '.join(objectives)}); "
            "add one to problem.objectives, such as flops: minimize, or set choose: best",
            path="final.choose",
        )
    if (distill := settings.distill) is not None:
        settings = replace(settings, distill=_with_absolute_paths(distill))
    inherit = None
    if settings.weights == "inherited":
        inherit = _inherited_weights(stages[names.index(source)], context.space)
    return FinalPlan(settings, source, _exporters(section, context.components), inherit)


def final_settings(section: Mapping[str, Any]) -> FinalSettings:
    """Return the settings of the section ``final``, which also has the source, the space, the task and the formats."""
    written = {key: value for key, value in section.items() if key not in ("from", "space", "task", "export")}
    return read_settings(FinalSettings, written, "final", owner="'final'")


def _with_absolute_paths(distill: DistillSettings) -> DistillSettings:
    """Return the settings with absolute paths, since a run may be resumed from another folder."""
    is_run = distill.teacher not in OF_SPACE and ":" not in distill.teacher
    teacher = str(absolute_path(distill.teacher)) if is_run else distill.teacher
    weights = None if distill.weights is None else str(absolute_path(distill.weights))
    return replace(distill, teacher=teacher, weights=weights)


def _inherited_weights(stage: StagePlan, space: SearchSpace) -> str:
    """Return the artifact from which the candidates of a stage inherited their weights."""
    weights = (stage.settings.evaluator or {}).get("weights")
    if not isinstance(weights, str):
        raise ConfigurationError(
            f"the stage '{stage.settings.name}' has no evaluator with inherited weights to start from; use weights: "
            "scratch",
            path="final.weights",
        )
    if not isinstance(space, SupernetSpace):
        raise ConfigurationError(
            f"inherited weights are those of a supernet, and {type(space).__name__} is not a SupernetSpace; use "
            "weights: scratch",
            path="final.weights",
        )
    return weights


def _exporters(section: Mapping[str, Any], components: Components) -> tuple[dict[str, Any], ...]:
    default = DEFAULT_EXPORT if "safetensors" in components.registry.names("exporters") else ()
    export = section.get("export", default)
    if not isinstance(export, list | tuple):
        raise ConfigurationError(f"must be a list of formats, not {export!r}", path="final.export")
    return tuple(components.resolve("exporters", spec, f"final.export[{n}]") for n, spec in enumerate(export))


def check_exporters(final: FinalPlan, context: RunContext, runtime: Runtime) -> None:
    """Construct the exporters once, so that they refuse their settings before the run starts.

    Raises:
        ConfigurationError: from a constructor.
    """
    collaborators, seed = context.collaborators(runtime), stream_seed(context.seed, "final")
    for n, spec in enumerate(final.export):
        context.components.construct("exporters", spec, collaborators, seed, f"final.export[{n}]")
