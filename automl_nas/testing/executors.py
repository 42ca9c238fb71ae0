"""What every executor must pass: `ExecutorContract`.

A plugin's test subclasses it, in a class whose name begins with ``Test``, and gives `make`::

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
    failing_space,
    suspect,
)


class ExecutorContract(ABC):
    """What every `Executor` must keep: every candidate has its outcome, and nothing is lost when it is closed.

    Attributes:
        stops: whether it can stop an evaluation that takes longer than its timeout.
        timeout: seconds; long enough for a good candidate on a busy machine, once a worker is ready.
        patience: seconds after which a test that waits gives up.
    """

    stops: ClassVar[bool] = True
    timeout: ClassVar[float] = 2.0
    patience: ClassVar[float] = 120.0

    @abstractmethod
    def make(self, folder: Path) -> Executor:
        """Return a fresh executor with one worker, if it has any.

        Args:
            folder: an empty one, the test's own.
        """

    @contextmanager
    def workers(self, folder: Path) -> Iterator[None]:
        """Let there be one worker while a test lasts, where the executor does not start its own (default: nothing)."""
        yield

    def names(self) -> tuple[Registry, Mapping[str, Any]]:
        """Return a registry, and what the configuration has as ``space``, ``strategy`` and ``evaluator``.

        The default has Python classes. An executor that needs a configuration of names registers `failing_space`,
        `RandomProposals` and `FailingEvaluator` in a plugin of the test, which its workers load.
        """
        return complete_manager().registry, {
            "space": failing_space(),
            "strategy": RandomProposals,
            "evaluator": FailingEvaluator,
        }

    def source(self, folder: Path) -> StageEvaluator:
        """Return what makes the evaluator: that of a stage, as in a run. Slow candidates take `timeout` and 3 s."""
        registry, named = self.names()
        stage = {
            "name": "search",
            "strategy": named["strategy"],
            "evaluator": {"name": named["evaluator"], "pause": self.timeout + 3},
        }
        plan = make_plan(
            {
                "space": named["space"],
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
            assert time.monotonic() < until, f"{count - len(outcomes)} of {count} outcomes did not come"
            for event in executor.next_all():
                assert isinstance(event, Outcome), f"trial {event.number} took its process with it: {event.reason}"
                assert event.number in begun, f"trial {event.number} has an outcome and was not announced as started"
                outcomes.append(event)
        return outcomes

    def test_every_candidate_has_its_outcome(self, tmp_path: Path) -> None:
        """Good, failing, pruned: as when evaluated alone, here. One that takes too long is stopped, the next is not.

        Each is announced once, before its outcome comes.
        """
        fates = [GOOD, FAILING, PRUNING, *([SLOW] if self.stops else []), GOOD]
        requests = [Request(3 + n, suspect(fate, n % 4), seed=100 + n) for n, fate in enumerate(fates)]
        source, executor, begun = self.source(tmp_path), self.make(tmp_path), list[int]()
        executor.open(source, begun.extend, self.timeout if self.stops else None)
        with self.workers(tmp_path):
            try:
                assert executor.next() is None, "nothing was submitted, and something happened"
                for request in requests:
                    executor.submit(request)
                outcomes = self._collect(executor, len(requests), begun)
                assert executor.next() is None, "there are more outcomes than requests"
            finally:
                left = executor.close()
        assert left == []
        assert sorted(begun) == sorted(o.number for o in outcomes) == [r.number for r in requests]
        found = {outcome.number: outcome for outcome in outcomes}
        evaluator = source()
        for request, fate in zip(requests, fates, strict=True):
            outcome = found[request.number]
            assert outcome.seconds >= 0
            if fate == SLOW:
                assert outcome.state is State.FAILED
                assert f"timeout of {self.timeout:g} s" in outcome.error
            else:
                alone = evaluate_alone(evaluator, replace(request))
                assert _plain(outcome) == _plain(alone)

    def test_it_says_so_if_it_cannot_stop_an_evaluation(self, tmp_path: Path) -> None:
        """A timeout that would not be kept is refused when a stage begins."""
        if self.stops:
            pytest.skip("it can; another test sees that it does")
        with pytest.raises(ConfigurationError, match="timeout"):
            self.make(tmp_path).open(self.source(tmp_path), lambda numbers: None, self.timeout)

    def test_it_is_closed_with_work_left_and_opened_again(self, tmp_path: Path) -> None:
        """What was announced and has no outcome is told when it is closed; the next stage begins with nothing."""
        executor, begun = self.make(tmp_path), list[int]()
        with self.workers(tmp_path):
            executor.open(self.source(tmp_path), begun.extend, None)
            executor.submit(Request(0, suspect(GOOD), seed=1))
            (first,) = self._collect(executor, 1, begun)
            assert first.number == 0
            executor.submit(Request(1, suspect(SLOW if self.stops else GOOD), seed=2))
            executor.submit(Request(2, suspect(GOOD, 1), seed=3))
            until = time.monotonic() + self.patience
            while self.stops and 1 not in begun:
                assert time.monotonic() < until, "the evaluation was not begun"
                assert executor.next() is None
            assert sorted(executor.close()) == sorted(set(begun) - {0})

            later = list[int]()
            executor.open(self.source(tmp_path), later.extend, None)
            try:
                executor.submit(Request(10, suspect(GOOD, 2), seed=4))
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
