"""Evaluators that break their contract."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from automl_nas.evaluation import Evaluator, Outcome, Request, State, Task
from automl_nas.space import SearchSpace
from automl_nas.streams import stream
from automl_nas.testing import Contract, EvaluatorContract, ToySpace, toy_metric
from broken_plugins.cases import Cases


def contract(component: Any) -> type[Contract]:
    class Subject(EvaluatorContract):
        def make_space(self) -> SearchSpace:
            return ToySpace()

        def make_evaluator(self, space: SearchSpace) -> Evaluator:
            made: Evaluator = component(space)
            return made

    return Subject


CASES = Cases("evaluators", contract)


@CASES.keeps
class Noisy(Evaluator):
    """Three partial values, then a metric with noise from the seed; keeps the contract."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        return frozenset({"accuracy"})

    def value(self, request: Request) -> float:
        return toy_metric(request.architecture, self.space) + stream(request.seed, "noise").gauss(0.0, 0.01)

    def report(self, request: Request, value: float) -> None:
        for step in range(1, 4):
            request.report(step, value * step / 3)

    def outcome(self, request: Request, value: float) -> Outcome:
        return Outcome(request.number, {"accuracy": value})

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            value = self.value(request)
            self.report(request, value)
            yield self.outcome(request, value)


@CASES.breaks("another_process_gives_the_same")
class HashNoise(Noisy):
    def value(self, request: Request) -> float:
        return random.Random(hash(request.architecture.key)).random()


@CASES.breaks("another_process_gives_the_same")
class ProcessNoise(Noisy):
    def value(self, request: Request) -> float:
        return super().value(request) + os.getpid() * 1e-9


@CASES.breaks("another_process_gives_the_same")
class DirectoryNoise(Noisy):
    def value(self, request: Request) -> float:
        return super().value(request) + len(str(Path.cwd())) * 1e-6


@CASES.breaks("the_global_generators_are_left_alone")
class GlobalNoise(Noisy):
    def value(self, request: Request) -> float:
        torch.manual_seed(request.seed)
        return super().value(request) + 0.01 * torch.rand(1).item()


@CASES.breaks("global_settings_are_left_alone")
class SetsThreads(Noisy):
    def value(self, request: Request) -> float:
        torch.set_num_threads(5)
        return super().value(request)


@CASES.breaks("global_settings_are_left_alone")
class SetsPrecision(Noisy):
    def value(self, request: Request) -> float:
        torch.set_float32_matmul_precision("medium")
        return super().value(request)


@CASES.breaks("nothing_is_printed")
class PrintsResults(Noisy):
    def value(self, request: Request) -> float:
        print(request.number)
        return super().value(request)


@CASES.breaks("no_file_is_written_elsewhere")
class WritesResults(Noisy):
    def value(self, request: Request) -> float:
        value = super().value(request)
        with Path("results.csv").open("a") as file:
            file.write(f"{value}\n")
        return value


@CASES.breaks("every_request_is_answered_once")
class SkipsOne(Noisy):
    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        return (outcome for outcome in super().evaluate(requests) if outcome.number != 1)


@CASES.breaks("every_request_is_answered_once")
class AnswersTwice(Noisy):
    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for outcome in super().evaluate(requests):
            yield outcome
            yield outcome


@CASES.breaks("every_request_is_answered_once")
class NumpyMetric(Noisy):
    def outcome(self, request: Request, value: float) -> Outcome:
        return Outcome(request.number, {"accuracy": np.float64(value)})


@CASES.breaks("every_request_is_answered_once")
class TensorMetric(Noisy):
    def outcome(self, request: Request, value: float) -> Outcome:
        return Outcome(request.number, {"accuracy": torch.tensor(value)})  # type: ignore[dict-item]


@CASES.breaks("every_request_is_answered_once")
class OtherNames(Noisy):
    def outcome(self, request: Request, value: float) -> Outcome:
        return Outcome(request.number, {"top1": value})


@CASES.breaks("every_request_is_answered_once")
class NanMetric(Noisy):
    def outcome(self, request: Request, value: float) -> Outcome:
        return Outcome(request.number, {"accuracy": float("nan")})


@CASES.breaks("every_request_is_answered_once")
class ArrayInInfo(Noisy):
    def outcome(self, request: Request, value: float) -> Outcome:
        return Outcome(request.number, {"accuracy": value}, info={"curve": np.arange(3)})


@CASES.breaks("every_request_is_answered_once")
class HugeInfo(Noisy):
    def outcome(self, request: Request, value: float) -> Outcome:
        return Outcome(request.number, {"accuracy": value}, info={"predictions": [0.5] * 100_000})


@CASES.breaks("every_request_is_answered_once")
class YieldsADict(Noisy):
    def outcome(self, request: Request, value: float) -> Outcome:
        return {"number": request.number, "accuracy": value}  # type: ignore[return-value]


@CASES.breaks("every_request_is_answered_once")
class CompleteWithAnError(Noisy):
    def outcome(self, request: Request, value: float) -> Outcome:
        return Outcome(request.number, {"accuracy": value}, error="nearly failed")


@CASES.breaks("every_request_is_answered_once")
class NegativeSeconds(Noisy):
    def outcome(self, request: Request, value: float) -> Outcome:
        return Outcome(request.number, {"accuracy": value}, seconds=-1.0)


@CASES.breaks("the_class_describes_itself")
class NamesInAList(Noisy):
    @classmethod
    def metric_names(cls, task: Task | None) -> Any:
        return ["accuracy"]


@CASES.breaks("metrics_depend_on_architecture_seed_and_fidelity_alone")
class DependsOnTheNumber(Noisy):
    def value(self, request: Request) -> float:
        return super().value(request) + request.number * 1e-6


@CASES.breaks("metrics_depend_on_architecture_seed_and_fidelity_alone")
class DependsOnTheOrder(Noisy):
    last = 0.0

    def value(self, request: Request) -> float:
        value, self.last = super().value(request) + 0.1 * self.last, super().value(request)
        return value


@CASES.breaks("metrics_depend_on_the_architecture")
class IgnoresTheArchitecture(Noisy):
    def value(self, request: Request) -> float:
        return stream(request.seed, "noise").random()


_COUNT: dict[str, int] = {}


@CASES.breaks("a_second_instance_returns_the_same")
class InstanceNumber(Noisy):
    instances: ClassVar[list[int]] = []

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.instances.append(0)
        self.place = len(self.instances)

    def value(self, request: Request) -> float:
        return super().value(request) + 1e-6 * self.place


@CASES.breaks("requests_are_taken_when_they_are_needed")
class TakesAll(Noisy):
    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        import itertools

        return super().evaluate(list(itertools.islice(requests, 50)))


@CASES.breaks("requests_are_taken_when_they_are_needed")
class ReturnsAList(Noisy):
    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        return iter(list(super().evaluate(requests)))


@CASES.breaks("an_abandoned_evaluation_changes_nothing")
class NeedsTheEnd(Noisy):
    offset = 0.0

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for outcome in super().evaluate(requests):
            self.offset = 1.0
            yield outcome
            self.offset = 0.0

    def value(self, request: Request) -> float:
        return super().value(request) + self.offset


@CASES.breaks("a_candidate_that_fails_changes_no_other")
class LeavesTheFailureBehind(Noisy):
    failed = False

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            try:
                value = self.value(request)
            except Exception:
                self.failed = True
                continue
            yield self.outcome(request, value + self.failed)


@CASES.breaks("what_it_receives_is_not_changed")
class ChangesTheRequest(Noisy):
    def value(self, request: Request) -> float:
        value = super().value(request)
        object.__setattr__(request, "seed", request.seed + 1)
        return value


@CASES.breaks("outcomes_are_not_shared")
class SharesMetrics(Noisy):
    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.cache: dict[str, dict[str, float]] = {}

    def outcome(self, request: Request, value: float) -> Outcome:
        metrics = self.cache.setdefault(f"{request.architecture.key} {request.seed}", {"accuracy": value})
        return Outcome(request.number, metrics)


@CASES.breaks("metrics_do_not_depend_on_the_clock")
class TrainsForATime(Noisy):
    def value(self, request: Request) -> float:
        until, iterations = time.monotonic() + 2.0, 0
        while time.monotonic() < until and iterations < 10:
            iterations += 1
        return super().value(request) * iterations / 10


@CASES.breaks("pruning_ends_the_evaluation")
class CatchesPruned(Noisy):
    def report(self, request: Request, value: float) -> None:
        try:
            super().report(request, value)
        except Exception:
            return


@CASES.breaks("pruning_ends_the_evaluation")
class ReportsATensor(Noisy):
    def report(self, request: Request, value: float) -> None:
        request.report(1, torch.tensor(value))  # type: ignore[arg-type]


@CASES.breaks("an_interrupted_evaluation_can_be_repeated")
class TrustsItsScratch(Noisy):
    """Continues from its scratch file without what it had done."""

    def report(self, request: Request, value: float) -> None:
        if request.scratch is not None:
            (request.scratch / "value.json").write_text(json.dumps(0.5 * value))
        super().report(request, value)

    def value(self, request: Request) -> float:
        file = None if request.scratch is None else request.scratch / "value.json"
        return float(json.loads(file.read_text())) if file is not None and file.exists() else super().value(request)


@CASES.breaks("the_checker_has_parameters_of_the_constructor")
class CheckerWithMore(Noisy):
    @classmethod
    def checker(cls) -> Any:
        def check(*, epochs: int) -> None:
            return None

        return check


@CASES.breaks("it_can_be_used")
class Raises(Noisy):
    def value(self, request: Request) -> float:
        raise RuntimeError("no such table")


@CASES.breaks("every_request_is_answered_once")
class FailsSilently(Noisy):
    def outcome(self, request: Request, value: float) -> Outcome:
        return replace(super().outcome(request, value), state=State.FAILED)


@CASES.breaks("an_interruption_passes")
class CatchesEverything(Noisy):
    def report(self, request: Request, value: float) -> None:
        try:
            super().report(request, value)
        except BaseException:
            return


# --- Found by a second attack ----------------------------------------------------------------------------------------


@CASES.breaks("equal_candidates_are_each_answered")
class CachesWithoutTheSeed(Noisy):
    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.cache: dict[str, float] = {}

    def value(self, request: Request) -> float:
        return self.cache.setdefault(request.architecture.key, super().value(request))


@CASES.breaks("other_fidelities_change_nothing")
class CachesWithoutTheFidelity(Noisy):
    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.cache: dict[str, float] = {}

    def value(self, request: Request) -> float:
        value = super().value(request) / (2.0 if request.fidelity is not None and request.fidelity < 2 else 1.0)
        return self.cache.setdefault(f"{request.architecture.key} {request.seed}", value)


@CASES.breaks("reports_are_the_same_each_time")
class ReportsTheDuration(Noisy):
    def report(self, request: Request, value: float) -> None:
        request.report(1, time.perf_counter())


@CASES.breaks("reports_are_the_same_each_time")
class ReportsBackwards(Noisy):
    def report(self, request: Request, value: float) -> None:
        for step in (3, 2, 1):
            request.report(step, value / step)


@CASES.breaks("an_interrupted_evaluation_can_be_repeated")
class TrustsALateFile(Noisy):
    """Writes its half-finished result before the last report."""

    def report(self, request: Request, value: float) -> None:
        for step in range(1, 4):
            if step == 3 and request.scratch is not None:
                (request.scratch / "value.json").write_text(json.dumps(0.5 * value))
            request.report(step, value * step / 3)
        if request.scratch is not None:
            (request.scratch / "value.json").unlink(missing_ok=True)

    def value(self, request: Request) -> float:
        file = None if request.scratch is None else request.scratch / "value.json"
        return float(json.loads(file.read_text())) if file is not None and file.exists() else super().value(request)


@CASES.breaks("the_class_describes_itself")
class ShortensAnUnknownSetting(Noisy):
    @classmethod
    def shortened(cls, settings: Any, share: float) -> Any:
        from automl_nas.evaluation import Shortened

        return Shortened(share, {"epochs": 1})


@CASES.breaks("the_class_describes_itself")
class ParallelIsText(Noisy):
    @classmethod
    def data_parallel(cls, settings: Any) -> Any:
        return "no"


class Grouped(Noisy):
    """Evaluates two candidates together."""

    taken_ahead = 2

    def group(self, group: list[Request]) -> Iterator[Outcome]:
        for request in group:
            value = self.value(request)
            self.report(request, value)
            yield self.outcome(request, value)

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        import itertools

        waiting = iter(requests)
        while group := list(itertools.islice(waiting, self.taken_ahead)):
            yield from self.group(group)


@CASES.breaks("equal_candidates_are_each_answered")
class GroupsByArchitecture(Grouped):
    def group(self, group: list[Request]) -> Iterator[Outcome]:
        return super().group(list({request.architecture: request for request in group}.values()))


@CASES.breaks("equal_candidates_are_each_answered")
class SeedOfTheFirst(Grouped):
    def group(self, group: list[Request]) -> Iterator[Outcome]:
        first = {request.architecture: request.seed for request in reversed(group)}
        return super().group([replace(request, seed=first[request.architecture]) for request in group])


@CASES.breaks("other_fidelities_change_nothing")
class FidelityOfTheFirst(Grouped):
    def value(self, request: Request) -> float:
        return super().value(request) * (1.0 if request.fidelity is None else 0.5 * request.fidelity)

    def group(self, group: list[Request]) -> Iterator[Outcome]:
        return super().group([replace(request, fidelity=group[0].fidelity) for request in group])


@CASES.breaks("a_candidate_that_is_pruned_changes_no_other")
class PrunesTheGroup(Grouped):
    def group(self, group: list[Request]) -> Iterator[Outcome]:
        from automl_nas.errors import Pruned

        try:
            yield from list(super().group(group))
        except Pruned:
            for request in group:
                yield Outcome(request.number, state=State.PRUNED)


@CASES.breaks("metrics_depend_on_architecture_seed_and_fidelity_alone")
class TunesSharedWeights(Noisy):
    """Fine-tunes the shared weights themselves, not a copy of them."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.weight = 1.0

    def value(self, request: Request) -> float:
        self.weight -= 0.01
        return super().value(request) * self.weight


@CASES.breaks("metrics_depend_on_architecture_seed_and_fidelity_alone")
class KeepsMomentum(Noisy):
    """One optimiser for all candidates: its momentum is that of the candidate before."""

    def __init__(self, space: SearchSpace) -> None:
        super().__init__(space)
        self.momentum = 0.0

    def value(self, request: Request) -> float:
        value = super().value(request)
        self.momentum = 0.9 * self.momentum + value
        return value + 1e-3 * self.momentum
