"""What the last stage works on: the best networks found, their baselines, and where the result goes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

import automl_nas
from automl_nas.errors import RunFailedError
from automl_nas.evaluation.cost_table import CostTable
from automl_nas.evaluation.exporter import Delivery, Exporter
from automl_nas.evaluation.tabulated import TabulatedCost
from automl_nas.run.artifacts import RunArtifacts
from automl_nas.run.directory import RunDirectory
from automl_nas.run.files import disk_errors
from automl_nas.run.final import Candidate, Final
from automl_nas.run.ledger import Ledger
from automl_nas.run.plan import Plan
from automl_nas.search.problem import Problem
from automl_nas.search.trial import Trial
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import neighbours
from automl_nas.space.space import SearchSpace, SupernetSpace
from automl_nas.streams import stream, stream_seed

_log = logging.getLogger(__name__)

TRIES = 10_000
"""How many architectures are drawn to find a feasible one for a baseline."""

STARTS = 16
"""From how many feasible architectures the dearest one is climbed to, where it cannot be computed."""


def make_final(plan: Plan, ledger: Ledger, artifacts: RunArtifacts, directory: RunDirectory, seed: int) -> Final:
    """Make the last stage from what the ledger holds: the same candidates each time.

    Raises:
        RunFailedError: no feasible network was found; says by how much the nearest one missed.
    """
    assert plan.final is not None and plan.task is not None
    stage = next(stage for stage in plan.stages if stage.settings.name == plan.final.source)
    trials = [
        ledger.trials[number] for number in sorted(ledger.trials) if ledger.trials[number].stage == plan.final.source
    ]
    found = best_distinct(stage.problem, plan.space, trials, plan.final.settings.top_k)
    if not found:
        raise RunFailedError(nothing_found(plan.final.source, trials))
    candidates = [Candidate("found", trial.architecture, trial.number) for trial in found]
    for position, role in enumerate(plan.final.settings.baselines):
        architecture = (
            largest_feasible(plan.space, stage.problem, seed)
            if role == "largest"
            else random_feasible(plan.space, stage.problem, stream_seed(seed, "baseline", position))
        )
        if architecture is None:
            _log.warning("the baseline '%s' is left out: no feasible network was found in %d draws", role, TRIES)
        else:
            candidates.append(Candidate(role, architecture))
    exporters = [
        (spec["name"], plan.components.construct("exporters", spec, plan.collaborators(), seed, f"final.export[{n}]"))
        for n, spec in enumerate(plan.final.export)
    ]
    return Final(
        plan.final_space,
        plan.task,
        plan.runtime,
        artifacts,
        settings=plan.final.settings,
        candidates=candidates,
        seed=seed,
        inherit=_inherit(plan, artifacts),
        deliver=lambda delivery: export(delivery, exporters, directory),
        costs=stage.problem.costs,
        describe=lambda measured: describe(plan, measured),
    )


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


def describe(plan: Plan, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes with an exported network: how it was configured and what was measured."""
    final = plan.config["final"] or {}
    return {
        "framework": f"automl_nas {automl_nas.__version__}",
        "space": final.get("space", plan.config["space"]),
        "task": plan.config.get("task"),
        **measured,
    }


def random_feasible(space: SearchSpace, problem: Problem, seed: int) -> Architecture | None:
    """Draw a feasible architecture uniformly: from the table of the one limited cost, else by rejection.

    Returns:
        None if rejection finds none in `TRIES` draws.
    """
    rng = stream(seed, "feasible")
    limited = [c for c in problem.constraints if c.metric in problem.cost_models]
    model = problem.cost_models[limited[0].metric] if len(limited) == 1 else None
    if isinstance(model, TabulatedCost) and model.table is not None:
        low, high = limited[0].low, limited[0].high
        return model.table.sample(rng, low, high) if model.table.count(low, high) else None
    for _ in range(TRIES):
        architecture = space.sample(rng)
        if problem.feasible(architecture):
            return architecture
    return None


def largest_feasible(space: SearchSpace, problem: Problem, seed: int) -> Architecture | None:
    """Return the dearest feasible architecture, in the cost that is limited (the first cost, where none is).

    With one limited cost that has a table it is exact; otherwise it is climbed to from `STARTS` feasible
    architectures, one step or one exchange at a time. None if there is no cost, or no feasible start.
    """
    limited = [c for c in problem.constraints if c.metric in problem.cost_models]
    name = limited[0].metric if limited else next(iter(problem.cost_models), None)
    if name is None:
        return None
    model = problem.cost_models[name]
    if isinstance(model, TabulatedCost) and len(limited) <= 1:
        if not limited:
            return model.extremes().largest
        if model.table is not None:
            return dearest(model.table, limited[0].low, limited[0].high, seed)
    starts = [random_feasible(space, problem, stream_seed(seed, "largest", number)) for number in range(STARTS)]
    peaks = [_climb(start, space, problem, name) for start in starts if start is not None]
    return max(peaks, key=lambda a: (problem.costs(a)[name], a.key), default=None)


def dearest(table: CostTable, low: float, high: float, seed: int) -> Architecture | None:
    """Return an architecture with the largest cost in an interval (drawn, where several do); None if it is empty."""
    high = min(high, table.largest[1])
    floor = max(low, table.smallest[1])
    if floor > high or not table.count(floor, high):
        return None
    # Bisection on the counts: `floor` always has architectures above it, `ceiling` none. It ends between two
    # neighbouring floats, so on the largest cost itself.
    ceiling = math.nextafter(high, math.inf)
    while (middle := (floor + ceiling) / 2) not in (floor, ceiling):
        if table.count(middle, high):
            floor = middle
        else:
            ceiling = middle
    return table.sample(stream(seed, "dearest"), floor, high)


def _climb(start: Architecture, space: SearchSpace, problem: Problem, name: str) -> Architecture:
    here = start
    while True:
        better = [a for a in neighbours(here, space.decisions) if problem.feasible(a)]
        best = max(better, key=lambda a: (problem.costs(a)[name], a.key), default=here)
        if problem.costs(best)[name] <= problem.costs(here)[name]:
            return here
        here = best


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
