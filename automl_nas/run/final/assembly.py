"""What the last stage works on: the best networks found, their baselines, and where the result goes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

import automl_nas
from automl_nas.errors import RunFailedError
from automl_nas.evaluation.exporter import Delivery, Exporter
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.space import make_space
from automl_nas.run.final.baselines import baseline
from automl_nas.run.final.candidates import FinalCandidate
from automl_nas.run.final.measured_limits import MeasuredLimits, limits_of
from automl_nas.run.final.stage import Final
from automl_nas.run.record.artifacts import RunArtifacts
from automl_nas.run.record.atomic_files import disk_errors
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.ledger import Ledger
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace, SupernetSpace
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Trial

_log = logging.getLogger(__name__)


def make_final(plan: Plan, ledger: Ledger, artifacts: RunArtifacts, directory: RunDirectory, seed: int) -> Final:
    """Make the last stage from what the ledger holds: the same candidates each time.

    Raises:
        RunFailedError: no feasible network was found; says by how much the nearest one missed.
    """
    assert plan.final is not None and plan.final_task is not None
    stage = next(stage for stage in plan.stages if stage.settings.name == plan.final.source)
    trials = [
        ledger.trials[number] for number in sorted(ledger.trials) if ledger.trials[number].stage == plan.final.source
    ]
    limits = limits_of(stage.problem)
    settings = plan.final.settings
    measured = any(limit.model is not None for limit in limits)
    count = max(settings.top_k, settings.measure) if measured else settings.top_k
    found = best_distinct(stage.problem, plan.space, trials, count)
    if not found:
        raise RunFailedError(nothing_found(plan.final.source, trials))
    candidates = [_candidate(plan, stage.problem, "found", trial.architecture, trial.number) for trial in found]
    for position, role in enumerate(settings.baselines):
        architecture = baseline(
            role,
            plan.space,
            stage.problem,
            candidates[0].architecture,
            within=settings.equal_within,
            position=position,
            seed=seed,
        )
        if architecture is not None:
            candidates.append(_candidate(plan, stage.problem, role, architecture, None))
    exporters = [
        (spec["name"], plan.components.construct("exporters", spec, plan.collaborators(), seed, f"final.export[{n}]"))
        for n, spec in enumerate(plan.final.export)
    ]
    return Final(
        plan.final_task,
        plan.runtime,
        artifacts,
        settings=settings,
        candidates=candidates,
        budget=MeasuredLimits(limits, [item.costs for item in candidates if item.role == "found"], settings.top_k),
        folder=directory.path,
        seed=seed,
        inherit=_inherit(plan, artifacts),
        deliver=lambda delivery: export(delivery, exporters, directory),
        describe=lambda candidate, values: describe(plan, values, candidate.spec),
    )


def _candidate(
    plan: Plan, problem: Problem, role: str, architecture: Architecture, trial: int | None
) -> FinalCandidate:
    if plan.fitter is None:
        return FinalCandidate(role, architecture, plan.final_space, problem.costs(architecture), trial)
    fitted = plan.fitter.fit(architecture)
    return FinalCandidate(role, architecture, fitted.space, fitted.costs, trial, fitted.spec)


def delivered_space(plan: Plan, record: Mapping[str, Any]) -> SearchSpace:
    """Return the space that builds a network of the last stage: the run's, or the one that was fitted to it.

    Args:
        plan: of the run.
        record: of the network, as ``result.json`` holds it.
    """
    if "space" not in record:
        return plan.final_space
    return make_space(plan.components, record["space"], plan.seed, "final.space")


def best_distinct(problem: Problem, space: SearchSpace, trials: Sequence[Trial], count: int) -> list[Trial]:
    """Return the best trials, no two of the same canonical architecture."""
    chosen: dict[Architecture, Trial] = {}
    for trial in problem.rank(trials):
        chosen.setdefault(space.canonical(trial.architecture), trial)
        if len(chosen) == count:
            break
    return list(chosen.values())


def export(
    delivery: Delivery, exporters: Sequence[tuple[str, Exporter]], directory: RunDirectory
) -> dict[str, list[Any]]:
    """Write a network in every format, each with its name.

    A network that a format cannot hold is trained and tested all the same, so that ends neither the run nor the other
    formats. A file that cannot be written does: with space on the disk, resuming writes it.

    Returns:
        ``files``: paths relative to the run directory; ``not_exported``: for each format that failed its ``format``
        and ``error``.
    """
    files: list[str] = []
    failures: list[dict[str, str]] = []
    with disk_errors(directory.export):
        directory.export.mkdir(exist_ok=True)
        for name, exporter in exporters:
            try:
                written = exporter.export(delivery, directory.export)
            except RunFailedError as error:
                _log.warning("not exported as %s: %s", name, error)
                failures.append({"format": name, "error": str(error)})
            else:
                files += [str(path.relative_to(directory.path)) for path in written]
    return {"files": files, "not_exported": failures}


def describe(plan: Plan, measured: Mapping[str, Any], space: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what goes with an exported network: how it was configured and what was measured.

    Args:
        plan: of the run.
        measured: on the network.
        space: its configuration, if it has one of its own.
    """
    final = plan.config["final"] or {}
    return {
        "framework": f"automl_nas {automl_nas.__version__}",
        "space": dict(space) if space is not None else final.get("space", plan.config["space"]),
        "task": final.get("task", plan.config.get("task")),
        **measured,
    }


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


def nothing_found(stage: str, trials: Sequence[Trial]) -> str:
    """Return why no trial of a stage is a result: all failed, with what, or by how much the nearest one missed."""
    if not trials:
        return (
            f"the stage '{stage}' made no trials, so there is nothing to retrain; for a run that only trains a "
            "supernet set final: null"
        )
    complete = [trial for trial in trials if trial.state.value == "complete"]
    if not complete:
        reasons = [f"; the last one that failed (trial {t.number}) with: {t.error}" for t in trials if t.error]
        return f"the stage '{stage}' has no complete trial ({len(trials)} recorded){''.join(reasons[-1:])}"
    nearest = min(complete, key=lambda t: max(t.violations.values(), default=0.0))
    missed = ", ".join(f"{name} by {value:.1%}" for name, value in nearest.violations.items() if value > 0)
    return (
        f"no trial of the stage '{stage}' meets the constraints; the nearest one (trial {nearest.number}) misses "
        f"{missed}"
    )
