"""Evaluators that look results up in tables: `NASBench201Evaluator`, `NASBenchMacroEvaluator`, `TabularEvaluator`.

The signal of a search is a metric. The true value, by which searches are compared, is recorded as ``info`` of the
trial: a problem cannot use it as an objective or constraint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, final

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.evaluation import Evaluator, Outcome, Request, State, Task
from automl_nas.fast_dataclass import new_frozen
from automl_nas.space import SearchSpace
from automl_nas_benchmarks.tables.packaged import load_table
from automl_nas_benchmarks.tables.reader import TableSource
from automl_nas_benchmarks.tables.table import Key, Lookup, Table
from automl_nas_benchmarks.tables.table_space import table_of

EPOCHS = (12, 200)
"""The schedules of NAS-Bench-201; the two are separate trainings."""


@final
class TableAnswers:
    """Answers requests from the columns of one table.

    Args:
        table: the table.
        metrics: metric -> its column.
        recorded: key of the outcome's ``info`` -> its column; missing values are omitted.
    """

    def __init__(self, table: Table, metrics: Mapping[str, Lookup], recorded: Mapping[str, Lookup]) -> None:
        self._row, self._lookups = table.row, dict(metrics)
        self._metrics = [(name, lookup.values) for name, lookup in metrics.items()]
        self._recorded = [(name, lookup.values) for name, lookup in recorded.items()]

    def __call__(self, request: Request) -> Outcome:
        """Return the outcome of a candidate; FAILED, with the reason, if the table lacks it or one of its metrics."""
        try:
            row = self._row(request.architecture)
        except SpaceError as error:
            return failed(request, str(error))
        metrics: dict[str, float] = {}
        for name, values in self._metrics:
            value = metrics[name] = values[row]
            if value != value:  # only NaN differs from itself
                return failed(request, self._lookups[name].absent(request.architecture))
        info: dict[str, float] = {}
        for name, values in self._recorded:
            value = values[row]
            if value == value:
                info[name] = value
        fields: dict[str, object] = {
            "number": request.number,
            "metrics": metrics,
            "state": State.COMPLETE,
            "error": "",
            "seconds": 0.0,
            "info": info,
            "worker": {},
        }
        return new_frozen(Outcome, fields)


def failed(request: Request, reason: str) -> Outcome:
    """Return the FAILED outcome of a candidate."""
    return Outcome(request.number, state=State.FAILED, error=reason)


@final
class NASBench201Evaluator(Evaluator):
    """Accuracy of a cell from the table of NAS-Bench-201 (Dong and Yang 2020, arXiv 2001.00326), in percent.

    The settings select the metric ``accuracy``, the signal of the search. The accuracy on the test set after 200
    epochs, the true value, is recorded as the trial's info ``test_accuracy``, which objectives cannot use.

    The fidelity of a trial is the number of epochs, 12 or 200; the two are separate trainings.

    Args:
        space: the space of NAS-Bench-201, or another with its decisions.
        dataset: the data set of the networks.
        epochs: epochs of the schedule for trials without a fidelity.
        split: ``val`` for the images held out of training (as in the benchmark's own experiments), ``test`` for the
            test set. CIFAR-100 has no ``val`` at 200 epochs; ImageNet16-120 has it for 9,445 cells.
        key: ``canonical``: all cells of the same function have the accuracy of the first of them; ``raw``: each cell
            has its own accuracy, so equal cells differ by the variance of training.
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
                f"the table has no {split} accuracy on {dataset} after {epochs} epochs; use split: test, or epochs: 12",
                path="epochs",
            )
        recorded = {"test_accuracy": table.lookup(f"{dataset}_test_200", key)} if truth else {}
        self._answers = {
            float(count): TableAnswers(table, {"accuracy": table.lookup(column, key)}, recorded)
            for count, column in columns.items()
            if column in table.columns
        }
        self._default = self._answers[epochs]

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield outcomes in order."""
        for request in requests:
            answers = self._default if request.fidelity is None else self._answers.get(request.fidelity)
            if answers is None:
                epochs = " or ".join(f"{count:g}" for count in self._answers)
                yield failed(request, f"the fidelity must be a number of epochs, {epochs}, not {request.fidelity:g}")
            else:
                yield answers(request)

    @classmethod
    def check_fidelity(cls, settings: Mapping[str, Any], fidelity: float) -> None:
        """Check that the table has the accuracy after this number of epochs; see `Evaluator.check_fidelity`."""
        dataset, split = settings["dataset"], settings["split"]
        epochs = [count for count in EPOCHS if f"{dataset}_{split}_{count}" in load_table("nasbench201").columns]
        if fidelity not in epochs:
            raise ConfigurationError(
                f"the table has the {split} accuracy on {dataset} after {' or '.join(map(str, epochs))} epochs"
            )

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        """Return ``accuracy``."""
        return frozenset({"accuracy"})


@final
class NASBenchMacroEvaluator(Evaluator):
    """Accuracy from the table of NAS-Bench-Macro (Su et al. 2021, arXiv 2103.11922): test set of CIFAR-10, percent.

    The setting ``run`` selects the metric ``accuracy``. The mean of the three runs, the true value, is recorded as the
    trial's info ``mean_accuracy``, which objectives cannot use.

    Args:
        space: the space of NAS-Bench-Macro, or another with its decisions.
        run: ``mean`` of the three runs; 1, 2 or 3 for one of them; ``seed`` for one that the trial's seed selects.
        truth: whether the mean is recorded.
    """

    stochastic: ClassVar[bool] = False

    def __init__(
        self, space: SearchSpace, *, run: Literal["mean", "seed", 1, 2, 3] = "mean", truth: bool = True
    ) -> None:
        table = load_table("nasbench_macro")
        table.check(space, "nasbench_macro")
        runs: tuple[object, ...] = (1, 2, 3) if run == "seed" else (run,)
        recorded = {"mean_accuracy": table.lookup("test_mean")} if truth else {}
        self._answers = [TableAnswers(table, {"accuracy": table.lookup(f"test_{number}")}, recorded) for number in runs]

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield outcomes in order."""
        for request in requests:
            if request.fidelity is not None:
                yield failed(request, f"the table has no fidelities; the trial has the fidelity {request.fidelity:g}")
            else:
                yield self._answers[request.seed % len(self._answers)](request)

    @classmethod
    def check_fidelity(cls, settings: Mapping[str, Any], fidelity: float) -> None:
        """Refuse every fidelity; see `Evaluator.check_fidelity`."""
        raise ConfigurationError("the table has no fidelities")

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        """Return ``accuracy``."""
        return frozenset({"accuracy"})


@final
class TabularEvaluator(Evaluator):
    """Metrics from a user's own table. A trial fails if the table lacks the candidate or one of its metrics.

    Args:
        space: the space of the table (`TableSpace`), or another one with its decisions.
        metrics: columns, or metric -> column for metrics with another name.
        source: the table; None: the table of the space.
        record: columns that are recorded as info of a trial, such as the true value.
    """

    stochastic: ClassVar[bool] = False

    def __init__(
        self,
        space: SearchSpace,
        *,
        metrics: tuple[str, ...] | dict[str, str],
        source: TableSource | None = None,
        record: tuple[str, ...] = (),
    ) -> None:
        if not metrics:
            raise ConfigurationError("must have at least one column", path="metrics")
        table = table_of(space, source, "tabular")
        named = metrics if isinstance(metrics, dict) else {name: name for name in metrics}
        lookups = {metric: _lookup(table, column, "metrics") for metric, column in named.items()}
        self._answers = TableAnswers(table, lookups, {column: _lookup(table, column, "record") for column in record})

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield outcomes in order."""
        for request in requests:
            if request.fidelity is not None:
                yield failed(request, f"the table has no fidelities; the trial has the fidelity {request.fidelity:g}")
            else:
                yield self._answers(request)

    @classmethod
    def check_fidelity(cls, settings: Mapping[str, Any], fidelity: float) -> None:
        """Refuse every fidelity; see `Evaluator.check_fidelity`."""
        raise ConfigurationError("the table has no fidelities")

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str] | None:
        """Return None: the metrics are a setting, so a problem's names cannot be checked against them."""
        return None


def _lookup(table: Table, column: str, path: str) -> Lookup:
    try:
        return table.lookup(column)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=path) from None
