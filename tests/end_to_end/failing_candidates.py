"""Evaluators that misbehave in one particular way; in a module, so that worker processes can import them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request
from automl_nas.evaluation.task import Task
from automl_nas.space.space import SearchSpace


class Free(Evaluator):
    """The share of decisions that take their first option, at no cost."""

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            yield Outcome(request.number, {"accuracy": self.value(request)})

    def value(self, request: Request) -> float:
        first = [request.architecture[name] == decision.options[0] for name, decision in self._space.decisions.items()]
        return sum(first) / len(first)

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        return frozenset({"accuracy"})


class Misbehaving(Free):
    """Misbehaves on the trials in ``numbers``.

    Args:
        space: what is searched.
        how: ``raise``, ``memory``, ``leave`` (SystemExit), ``interrupt`` (KeyboardInterrupt), ``base``
            (BaseException), ``nan``, ``report`` (NaN, on the way), ``die`` (SIGKILL),
            ``exit``, ``hang``.
        numbers: on which trials.
        lives: a file that counts how often it happened.
    """

    def __init__(self, space: SearchSpace, *, how: str, numbers: list[int], lives: str = "") -> None:
        super().__init__(space)
        self._how, self._numbers, self._lives = how, numbers, lives

    def value(self, request: Request) -> float:
        if request.number not in self._numbers:
            return super().value(request)
        if self._lives:
            with open(self._lives, "a") as file:  # noqa: PTH123
                file.write(f"{request.number}\n")
        if self._how == "raise":
            raise ValueError("no such kernel")
        if self._how == "memory":
            raise MemoryError("cannot allocate 80 GiB")
        if self._how == "leave":
            sys.exit(4)
        if self._how == "interrupt":
            raise KeyboardInterrupt
        if self._how == "base":
            raise BaseException("not an Exception")
        if self._how == "report":
            request.report(1, float("nan"))
            return super().value(request)
        if self._how == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._how == "exit":
            os._exit(3)
        if self._how == "hang":
            time.sleep(60)
        return float("nan")


class Shared(Misbehaving):
    """Takes all requests at once, as an evaluator that shares work does."""

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        taken = list(requests)
        values = [self.value(request) for request in taken]
        for request, value in reversed(list(zip(taken, values, strict=True))):
            yield Outcome(request.number, {"accuracy": value})


class Forgetful(Free):
    """Promises an accuracy and measures something else."""

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            yield Outcome(request.number, {"acuracy": 0.5})


class Slow(Free):
    """Takes a different time for each trial, so that results arrive out of order."""

    def value(self, request: Request) -> float:
        time.sleep(0.002 * (request.number * 7 % 5))
        return super().value(request)


class Unplugged(Free):
    """Raises for every trial from number 5 on, for as long as the file ``unplugged`` exists."""

    def __init__(self, space: SearchSpace, *, unplugged: str) -> None:
        super().__init__(space)
        self._disabled_observers = Path(unplugged)

    def value(self, request: Request) -> float:
        if request.number >= 5 and self._disabled_observers.exists():
            raise RuntimeError("the device is unplugged")
        return super().value(request)


class Chatty(Free):
    """Says things that no record can hold."""

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            yield Outcome(request.number, {"accuracy": 0.5}, info={"seen": {1, 2}})
