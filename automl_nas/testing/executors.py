"""Contract tests of executors: `ExecutorContract`.

Derive a class whose name begins with ``Test`` and implement `make`::

    class TestCluster(ExecutorContract):
        def make(self, folder):
            return ClusterExecutor(queue="test")
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Outcome, Request, State
from automl_nas.plugin.registry import Registry
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.trials.evaluator_factory import StageEvaluator
from automl_nas.run.trials.executor import Executor, evaluate_alone
from automl_nas.testing.failing_candidates import (
    FAILING,
    GOOD,
    PRUNING,
    SLOW,
    FailingEvaluator,
    RandomProposals,
    failing_candidate,
    failing_space,
)


class ExecutorContract(ABC):
    """The tests of an `Executor`: every candidate has an outcome, also if the executor is closed in between.

    Attributes:
        stops: whether the executor can stop an evaluation that takes longer than its timeout.
        timeout: the timeout of evaluations in seconds; long enough for a good candidate on a machine under load.
        patience: the seconds for which a test waits before it fails.
    """

    stops: ClassVar[bool] = True
    timeout: ClassVar[float] = 2.0
    patience: ClassVar[float] = 120.0

    @abstractmethod
    def make(self, folder: Path) -> Executor:
        """Return a new executor; with one worker, if it has workers.

        Args:
            folder: an empty folder of the test.
        """

    @contextmanager
    def workers(self, folder: Path) -> Iterator[None]:
        """Run one worker in this context, if the executor does not start its own (default: nothing is started)."""
        yield

    def names(self) -> tuple[Registry, Mapping[str, Any]]:
        """Return a registry, and the values of ``space``, ``strategy`` and ``evaluator`` in the configuration.

        The default values are Python objects. For an executor that needs names in the configuration, return names that
        a plugin registers for `failing_space`, `RandomProposals` and `FailingEvaluator`; its workers load the plugin.
        """
        return complete_manager().registry, {
            "space": failing_space(),
            "strategy": RandomProposals,
            "evaluator": FailingEvaluator,
        }

    def source(self, folder: Path) -> StageEvaluator:
        """Return the evaluator factory of a stage, as in a run. Slow candidates take 3 s longer than `timeout`."""
        registry, components = self.names()
        stage = {
            "name": "search",
            "strategy": components["strategy"],
            "evaluator": {"name": components["evaluator"], "pause": self.timeout + 3},
        }
        plan = make_plan(
            {
                "space": components["space"],
                "problem": {"objectives": {"accuracy": "maximize"}, "costs": []},
                "runtime": {"device": "cpu", "threads": 1},
                "stages": [stage],
            },
            registry,
        )
        directory = folder / "run"
        directory.mkdir(exist_ok=True)
        return StageEvaluator(plan, directory, 0)

    def _collect(self, executor: Executor, count: int, begun: Sequence[int]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        until = time.monotonic() + self.patience
        while len(outcomes) < count:
            assert time.monotonic() < until, f"{count - len(outcomes)} of {count} outcomes are missing"
            for event in executor.next_all():
                assert isinstance(event, Outcome), f"the process of trial {event.number} ended: {event.reason}"
                assert event.number in begun, f"trial {event.number} has an outcome but was not reported as started"
                outcomes.append(event)
        return outcomes

    def test_every_candidate_has_its_outcome(self, tmp_path: Path) -> None:
        """Outcomes are those of an evaluation in this process. A slow one is stopped, and the next one is not affected.

        Each trial is reported as started once, before its outcome.
        """
        kinds = [GOOD, FAILING, PRUNING, *([SLOW] if self.stops else []), GOOD]
        requests = [Request(3 + n, failing_candidate(kind, n % 4), seed=100 + n) for n, kind in enumerate(kinds)]
        source, executor, begun = self.source(tmp_path), self.make(tmp_path), list[int]()
        executor.open(source, begun.extend, self.timeout if self.stops else None)
        with self.workers(tmp_path):
            try:
                assert executor.next() is None, "there is an event, but no request was submitted"
                for request in requests:
                    executor.submit(request)
                outcomes = self._collect(executor, len(requests), begun)
                assert executor.next() is None, "there are more outcomes than requests"
            finally:
                left = executor.close()
        assert left == []
        assert sorted(begun) == sorted(o.number for o in outcomes) == [r.number for r in requests]
        by_number = {outcome.number: outcome for outcome in outcomes}
        evaluator = source()
        for request, kind in zip(requests, kinds, strict=True):
            outcome = by_number[request.number]
            assert outcome.seconds >= 0
            if kind == SLOW:
                assert outcome.state is State.FAILED
                assert f"timeout of {self.timeout:g} s" in outcome.error
            else:
                alone = evaluate_alone(evaluator, replace(request))
                assert _plain(outcome) == _plain(alone)

    def test_a_timeout_is_refused_if_evaluations_cannot_be_stopped(self, tmp_path: Path) -> None:
        """`open` raises ConfigurationError."""
        if self.stops:
            pytest.skip("the executor can stop evaluations; another test checks that it does")
        with pytest.raises(ConfigurationError, match="timeout"):
            self.make(tmp_path).open(self.source(tmp_path), lambda numbers: None, self.timeout)

    def test_it_is_closed_with_work_left_and_opened_again(self, tmp_path: Path) -> None:
        """`close` returns the trials that were started and have no outcome; the next stage begins without them."""
        executor, begun = self.make(tmp_path), list[int]()
        with self.workers(tmp_path):
            executor.open(self.source(tmp_path), begun.extend, None)
            executor.submit(Request(0, failing_candidate(GOOD), seed=1))
            (first,) = self._collect(executor, 1, begun)
            assert first.number == 0
            executor.submit(Request(1, failing_candidate(SLOW if self.stops else GOOD), seed=2))
            executor.submit(Request(2, failing_candidate(GOOD, 1), seed=3))
            until = time.monotonic() + self.patience
            while self.stops and 1 not in begun:
                assert time.monotonic() < until, "the evaluation was not started"
                assert executor.next() is None
            assert sorted(executor.close()) == sorted(set(begun) - {0})

            later = list[int]()
            executor.open(self.source(tmp_path), later.extend, None)
            try:
                executor.submit(Request(10, failing_candidate(GOOD, 2), seed=4))
                (outcome,) = self._collect(executor, 1, later)
                assert outcome.number == 10
            finally:
                assert executor.close() == []
        assert later == [10]
        assert len(set(begun)) == len(begun)


def _plain(outcome: Outcome) -> dict[str, Any]:
    fields = {**vars(outcome), "metrics": dict(outcome.metrics), "info": dict(outcome.info)}
    del fields["seconds"]
    fields["info"] = {name: _listed(value) for name, value in fields["info"].items()}
    return fields


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
