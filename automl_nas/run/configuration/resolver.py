"""From a configuration to a plan: one method resolves one section, and `make_plan` calls them in order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import SPLITS, Task
from automl_nas.evaluation.training.autotune import tune
from automl_nas.evaluation.training.fit import check_fit
from automl_nas.evaluation.training.mixing import check_mixing
from automl_nas.plugin.component_errors import component_errors
from automl_nas.plugin.registry import Registry
from automl_nas.run.configuration.combinations import check_combinations
from automl_nas.run.configuration.components import Components, separate_objects
from automl_nas.run.configuration.context import RunContext
from automl_nas.run.configuration.network_check import check_network
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.problem import ProblemBuilder
from automl_nas.run.configuration.sections import DEFAULT_STAGES, RunSettings, StageSettings, read_settings
from automl_nas.run.configuration.space import first_difference, make_space, resolve_space
from automl_nas.run.configuration.stages import (
    FinalPlan,
    StagePlan,
    check_exporters,
    check_stage,
    resolve_final,
    resolve_stage,
)
from automl_nas.run.configuration.task import check_task
from automl_nas.run.configuration.weight_files import SETTING, separate_initial_weights
from automl_nas.run.configuration.width_fitting import FittedSetting, WidthFitter, separate_fit
from automl_nas.run.final.network_check import check_final_networks
from automl_nas.run.final.teacher import import_teacher
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream, stream_seed

PartT_co = TypeVar("PartT_co", covariant=True)


def make_plan(
    raw: Mapping[str, Any],
    registry: Registry,
    objects: Mapping[str, object] | None = None,
    *,
    checked: bool = False,
    measured: Mapping[str, Any] | None = None,
) -> Plan:
    """Resolve and check a configuration.

    Sections are resolved in a fixed order, so the first error is the same each time.

    Args:
        raw: the configuration as a user wrote it, in a file or in Python (then components may be objects), or a
            resolved one.
        registry: of components.
        objects: name -> Python object for the names ``python:module:Class`` in ``raw``; see `separate_objects`.
        checked: whether this resolved configuration has passed the checks that build networks; they are then left out.
        measured: `Plan.measurements` of an earlier process of the same run.

    Raises:
        ConfigurationError: with the path of the setting and the way out.
        InfeasibleError: no architecture can meet the constraints.
        PluginError, SpaceError, DataError: from components.
    """
    with component_errors(registry):
        return _make_plan(Resolver.read(raw, registry, objects or {}, checked=checked), measured or {})


def _make_plan(resolver: Resolver, measured: Mapping[str, Any]) -> Plan:
    settings, components = resolver.settings, resolver.components
    task = resolver.task()
    space = resolver.space(task.part)
    section = resolver.final_section(task.part, space.part)
    final_space = resolver.final_space(section, space, task.part)
    final_task = resolver.final_task(section, task)
    context = RunContext(
        components,
        settings.seed,
        resolver.checked,
        task.part,
        space.part,
        final_space.part,
        resolver.initial_weights,
    )
    problems = ProblemBuilder(context, settings.problem, measured)
    runtime = resolver.runtime(context)
    stages = resolver.stages(context, problems, runtime)
    final = resolver.final(section, stages, context, runtime)
    resolver.check_used(final, stages)
    resolver.check_training(final, final_task, final_space.part, stages)
    resolver.check_device(runtime, stages, final)
    fitter = resolver.fitter(final_space, final, stages, context)
    config = {
        "seed": settings.seed,
        **({} if task.config is None else {"task": task.config}),
        "space": space.config,
        "final": None if final is None else _final_config(final, final_space, fitter, final_task),
        "problem": asdict(problems.settings),
        "runtime": runtime.settings(),
        "stages": [asdict(stage.settings) for stage in stages],
        "executor": resolver.executor(),
        "observers": resolver.observers(),
        "checkpoint_seconds": settings.checkpoint_seconds,
        **({} if settings.budget is None else {"budget": asdict(settings.budget)}),
        "smoke_above_minutes": settings.smoke_above_minutes,
        "check_networks": settings.check_networks,
    }
    config = json.loads(json.dumps(config))  # tuples become lists, as in a configuration that was read from a file
    return Plan(
        config=config,
        components=components,
        seed=settings.seed,
        runtime=runtime,
        task=task.part,
        final_task=final_task.part,
        space=space.part,
        final_space=final_space.part,
        fitter=fitter,
        stages=stages,
        final=final,
        costs=problems.models,
        exclusions=problems.exclusions,
        measured=problems.measured,
        requirements={name: getattr(settings.runtime, name) for name in ("device", "threads")},
    )


@dataclass(frozen=True)
class Resolved(Generic[PartT_co]):
    """A resolved section and what was constructed from it.

    Attributes:
        config: the section with every default filled in; None: the configuration has no such section.
        part: the space or the task.
    """

    config: Mapping[str, Any] | None
    part: PartT_co


@dataclass(frozen=True)
class ResolvedFinalSpace(Resolved[SearchSpace]):
    """The space of the delivered networks.

    Attributes:
        fitted: the setting that is fitted after the search; ``config`` holds the value that fitting begins from. None:
            no setting is fitted.
    """

    fitted: FittedSetting | None = None


@dataclass(frozen=True)
class Resolver:
    """Resolves the sections of one configuration. Each method returns a new value and changes none.

    Attributes:
        components: resolves and constructs components.
        settings: the sections as written.
        has_final: whether the configuration has a section ``final``, which may be null.
        checked: see `make_plan`.
        initial_weights: the default of every setting ``initial_weights`` of stages, which the section ``space`` may
            have; None: fresh weights.
    """

    components: Components
    settings: RunSettings
    has_final: bool
    checked: bool
    initial_weights: Mapping[str, Any] | None = None

    @classmethod
    def read(
        cls, raw: Mapping[str, Any], registry: Registry, objects: Mapping[str, object], *, checked: bool
    ) -> Resolver:
        """Separate the Python objects from the data of a configuration, and check the shape of its sections."""
        data, new_objects = separate_objects(raw)
        components = Components(registry, {**objects, **new_objects})
        space, initial_weights = separate_initial_weights(data.get("space"))
        data = data if initial_weights is None else {**data, "space": space}
        settings = read_settings(RunSettings, data, owner="the configuration")
        return cls(components, settings, "final" in data, checked, initial_weights)

    def task(self) -> Resolved[Task | None]:
        """Resolve and construct the task."""
        if self.settings.task is None:
            return Resolved(None, None)
        return self._task(self.settings.task, "task")

    def space(self, task: Task | None) -> Resolved[SearchSpace]:
        """Resolve and construct the search space."""
        space = self._space(self.settings.space, task, "space")
        self._check_combinations(space, task, "space")
        self._check_network(space.part, task, "space")
        return space

    def final_section(self, task: Task | None, space: SearchSpace) -> Mapping[str, Any] | None:
        """Return the section ``final``; by default an empty one where networks can be trained; None: no final stage."""
        if self.has_final:
            return self.settings.final
        return {} if task is not None and space.input_shape else None

    def final_space(
        self, section: Mapping[str, Any] | None, space: Resolved[SearchSpace], task: Task | None
    ) -> ResolvedFinalSpace:
        """Resolve and construct the space of the delivered networks: ``final.space``, or else the search space."""
        if section is None or "space" not in section:
            return ResolvedFinalSpace(None, space.part)
        assert space.config is not None
        spec, fitted = separate_fit(section["space"], "final.space")
        if (
            fitted is not None
            and fitted.name in space.config
            and spec.get("name", space.config["name"]) == (space.config["name"])
        ):
            spec = {**spec, fitted.name: space.config[fitted.name]}  # fitting begins at the value of the search space
        final = self._space(_merged(spec, space.config), task, "final.space")
        if dict(final.part.decisions) != dict(space.part.decisions):
            raise ConfigurationError(
                "the final space must have the same decisions as the search space; "
                f"{first_difference(space.part, final.part)}",
                path="final.space",
            )
        self._check_combinations(final, task, "final.space")
        self._check_network(final.part, task, "final.space")
        return ResolvedFinalSpace(final.config, final.part, fitted)

    def final_task(self, section: Mapping[str, Any] | None, task: Resolved[Task | None]) -> Resolved[Task | None]:
        """Resolve and construct the task of the final stage, which must have the same images in the same splits."""
        if section is None or "task" not in section:
            return Resolved(None, task.part)
        if task.part is None or task.config is None:
            raise ConfigurationError(
                "the run has no task that this section could change; remove it, or add a task", path="final.task"
            )
        final = self._task(_merged(section["task"], task.config), "final.task")
        for quantity, final_value, search_value in (
            ("input shape", tuple(final.part.input_shape), tuple(task.part.input_shape)),
            ("number of outputs", final.part.num_classes, task.part.num_classes),
            *((f"number of images in '{split}'", final.part.size(split), task.part.size(split)) for split in SPLITS),
        ):
            if final_value != search_value:
                raise ConfigurationError(
                    f"must differ from the task of the search only in how training images are augmented and batched: "
                    f"the {quantity} is {final_value} here, and {search_value} in the search",
                    path="final.task",
                )
        return final

    def runtime(self, context: RunContext) -> Runtime:
        """Resolve the runtime; ``auto`` is replaced by the faster of the timed settings."""
        settings: dict[str, Any] = asdict(self.settings.runtime)
        if "auto" in (settings["precision"], settings["memory_format"]):
            if context.task is None:
                raise ConfigurationError(
                    "'auto' times training steps and needs a task, which this run does not have; name a precision and "
                    "a memory format",
                    path="runtime",
                )
            space, seed = context.space, context.seed
            architecture = space.sample(stream(seed, "tune"))
            settings = tune(settings, lambda: space.build(architecture), context.task, seed=stream_seed(seed, "tune"))
        return Runtime(**settings, needed=not self._executor_class().remote)

    def check_device(self, runtime: Runtime, stages: Sequence[StagePlan], final: FinalPlan | None) -> None:
        """Check that this process has the device if it computes anything itself: workers do evaluations only."""
        if final is not None:
            runtime.require("the final stage trains in the process of the run; final: null leaves it out")
        for stage in stages:
            strategy, path = stage.settings.strategy, f"{stage.path}.strategy"
            if self.components.takes("strategies", strategy["name"], Runtime, path):
                runtime.require(f"the strategy of the stage '{stage.settings.name}' trains in the process of the run")

    def stages(self, context: RunContext, problems: ProblemBuilder, runtime: Runtime) -> tuple[StagePlan, ...]:
        """Resolve and check the stages in order; each may use the weights of earlier ones."""
        sections = self.settings.stages or [read_settings(StageSettings, stage, "stages") for stage in DEFAULT_STAGES]
        stages: tuple[StagePlan, ...] = ()
        for section in sections:
            stage = resolve_stage(section, stages, problems, context)
            if not self.checked:
                check_stage(stage, context, runtime)
            stages = (*stages, stage)
        return stages

    def final(
        self,
        section: Mapping[str, Any] | None,
        stages: Sequence[StagePlan],
        context: RunContext,
        runtime: Runtime,
    ) -> FinalPlan | None:
        """Resolve and check the final stage; None: the run has none."""
        if section is None:
            return None
        final = resolve_final(section, stages, context)
        if not self.checked:
            check_exporters(final, context, runtime)
        return final

    def check_used(self, final: FinalPlan | None, stages: Sequence[StagePlan]) -> None:
        """Check that something begins with the initial weights of the section ``space``."""
        components = [part for stage in stages for part in (stage.settings.strategy, stage.settings.evaluator)]
        if self.initial_weights is None or any(SETTING in (part or {}) for part in components):
            return
        if final is None or final.settings.initial_weights is None:
            raise ConfigurationError("no stage of this run trains a network; leave it out", path=f"space.{SETTING}")

    def check_training(
        self,
        final: FinalPlan | None,
        final_task: Resolved[Task | None],
        space: SearchSpace,
        stages: Sequence[StagePlan],
    ) -> None:
        """Check that recipe, initial weights and teacher of the final stage fit the data and the networks."""
        task, own_task = final_task.part, final_task.config is not None
        if final is None or task is None:
            return
        if (distill := final.settings.distill) is not None:
            import_teacher(distill)  # also when a run is resumed, which needs the user's consent
        if self.checked:
            return
        recipe, split = final.settings.train, final.settings.split
        try:
            check_fit(task, recipe, split, "final.train")
        except ConfigurationError as error:
            if own_task and error.path == "task.batch_size":
                raise ConfigurationError(error.message, path="final.task.batch_size") from None
            raise
        if recipe.mixup or recipe.cutmix:
            inputs, targets = next(iter(task.batches(split, 0, stream_seed(self.settings.seed, "mixing"))))
            check_mixing(recipe, inputs, targets, "final.train")
        source = next(stage for stage in stages if stage.settings.name == final.source)
        with Runtime(device="cpu").seeded(self.settings.seed, "training check"):
            check_final_networks(final.settings, task, space, source.problem)

    def fitter(
        self,
        final_space: ResolvedFinalSpace,
        final: FinalPlan | None,
        stages: Sequence[StagePlan],
        context: RunContext,
    ) -> WidthFitter | None:
        """Return what fits the setting of the final space after the search; None: no setting is fitted."""
        if final is None or final_space.fitted is None:
            return None
        assert final_space.config is not None
        if final.inherit is not None:
            raise ConfigurationError(
                f"the supernet's weights do not fit networks whose {final_space.fitted.name} is fitted after the "
                "search; use weights: scratch",
                path="final.weights",
            )
        source = next(stage for stage in stages if stage.settings.name == final.source)
        fitter = WidthFitter(context, final_space.config, final_space.fitted, source.problem_settings.costs)
        fitter.check(source.problem, final.source)
        return fitter

    def executor(self) -> dict[str, Any]:
        """Resolve the executor; its constructor checks its settings, before a run directory holds them."""
        executor = self.components.resolve("executors", self.settings.executor, "executor")
        if not self.checked:
            self.components.construct(
                "executors", executor, [], stream_seed(self.settings.seed, "executor"), "executor"
            )
        return executor

    def _executor_class(self) -> Any:
        executor = self.components.resolve("executors", self.settings.executor, "executor")
        return self.components.class_of("executors", executor["name"], "executor")

    def observers(self) -> list[dict[str, Any]]:
        """Resolve the observers."""
        return [
            self.components.resolve("observers", spec, f"observers[{position}]")
            for position, spec in enumerate(self.settings.observers)
        ]

    def _task(self, spec: Any, path: str) -> Resolved[Task]:
        config = self.components.resolve("tasks", spec, path)
        task = self.components.construct("tasks", config, [], stream_seed(self.settings.seed, "task"), path)
        check_task(task, path)
        return Resolved(config, task)

    def _space(self, spec: Any, task: Task | None, path: str) -> Resolved[SearchSpace]:
        config = resolve_space(self.components, spec, task, path)
        return Resolved(config, make_space(self.components, config, self.settings.seed, path))

    def _check_combinations(self, space: Resolved[SearchSpace], task: Task | None, path: str) -> None:
        assert space.config is not None
        # Networks of a registered space without a task, such as those of a table, are not trained.
        trained = task is not None or space.config["name"] not in self.components.registry.names("spaces")
        if self.settings.check_networks and trained and space.part.input_shape and not self.checked:
            check_combinations(space.part, self.settings.check_networks, path)

    def _check_network(self, space: SearchSpace, task: Task | None, path: str) -> None:
        if task is not None and not self.checked:
            check_network(space, task, path)


def _final_config(
    final: FinalPlan, space: ResolvedFinalSpace, fitter: WidthFitter | None, task: Resolved[Task | None]
) -> dict[str, Any]:
    """Return the resolved section ``final``."""
    space_config = space.config if fitter is None else fitter.config
    return {
        "from": final.source,
        **({} if space_config is None else {"space": space_config}),
        **({} if task.config is None else {"task": task.config}),
        **asdict(final.settings),
        "export": [dict(spec) for spec in final.export],
    }


def _merged(spec: Any, base: Mapping[str, Any]) -> Any:
    """Return a component's settings; settings without a name change those of the component of the search.

    So do those of a component in a setting: ``{space: {variant: final}}`` changes one setting of the inner space.
    """
    if not isinstance(spec, Mapping) or "name" in spec:
        return spec
    inner = {
        key: _merged(value, base[key])
        for key, value in spec.items()
        if isinstance(base.get(key), Mapping) and "name" in base[key]
    }
    return {**base, **spec, **inner}
