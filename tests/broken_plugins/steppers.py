"""Strategies that take steps of iterations (one-shot search) and break their contract."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch.nn import functional as F

from automl_nas.space import Architecture
from automl_nas.strategy import Problem, Proposal, Services, Strategy
from automl_nas.streams import stream, stream_seed
from automl_nas.testing import Contract, SimulatedServices, StrategyContract, finished, toy_supernet_space
from broken_plugins.cases import Cases


def contract(component: Any) -> type[Contract]:
    class Subject(StrategyContract):
        steps = 5

        def make(self, seed: int) -> Strategy:
            made: Strategy = component(seed=seed)
            return made

        def services(self) -> SimulatedServices:
            problem = Problem({"accuracy": "maximize"})
            return SimulatedServices(lambda number, p: finished(problem, number, p, {"accuracy": 0.5}))

    return Subject


CASES = Cases("steppers", contract)
ITERATIONS, PER_STEP = 12, 3


@CASES.keeps
class Trainer(Strategy):
    """Trains a small supernet on random paths, then proposes one architecture; keeps the contract."""

    def __init__(self, *, seed: int) -> None:
        self.seed, self.space = seed, toy_supernet_space()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(stream_seed(seed, "init"))
            self.supernet = self.space.build_supernet()
        self.optimizer = torch.optim.SGD(self.supernet.parameters(), lr=0.1, momentum=0.9)
        self.count = 0
        self.number: list[int] = []

    def path(self) -> Architecture:
        return self.space.sample(stream(self.seed, "path", self.count))

    def iterate(self) -> float:
        generator = torch.Generator().manual_seed(stream_seed(self.seed, "data", self.count))
        x, y = torch.randn(4, 1, 4, 4, generator=generator), torch.randint(3, (4,), generator=generator)
        loss = F.cross_entropy(self.supernet(x, self.path()), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.count += 1
        return loss.item()

    def log(self, services: Services, loss: float) -> None:
        services.log({"loss": loss}, step=self.count)

    def propose(self) -> Proposal:
        return Proposal(self.path())

    def step(self, services: Services) -> None:
        if self.count < ITERATIONS:
            for _ in range(PER_STEP):
                loss = self.iterate()
            self.log(services, loss)
            services.progress(self.count, ITERATIONS, "iterations")
        else:
            self.number = services.submit([self.propose()])
            services.results(self.number)

    @property
    def done(self) -> bool:
        return bool(self.number)

    def state_dict(self) -> dict[str, Any]:
        return {
            "weights": self.supernet.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "count": self.count,
            "number": list(self.number),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.supernet.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.count, self.number = state["count"], list(state["number"])


@CASES.breaks("another_process_gives_the_same")
class HashedPath(Trainer):
    def path(self) -> Architecture:
        return self.space.sample(stream(hash(f"path-{self.seed}"), "path", self.count))


@CASES.breaks("another_process_gives_the_same")
class PathOfTheProcess(Trainer):
    def path(self) -> Architecture:
        return self.space.sample(stream(os.getpid(), "path", self.count))


_KEPT: dict[int, Any] = {}


@CASES.breaks("another_process_gives_the_same")
class WeightsInAGlobal(Trainer):
    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        _KEPT[self.count] = {name: value.clone() for name, value in state.pop("weights").items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        weights = _KEPT.get(state["count"], self.supernet.state_dict())
        super().load_state_dict({**state, "weights": weights})


@CASES.breaks("the_global_generators_are_left_alone")
class SeedsTheProcess(Trainer):
    def step(self, services: Services) -> None:
        torch.manual_seed(self.seed)
        super().step(services)


@CASES.breaks("global_settings_are_left_alone")
class SetsDeterminism(Trainer):
    def step(self, services: Services) -> None:
        torch.backends.cudnn.benchmark = True
        super().step(services)


@CASES.breaks("global_settings_are_left_alone")
class DetectsAnomalies(Trainer):
    def step(self, services: Services) -> None:
        torch.autograd.set_detect_anomaly(True, check_nan=False)
        super().step(services)


@CASES.breaks("nothing_is_printed")
class PrintsTheLoss(Trainer):
    def log(self, services: Services, loss: float) -> None:
        print(f"loss {loss:.3f}")


@CASES.breaks("no_file_is_written_elsewhere")
class SavesWeights(Trainer):
    def log(self, services: Services, loss: float) -> None:
        torch.save(self.supernet.state_dict(), "supernet.pt")


@CASES.breaks("the_same_seed_gives_the_same_states")
class UnseededWeights(Trainer):
    def __init__(self, *, seed: int) -> None:
        super().__init__(seed=seed)
        self.supernet = self.space.build_supernet()
        self.optimizer = torch.optim.SGD(self.supernet.parameters(), lr=0.1, momentum=0.9)


@CASES.breaks("another_seed_gives_another_state")
class OneSeed(Trainer):
    def __init__(self, *, seed: int) -> None:
        super().__init__(seed=0)


@CASES.breaks("every_seed_is_accepted")
class ShortSeeds(Trainer):
    def __init__(self, *, seed: int) -> None:
        import numpy as np

        np.random.RandomState(seed)
        super().__init__(seed=seed)


@CASES.breaks("instances_are_independent")
class SharedCount(Trainer):
    total: ClassVar[list[int]] = [0]

    def __init__(self, *, seed: int) -> None:
        super().__init__(seed=seed)
        self.total[0] = 0

    def path(self) -> Architecture:
        self.total[0] += 1
        return self.space.sample(stream(self.seed, "path", self.total[0]))


@CASES.breaks("a_loaded_state_is_complete")
class LosesTheNumber(Trainer):
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({**state, "number": []})


@CASES.breaks("it_resumes_at_every_step")
class ForgetsMomentum(Trainer):
    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "optimizer": {"state": {}, "param_groups": []}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict({**state, "optimizer": self.optimizer.state_dict()})


@CASES.breaks("it_resumes_at_every_step")
class ForgetsTheRate(Trainer):
    """A rate that falls in every step is not in the state."""

    rate = 0.1

    def step(self, services: Services) -> None:
        self.rate *= 0.5
        self.optimizer.param_groups[0]["lr"] = self.rate
        super().step(services)


@CASES.breaks("reading_the_state_changes_nothing")
class ReadingCounts(Trainer):
    readings = 0

    def state_dict(self) -> dict[str, Any]:
        self.readings += 1
        return super().state_dict()

    def path(self) -> Architecture:
        return self.space.sample(stream(self.seed, "path", self.count + self.readings))


@CASES.breaks("the_state_is_bounded")
class CollectsActivations(Trainer):
    def __init__(self, *, seed: int) -> None:
        super().__init__(seed=seed)
        self.seen: list[torch.Tensor] = []

    def log(self, services: Services, loss: float) -> None:
        self.seen.append(torch.zeros(40_000))

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "seen": list(self.seen)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.seen = list(state["seen"])


@CASES.breaks("steps_do_not_depend_on_the_clock")
class StopsByTheClock(Trainer):
    def step(self, services: Services) -> None:
        until = time.monotonic() + 2.0
        for _ in range(PER_STEP):
            if time.monotonic() < until:
                self.iterate()


@CASES.breaks("done_is_a_property_of_the_state")
class DoneIsNotLoaded(Trainer):
    ended = False

    def step(self, services: Services) -> None:
        super().step(services)
        self.ended = bool(self.number)

    @property
    def done(self) -> bool:
        return self.ended


@CASES.breaks("done_is_a_property_of_the_state")
class DoneIsANumber(Trainer):
    @property
    def done(self) -> bool:
        return len(self.number)  # type: ignore[return-value]


@CASES.breaks("logged_numbers_are_numbers")
class LogsATensor(Trainer):
    def log(self, services: Services, loss: float) -> None:
        services.log({"loss": torch.tensor(loss)}, step=self.count)  # type: ignore[dict-item]


@CASES.breaks("logged_numbers_are_numbers")
class StepsGoBack(Trainer):
    def log(self, services: Services, loss: float) -> None:
        services.log({"loss": loss}, step=ITERATIONS - self.count)


@CASES.breaks("logged_numbers_are_numbers")
class ProgressBeyondTheTotal(Trainer):
    def log(self, services: Services, loss: float) -> None:
        services.progress(self.count * 2, ITERATIONS, "iterations")


@CASES.breaks("proposals_have_the_declared_types")
class ProposesWithATensor(Trainer):
    def propose(self) -> Proposal:
        return Proposal(self.path(), info={"alpha": torch.zeros(3)})


@CASES.breaks("what_it_receives_is_not_changed")
class ChangesATrial(Trainer):
    def step(self, services: Services) -> None:
        super().step(services)
        for trial in services.trials(state=None):
            object.__setattr__(trial, "metrics", {"accuracy": 1.0})


@CASES.breaks("the_checker_has_parameters_of_the_constructor")
class CheckerOfAnother(Trainer):
    @classmethod
    def checker(cls) -> Any:
        def check(*, epochs: int) -> None:
            return None

        return check


# --- Found by a second attack ----------------------------------------------------------------------------------------


@CASES.breaks("the_planned_number_of_trials_is_kept")
class PlansNone(Trainer):
    @property
    def planned(self) -> int | None:
        return 0


@CASES.breaks("the_class_describes_itself")
class PhasesOfTwoWholes(Trainer):
    @classmethod
    def phases(cls, settings: Mapping[str, Any]) -> Any:
        from automl_nas.strategy import Phase

        return (Phase(1.0), Phase(1.0))


@CASES.breaks("the_class_describes_itself")
class ShortensAnUnknownSetting(Trainer):
    @classmethod
    def shortened(cls, settings: Mapping[str, Any], share: float) -> Any:
        from automl_nas.evaluation import Shortened

        return Shortened(share, {"epochs": 1})


@CASES.breaks("the_class_describes_itself")
class ArtifactInAList(Trainer):
    @classmethod
    def artifact_names(cls, settings: Mapping[str, Any]) -> Any:
        return ["weights"]


@CASES.breaks("numbers_of_trials_may_begin_anywhere")
class CountsOnNumberZero(Trainer):
    def step(self, services: Services) -> None:
        super().step(services)
        if self.number:
            self.best = services.trials(state=None)[self.number[0]].metrics.get("accuracy", 0.0)


@CASES.breaks("the_expected_architecture_changes_nothing")
class ExpectationTrains(Trainer):
    def expected(self, seed: int) -> Architecture | None:
        self.iterate()
        return self.path()
