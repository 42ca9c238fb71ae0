"""One search: a strategy on a benchmark with a seed, and what is kept of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import EvaluationError, RunInterrupted
from automl_nas.evaluation import State
from automl_nas.strategy import AskTellStrategy, Deduplicate, Strategy, Trial
from automl_nas_benchmarks.comparison.benchmark_problem import BenchmarkProblem
from automl_nas_benchmarks.comparison.services import InMemory

Steps = tuple[tuple[int, float], ...]
"""A value that changes now and then: (evaluations so far, value from then on), the first one first."""

_IDLE_STEPS = 100_000
"""So many steps of a strategy without an evaluation, or known proposals in a row, end a search."""


@dataclass(frozen=True)
class SearchRecord:
    """What is kept of a search.

    Attributes:
        strategy: its label.
        benchmark: its label.
        seed: of the search.
        evaluations: how many were made: the budget, unless the strategy ended before.
        distinct: how many different functions were among them.
        incumbent: true value of the network that the signal prefers so far; nothing while none is feasible.
        found: true value of the best network evaluated so far, by (distinct evaluations, value).
        volume: with several objectives, the hypervolume of the front that the signal prefers, as a share of what the
            best possible front has; else empty.
        architecture: key of the last incumbent; empty if there is none.
        ended: ``budget``, or ``done`` if the strategy had nothing more to propose.
        proposal_seconds: wall clock of the strategy itself for one evaluation, on average.
        late_seconds: the same over the last tenth of the evaluations.
        seconds: wall clock of the whole search.
    """

    strategy: str
    benchmark: str
    seed: int
    evaluations: int
    distinct: int
    incumbent: Steps
    found: Steps
    volume: Steps
    architecture: str
    ended: Literal["budget", "done"]
    proposal_seconds: float
    late_seconds: float
    seconds: float

    @property
    def key(self) -> tuple[str, str, int]:
        """Strategy, benchmark and seed."""
        return self.strategy, self.benchmark, self.seed

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> SearchRecord:
        """Invert `to_json`."""
        values = {item.name: plain[item.name] for item in fields(cls)}
        for name in ("incumbent", "found", "volume"):
            values[name] = tuple((int(at), float(value)) for at, value in values[name])
        return cls(**values)


def curve(steps: Steps, length: int, before: float) -> NDArray[np.float64]:
    """Return the value after each of 1 .. length evaluations; ``before`` until there is one."""
    values = np.full(length, before)
    for at, value in steps:
        values[at - 1 :] = value
    return values


def reached(found: Steps, threshold: float) -> int | None:
    """Return after how many distinct evaluations a true value of at least the threshold was found; None: never."""
    return next((at for at, value in found if value >= threshold), None)


def run_search(
    ground: BenchmarkProblem,
    strategy: Strategy,
    *,
    label: str,
    seed: int,
    evaluations: int,
    batch: int = 1,
    deduplicate: bool = True,
    stop: Callable[[], bool] = lambda: False,
) -> SearchRecord:
    """Run one search to its end.

    Args:
        ground: the benchmark with its problem.
        strategy: made for that problem and seed.
        label: of the strategy, for the record.
        seed: for the record.
        evaluations: the budget.
        batch: how many trials an ask-and-tell strategy is told at once.
        deduplicate: whether only new functions are evaluated: ask-and-tell strategies are wrapped in `Deduplicate`, the
            proposals of others are answered from memory.
        stop: asked between steps; true ends the search without a record.

    Raises:
        RunInterrupted: ``stop`` said so.
        EvaluationError: the strategy raised an error, asked for what a table has not, or evaluated nothing.
    """
    where = f"'{label}' on '{ground.label}' with seed {seed}"
    begun = time.perf_counter()
    wrapped = deduplicate and isinstance(strategy, AskTellStrategy)
    if wrapped:
        assert isinstance(strategy, AskTellStrategy)
        strategy = Deduplicate(ground.space, ground.problem, strategy=strategy)
    watch = _Watch(ground, counting=not deduplicate)
    # When each evaluation was asked for, in seconds of the strategy's own work.
    asked: list[float] = []

    def observe(trial: Trial) -> None:
        asked.append(services.strategy_seconds)
        watch.see(trial)

    services = InMemory(ground, observe, budget=evaluations, batch=batch, deduplicate=deduplicate and not wrapped)
    idle = 0
    try:
        while not strategy.done and services.remaining and max(idle, services.repeated) < _IDLE_STEPS:
            if stop():
                raise RunInterrupted("stopped in the middle of a search")
            before = services.evaluated
            strategy.step(services)
            idle = 0 if services.evaluated > before else idle + 1
    except (RunInterrupted, KeyboardInterrupt):
        raise
    except Exception as error:
        raise EvaluationError(f"{where}: {_told(error)}") from error
    if not asked:
        raise EvaluationError(f"{where}: it proposed nothing")
    late = max(1, len(asked) // 10)
    return SearchRecord(
        strategy=label,
        benchmark=ground.label,
        seed=seed,
        evaluations=services.evaluated,
        distinct=watch.distinct,
        incumbent=tuple(watch.incumbent),
        found=tuple(watch.found),
        volume=tuple(watch.volume),
        architecture=watch.architecture,
        ended="done" if services.remaining else "budget",
        proposal_seconds=asked[-1] / len(asked),
        late_seconds=(asked[-1] - ([0.0, *asked])[-1 - late]) / late,
        seconds=time.perf_counter() - begun,
    )


@final
class _Watch:
    """Sees every evaluation and keeps what changes: the incumbent, the best found, the front's volume.

    Args:
        ground: the benchmark with its problem.
        counting: whether networks may repeat, so that distinct ones have to be counted.
    """

    def __init__(self, ground: BenchmarkProblem, *, counting: bool) -> None:
        self._ground, self._problem = ground, ground.problem
        self._seen: set[str] | None = set() if counting else None
        self._evaluations = 0
        self._best: tuple[float, ...] = ()
        self._front: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
        self.distinct = 0
        self.architecture = ""
        self.incumbent: list[tuple[int, float]] = []
        self.found: list[tuple[int, float]] = []
        self.volume: list[tuple[int, float]] = []

    def see(self, trial: Trial) -> None:
        """Take one evaluation."""
        self._evaluations += 1
        if self._seen is None:
            self.distinct = self._evaluations
        else:
            self._seen.add(self._ground.space.canonical(trial.architecture).key)
            self.distinct = len(self._seen)
        if trial.state is not State.COMPLETE or not trial.feasible:
            return
        scores = self._problem.scores(trial)
        truth = self._ground.truth(trial.architecture)
        if not self.found or truth > self.found[-1][1]:
            self.found.append((self.distinct, truth))
        if scores > self._best:  # equal ones: the first stays, as in a run
            self._best = scores
            self.architecture = trial.architecture.key
            if not self.incumbent or truth != self.incumbent[-1][1]:
                self.incumbent.append((self._evaluations, truth))
        if len(scores) > 1 and -math.inf not in scores:
            self._extend(scores, trial)

    def _extend(self, scores: tuple[float, ...], trial: Trial) -> None:
        if any(_covers(other, scores) for other, _ in self._front):
            return
        true = self._ground.true_scores(trial.architecture)
        self._front = [item for item in self._front if not _covers(scores, item[0])] + [(scores, true)]
        share = self._ground.volume_share([truth for _, truth in self._front])
        if not self.volume or share != self.volume[-1][1]:
            self.volume.append((self._evaluations, share))


def _covers(first: Sequence[float], second: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(first, second, strict=True))


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, EvaluationError) else f"{type(error).__name__}: {error}"
