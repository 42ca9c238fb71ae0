"""From a plan and the trials of a run to the strategy of the final stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from automl_nas.errors import RunFailedError
from automl_nas.run.configuration.final_section import BUILT, LARGEST
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.stages import FinalPlan
from automl_nas.run.final.baselines import baseline, largest_feasible
from automl_nas.run.final.candidates import TEACHER, FinalCandidate, no_feasible_network
from automl_nas.run.final.delivery import RunExporter, formats_of
from automl_nas.run.final.measured_limits import MeasuredLimits, limits_of
from automl_nas.run.final.stage import Final
from automl_nas.run.final.teacher import load_teacher
from automl_nas.run.final.training import FinalTraining
from automl_nas.run.record.artifacts import RunArtifacts
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.ledger import Ledger
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace, SupernetSpace
from automl_nas.strategy.front import spread_front
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Trial


def make_final(plan: Plan, ledger: Ledger, artifacts: RunArtifacts, directory: RunDirectory, seed: int) -> Final:
    """Construct the strategy of the final stage. The same trials give the same candidates.

    Args:
        plan: of a run with a final stage.
        ledger: the trials of the run.
        artifacts: where trained weights are saved.
        directory: of the run.
        seed: of the stage.

    Raises:
        RunFailedError: no trial is feasible; the message says by how much the nearest trial misses the constraints.
    """
    assert plan.final is not None and plan.final_task is not None
    source = plan.result_stage
    trials = [trial for _, trial in sorted(ledger.trials.items()) if trial.stage == plan.final.source]
    settings = plan.final.settings
    limits = limits_of(source.problem)
    measured = any(limit.model is not None for limit in limits)
    count = max(settings.retrained, settings.measure) if measured else settings.retrained
    select = spread_front if settings.choose == "pareto" else best_distinct
    best = select(source.problem, plan.space, trials, count)
    if not best:
        raise RunFailedError(no_feasible_network(plan.final.source, trials))
    candidates = [_candidate(plan, source.problem, "found", trial.architecture, trial.number) for trial in best]
    baselines = _baselines(plan, plan.final, source.problem, candidates[0].architecture, seed)
    formats = formats_of(plan)
    return Final(
        training=FinalTraining(
            task=plan.final_task,
            runtime=plan.runtime,
            artifacts=artifacts,
            settings=settings,
            seed=seed,
            inherit=_inherit(plan, artifacts),
            limit=plan.final.limit,
            teacher=_teacher(plan, plan.final, source.problem, seed),
        ),
        candidates=[*candidates, *baselines],
        problem=source.problem,
        limits=MeasuredLimits(limits, [candidate.costs for candidate in candidates], settings.retrained),
        exporter=RunExporter(plan, formats, folder=directory.path, target=directory.export),
    )


def _baselines(plan: Plan, final: FinalPlan, problem: Problem, best: Architecture, seed: int) -> list[FinalCandidate]:
    candidates = []
    for position, role in enumerate(final.settings.baselines):
        architecture = baseline(
            role, plan.space, problem, best, within=final.settings.equal_within, position=position, seed=seed
        )
        if architecture is not None:
            candidates.append(_candidate(plan, problem, role, architecture, None))
    distill = final.settings.distill
    if distill is not None and distill.teacher == LARGEST:
        candidates.append(_largest(plan, problem, seed))
    return candidates


def _largest(plan: Plan, problem: Problem, seed: int) -> FinalCandidate:
    """Return the teacher. Limits are for the delivered network: it has none, and no width is fitted for it."""
    unlimited = Problem(problem.objectives, (), problem.cost_models, problem.exclusions)
    largest = largest_feasible(plan.space, unlimited, seed)
    assert largest is not None  # the plan has a cost
    return FinalCandidate(TEACHER, largest, plan.final_space, unlimited.costs(largest))


def _teacher(plan: Plan, final: FinalPlan, problem: Problem, seed: int) -> Callable[[], nn.Module] | None:
    """Return the function that makes a teacher which is not trained in this stage."""
    distill = final.settings.distill
    if distill is None or distill.teacher == LARGEST:
        return None
    if distill.teacher != BUILT:
        return partial(load_teacher, distill)

    def build() -> nn.Module:
        candidate = _largest(plan, problem, seed)
        with plan.runtime.seeded(seed, "teacher"):
            return candidate.space.build(candidate.architecture)

    return build


def _candidate(
    plan: Plan, problem: Problem, role: str, architecture: Architecture, trial: int | None
) -> FinalCandidate:
    if plan.fitter is None:
        return FinalCandidate(role, architecture, plan.final_space, problem.costs(architecture), trial)
    fitted = plan.fitter.fit(architecture)
    return FinalCandidate(role, architecture, fitted.space, fitted.costs, trial, fitted.spec)


def best_distinct(problem: Problem, space: SearchSpace, trials: Sequence[Trial], count: int) -> list[Trial]:
    """Return the best trials, no two of the same canonical architecture.

    Args:
        problem: ranks the trials.
        space: of the search.
        trials: of one stage.
        count: maximum number of trials to return.
    """
    best: dict[Architecture, Trial] = {}
    for trial in problem.rank(trials):
        best.setdefault(space.canonical(trial.architecture), trial)
        if len(best) == count:
            break
    return list(best.values())


def _inherit(plan: Plan, artifacts: RunArtifacts) -> Callable[[Architecture], nn.Module] | None:
    assert plan.final is not None
    reference = plan.final.inherit
    if reference is None:
        return None
    assert isinstance(plan.space, SupernetSpace)
    space = plan.space

    def inherit(architecture: Architecture) -> nn.Module:
        with plan.runtime.seeded(plan.seed, "inherit"):
            supernet = space.build_supernet()
        supernet.load_state_dict(artifacts.load(reference))
        return supernet.extract(architecture)

    return inherit
