"""Contract tests of strategies: `StrategyContract`.

Derive a class whose name begins with ``Test`` and implement the abstract method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from automl_nas.strategy.base import Services, Strategy
from automl_nas.strategy.problem import Problem
from automl_nas.testing.checkers import require_checker
from automl_nas.testing.services import SimulatedServices, finished
from automl_nas.testing.states import same, stored
from automl_nas.testing.toys import ToySpace, toy_metric


class StrategyContract(ABC):
    """The tests of a `Strategy`: it is deterministic, and resuming after any step gives bit-equal results."""

    steps: ClassVar[int] = 4
    """The maximum number of steps of a test."""

    @abstractmethod
    def make(self, seed: int) -> Strategy:
        """Return a new strategy that takes `steps` steps within about two seconds."""

    def services(self) -> Services:
        """Return new services (default: they evaluate `toy_metric` of a `ToySpace`)."""
        space = ToySpace()
        problem = Problem({"accuracy": "maximize"})
        return SimulatedServices(
            lambda number, p: finished(problem, number, p, {"accuracy": toy_metric(p.architecture, space)})
        )

    def _advance(self, strategy: Strategy, services: Services, steps: int) -> list[Any]:
        states = []
        for _ in range(steps):
            if not strategy.done:
                strategy.step(services)
            states.append(stored(strategy.state_dict()))
        return states

    def test_the_same_seed_gives_the_same_states(self) -> None:
        """Two runs with the same seed have equal states after each step."""
        first = self._advance(self.make(1), self.services(), self.steps)
        second = self._advance(self.make(1), self.services(), self.steps)
        assert all(map(same, first, second))

    def test_another_seed_gives_another_state(self) -> None:
        """The states of two seeds differ."""
        first = self._advance(self.make(1), self.services(), self.steps)
        second = self._advance(self.make(2), self.services(), self.steps)
        assert not same(first[-1], second[-1])

    def test_a_loaded_state_is_complete(self) -> None:
        """`state_dict` returns the state that was loaded, unchanged."""
        strategy = self.make(1)
        state = self._advance(strategy, self.services(), 1)[-1]
        other = self.make(1)
        other.load_state_dict(state)
        assert same(stored(other.state_dict()), state)

    def test_the_checker_has_parameters_of_the_constructor(self) -> None:
        """See `Strategy.checker`."""
        require_checker(type(self.make(1)))

    def test_it_resumes_at_every_step(self) -> None:
        """Stopped after any step and resumed from a stored state, it has a bit-equal state at the end."""
        whole = self._advance(self.make(1), self.services(), self.steps)
        for stop in range(1, self.steps):
            services = self.services()
            before = self._advance(self.make(1), services, stop)[-1]
            resumed = self.make(1)
            resumed.load_state_dict(before)
            after = self._advance(resumed, services, self.steps - stop)
            assert same(after[-1], whole[-1]), f"resuming after step {stop} of {self.steps} changed the result"
