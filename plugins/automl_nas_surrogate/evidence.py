"""Evidence: cheap measurements of candidates, made before a strategy decides which of them to evaluate."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import filterfalse, repeat
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Evaluator, Outcome, Request, State, Task
from automl_nas.plugin import join
from automl_nas.space import Architecture
from automl_nas.strategy import Problem
from automl_nas.streams import stream_seed
from automl_nas_surrogate.gaussian_process import Array, normal_quantiles

_LOG = logging.getLogger(__name__)

_TRIES = 10  # candidates after which an evaluator that measured none of them is taken to measure none at all


@final
class Evidence:
    """Measures candidates with cheap evaluators, and remembers what was measured.

    An evaluator with a metric by which its candidates are compared contributes that metric: an objective of the
    problem, its ``default_metric``, or the first metric of the task. One whose metrics are not known before contributes
    all of them, such as each proxy of ``zero_cost``. Larger is better unless the problem or the task says otherwise.

    All requests have the same seed, so that candidates are compared under the same random numbers. A measurement that
    fails is missing, which neither favours a candidate nor speaks against it. An evaluator that measured none of the
    first ten candidates is an error, and so is a `ConfigurationError`: no candidate could be measured.

    Args:
        problem: the directions of objectives.
        task: the directions of other metrics; None: there is no task.
        evaluators: each measures every candidate.
        seed: of the run.
    """

    def __init__(self, problem: Problem, task: Task | None, evaluators: Sequence[Evaluator], seed: int) -> None:
        self._evaluators, self._seed = list(evaluators), seed
        directions = dict(task.metrics) if task is not None else {}
        directions.update(problem.objectives)
        self._smaller = {name for name, way in directions.items() if way == "minimize"}
        self._only = [_compared(evaluator, problem, task) for evaluator in self._evaluators]
        self._rows: dict[Architecture, int] = {}  # of each measured architecture in the values
        self._columns: dict[str, int] = {}
        self._values = np.empty((0, 0))  # NaN: missing
        # Of each column: the rows that are not missing, by ascending value, and these values.
        self._orders: list[tuple[NDArray[np.intp], Array]] = []
        self._ranks: Array | None = None  # of the values, from 1 on, one row for each column; NaN: missing

    def __bool__(self) -> bool:
        """Whether there is any evidence."""
        return bool(self._evaluators)

    def missing(self, architectures: Iterable[Architecture]) -> list[Architecture]:
        """Return the architectures that were not measured, in their order."""
        return list(filterfalse(self._rows.__contains__, architectures))

    def of(self, architecture: Architecture) -> Mapping[str, float]:
        """Return what was measured of an architecture: name -> value; empty if it was not measured."""
        row = self._rows.get(architecture)
        if row is None:
            return {}
        values = self._values[row].tolist()
        return {name: values[column] for name, column in self._columns.items() if not math.isnan(values[column])}

    @property
    def taken_ahead(self) -> int:
        """The largest number of candidates that share work; see `Evaluator.taken_ahead`."""
        return max((evaluator.taken_ahead for evaluator in self._evaluators), default=1)

    @property
    def names(self) -> list[str]:
        """The names of all that was measured, in the order in which they came up."""
        return list(self._columns)

    def measure(self, architectures: Sequence[Architecture]) -> None:
        """Measure the architectures that were not measured before.

        Args:
            architectures: in canonical form, by which measurements are remembered.

        Raises:
            ConfigurationError: an evaluator can measure no candidate.
        """
        new = list(dict.fromkeys(self.missing(architectures)))
        if not new:
            return
        values: list[dict[str, float]] = [{} for _ in new]
        for place, (evaluator, only) in enumerate(zip(self._evaluators, self._only, strict=True)):
            failures: list[str] = []
            for number, metrics in enumerate(self._measured(evaluator, place, new, failures)):
                for metric, value in metrics.items():
                    if only in (None, metric) and math.isfinite(value):
                        values[number][self._name(place, metric)] = float(value)
            self._report(place, len(new), values, failures)
        self._add(new, values)

    def _name(self, place: int, metric: str) -> str:
        return metric if len(self._evaluators) == 1 else f"{place + 1}/{metric}"

    def _report(self, place: int, count: int, values: Sequence[Mapping[str, float]], failures: Sequence[str]) -> None:
        """Warn of candidates that an evaluator did not measure; raise an error if it measured none so far."""
        if failures:
            _LOG.warning(
                "strategy.evidence[%d]: %d of %d candidates could not be measured; the first is %s",
                place,
                len(failures),
                count,
                failures[0],
            )
        prefix = self._name(place, "")
        measured = any(name.startswith(prefix) for row in [self._columns, *values] for name in row)
        if not measured and len(self._rows) + count >= _TRIES:
            reason = f"; the first is {failures[0]}" if failures else ": its numbers are not finite"
            raise ConfigurationError(
                f"none of the first {len(self._rows) + count} candidates could be measured{reason}. Leave it out, or "
                "change its settings",
                path=f"strategy.evidence[{place}]",
            )

    def _add(self, new: Sequence[Architecture], rows: Sequence[dict[str, float]]) -> None:
        for row in rows:
            for name in row:
                self._columns.setdefault(name, len(self._columns))
        count = len(self._values)
        values = np.full((count + len(new), len(self._columns)), np.nan)
        values[:count, : self._values.shape[1]] = self._values
        for architecture, row in zip(new, rows, strict=True):
            place = self._rows[architecture] = len(self._rows)
            for name, value in row.items():
                values[place, self._columns[name]] = value
        self._orders += [(np.empty(0, np.intp), np.empty(0)) for _ in range(len(self._orders), len(self._columns))]
        for column, (order, ascending) in enumerate(self._orders):
            measured = values[count:, column]
            added = np.argsort(measured)
            added = added[~np.isnan(measured[added])]
            values_added = measured[added]
            places = np.searchsorted(ascending, values_added)
            self._orders[column] = np.insert(order, places, count + added), np.insert(ascending, places, values_added)
        self._values, self._ranks = values, None

    def _ranked(self) -> Array:
        """Return the rank of each value in its column, shape ``(columns, n)``; equal values have their mean rank."""
        if self._ranks is None:
            self._ranks = np.full(self._values.shape[::-1], np.nan)
            for ranks, (order, ascending) in zip(self._ranks, self._orders, strict=True):
                first = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))  # of each group of equal ones
                last = np.append(first[1:], len(order))
                ranks[order] = np.repeat((first + 1 + last) / 2, last - first)
        return self._ranks

    def _measured(
        self, evaluator: Evaluator, place: int, new: Sequence[Architecture], failures: list[str]
    ) -> list[Mapping[str, float]]:
        """Return the metrics of each candidate, empty if it failed; then its name and the reason join the failures."""
        seed = stream_seed(self._seed, "evidence", place)
        requests = [Request(number, architecture, seed) for number, architecture in enumerate(new)]
        metrics: list[Mapping[str, float]] = [{} for _ in new]
        waiting = dict(enumerate(requests))
        try:
            self._collect(evaluator, requests, metrics, waiting, failures)
        except ConfigurationError as error:
            raise ConfigurationError(error.message, path=join("strategy.evidence", place, error.path)) from error
        except Exception:
            # Requests that shared work are repeated alone, so that one of them does not take the others with it.
            for request in list(waiting.values()):
                try:
                    self._collect(evaluator, [request], metrics, waiting, failures)
                except Exception as error:
                    failures.append(f"{request.architecture.key}: {type(error).__name__}: {error}")
        return metrics

    @staticmethod
    def _collect(
        evaluator: Evaluator,
        requests: Sequence[Request],
        metrics: list[Mapping[str, float]],
        waiting: dict[int, Request],
        failures: list[str],
    ) -> None:
        with _seeded(evaluator) as reseed:

            def each() -> Iterator[Request]:
                for request in requests:
                    reseed(request.seed)
                    yield request

            outcome: Outcome
            for outcome in evaluator.evaluate(each()):
                request = waiting.pop(outcome.number, None)
                if outcome.state is State.COMPLETE:
                    metrics[outcome.number] = outcome.metrics
                elif request is not None:
                    failures.append(f"{request.architecture.key}: {outcome.error or outcome.state}")

    def rows(self, architectures: Sequence[Architecture]) -> NDArray[np.intp]:
        """Return the numbers of architectures in canonical form among all measured ones, which never change.

        Returns:
            Shape ``(n,)``; -1 for an architecture that was not measured.
        """
        return np.fromiter(map(self._rows.get, architectures, repeat(-1)), np.intp, len(architectures))

    def quantiles(self, rows: NDArray[np.intp]) -> Array:
        """Return normal quantiles of the ranks among all measured architectures; larger is better.

        Args:
            rows: of n architectures, as `rows` returns them.

        Returns:
            One column for each of `names`, shape ``(n, names)``; 0, the median, where a value is missing.
        """
        if not self._columns:
            return np.zeros((len(rows), 0))
        ranks = self._ranked()[:, rows].T
        ranks[rows < 0] = np.nan
        scores = normal_quantiles(ranks, [len(order) for order, _ in self._orders])
        scores *= [-1.0 if name.rpartition("/")[2] in self._smaller else 1.0 for name in self._columns]
        scores[np.isnan(scores)] = 0.0
        return scores

    def __call__(self, architectures: Sequence[Architecture]) -> Array:
        """Return `quantiles` of architectures in canonical form."""
        return self.quantiles(self.rows(architectures))

    def __len__(self) -> int:
        """The number of measured architectures; quantiles change when it does."""
        return len(self._rows)

    def state(self) -> list[Any]:
        """Return all measurements as plain data."""
        return [[architecture.key, dict(self.of(architecture))] for architecture in self._rows]

    def load(self, state: Sequence[Any]) -> None:
        """Invert `state`."""
        self._rows, self._columns, self._values, self._orders = {}, {}, np.empty((0, 0)), []
        self._add([Architecture.from_json(key) for key, _ in state], [dict(values) for _, values in state])


def _compared(evaluator: Evaluator, problem: Problem, task: Task | None) -> str | None:
    """Return the metric by which candidates of an evaluator are compared; None: all of its metrics are evidence."""
    names = type(evaluator).metric_names(task)
    if names is None:
        return None
    preferred = [evaluator.default_metric, *problem.objectives, *(task.metrics if task is not None else ())]
    return next((name for name in preferred if name in names), None)


@contextlib.contextmanager
def _seeded(evaluator: Evaluator) -> Iterator[Any]:
    """Yield a function that sets the global generators from a seed, and restore them afterwards."""
    if not evaluator.stochastic:
        yield lambda seed: None
        return
    from automl_nas.evaluation import Runtime  # not needed for tables, and it imports torch

    runtime = Runtime(needed=False)
    with runtime.seeded(0, "evidence"):
        yield lambda seed: runtime.reseed(seed, "evidence")
