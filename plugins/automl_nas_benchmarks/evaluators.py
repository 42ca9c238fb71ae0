"""Evaluators that look results up: `NASBench201Evaluator`, `NASBenchMacroEvaluator`, `TabularEvaluator`.

What a search is told is a metric. What it is judged by is recorded with the trial as ``info``, which no problem can
name as an objective or constraint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Literal, final

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request, State
from automl_nas.evaluation.task import Task
from automl_nas.space.space import SearchSpace
from automl_nas_benchmarks.packaged import load_table
from automl_nas_benchmarks.reading import Source
from automl_nas_benchmarks.table import Key, Lookup, Table
from automl_nas_benchmarks.table_space import table_of

EPOCHS = (12, 200)
"""The schedules of NAS-Bench-201: two trainings, not one seen at two times."""


def answer(request: Request, metrics: Mapping[str, Lookup], recorded: Mapping[str, Lookup]) -> Outcome:
    """Look a candidate up.

    Args:
        request: the candidate.
        metrics: metric -> where it stands.
        recorded: what goes along as info; left out where the table has none.

    Returns:
        A FAILED outcome, with the reason, if the table does not hold the candidate or lacks a metric for it.
    """
    architecture = request.architecture
    found: dict[str, float] = {}
    try:
        for name, lookup in metrics.items():
            value = found[name] = lookup(architecture)
            if math.isnan(value):
                return failed(request, lookup.absent(architecture))
    except SpaceError as error:
        return failed(request, str(error))
    info: dict[str, object] = {}
    for name, lookup in recorded.items():
        value = lookup(architecture)
        if not math.isnan(value):
            info[name] = value
    return Outcome(request.number, found, info=info)


def failed(request: Request, reason: str) -> Outcome:
    """Return the outcome of a candidate about which the table says nothing."""
    return Outcome(request.number, state=State.FAILED, error=reason)


@final
class NASBench201Evaluator(Evaluator):
    """Accuracy of a cell from the table of NAS-Bench-201 (Dong and Yang 2020, arXiv 2001.00326), in percent.

    The metric ``accuracy`` is what the settings say, the signal. The accuracy on the test set after 200 epochs, by
    which searches are judged, is recorded as the trial's info ``test_accuracy``, where no objective can find it.

    A trial's fidelity is the number of epochs, 12 or 200; they are separate trainings.

    Args:
        space: that of NAS-Bench-201, or another with its decisions.
        dataset: what the networks were trained on.
        epochs: of the schedule, where a trial does not say otherwise.
        split: ``val`` for the images held out of training (as in the benchmark's own experiments), ``test`` for the
            test set. CIFAR-100 has no ``val`` at 200 epochs; ImageNet16-120 has it for 9,445 cells.
        key: ``canonical``: cells of the same function have one accuracy, that of the first of them; ``raw``: each has
            its own, and equal ones differ by what a training differs from the next.
        truth: whether the test accuracy is recorded.
    """

    stochastic: ClassVar[bool] = False

    def __init__(
        self,
        space: SearchSpace,
        *,
        dataset: Literal["cifar10", "cifar100", "imagenet16-120"] = "cifar10",
        epochs: Literal[12, 200] = 12,
        split: Literal["val", "test"] = "val",
        key: Key = "canonical",
        truth: bool = True,
    ) -> None:
        table = load_table("nasbench201")
        table.check(space, "nasbench201")
        columns = {count: f"{dataset}_{split}_{count}" for count in EPOCHS}
        if columns[epochs] not in table.columns:
            raise ConfigurationError(
                f"the table has no {split} accuracy on {dataset} after {epochs} epochs; take split: test, or "
                "epochs: 12",
                path="epochs",
            )
        self._default = epochs
        self._signals = {
            float(count): {"accuracy": table.lookup(column, key)}
            for count, column in columns.items()
            if column in table.columns
        }
        judged = f"{dataset}_test_200"
        self._recorded = {"test_accuracy": table.lookup(judged, key)} if truth else {}

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield outcomes in order."""
        default, signals, recorded = self._signals[self._default], self._signals, self._recorded
        for request in requests:
            metrics = default if request.fidelity is None else signals.get(request.fidelity)
            if metrics is None:
                known = " or ".join(f"{epochs:g}" for epochs in signals)
                yield failed(request, f"the fidelity is a number of epochs, {known}, not {request.fidelity:g}")
            else:
                yield answer(request, metrics, recorded)

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        """``accuracy``."""
        return frozenset({"accuracy"})


@final
class NASBenchMacroEvaluator(Evaluator):
    """Accuracy from the table of NAS-Bench-Macro (Su et al. 2021, arXiv 2103.11922): test set of CIFAR-10, percent.

    The metric ``accuracy`` is what ``run`` says. The mean of the three runs, by which searches are judged, is recorded
    as the trial's info ``mean_accuracy``, where no objective can find it.

    Args:
        space: that of NAS-Bench-Macro, or another with its decisions.
        run: ``mean`` of the three runs; 1, 2 or 3 for one of them; ``seed`` for one that the trial's seed draws.
        truth: whether the mean is recorded.
    """

    stochastic: ClassVar[bool] = False

    def __init__(
        self, space: SearchSpace, *, run: Literal["mean", "seed", 1, 2, 3] = "mean", truth: bool = True
    ) -> None:
        table = load_table("nasbench_macro")
        table.check(space, "nasbench_macro")
        runs: tuple[object, ...] = (1, 2, 3) if run == "seed" else (run,)
        self._signals = [{"accuracy": table.lookup(f"test_{number}")} for number in runs]
        self._recorded = {"mean_accuracy": table.lookup("test_mean")} if truth else {}

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield outcomes in order."""
        for request in requests:
            if request.fidelity is not None:
                yield failed(request, f"the table has one fidelity, and the trial asks for {request.fidelity:g}")
            else:
                yield answer(request, self._signals[request.seed % len(self._signals)], self._recorded)

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        """``accuracy``."""
        return frozenset({"accuracy"})


@final
class TabularEvaluator(Evaluator):
    """Metrics from a table of one's own. A candidate that the table lacks, or a cell that is empty, fails the trial.

    Args:
        space: that of the table (`TableSpace`), or another one with its decisions.
        metrics: columns, or metric -> column where the metric shall have another name.
        source: the table; None: that of the space.
        record: columns that go with a trial as info, such as the one by which the search will be judged.
    """

    stochastic: ClassVar[bool] = False

    def __init__(
        self,
        space: SearchSpace,
        *,
        metrics: tuple[str, ...] | dict[str, str],
        source: Source | None = None,
        record: tuple[str, ...] = (),
    ) -> None:
        if not metrics:
            raise ConfigurationError("name at least one column", path="metrics")
        table = table_of(space, source, "tabular")
        table.check(space, "tabular")
        named = metrics if isinstance(metrics, dict) else {name: name for name in metrics}
        self._metrics = {metric: _lookup(table, column, "metrics") for metric, column in named.items()}
        self._recorded = {column: _lookup(table, column, "record") for column in record}

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield outcomes in order."""
        for request in requests:
            if request.fidelity is not None:
                yield failed(request, f"the table has one fidelity, and the trial asks for {request.fidelity:g}")
            else:
                yield answer(request, self._metrics, self._recorded)

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        """Nothing: what it measures is a setting, and a problem's names cannot be checked against it."""
        return frozenset()


def _lookup(table: Table, column: str, path: str) -> Lookup:
    try:
        return table.lookup(column)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=path) from None
