"""Reads the scores of complete runs, and matches them with the true values of a benchmark."""

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
from automl_nas_benchmarks.rank.baselines import free_predictors, ridge_scores, tenths
from automl_nas_benchmarks.rank.metrics import Rows, Values, mean_ranks

if TYPE_CHECKING:
    from automl_nas.run import Plan, Result

Scores: TypeAlias = dict[Architecture, float]

SURVEY = "survey"
"""Registered name of the strategy whose stages are compared with the true values."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """The scores by which networks are ranked.

    Attributes:
        name: name of the stage that scored the networks, with the metric if it is not the main one; or of a cost.
        trivial: whether the predictor is known without training.
        scores: the scores of each run, larger for better, shape ``(runs, networks)``; one run if trivial.
        trained: the number of networks that were trained by themselves to fit the predictor; 0 for all but `ridge`,
            whose runs are draws of these networks.
    """

    name: str
    trivial: bool
    scores: Values
    trained: int = 0


@dataclass(frozen=True, eq=False)
class Sample:
    """Scored networks and their true values.

    Attributes:
        codes: the codes of the networks in the table.
        truth: the true values, larger is better, shape ``(networks,)``.
        predictors: the predictors: stages first, then trivial ones.
        strata: for each network its tenth of the sample by the cost ``cut``, from 0; None if the benchmark has no cost.
        cut: name of the cost that defines the strata.
        left_out: number of networks without a score in some stage of some run, because they failed, or without a true
            value.
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
        """The predictors that use a trained supernet."""
        return tuple(each for each in self.predictors if not each.trivial and not each.trained)

    @property
    def trivial(self) -> tuple[Predictor, ...]:
        """The predictors that are known without training."""
        return tuple(each for each in self.predictors if each.trivial)


@dataclass(frozen=True)
class Study:
    """Complete runs and the benchmark with the true values of their networks.

    Attributes:
        benchmark: the source of the true values.
        runs: complete runs that differ only in their seeds.
        stages: the stages that scored a sample.
        searches: the other stages that scored networks.

    Raises:
        ConfigurationError: the runs differ in more than their seeds, two of them have one seed, no stage has the
            strategy `SURVEY`, or the benchmark has another space.
    """

    benchmark: Benchmark
    runs: Sequence[Result]
    stages: tuple[str, ...] = field(init=False)
    searches: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        samples, others = _stages(self.runs[0].plan.config)
        for run in self.runs:
            check_comparable(run.plan, self.benchmark)
            if _stages(run.plan.config) != (samples, others):
                raise ConfigurationError(
                    f"the runs {self.runs[0].directory} and {run.directory} differ in their stages: "
                    "compare runs of one configuration"
                )
            _check_alike(self.runs[0], run)
        _check_distinct(self.runs)
        object.__setattr__(self, "stages", samples)
        object.__setattr__(self, "searches", others)

    def sample(self) -> Sample:
        """Return the networks that all runs have scored in all of their sample stages.

        Raises:
            DataError: fewer than three such networks have a true value.
        """
        scored: dict[str, list[Scores]] = {}
        for stage in self.stages:
            for run in self.runs:
                for name, scores in _scores(run, stage).items():
                    scored.setdefault(name, []).append(scores)
        everywhere = [scores for predictor in scored.values() for scores in predictor]
        union = {architecture for scores in everywhere for architecture in scores}
        # In the order of the first stage; a set has no order.
        common = [
            a
            for a in everywhere[0]
            if all(a in scores for scores in everywhere) and known_truth(self.benchmark, a) is not None
        ]
        if len(common) < 3:
            raise DataError(
                f"only {len(common)} networks were scored in every sample stage of every run and have a true value in "
                f"'{self.benchmark.name}'; at least 3 are needed"
            )
        predictors = [
            Predictor(name, False, np.array([[scores[a] for a in common] for scores in predictor]))
            for name, predictor in scored.items()
        ]
        trivial = free_predictors(self.benchmark, common)
        cut = next(iter(self.benchmark.costs), "")
        predictors += [
            sum_of_ranks(predictor, trivial["layers"])
            for predictor in predictors
            if predictor.name in self.stages and "layers" in trivial
        ]
        predictors += [Predictor(name, True, values[np.newaxis]) for name, values in trivial.items()]
        predictors += [
            Predictor(f"ridge, {trained} trained", False, values, trained)
            for trained, values in ridge_scores(self.benchmark, common).items()
        ]
        return Sample(
            codes=tuple(self.benchmark.truth_source.table.coding.code(a) for a in common),
            truth=np.array([self.benchmark.truth(a) for a in common]),
            predictors=tuple(predictors),
            strata=tenths(trivial[cut]) if cut else None,
            cut=cut,
            left_out=len(union) - len(common),
        )


def known_truth(benchmark: Benchmark, architecture: Architecture) -> float | None:
    """Return the true value of an architecture; None if the table does not have it."""
    try:
        return benchmark.truth(architecture)
    except SpaceError:
        return None


def check_comparable(plan: Plan, benchmark: Benchmark) -> None:
    """Check that a run can be compared with a benchmark.

    Raises:
        ConfigurationError: no stage of the run has the strategy `SURVEY`, or the benchmark has another space.
    """
    if not _stages(plan.config)[0]:
        raise ConfigurationError(
            f"no stage of the run scores a sample of the space; add a stage with the strategy '{SURVEY}' and the "
            "evaluator 'supernet_weights'",
            path="stages",
        )
    benchmark.truth_source.table.check(plan.space, f"the benchmark '{benchmark.name}'")


_ALIKE = ("strategy", "evaluator", "pruner", "problem", "budget")
"""Settings of a stage that its scores depend on."""


def _check_alike(one: Result, other: Result) -> None:
    """Check that two runs have equal settings, so that the mean over both is that of one kind of supernet.

    Raises:
        ConfigurationError: a setting of the space, the problem, the task or a stage differs.
    """
    from automl_nas.run import RunDirectory, first_difference

    first, second = (_scoring_settings(run.plan.config) for run in (one, other))
    data = [(RunDirectory(run.directory).read_identity() or {}).get("task") for run in (one, other)]
    if data[0] is not None and data[0] == data[1]:  # the same data at another place
        first["task"] = second["task"]
    if difference := first_difference(first, second):
        setting, before, now = difference
        raise ConfigurationError(
            f"the runs {one.directory} and {other.directory} differ in {setting}: {before} and {now}; a report is "
            "about runs that differ in their seeds only, so make one for each configuration"
        )


def _check_distinct(runs: Sequence[Result]) -> None:
    """Check that no two runs are the same one, which would count twice and make the intervals too narrow.

    Raises:
        ConfigurationError: two runs have one seed.
    """
    seeds: dict[int, Path] = {}
    for run in runs:
        seed = run.plan.seed
        if seed in seeds:
            raise ConfigurationError(
                f"the runs {seeds[seed]} and {run.directory} both have the seed {seed}, so they are one run, which "
                "would count twice; name each run once"
            )
        seeds[seed] = run.directory


def _scoring_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    stages = [{key: stage.get(key) for key in ("name", *_ALIKE)} for stage in config["stages"]]
    return {**{key: config.get(key) for key in ("space", "task", "problem")}, "stages": stages}


def open_runs(directories: Sequence[Path]) -> list[Result]:
    """Open complete runs.

    Raises:
        RunDirectoryError: a directory is not a run, or the run is not complete.
    """
    from automl_nas.run import open_run

    return [open_run(directory) for directory in directories]


def trials_of(run: Result, stage: str) -> list[Trial]:
    """Return the complete trials of a stage, in order.

    Raises:
        RunDirectoryError: the record of the run lacks trials, which the sample would then lack silently.
    """
    from automl_nas.run import RunDirectory, whole_ledger

    recorded = whole_ledger(RunDirectory(run.directory)).trials
    return [t for _, t in sorted(recorded.items()) if t.stage == stage and t.state is State.COMPLETE]


def _stages(config: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    scoring = [stage for stage in config["stages"] if stage["evaluator"] is not None]
    samples = tuple(stage["name"] for stage in scoring if stage["strategy"]["name"] == SURVEY)
    return samples, tuple(stage["name"] for stage in scoring if stage["name"] not in samples)


def _scores(run: Result, stage: str) -> dict[str, Scores]:
    """Return the scores of a stage's complete trials, larger for better, by name of the predictor.

    The key of the first objective is the name of the stage; that of another metric of the task is the name of the stage
    and of the metric.
    """
    problem = next(each.problem for each in run.plan.stages if each.settings.name == stage)
    trials = trials_of(run, stage)
    scores: dict[str, Scores] = {stage: {trial.architecture: problem.scores(trial)[0] for trial in trials}}
    main = next(iter(problem.objectives))
    for metric, direction in run.plan.task.metrics.items() if run.plan.task is not None else ():
        if metric != main:
            sign = 1.0 if direction == "maximize" else -1.0
            scores[f"{stage} {metric}"] = {
                t.architecture: sign * t.metrics[metric] for t in trials if metric in t.metrics
            }
    return scores


def sum_of_ranks(predictor: Predictor, layers: Values) -> Predictor:
    """Return the predictor that adds the ranks of a predictor's scores and of the numbers of layers, shape ``(n,)``.

    It needs no true value; the two ranks have equal weight.
    """
    scores = np.array([mean_ranks(run) + mean_ranks(layers) for run in predictor.scores])
    return Predictor(f"{predictor.name} + layers", False, scores)
