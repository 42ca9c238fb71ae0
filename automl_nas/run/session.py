"""A run from its directory to its result: the one driver, which knows budgets, checkpoints, hooks and interruption."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import automl_nas
from automl_nas.errors import RunDirectoryError, RunInterrupted
from automl_nas.evaluation.evaluator import Evaluator
from automl_nas.plugin.events import ResultInfo, RunInfo, StepInfo
from automl_nas.plugin.manager import PluginManager
from automl_nas.run.artifacts import RunArtifacts
from automl_nas.run.builtin import complete_manager
from automl_nas.run.checkpoints import Checkpoints
from automl_nas.run.delivery import make_final
from automl_nas.run.directory import MetricsFile, RunDirectory
from automl_nas.run.executors import Executor
from automl_nas.run.files import write_json
from automl_nas.run.interruption import StopFlag
from automl_nas.run.ledger import Ledger
from automl_nas.run.plan import Plan, StagePlan, make_plan
from automl_nas.run.reporter import Reporter
from automl_nas.run.results import make_result, stage_best
from automl_nas.run.settings import StageSettings
from automl_nas.run.trials import StageServices
from automl_nas.run.workers import WorkerProcesses
from automl_nas.search.strategy import Strategy
from automl_nas.search.trial import Trial
from automl_nas.streams import stream_seed


class StageEvaluator:
    """Makes the evaluator of a stage: here from the plan, in a worker process from the configuration."""

    def __init__(self, plan: Plan, directory: Path, stage: int) -> None:
        self._plan: Plan | None = plan
        self._config, self._objects, self._directory, self._stage = (
            plan.config,
            plan.components.objects,
            directory,
            stage,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plan": None}

    def __call__(self) -> Evaluator:
        """Make it."""
        plan = self._plan or make_plan(self._config, complete_manager().registry, self._objects, checked=True)
        plan.runtime.activate()
        stage = plan.stages[self._stage]
        artifacts = RunArtifacts(
            self._directory / "artifacts", stage.settings.name, plan.config["space"], plan.fingerprint
        )
        evaluator: Evaluator = plan.components.construct(
            "evaluators",
            stage.settings.evaluator,
            plan.collaborators(stage.problem, artifacts),
            stream_seed(plan.seed, f"{stage.settings.name}/evaluator"),
            f"{stage.path}.evaluator",
        )
        return evaluator


class Session:
    """One process's work on a run. Use `Session.start` or `Session.resume`, then `run`.

    Args:
        directory: created or opened, and locked.
        plan: resolved from its configuration.
        manager: of plugins: its observers are told.
        reporter: is told.
        resumed: whether the run has been worked on before.
    """

    def __init__(
        self, directory: RunDirectory, plan: Plan, manager: PluginManager, reporter: Reporter, *, resumed: bool
    ) -> None:
        self.directory, self.plan = directory, plan
        self._manager, self._reporter = manager, reporter
        self._stop = StopFlag()
        self._changes = directory.changed_packages() if resumed else []
        self._info = RunInfo(directory.path, config=plan.config, resumed=resumed)
        self._digest = hashlib.sha256(json.dumps(_what_matters(plan.config), sort_keys=True).encode()).hexdigest()

    @classmethod
    def start(
        cls,
        raw: Mapping[str, Any],
        out: Path,
        *,
        manager: PluginManager | None = None,
        reporter: Reporter | None = None,
    ) -> Session:
        """Resolve and check a configuration, and make its run directory.

        Raises:
            UserError: the configuration, or the directory, is not as it must be; nothing was written then.
        """
        RunDirectory.check_new(out)
        manager = manager or complete_manager()
        plan = make_plan(raw, manager.registry)
        directory = RunDirectory.create(out, plan.config)
        return cls(directory, plan, manager, reporter or Reporter(), resumed=False)

    @classmethod
    def resume(
        cls,
        path: Path,
        *,
        manager: PluginManager | None = None,
        reporter: Reporter | None = None,
        raw: Mapping[str, Any] | None = None,
        executor: Any = None,
    ) -> Session:
        """Open and lock a run directory, to continue it.

        Args:
            path: the run directory.
            manager: of plugins.
            reporter: is told.
            raw: the configuration as it was given, if it holds Python objects; it must resolve to the recorded one.
            executor: another executor than the recorded one: it does not change what is found.

        Raises:
            RunDirectoryError: it is no run, it is in use, or ``raw`` differs from its configuration.
        """
        manager = manager or complete_manager()
        directory = RunDirectory.open(path)
        directory.lock()
        try:
            config = directory.read_config()
            if executor is not None:
                config["executor"] = executor
            objects: Mapping[str, object] = {}
            if raw is not None:
                given = make_plan(raw, manager.registry)
                objects = given.components.objects
                _check_same(config, given.config, path)
            plan = make_plan(config, manager.registry, objects, checked=True)
            return cls(directory, plan, manager, reporter or Reporter(), resumed=True)
        except BaseException:
            directory.unlock()
            raise

    def run(self) -> dict[str, Any]:
        """Work until the run is complete; return what ``result.json`` holds.

        Raises:
            RunInterrupted: stopped by a signal, at a safe point.
            RunFailedError: no result can be reached.
        """
        try:
            finished = self.directory.read_result()
            if finished is not None:
                return finished
            # Whoever calls this in a notebook finds the global generators as they were.
            with (
                self._stop.listening(self._reporter.stopping),
                self.plan.runtime.seeded(self.plan.seed, "run"),
            ):
                return self._drive()
        except (KeyboardInterrupt, RunInterrupted):
            raise RunInterrupted(f"stopped; to continue: automl-nas resume {self.directory.path}") from None
        finally:
            self.directory.unlock()

    # --- the driver --------------------------------------------------------------------------------------------------

    def _drive(self) -> dict[str, Any]:
        plan, directory, reporter = self.plan, self.directory, self._reporter
        plan.runtime.activate()
        ledger = Ledger(directory.trials, writable=True)
        for damage in ledger.damage:
            reporter.warning(str(damage))
        checkpoints = Checkpoints(directory.checkpoints)
        state = checkpoints.newest(reporter.warning, lambda found: self._usable(found, ledger)) or _start_of_stage(
            0, 0, 0
        )
        metrics = MetricsFile(directory.metrics, state["metrics"])
        self._manager.observers.search_started(self._info)
        final_report = None
        try:
            count = len(plan.stages) + (plan.final is not None)
            for index in range(state["stage"], count):
                name = plan.stages[index].settings.name if index < len(plan.stages) else "final"
                reporter.stage_started(name, index, count)
                strategy, services = self._run_stage(index, state, ledger, metrics, checkpoints)
                reporter.stage_finished(name)
                if index == len(plan.stages):
                    final_report = strategy.state_dict()["report"]
                state = _start_of_stage(index + 1, services.next_number, metrics.sync())
                ledger.sync()
                if index + 1 < count:
                    checkpoints.save({**state, "config": self._digest}, boundary=True)
            result = make_result(plan, ledger, final_report)
            write_json(directory.result, result)
            shutil.rmtree(directory.scratch, ignore_errors=True)
            last = plan.stages[-1]
            trials = [t for t in ledger.trials.values() if t.stage == last.settings.name]
            best = stage_best(last, trials)
            pareto = tuple(last.problem.pareto(trials))
            self._manager.observers.search_finished(self._info, ResultInfo(best, pareto, len(ledger.trials), result))
            return result
        finally:
            ledger.close()
            metrics.close()

    def _run_stage(
        self, index: int, state: Mapping[str, Any], ledger: Ledger, metrics: MetricsFile, checkpoints: Checkpoints
    ) -> tuple[Strategy, StageServices]:
        plan = self.plan
        stage = plan.stages[index] if index < len(plan.stages) else _final_stage(plan)
        name = stage.settings.name
        seed = stream_seed(plan.seed, name)
        executor = self._executor(index, stage, ledger) if stage.settings.evaluator is not None else None

        def observe(trial: Trial) -> None:
            self._manager.observers.trial_finished(self._info, trial)

        def isolated() -> Executor:
            made = WorkerProcesses(workers=1)
            made.open(StageEvaluator(plan, self.directory.path, index), ledger.started, stage.settings.timeout)
            return made

        # An executor of the core's own kind already isolates; asking it would be a branch, a second one does no harm.
        services = StageServices(
            stage,
            plan.space,
            seed,
            self.directory,
            ledger,
            metrics,
            executor,
            isolated,
            self._stop,
            self._reporter,
            observe,
            self._changes,
        )
        steps = state.get("steps", 0)
        try:
            artifacts = RunArtifacts(self.directory.artifacts, name, plan.config["space"], plan.fingerprint)
            if index < len(plan.stages):
                strategy: Strategy = plan.components.construct(
                    "strategies",
                    stage.settings.strategy,
                    plan.collaborators(stage.problem, artifacts),
                    seed,
                    f"{stage.path}.strategy",
                )
            else:
                strategy = make_final(plan, ledger, artifacts, self.directory, seed)
            services.planned = strategy.planned
            if state.get("strategy") is not None:
                strategy.load_state_dict(state["strategy"])
            services.begin(state)
            saved = time.monotonic()
            budget = stage.settings.budget
            while not strategy.done:
                if (budget.steps is not None and steps >= budget.steps) or (
                    budget.seconds is not None and services.remaining is None and services.seconds >= budget.seconds
                ):
                    break
                if self._stop.requested:
                    self._checkpoint(index, steps, strategy, services, ledger, metrics, checkpoints)
                    raise RunInterrupted
                strategy.step(services)
                steps += 1
                self._manager.observers.step_finished(self._info, StepInfo(name, steps, services.recorded))
                if time.monotonic() - saved >= plan.config["checkpoint_seconds"]:
                    self._checkpoint(index, steps, strategy, services, ledger, metrics, checkpoints)
                    saved = time.monotonic()
            return strategy, services
        finally:
            services.close()

    def _executor(self, index: int, stage: StagePlan, ledger: Ledger) -> Executor:
        executor: Executor = self.plan.components.construct(
            "executors", self.plan.config["executor"], [], stream_seed(self.plan.seed, "executor"), "executor"
        )
        executor.open(StageEvaluator(self.plan, self.directory.path, index), ledger.started, stage.settings.timeout)
        return executor

    def _checkpoint(
        self,
        index: int,
        steps: int,
        strategy: Strategy,
        services: StageServices,
        ledger: Ledger,
        metrics: MetricsFile,
        checkpoints: Checkpoints,
    ) -> None:
        ledger.sync()
        checkpoints.save(
            {
                "version": automl_nas.__version__,
                "config": self._digest,
                "stage": index,
                "steps": steps,
                "metrics": metrics.sync(),
                "strategy": strategy.state_dict(),
                **services.state(),
            }
        )

    def _usable(self, state: Mapping[str, Any], ledger: Ledger) -> bool:
        """Whether everything a checkpoint builds on is there: its configuration, its trials, its lines of metrics."""
        if state["config"] != self._digest:
            self._reporter.warning("a checkpoint belongs to another configuration and is not used")
            return False
        known = ledger.trials.keys() | set(state.get("uncollected", ()))
        if not all(number in known for number in range(state["next_number"])):
            self._reporter.warning(
                "a checkpoint builds on trials whose record is damaged; the previous good one is used"
            )
            return False
        length = self.directory.metrics.stat().st_size if self.directory.metrics.exists() else 0
        if state["metrics"] > length:
            self._reporter.warning(
                f"{self.directory.metrics} is shorter than a checkpoint says; the previous good one is used"
            )
            return False
        return True


def _start_of_stage(stage: int, next_number: int, metrics: int) -> dict[str, Any]:
    return {"stage": stage, "next_number": next_number, "metrics": metrics}


def _final_stage(plan: Plan) -> StagePlan:
    """The last stage as the driver sees it: no evaluator, no budget, the problem of the stage it takes its networks from."""
    assert plan.final is not None
    source = next(stage for stage in plan.stages if stage.settings.name == plan.final.source)
    return StagePlan(StageSettings(name="final", strategy="final"), source.problem, "final")


def _what_matters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a configuration that decide what is found."""
    return {key: value for key, value in config.items() if key not in ("executor", "checkpoint_seconds")}


def _check_same(recorded: Mapping[str, Any], given: Mapping[str, Any], path: Path) -> None:
    old, new = _what_matters(recorded), _what_matters(given)
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            raise RunDirectoryError(
                f"{path} was begun with {key}: {json.dumps(old.get(key))}, and is now to be resumed with "
                f"{json.dumps(new.get(key))}; "
                "use the same configuration, or another directory"
            )
