"""What the runs of a comparison found: derived networks with true values and ranks, histories, agreement of seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from automl_nas.space import Architecture
from automl_nas_benchmarks.benchmark import Benchmark
from automl_nas_benchmarks.one_shot.settings import Cell
from automl_nas_benchmarks.one_shot.work import FILE, Work, recorded_work
from automl_nas_benchmarks.rank.metrics import Values
from automl_nas_benchmarks.rank.search_outcomes import feasible_networks
from automl_nas_benchmarks.rank.study import known_truth, trials_of

if TYPE_CHECKING:
    from automl_nas.run import Result
    from automl_nas.strategy import Problem, Trial


@dataclass(frozen=True)
class Moment:
    """The network that a method would have derived at a point of its search.

    Attributes:
        share: of the search that was done, above 0 and at most 1.
        code: of the network in the table.
        truth: its true value; None if the table does not have it.
    """

    share: float
    code: str
    truth: float | None


@dataclass(frozen=True)
class Outcome:
    """What one run found.

    Attributes:
        cell: the run.
        code: of the derived network in the table.
        truth: its true value; None if the table does not have it.
        rank: its rank among all feasible distinct networks of the table, 1 for the best; None without a true value.
        trials: number of trials of all stages.
        work: what the search cost.
        history: the derived network along the search, one entry for each change.
        decisions: the values of the derived network, in the order of the space's decisions.
    """

    cell: Cell
    code: str
    truth: float | None
    rank: int | None
    trials: int
    work: Work
    history: tuple[Moment, ...]
    decisions: tuple[object, ...]


class FeasibleTable:
    """The feasible distinct networks of a table.

    Args:
        benchmark: the table.
        problem: its limits on costs.

    Attributes:
        benchmark: the table.
        problem: as given.
        truths: true values in ascending order, shape ``(networks,)``.
    """

    def __init__(self, benchmark: Benchmark, problem: Problem) -> None:
        self.benchmark, self.problem = benchmark, problem
        self.truths: Values = np.sort(list(feasible_networks(benchmark, problem).values()))

    def rank(self, truth: float | None) -> int | None:
        """Return the rank of a true value, 1 for the best."""
        return None if truth is None else 1 + int((self.truths > truth).sum())

    def moment(self, share: float, architecture: Architecture) -> Moment:
        """Return a point of a history."""
        code = self.benchmark.truth_source.table.coding.code(architecture)
        return Moment(share, code, known_truth(self.benchmark, architecture))


def outcome(cell: Cell, run: Result, table: FeasibleTable) -> Outcome | None:
    """Return what a complete run found; None if it found no feasible network.

    The history is the best trial's ``info["history"]``, a list of ``{"epoch": ..., "architecture": ...}``, which
    strategies that derive a network record; otherwise it has the best trial after each trial, or, if trials have
    fidelities, the best trial of each fidelity.
    """
    if not run.found:
        return None
    stage = run.data["stage"]
    trials = trials_of(run, stage)
    architecture = run.architecture
    now = table.moment(1.0, architecture)
    return Outcome(
        cell=cell,
        code=now.code,
        truth=now.truth,
        rank=table.rank(now.truth),
        trials=sum(each["trials"] for each in run.data["stages"]),
        work=recorded_work(run.directory / FILE),
        history=tuple(_changes([*_history(run, trials, table), now])),
        decisions=tuple(architecture[name] for name in table.benchmark.space.decisions),
    )


def agreement(outcomes: Sequence[Outcome]) -> float | None:
    """Return the share of decisions that two seeds share, the mean over all pairs of seeds; None for one seed."""
    shares = [
        float(np.mean([one == other for one, other in zip(first.decisions, second.decisions, strict=True)]))
        for first, second in combinations(outcomes, 2)
    ]
    return float(np.mean(shares)) if shares else None


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Return the mean and its interval by Student's t; the interval of one value is not known (NaN)."""
    from scipy import stats

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, mean - half, mean + half


def _history(run: Result, trials: Sequence[Trial], table: FeasibleTable) -> Iterable[Moment]:
    best = table.problem.best(trials)
    recorded = best.info.get("history") if best is not None else None
    if isinstance(recorded, Sequence) and all(_is_derived(entry) for entry in recorded):
        epochs = max([_epochs(run), *(entry["epoch"] for entry in recorded)])
        return [table.moment(entry["epoch"] / epochs, Architecture(entry["architecture"])) for entry in recorded]
    fidelities = sorted({trial.fidelity for trial in trials if trial.fidelity is not None})
    if fidelities:
        groups = [[trial for trial in trials if trial.fidelity == fidelity] for fidelity in fidelities]
        chosen = [(n / len(groups), table.problem.best(group)) for n, group in enumerate(groups, start=1)]
    else:
        chosen, incumbent = [], None
        for number, trial in enumerate(trials, start=1):
            incumbent = table.problem.best([trial] if incumbent is None else [incumbent, trial])
            chosen.append((number / len(trials), incumbent))
    return [table.moment(share, trial.architecture) for share, trial in chosen if trial is not None]


def _is_derived(entry: Any) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get("epoch"), int) and "architecture" in entry


def _epochs(run: Result) -> int:
    """Return the epochs of the training of the result's stage, if its strategy has that setting; otherwise 1."""
    stage = next(stage for stage in run.parts.config["stages"] if stage["name"] == run.data["stage"])
    train = stage["strategy"].get("train")
    epochs = train.get("epochs") if isinstance(train, Mapping) else None
    return epochs if isinstance(epochs, int) else 1


def _changes(moments: Iterable[Moment]) -> Iterable[Moment]:
    last = None
    for moment in moments:
        if moment.code != last:
            yield moment
            last = moment.code


def results_of(out: Path, cells: Sequence[Cell]) -> dict[Cell, Result]:
    """Open the complete runs among the cells."""
    from automl_nas.run import open_run
    from automl_nas_benchmarks.one_shot.cells import complete

    return {cell: open_run(cell.directory(out)) for cell in cells if complete(cell.directory(out))}
