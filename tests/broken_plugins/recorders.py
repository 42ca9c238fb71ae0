"""Strategies that measure candidates themselves, record them (`Services.record`), and break their contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from automl_nas.evaluation import Task
from automl_nas.strategy import Problem, Proposal, Services, Strategy, Trial
from automl_nas.streams import stream
from automl_nas.testing import Contract, SimulatedServices, StrategyContract, ToySpace, finished, toy_metric
from broken_plugins.cases import Cases


def contract(component: Any) -> type[Contract]:
    class Subject(StrategyContract):
        steps = 4

        def make(self, seed: int) -> Strategy:
            made: Strategy = component(seed=seed)
            return made

        def services(self) -> SimulatedServices:
            problem = Problem({"accuracy": "maximize"})
            return SimulatedServices(lambda n, p: finished(problem, n, p, {"accuracy": 0.5}), problem=problem)

    return Subject


CASES = Cases("recorders", contract)
PER_STEP, STEPS = 3, 4


@CASES.keeps
class Recorder(Strategy):
    """Measures three candidates in a step, records them, and keeps the best; keeps the contract."""

    def __init__(self, *, seed: int) -> None:
        self.seed, self.space = seed, ToySpace()
        self.steps = self.drawn = 0
        self.best: list[Any] = []

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str] | None:
        return frozenset({"accuracy"})

    def measured(self, proposal: Proposal) -> Any:
        return toy_metric(proposal.architecture, self.space) + stream(self.seed, "noise", self.drawn).gauss(0.0, 0.01)

    def recorded(self, services: Services, proposal: Proposal, value: Any) -> Trial:
        return services.record(proposal, {"accuracy": value})

    def keep(self, trial: Trial, measured: Any) -> None:
        value = trial.metrics["accuracy"]
        if not self.best or value > self.best[0]:
            self.best = [value, trial.number, dict(trial.architecture)]

    def step(self, services: Services) -> None:
        for _ in range(PER_STEP):
            if services.remaining == 0:
                break
            proposal = Proposal(self.space.sample(stream(self.seed, "draw", self.drawn)))
            value = self.measured(proposal)
            self.keep(self.recorded(services, proposal, value), value)
            self.drawn += 1
        self.steps += 1

    @property
    def done(self) -> bool:
        return self.steps >= STEPS

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "drawn": self.drawn, "best": list(self.best)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps, self.drawn, self.best = state["steps"], state["drawn"], list(state["best"])


@CASES.breaks("recorded_trials_have_the_declared_metrics")
class RecordsATensor(Recorder):
    def measured(self, proposal: Proposal) -> Any:
        return torch.tensor(super().measured(proposal), dtype=torch.float64)

    def keep(self, trial: Trial, measured: Any) -> None:
        super().keep(trial, measured)
        self.best[0] = float(self.best[0])


@CASES.breaks("recorded_trials_have_the_declared_metrics")
class RecordsAnotherName(Recorder):
    def recorded(self, services: Services, proposal: Proposal, value: Any) -> Trial:
        return services.record(proposal, {"accuracy": value, "reward": value})


@CASES.breaks("recorded_trials_have_the_declared_metrics")
class RecordsNothing(Recorder):
    def recorded(self, services: Services, proposal: Proposal, value: Any) -> Trial:
        return services.record(proposal, {} if self.drawn % 5 == 4 else {"accuracy": value})

    def keep(self, trial: Trial, measured: Any) -> None:
        if trial.metrics:
            super().keep(trial, measured)


@CASES.breaks("it_records_at_most_what_remains")
class RecordsMoreThanRemains(Recorder):
    def step(self, services: Services) -> None:
        for _ in range(PER_STEP):
            proposal = Proposal(self.space.sample(stream(self.seed, "draw", self.drawn)))
            value = self.measured(proposal)
            self.keep(self.recorded(services, proposal, value), value)
            self.drawn += 1
        self.steps += 1


@CASES.breaks("it_continues_with_what_was_recorded")
class KeepsItsOwnMeasurement(Recorder):
    """After a crash its best network is that of the second measurement, not of the record."""

    def keep(self, trial: Trial, measured: Any) -> None:
        if not self.best or measured > self.best[0]:
            self.best = [measured, trial.number, dict(trial.architecture)]


@CASES.breaks("it_continues_with_what_was_recorded")
class AveragesItsOwnMeasurements(Recorder):
    """A list of the last measurements, from which a learner makes its baseline."""

    last: ClassVar[int] = 3

    def __init__(self, *, seed: int) -> None:
        super().__init__(seed=seed)
        self.rewards: list[float] = []

    def keep(self, trial: Trial, measured: Any) -> None:
        super().keep(trial, measured)
        self.rewards = [*self.rewards, measured][-self.last :]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "rewards": list(self.rewards)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.rewards = list(state["rewards"])


@CASES.breaks("the_same_seed_gives_the_same_states")
class MeasuresWithoutASeed(Recorder):
    """Only the recorded metrics differ."""

    def recorded(self, services: Services, proposal: Proposal, value: Any) -> Trial:
        import random

        return services.record(proposal, {"accuracy": value + random.SystemRandom().random() * 1e-9})

    def keep(self, trial: Trial, measured: Any) -> None:
        return


@CASES.breaks("it_resumes_at_every_step")
class WarmsUpAgain(Recorder):
    """The first measurement after a resume is another one: what it depends on is not in the state."""

    warm = False

    def recorded(self, services: Services, proposal: Proposal, value: Any) -> Trial:
        warm, self.warm = self.warm, True
        return services.record(proposal, {"accuracy": value if warm else value - 0.1})

    def keep(self, trial: Trial, measured: Any) -> None:
        return


@CASES.breaks("numbers_of_trials_may_begin_anywhere")
class CountsItsRecords(Recorder):
    """Takes the number of a trial for the number of its draw."""

    def keep(self, trial: Trial, measured: Any) -> None:
        super().keep(trial, measured)
        self.drawn = trial.number


@CASES.breaks("proposals_have_the_declared_types")
class FidelityOfATensor(Recorder):
    def recorded(self, services: Services, proposal: Proposal, value: Any) -> Trial:
        return super().recorded(services, Proposal(proposal.architecture, torch.tensor(1.0)), value)  # type: ignore


@CASES.breaks("what_it_receives_is_not_changed")
class CorrectsTheRecord(Recorder):
    def keep(self, trial: Trial, measured: Any) -> None:
        super().keep(trial, measured)
        object.__setattr__(trial, "metrics", {"accuracy": 1.0})
