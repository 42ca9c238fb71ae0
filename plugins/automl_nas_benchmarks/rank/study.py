"""From finished runs to how well their supernets rank: what was scored, compared with what is true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from automl_nas.errors import ConfigurationError, DataError, SpaceError
from automl_nas.evaluation import State
from automl_nas.space import Architecture
from automl_nas.strategy import Trial
from automl_nas_benchmarks.benchmark import Benchmark
from automl_nas_benchmarks.rank.metrics import Rows, Values
from automl_nas_benchmarks.spaces.coded_space import CodedSpace

if TYPE_CHECKING:
    from automl_nas.run import Plan, Result

Scores: TypeAlias = dict[Architecture, float]

SURVEY = "survey"
"""The strategy whose stages are compared with the truth."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """What says which networks are better.

    Attributes:
        name: the stage that scored them, with the metric if it is not the main one; or of a cost.
        trivial: whether it is known without training anything.
        scores: of each run, larger for better; a trivial one has a single row. Shape ``(runs, networks)``.
    """

    name: str
    trivial: bool
    scores: Values


@dataclass(frozen=True, eq=False)
class Sample:
    """Networks that were scored, and their truth.

    Attributes:
        codes: of the networks, as the table writes them.
        truth: larger is better; shape ``(networks,)``.
        predictors: the stages first, then the trivial ones.
        strata: for each network the number of its part when the sample is cut into tenths by ``cut``; None if the
            benchmark has no cost.
        cut: the cost it is cut by.
        left_out: how many networks lack a score in some stage of some run, since they failed, or a true value.
    """

    codes: tuple[str, ...]
    truth: Values
    predictors: tuple[Predictor, ...]
    strata: Rows | None = None
    cut: str = ""
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def learned(self) -> tuple[Predictor, ...]:
        """The predictors that were trained."""
        return tuple(each for each in self.predictors if not each.trivial)

    @property
    def trivial(self) -> tuple[Predictor, ...]:
        """The predictors that cost nothing."""
        return tuple(each for each in self.predictors if each.trivial)


@dataclass(frozen=True)
class Study:
    """What runs give to compare.

    Attributes:
        benchmark: what is true.
        runs: complete, equal but for their seeds.
        stages: those that scored a sample.
        searches: the other stages that scored networks.

    Raises:
        ConfigurationError: the runs differ in their stages, none of these is a survey, or the benchmark is about
            another space.
    """

    benchmark: Benchmark
    runs: Sequence[Result]
    stages: tuple[str, ...] = field(init=False)
    searches: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        surveys, others = _stages(self.runs[0].plan.config)
        for run in self.runs:
            check_comparable(run.plan, self.benchmark)
            if _stages(run.plan.config) != (surveys, others):
                raise ConfigurationError(
                    f"the runs {self.runs[0].directory} and {run.directory} differ in their stages: "
                    "compare runs of one configuration"
                )
        object.__setattr__(self, "stages", surveys)
        object.__setattr__(self, "searches", others)

    def truth(self, architecture: Architecture) -> float | None:
        """Return what an architecture is worth; None if the table does not say."""
        try:
            return self.benchmark.truth(architecture)
        except SpaceError:
            return None

    def sample(self) -> Sample:
        """Return the networks that all runs have scored in all of their surveys.

        Raises:
            DataError: fewer than three were, and have a true value.
        """
        scored: dict[str, list[Scores]] = {}
        for stage in self.stages:
            for run in self.runs:
                for name, found in _scores(run, stage).items():
                    scored.setdefault(name, []).append(found)
        everywhere = [found for predictor in scored.values() for found in predictor]
        met = {architecture for found in everywhere for architecture in found}
        # In the order of the first survey; sets have none.
        common = [a for a in everywhere[0] if all(a in found for found in everywhere) and self.truth(a) is not None]
        if len(common) < 3:
            raise DataError(
                f"{len(common)} networks were scored in every survey of every run and have a true value in "
                f"'{self.benchmark.name}': nothing to compare"
            )
        predictors = [
            Predictor(name, False, np.array([[found[a] for a in common] for found in predictor]))
            for name, predictor in scored.items()
        ]
        trivial = {name: np.array([model.estimate(a) for a in common]) for name, model in self.benchmark.costs.items()}
        cut = next(iter(trivial), "")
        space = self.benchmark.space
        if isinstance(space, CodedSpace):
            trivial["layers"] = np.array([float(space.parametric(a)) for a in common])
        predictors += [Predictor(name, True, values[np.newaxis]) for name, values in trivial.items()]
        return Sample(
            tuple(self.benchmark.truth_source.table.coding.code(a) for a in common),
            np.array([self.benchmark.truth(a) for a in common]),
            tuple(predictors),
            _tenths(trivial[cut]) if cut else None,
            cut,
            len(met) - len(common),
        )


def check_comparable(plan: Plan, benchmark: Benchmark) -> None:
    """Check that a run can be compared with a benchmark.

    Raises:
        ConfigurationError: none of its stages is a survey, or the benchmark is about another space.
    """
    if not _stages(plan.config)[0]:
        raise ConfigurationError(
            f"no stage of the run scores a sample of the space; give it one with the strategy '{SURVEY}' and the "
            "evaluator 'inherited'",
            path="stages",
        )
    benchmark.truth_source.table.check(plan.space, f"the benchmark '{benchmark.name}'")


def open_runs(directories: Sequence[Path]) -> list[Result]:
    """Open complete runs.

    Raises:
        RunDirectoryError: one is no run, or not complete.
    """
    from automl_nas.run import open_run

    return [open_run(directory) for directory in directories]


def trials_of(run: Result, stage: str) -> list[Trial]:
    """Return the complete trials of a stage, in order."""
    from automl_nas.run import Ledger, RunDirectory

    recorded = Ledger(RunDirectory(run.directory).trials, writable=False).trials
    return [t for _, t in sorted(recorded.items()) if t.stage == stage and t.state is State.COMPLETE]


def _stages(config: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    scoring = [stage for stage in config["stages"] if stage["evaluator"] is not None]
    surveys = tuple(stage["name"] for stage in scoring if stage["strategy"]["name"] == SURVEY)
    return surveys, tuple(stage["name"] for stage in scoring if stage["name"] not in surveys)


def _scores(run: Result, stage: str) -> dict[str, Scores]:
    """Return what a stage's complete trials scored, larger for better: the main objective, and other metrics.

    The first stands under the name of the stage, the task's other metrics under that and their own.
    """
    problem = next(each.problem for each in run.plan.stages if each.settings.name == stage)
    trials = trials_of(run, stage)
    found: dict[str, Scores] = {stage: {trial.architecture: problem.scores(trial)[0] for trial in trials}}
    main = next(iter(problem.objectives))
    for metric, direction in run.plan.task.metrics.items() if run.plan.task is not None else ():
        if metric != main:
            sign = 1.0 if direction == "maximize" else -1.0
            found[f"{stage} {metric}"] = {
                t.architecture: sign * t.metrics[metric] for t in trials if metric in t.metrics
            }
    return found


def _tenths(costs: Values) -> Rows:
    order = np.argsort(costs, kind="stable")
    part = np.empty(len(costs), dtype=np.int64)
    part[order] = np.arange(len(costs)) * 10 // len(costs)
    return part
