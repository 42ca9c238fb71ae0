"""Contract tests of executors: `ExecutorContract`.

Derive a class whose name begins with ``Test`` and implement `make`::

    class TestCluster(ExecutorContract):
        def make(self, folder):
            return ClusterExecutor(queue="test")
"""

from __future__ import annotations

import random
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request, State
from automl_nas.plugin.registry import Registry
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.trials.evaluator_factory import StageEvaluator
from automl_nas.run.trials.executor import Executor, evaluate_alone
from automl_nas.testing.contract import Contract, require
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
from automl_nas.testing.handed import fingerprint


class ExecutorContract(Contract):
    """The tests of an `Executor`: every candidate has an outcome, also if the executor is closed in between.

    Attributes:
        stops: whether the executor can stop an evaluation that takes longer than its timeout.
        timeout: the timeout of evaluations in seconds; long enough for a good candidate on a machine under load.
        patience: the seconds for which a test waits before it fails.
    """

    stops: ClassVar[bool] = True
    timeout: ClassVar[float] = 2.0
    patience: ClassVar[float] = 120.0
    other_dtype: ClassVar[bool] = False

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

    def use(self, store: Path) -> Mapping[str, Any]:
        """Evaluate two candidates."""
        folder = self.folder() if (store / "used").exists() else store
        (store / "used").touch()
        # An executor may evaluate in this process, and the core seeds the global generators for each evaluation.
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        outcomes, _ = self._evaluated(folder, [GOOD, GOOD])
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        return {"outcomes": [[outcome.number, dict(outcome.metrics)] for outcome in outcomes]}

    def _evaluated(self, folder: Path, kinds: Sequence[int]) -> tuple[list[Outcome], list[int]]:
        """Return the outcomes of candidates, in the order of their numbers, and the numbers reported as started."""
        requests = _requests(kinds)
        source, executor, begun = self.source(folder), self.make(folder), list[int]()
        before = fingerprint(requests)
        executor.open(source, begun.extend, self.timeout if self.stops else None)
        with self.workers(folder):
            try:
                require(executor.next() is None, "there is an event, but no request was submitted")
                for request in requests:
                    executor.submit(request)
                outcomes = self._collect(executor, len(requests), begun)
                require(executor.next() is None, "there are more outcomes than requests")
            finally:
                left = executor.close()
        require(left == [], f"close returns {left}, and every trial has an outcome")
        require(fingerprint(requests) == before, "a request was changed")
        return sorted(outcomes, key=lambda outcome: outcome.number), begun

    def _collect(self, executor: Executor, count: int, begun: Sequence[int]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        until = time.monotonic() + self.patience
        while len(outcomes) < count:
            require(time.monotonic() < until, f"{count - len(outcomes)} of {count} outcomes are missing")
            for event in executor.next_all():
                ended = "" if isinstance(event, Outcome) else getattr(event, "reason", repr(event))
                require(isinstance(event, Outcome), f"the process of a trial ended: {ended}")
                assert isinstance(event, Outcome)
                require(event.number in begun, f"trial {event.number} has an outcome and was not reported as started")
                outcomes.append(event)
        return outcomes

    def test_every_candidate_has_its_outcome(self) -> None:
        """Outcomes are those of an evaluation in this process, and each trial is reported as started once, before.

        A slow candidate is stopped, and the next one is not affected.

        Way out: call `starting` with the number before the evaluation begins, and evaluate with `evaluate_alone`.
        """
        kinds = [GOOD, FAILING, PRUNING, *([SLOW] if self.stops else []), GOOD]
        folder = self.folder()
        outcomes, begun = self._evaluated(folder, kinds)
        numbers = [outcome.number for outcome in outcomes]
        require(numbers == list(range(3, 3 + len(kinds))), f"{len(kinds)} requests have the outcomes {numbers}")
        require(sorted(begun) == numbers, f"reported as started: {begun}")
        evaluator = self.source(folder)()
        for request, outcome, kind in zip(_requests(kinds), outcomes, kinds, strict=True):
            require(outcome.seconds >= 0, f"trial {outcome.number} took {outcome.seconds} s")
            if kind == SLOW:
                stopped = outcome.state is State.FAILED and f"timeout of {self.timeout:g} s" in outcome.error
                require(stopped, f"a slow candidate is {outcome.state}: {outcome.error}")
            else:
                alone = _plain(evaluate_alone(evaluator, request))
                require(_plain(outcome) == alone, f"the outcome is {_plain(outcome)}, in this process it is {alone}")

    def test_it_can_be_closed_twice(self) -> None:
        """`close` of an executor that is closed returns an empty list: a run that fails may close it again.

        Way out: `close` looks at what is open, and leaves the executor as a new one.
        """
        folder = self.folder()
        executor = self.make(folder)
        with self.workers(folder):
            executor.open(self.source(folder), lambda numbers: None, None)
            for _ in range(2):
                left = executor.close()
                require(left == [], f"close returns {left}, and no request was submitted")

    def test_an_interruption_passes(self) -> None:
        """Ctrl-C during an evaluation in this process ends `next`: the exception passes through.

        Way out: catch Exception, never BaseException and never with a bare `except:`.
        """
        if self.stops:
            return  # Ctrl-C does not reach the processes that evaluate
        folder = self.folder()
        executor = self.make(folder)
        executor.open(_Interrupted, lambda numbers: None, None)
        executor.submit(Request(0, failing_candidate(GOOD), seed=1))
        try:
            for _ in range(10):
                event = executor.next()
                require(event is None, f"Ctrl-C gives the outcome {event}")
        except KeyboardInterrupt:
            return
        finally:
            executor.close()
        raise AssertionError("Ctrl-C during an evaluation is ignored")

    def test_a_timeout_is_refused_if_evaluations_cannot_be_stopped(self) -> None:
        """`open` of an executor that cannot stop an evaluation raises ConfigurationError for a timeout.

        Way out: raise ConfigurationError if ``timeout`` is not None; an executor that stops evaluations has
        ``stops = True`` in its contract class.
        """
        if self.stops:
            return
        folder = self.folder()
        try:
            self.make(folder).open(self.source(folder), lambda numbers: None, self.timeout)
        except ConfigurationError as error:
            require("timeout" in str(error), f"the error is: {error}")
        else:
            raise AssertionError("a timeout is accepted")

    def test_it_is_closed_with_work_left_and_opened_again(self) -> None:
        """`close` returns the trials that were started and have no outcome; the next stage begins without them.

        Way out: `close` stops evaluations, drops waiting requests, and resets what belongs to a stage.
        """
        folder = self.folder()
        executor, begun = self.make(folder), list[int]()
        with self.workers(folder):
            executor.open(self.source(folder), begun.extend, None)
            executor.submit(Request(0, failing_candidate(GOOD), seed=1))
            (first,) = self._collect(executor, 1, begun)
            require(first.number == 0, f"the first outcome is that of trial {first.number}")
            executor.submit(Request(1, failing_candidate(SLOW if self.stops else GOOD), seed=2))
            executor.submit(Request(2, failing_candidate(GOOD, 1), seed=3))
            until = time.monotonic() + self.patience
            while self.stops and 1 not in begun:
                require(time.monotonic() < until, "the evaluation was not started")
                require(executor.next() is None, "there is an outcome of a slow candidate")
            left = sorted(executor.close())
            require(left == sorted(set(begun) - {0}), f"close returns {left}; {begun} were started, 0 is finished")

            later = list[int]()
            executor.open(self.source(folder), later.extend, None)
            try:
                executor.submit(Request(10, failing_candidate(GOOD, 2), seed=4))
                (outcome,) = self._collect(executor, 1, later)
                require(outcome.number == 10, f"opened again, it returns the outcome of trial {outcome.number}")
            finally:
                left = executor.close()
            require(left == [], f"the second close returns {left}")
        require(later == [10], f"opened again, it reports {later} as started")
        require(len(set(begun)) == len(begun), f"reported as started: {begun}")


def _requests(kinds: Sequence[int]) -> list[Request]:
    """Return requests from number 3 on; the first and the last have the same architecture if they are of one kind."""
    last = len(kinds) - 1
    return [
        Request(3 + n, failing_candidate(kind, 0 if n == last else n % 4), seed=100 + n) for n, kind in enumerate(kinds)
    ]


class _Interrupted(Evaluator):
    """Is interrupted, as by Ctrl-C."""

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for _ in requests:
            raise KeyboardInterrupt
        yield from ()


def _plain(outcome: Outcome) -> dict[str, Any]:
    fields = {**vars(outcome), "metrics": dict(outcome.metrics), "info": dict(outcome.info)}
    del fields["seconds"], fields["worker"]
    fields["info"] = {name: _listed(value) for name, value in fields["info"].items()}
    return fields


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value
