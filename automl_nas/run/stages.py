"""The stages of a run as the driver works on them; the final stage is one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.sections import StageSettings
from automl_nas.run.configuration.stages import StagePlan
from automl_nas.run.final.assembly import make_final
from automl_nas.run.final.report import FinalReport
from automl_nas.run.final.stage import Final
from automl_nas.run.record.artifacts import RunArtifacts
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.ledger import Ledger
from automl_nas.strategy.base import Strategy
from automl_nas.streams import stream_seed

StrategyT = TypeVar("StrategyT", bound=Strategy)


@dataclass(frozen=True)
class RunStage(Generic[StrategyT]):
    """A stage as the driver works on it.

    Attributes:
        plan: the resolved stage.
        make_strategy: constructs the strategy of the stage from the trials and the directory of the run.
        report: returns the report of the finished strategy; None for a stage whose only results are its trials.
    """

    plan: StagePlan
    make_strategy: Callable[[Ledger, RunDirectory], StrategyT]
    report: Callable[[StrategyT], FinalReport | None]


def run_stages(plan: Plan) -> list[RunStage[Any]]:
    """Return the stages of a run in order: those of the configuration, then the final stage if the run has one."""
    stages: list[RunStage[Any]] = [_search_stage(plan, stage) for stage in plan.stages]
    if plan.final is not None:
        stages.append(_final_stage(plan))
    return stages


def _search_stage(plan: Plan, stage: StagePlan) -> RunStage[Strategy]:
    seed = stream_seed(plan.seed, stage.settings.name)

    def make_strategy(ledger: Ledger, directory: RunDirectory) -> Strategy:
        collaborators = plan.collaborators(stage.problem, stage_artifacts(plan, stage, directory))
        # Constructors may build networks; what they draw must not depend on what the process did before.
        with plan.runtime.seeded(seed, "strategy"):
            strategy: Strategy = plan.components.construct(
                "strategies", stage.settings.strategy, collaborators, seed, f"{stage.path}.strategy"
            )
        return strategy

    return RunStage(stage, make_strategy, lambda strategy: None)


def _final_stage(plan: Plan) -> RunStage[Final]:
    """Return the final stage: without evaluator and budget, with the problem of the stage whose result it retrains."""
    stage = replace(plan.result_stage, settings=StageSettings(name="final", strategy="final"), path="final")
    seed = stream_seed(plan.seed, stage.settings.name)
    return RunStage(
        stage,
        lambda ledger, directory: make_final(plan, ledger, stage_artifacts(plan, stage, directory), directory, seed),
        lambda strategy: strategy.report,
    )


def stage_artifacts(plan: Plan, stage: StagePlan, directory: RunDirectory) -> RunArtifacts:
    """Return the artifacts of a run, seen from one of its stages."""
    return RunArtifacts(
        directory.artifacts,
        stage.settings.name,
        plan.config["space"],
        plan.fingerprint,
        lambda: plan.identity["space"],
    )
