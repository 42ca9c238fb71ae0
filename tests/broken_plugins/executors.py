"""Executors that break their contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Outcome, Request, State
from automl_nas.run.trials.executor import Crash, EvaluatorSource, Executor, evaluate_alone
from automl_nas.testing import Contract, ExecutorContract
from broken_plugins.cases import Cases


def contract(component: Any) -> type[Contract]:
    class Subject(ExecutorContract):
        stops: ClassVar[bool] = False
        patience: ClassVar[float] = 3.0

        def make(self, folder: Path) -> Executor:
            made: Executor = component()
            return made

    return Subject


CASES = Cases("executors", contract)


@CASES.keeps
class OneByOne(Executor):
    """Evaluates in this process; keeps the contract."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []

    def open(self, source: EvaluatorSource, starting: Callable[[Sequence[int]], None], timeout: float | None) -> None:
        if timeout is not None:
            raise ConfigurationError("this executor cannot stop an evaluation", path="timeout")
        self.source, self.starting = source, starting

    def submit(self, request: Request) -> None:
        self.waiting.append(request)

    def evaluated(self, request: Request) -> Outcome:
        return evaluate_alone(self.source(), request)

    def next(self) -> Outcome | Crash | None:
        if not self.waiting:
            return None
        request = self.waiting.pop(0)
        self.starting([request.number])
        return self.evaluated(request)

    def close(self) -> list[int]:
        self.waiting.clear()
        return []


@CASES.breaks("another_process_gives_the_same")
class OtherSeeds(OneByOne):
    def evaluated(self, request: Request) -> Outcome:
        return super().evaluated(replace(request, seed=hash(str(request.seed)) % 2**31))


@CASES.breaks("nothing_is_printed")
class PrintsOutcomes(OneByOne):
    def evaluated(self, request: Request) -> Outcome:
        print(request.number)
        return super().evaluated(request)


@CASES.breaks("global_settings_are_left_alone")
class SetsTheDtype(OneByOne):
    def close(self) -> list[int]:
        torch.set_default_dtype(torch.float64)
        return super().close()


@CASES.breaks("every_candidate_has_its_outcome")
class DropsFailures(OneByOne):
    def next(self) -> Outcome | Crash | None:
        outcome = super().next()
        return None if isinstance(outcome, Outcome) and outcome.error else outcome


@CASES.breaks("every_candidate_has_its_outcome")
class ReportsNoStart(OneByOne):
    def next(self) -> Outcome | Crash | None:
        return self.evaluated(self.waiting.pop(0)) if self.waiting else None


@CASES.breaks("every_candidate_has_its_outcome")
class OneSeed(OneByOne):
    def evaluated(self, request: Request) -> Outcome:
        return super().evaluated(replace(request, seed=0))


@CASES.breaks("every_candidate_has_its_outcome")
class ChangesRequests(OneByOne):
    def submit(self, request: Request) -> None:
        object.__setattr__(request, "fidelity", 1.0)
        super().submit(request)


@CASES.breaks("every_candidate_has_its_outcome")
class HidesPruning(OneByOne):
    def evaluated(self, request: Request) -> Outcome:
        outcome = super().evaluated(request)
        return replace(outcome, state=State.FAILED) if outcome.state is State.PRUNED else outcome


@CASES.breaks("every_candidate_has_its_outcome")
class Crashes(OneByOne):
    def next(self) -> Outcome | Crash | None:
        outcome = super().next()
        failed = isinstance(outcome, Outcome) and outcome.error
        return Crash(outcome.number, "killed by signal 9") if failed else outcome  # type: ignore[union-attr]


@CASES.breaks("a_timeout_is_refused_if_evaluations_cannot_be_stopped")
class AcceptsTimeouts(OneByOne):
    def open(self, source: EvaluatorSource, starting: Callable[[Sequence[int]], None], timeout: float | None) -> None:
        super().open(source, starting, None)


@CASES.breaks("it_is_closed_with_work_left_and_opened_again")
class KeepsItsQueue(OneByOne):
    def close(self) -> list[int]:
        return []


@CASES.breaks("it_is_closed_with_work_left_and_opened_again")
class ReturnsWaiting(OneByOne):
    """Returns requests that it did not start."""

    def close(self) -> list[int]:
        left = [request.number for request in self.waiting]
        super().close()
        return left


@CASES.breaks("it_is_closed_with_work_left_and_opened_again")
class OpensOnce(OneByOne):
    def open(self, source: EvaluatorSource, starting: Callable[[Sequence[int]], None], timeout: float | None) -> None:
        if not hasattr(self, "source"):
            super().open(source, starting, timeout)


# --- Found by a second attack ----------------------------------------------------------------------------------------


@CASES.breaks("it_can_be_closed_twice")
class CannotBeClosedTwice(OneByOne):
    def close(self) -> list[int]:
        del self.source
        return super().close()


@CASES.breaks("an_interruption_passes")
class SwallowsInterruptions(OneByOne):
    def evaluated(self, request: Request) -> Outcome:
        try:
            return super().evaluated(request)
        except BaseException as error:
            return Outcome(request.number, state=State.FAILED, error=repr(error))


@CASES.breaks("every_candidate_has_its_outcome")
class ForgetsReports(OneByOne):
    def evaluated(self, request: Request) -> Outcome:
        outcome = super().evaluated(request)
        return replace(outcome, info={k: v for k, v in outcome.info.items() if k != "intermediate"})


@CASES.breaks("every_candidate_has_its_outcome")
class CachesByArchitecture(OneByOne):
    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, Outcome] = {}

    def evaluated(self, request: Request) -> Outcome:
        key = request.architecture.key
        if key not in self.cache:
            self.cache[key] = super().evaluated(request)
        return replace(self.cache[key], number=request.number)
