"""One search: a strategy on a benchmark with a seed, and its record."""

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
from automl_nas_benchmarks.comparison.services import InMemoryServices
from automl_nas_benchmarks.comparison.settings import ComparisonSettings

Steps = tuple[tuple[int, float], ...]
"""A step function: pairs of the number of evaluations and the value from that evaluation on, in ascending order."""

_IDLE_STEPS = 100_000
"""Consecutive steps without an evaluation, or consecutive repeated proposals, after which a search ends."""

_JSON_KEYS = {"best_truths": "found"}
"""Fields of `SearchRecord` whose key in recorded files differs from their name."""


@dataclass(frozen=True)
class SearchJob:
    """A search to run.

    Attributes:
        strategy: label of the strategy.
        benchmark: label of the benchmark.
        seed: seed of the search.
    """

    strategy: str
    benchmark: str
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """Strategy, benchmark and seed, as in `SearchRecord.key`."""
        return self.strategy, self.benchmark, self.seed

    def __str__(self) -> str:
        return f"'{self.strategy}' on '{self.benchmark}' with seed {self.seed}"


@dataclass(frozen=True)
class SearchRecord:
    """The record of a search.

    Attributes:
        strategy: label of the strategy.
        benchmark: label of the benchmark.
        seed: seed of the search.
        evaluations: number of evaluations: the budget, unless the strategy ended before.
        distinct: number of different functions among the evaluated networks.
        incumbent: true value of the network with the best signal so far; empty while no network is feasible.
        best_truths: true value of the best network evaluated so far, by (distinct evaluations, value).
        volume: with several objectives, the hypervolume of the front that the signal prefers, as a share of the
            hypervolume of the true front; empty with one objective.
        architecture: key of the last incumbent; empty if no evaluated network was feasible.
        ended: ``budget``, or ``done`` if the strategy had nothing more to propose.
        proposal_seconds: mean wall-clock time of the strategy itself for each evaluation.
        late_seconds: the same mean over the last tenth of the evaluations.
        seconds: wall-clock time of the whole search.
        failed: number of evaluations that failed, because the table lacks the network or its value; 0 in records of
            earlier versions.
        error: the error of the first of them; empty without one.
    """

    strategy: str
    benchmark: str
    seed: int
    evaluations: int
    distinct: int
    incumbent: Steps
    best_truths: Steps
    volume: Steps
    architecture: str
    ended: Literal["budget", "done"]
    proposal_seconds: float
    late_seconds: float
    seconds: float
    failed: int = 0
    error: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """Strategy, benchmark and seed."""
        return self.strategy, self.benchmark, self.seed

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {_JSON_KEYS.get(item.name, item.name): getattr(self, item.name) for item in fields(self)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> SearchRecord:
        """Invert `to_json`."""
        keys = {item.name: _JSON_KEYS.get(item.name, item.name) for item in fields(cls)}
        values = {name: plain[key] for name, key in keys.items() if key in plain or name not in ("failed", "error")}
        for name in ("incumbent", "best_truths", "volume"):
            values[name] = tuple((int(at), float(value)) for at, value in values[name])
        return cls(**values)


def curve(steps: Steps, length: int, before: float) -> NDArray[np.float64]:
    """Return the value after each of the evaluations 1 to ``length``, shape ``(length,)``.

    Args:
        steps: the value as a step function.
        length: number of evaluations.
        before: the value before the first step.
    """
    values = np.full(length, before)
    for at, value in steps:
        values[at - 1 :] = value
    return values


def reached(best_truths: Steps, threshold: float) -> int | None:
    """Return the number of distinct evaluations until a true value reaches the threshold; None if none does."""
    return next((at for at, value in best_truths if value >= threshold), None)


def run_search(
    benchmark_problem: BenchmarkProblem,
    strategy: Strategy,
    job: SearchJob,
    settings: ComparisonSettings,
    stop: Callable[[], bool] = lambda: False,
) -> SearchRecord:
    """Run one search to its end.

    With ``settings.deduplicate`` only new functions are evaluated: an ask-and-tell strategy is wrapped in
    `Deduplicate`; repeated proposals of other strategies are answered from memory.

    Args:
        benchmark_problem: the benchmark with its problem.
        strategy: constructed for that problem and for the seed of the search.
        job: the labels and the seed, for the record.
        settings: budget (``evaluations``), ``batch`` and ``deduplicate``.
        stop: called between steps; if it returns true, the search ends without a record.

    Raises:
        RunInterrupted: ``stop`` returned true.
        EvaluationError: the strategy raised an error, asked for a fidelity or an architecture that the table does not
            have, or evaluated nothing.
    """
    begun = time.perf_counter()
    wrapped = settings.deduplicate and isinstance(strategy, AskTellStrategy)
    if wrapped:
        assert isinstance(strategy, AskTellStrategy)
        strategy = Deduplicate(benchmark_problem.space, benchmark_problem.problem, strategy=strategy)
    trajectory = _Trajectory(benchmark_problem, repeats=not settings.deduplicate)
    # For each evaluation, the seconds that the strategy itself had worked when it was submitted.
    submission_times: list[float] = []

    def observe(trial: Trial) -> None:
        submission_times.append(services.strategy_seconds)
        trajectory.add(trial)

    services = InMemoryServices(
        benchmark_problem,
        observe,
        budget=settings.evaluations,
        batch=settings.batch,
        deduplicate=settings.deduplicate and not wrapped,
    )
    idle = 0
    try:
        while not strategy.done and services.remaining and max(idle, services.repeated) < _IDLE_STEPS:
            if stop():
                raise RunInterrupted("stopped during a search")
            before = services.evaluated
            strategy.step(services)
            idle = 0 if services.evaluated > before else idle + 1
    except (RunInterrupted, KeyboardInterrupt):
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, EvaluationError) else f"{type(error).__name__}: {error}"
        raise EvaluationError(f"{job}: {reason}") from error
    if not submission_times:
        raise EvaluationError(f"{job}: the strategy proposed nothing")
    late = max(1, len(submission_times) // 10)
    return SearchRecord(
        strategy=job.strategy,
        benchmark=job.benchmark,
        seed=job.seed,
        evaluations=services.evaluated,
        distinct=trajectory.distinct,
        incumbent=tuple(trajectory.incumbent),
        best_truths=tuple(trajectory.best_truths),
        volume=tuple(trajectory.volume),
        architecture=trajectory.architecture,
        ended="done" if services.remaining else "budget",
        proposal_seconds=submission_times[-1] / len(submission_times),
        late_seconds=(submission_times[-1] - ([0.0, *submission_times])[-1 - late]) / late,
        seconds=time.perf_counter() - begun,
        failed=trajectory.failed,
        error=trajectory.error,
    )


@final
class _Trajectory:
    """Receives every evaluation; records the incumbent, the best true value and the hypervolume when they change.

    Args:
        benchmark_problem: the benchmark with its problem.
        repeats: whether networks may be evaluated again, so that distinct ones must be counted.
    """

    def __init__(self, benchmark_problem: BenchmarkProblem, *, repeats: bool) -> None:
        self._benchmark_problem, self._problem = benchmark_problem, benchmark_problem.problem
        self._seen: set[str] | None = set() if repeats else None
        self._evaluations = 0
        self._best: tuple[float, ...] = ()
        self._front: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
        self.distinct = self.failed = 0
        self.error = ""
        self.architecture = ""
        self.incumbent: list[tuple[int, float]] = []
        self.best_truths: list[tuple[int, float]] = []
        self.volume: list[tuple[int, float]] = []

    def add(self, trial: Trial) -> None:
        """Add the next evaluation."""
        self._evaluations += 1
        if self._seen is None:
            self.distinct = self._evaluations
        else:
            self._seen.add(self._benchmark_problem.space.canonical(trial.architecture).key)
            self.distinct = len(self._seen)
        if trial.state is State.FAILED:
            self.failed += 1
            self.error = self.error or trial.error
        if trial.state is not State.COMPLETE or not trial.feasible:
            return
        scores = self._problem.scores(trial)
        truth = self._benchmark_problem.truth(trial.architecture)
        if not self.best_truths or truth > self.best_truths[-1][1]:
            self.best_truths.append((self.distinct, truth))
        if scores > self._best:  # among equal scores the first trial stays the incumbent, as in a run
            self._best = scores
            self.architecture = trial.architecture.key
            if not self.incumbent or truth != self.incumbent[-1][1]:
                self.incumbent.append((self._evaluations, truth))
        if len(scores) > 1 and -math.inf not in scores:
            self._extend_front(scores, trial)

    def _extend_front(self, scores: tuple[float, ...], trial: Trial) -> None:
        if any(_covers(other, scores) for other, _ in self._front):
            return
        true_scores = self._benchmark_problem.true_scores(trial.architecture)
        self._front = [item for item in self._front if not _covers(scores, item[0])] + [(scores, true_scores)]
        share = self._benchmark_problem.volume_share([truth for _, truth in self._front])
        if not self.volume or share != self.volume[-1][1]:
            self.volume.append((self._evaluations, share))


def _covers(first: Sequence[float], second: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(first, second, strict=True))
