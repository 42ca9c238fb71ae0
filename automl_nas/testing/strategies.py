"""Contract tests of strategies that take steps: `StrategyContract`.

Derive a class whose name begins with ``Test`` and implement the abstract method.
"""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from automl_nas.space.architecture import Architecture
from automl_nas.strategy.base import Strategy
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal
from automl_nas.testing.checkers import require_checker, require_names, require_phases, require_shortened
from automl_nas.testing.clock import fast_clock
from automl_nas.testing.contract import Contract, require
from automl_nas.testing.handed import digest, fingerprint, require_json, state_size
from automl_nas.testing.services import SimulatedServices, finished
from automl_nas.testing.states import same, stored
from automl_nas.testing.toys import ToySpace, ToyTask, toy_metric


class StrategyContract(Contract):
    """The tests of a `Strategy`: it is deterministic, and resuming after any step gives bit-equal results.

    Attributes:
        steps: the maximum number of steps of a test. They reach every phase of the strategy: a phase that no test
            reaches is not resumed in a test.
        growth: the largest number of bytes by which the state may grow in a step after the first.
    """

    steps: ClassVar[int] = 4
    growth: ClassVar[int] = 100_000
    other_dtype: ClassVar[bool] = False
    other_threads: ClassVar[bool] = False

    @abstractmethod
    def make(self, seed: int) -> Strategy:
        """Return a new strategy that takes `steps` steps within about two seconds."""

    def services(self) -> SimulatedServices:
        """Return new services (default: they evaluate `toy_metric` of a `ToySpace`)."""
        space = ToySpace()
        problem = Problem({"accuracy": "maximize"})
        return SimulatedServices(
            lambda number, p: finished(problem, number, p, {"accuracy": toy_metric(p.architecture, space)})
        )

    def _advance(self, strategy: Strategy, services: SimulatedServices, steps: int) -> list[Any]:
        states = []
        for _ in range(steps):
            if not strategy.done:
                strategy.step(services)
            states.append(stored(strategy.state_dict()))
        return states

    def _whole(self) -> tuple[list[Any], SimulatedServices]:
        """Return the states and the services of an undisturbed run with seed 1, made once for each class."""
        kind = type(self)
        if kind not in _WHOLE:
            services = self.services()
            _WHOLE[kind] = self._advance(self.make(1), services, self.steps), services
        return _WHOLE[kind]

    def use(self, store: Path) -> Mapping[str, Any]:
        """Take all steps, and continue from a state that is stored in the folder."""
        file = store / "state.pt"
        if not file.exists():
            torch.save(self._advance(self.make(1), self.services(), 1)[0], file)
        resumed, behind = self.make(1), self.services()
        resumed.load_state_dict(torch.load(file, weights_only=True))
        self.make(1).step(behind)
        after = self._advance(resumed, behind, self.steps - 1)
        services, strategy = self.services(), self.make(1)
        whole = self._advance(strategy, services, self.steps)
        return {
            "states": [_plain(state) for state in whole],
            "continued states": [_plain(state) for state in after],
            "logged numbers": [[step, _plain(values)] for step, values in services.logged],
            "proposals": [[p.architecture.key, p.fidelity] for p in services.submitted],
            "recorded metrics": [[number, _plain(metrics)] for number, metrics in services.recorded],
        }

    def test_the_same_seed_gives_the_same_states(self) -> None:
        """Two runs with the same seed have equal states, proposals and logged numbers after each step.

        Way out: draw from `automl_nas.streams`, and build and train networks inside `Runtime.seeded`.
        """
        services = self.services()
        states = self._advance(self.make(1), services, self.steps)
        first, before = self._whole()
        for step, (one, two) in enumerate(zip(first, states, strict=True)):
            require(same(one, two), f"the states after step {step + 1} differ")
        require(services.submitted == before.submitted, "the proposals differ")
        require(same(_logged(services), _logged(before)), "the logged numbers differ")
        require(services.recorded == before.recorded, "the recorded metrics differ")

    def test_another_seed_gives_another_state(self) -> None:
        """The states of two seeds differ.

        Way out: use the constructor's seed, also for the fresh weights of networks.
        """
        other = self._advance(self.make(2), self.services(), self.steps)
        require(not same(self._whole()[0][-1], other[-1]), "seeds 1 and 2 have equal states")

    def test_every_seed_is_accepted(self) -> None:
        """Seeds of a run have up to 63 bits.

        Way out: pass the seed to `automl_nas.streams`, or give NumPy's old generator `seed % 2**32`.
        """
        for seed in (0, 2**63 - 1):
            self.make(seed).step(self.services())

    def test_instances_are_independent(self) -> None:
        """Two strategies in one process, which take steps in turn, have the states that each has alone.

        Way out: keep data in attributes of the instance; a mutable attribute of the class is shared by all instances.
        """
        pairs = [(self.make(seed), self.services()) for seed in (1, 2)]
        for step in range(self.steps):
            states = [self._advance(strategy, services, 1)[0] for strategy, services in pairs]
            require(
                same(states[0], self._whole()[0][step]), f"another instance changed the state after step {step + 1}"
            )

    def test_a_loaded_state_is_complete(self) -> None:
        """`state_dict` returns the state that was loaded, unchanged.

        Way out: `load_state_dict` sets everything that `state_dict` returns.
        """
        for number, state in enumerate(self._whole()[0]):
            other = self.make(1)
            other.load_state_dict(stored(state))
            require(same(stored(other.state_dict()), state), f"the state after step {number + 1} is another one")

    def test_the_checker_has_parameters_of_the_constructor(self) -> None:
        """The checker has some of the constructor's parameters, with the same annotations; see `Strategy.checker`.

        Way out: name and annotate the parameters of the checker as those of the constructor, without defaults.
        """
        require_checker(type(self.make(1)))

    def test_the_class_describes_itself(self) -> None:
        """`shortened`, `phases`, `artifact_names` and `metric_names` return the declared types, with settings it has.

        Way out: name settings as the constructor does; shares of phases add up to 1; names are a frozenset.
        """
        kind = type(self.make(1))
        require_shortened(kind)
        require_phases(kind)
        require_names(kind.metric_names(None), "metric_names(None)")

    def test_the_planned_number_of_trials_is_kept(self) -> None:
        """`planned` is None or a whole number that is not smaller than the number of proposals made.

        Way out: return the number of proposals of the whole search, or leave the default None.
        """
        planned = self.make(1).planned
        count = len(self._whole()[1].submitted) - len(self.services().submitted)
        require(planned is None or type(planned) is int, f"planned is {planned!r}")
        require(planned is None or planned >= count, f"planned is {planned}, and it makes {count} proposals")

    def test_numbers_of_trials_may_begin_anywhere(self) -> None:
        """In a run with earlier stages, whose first trial has another number, it makes the same proposals.

        Way out: keep the numbers that `Services.submit` returns; they are not positions in a list.
        """
        services = self.services()
        services.first = 1000
        strategy = self.make(1)
        self._advance(strategy, services, self.steps)
        # ``info`` may name trials.
        proposed, alone = (
            [(proposal.architecture, proposal.fidelity) for proposal in each.submitted]
            for each in (services, self._whole()[1])
        )
        require(proposed == alone, "with other numbers of trials it makes other proposals")

    def test_the_expected_architecture_changes_nothing(self) -> None:
        """`expected` returns None or an Architecture, the same for the same seed, and leaves the strategy as it was.

        Way out: draw from `stream(seed, ...)` with the seed that `expected` receives.
        """
        strategy = self.make(1)
        before = stored(strategy.state_dict())
        first = strategy.expected(3)
        require(first is None or isinstance(first, Architecture), f"expected(3) returns a {type(first).__name__}")
        require(strategy.expected(3) == first, "expected(3) returns another architecture the second time")
        require(same(stored(strategy.state_dict()), before), "expected changed the state")

    def test_recorded_trials_have_the_declared_metrics(self) -> None:
        """`Services.record` receives plain numbers under the names of `metric_names`.

        Way out: `services.record(Proposal(architecture), {"accuracy": float(value)})`; `metric_names` has every name.
        """
        names = self.make(1).metric_names(ToyTask())
        for number, metrics in self._whole()[1].recorded:
            require(metrics, f"trial {number} is recorded without metrics")
            for name, value in metrics.items():
                plain = type(name) is str and type(value) in (int, float)
                require(plain, f"trial {number} is recorded with {name!r} = {value!r}, a {type(value).__name__}")
            unknown = set() if names is None else set(metrics) - names
            require(not unknown, f"it records {', '.join(unknown)}; metric_names has {', '.join(names or ())}")

    def test_it_records_at_most_what_remains(self) -> None:
        """A step records no more trials than `Services.remaining` says; at 0 the driver takes no further step.

        Way out: ask `services.remaining` before each trial, and leave the rest of the step out at 0.
        """
        count = len(self._whole()[1].recorded)
        for budget in sorted({1, count // 2} - {0}) if count else ():
            services, strategy = self.services(), self.make(1)
            services.budget = budget
            for _ in range(self.steps):
                if not strategy.done and services.remaining != 0:
                    strategy.step(services)
            count_made = len(services.submitted)
            require(count_made <= budget, f"{budget} trials remained, and it made {count_made}")

    def test_it_continues_with_what_was_recorded(self) -> None:
        """A number that it keeps of a trial it recorded is that of the trial that `Services.record` returned.

        After a crash it measures again what it had measured, perhaps with another result; the record counts.

        Way out: `trial = services.record(...)`, then read `trial.metrics`, not the metrics that were passed.
        """
        whole, before = self._whole()
        if not before.recorded:
            return
        services = self.services()
        services.change_recorded = lambda value: value + _CHANGE
        changed = _numbers(self._advance(self.make(1), services, self.steps)[-1])
        numbers = _numbers(whole[-1])
        for (_, own), (number, metrics) in zip(services.recorded, before.recorded, strict=False):
            if own != metrics:  # the record changed what came after
                return
            for value in (value for value in own.values() if not _is_share(value)):
                ignored = [path for path, item in numbers.items() if item == value == changed.get(path)]
                text = f"the state keeps {value!r}, which it measured for trial {number}: {', '.join(ignored)}"
                require(not ignored, f"{text}; the record has {value + _CHANGE!r}")

    def test_it_resumes_at_every_step(self) -> None:
        """Stopped after any step and resumed from a stored state, it has a bit-equal state at the end.

        Way out: the state has weights, the states of optimisers and schedules, counters, what was sampled and not yet
        used, and the numbers of trials that are outstanding.
        """
        whole, before = self._whole()
        for stop in range(1, self.steps):
            services = self.services()
            state = self._advance(self.make(1), services, stop)[-1]
            resumed = self.make(1)
            resumed.load_state_dict(state)
            after = self._advance(resumed, services, self.steps - stop)
            require(same(after[-1], whole[-1]), f"resuming after step {stop} of {self.steps} changed the result")
            require(services.submitted == before.submitted, f"resuming after step {stop} changed the proposals")
            require(services.recorded == before.recorded, f"resuming after step {stop} changed the recorded metrics")
        services, strategy = self.services(), self.make(1)
        for step in range(self.steps):
            state = self._advance(strategy, services, 1)[-1]
            require(
                same(state, whole[step]), f"resumed after every step, the state after step {step + 1} is another one"
            )
            strategy = self.make(1)
            strategy.load_state_dict(state)

    def test_reading_the_state_changes_nothing(self) -> None:
        """A run whose state is read only at the end has the same state as one whose state is read after each step.

        Way out: `state_dict` neither draws random numbers nor clears anything.
        """
        services, strategy = self.services(), self.make(1)
        for _ in range(self.steps):
            if not strategy.done:
                strategy.step(services)
        last = stored(strategy.state_dict())
        require(same(last, self._whole()[0][-1]), "reading the state after each step changed it")
        require(same(stored(strategy.state_dict()), last), "two readings of a state differ")

    def test_the_state_is_bounded(self) -> None:
        """After the first step the state grows by at most `growth` bytes in a step.

        Way out: do not collect losses or samples; log numbers with `Services.log`.
        """
        sizes = [state_size(state) for state in self._whole()[0]]
        for step, size in enumerate(sizes[1:], 2):
            require(size - sizes[0] <= self.growth * (step - 1), f"it grew from {sizes[0]:,} to {size:,} bytes")

    def test_steps_do_not_depend_on_the_clock(self) -> None:
        """A step is a number of iterations or trials: on a slower machine it does the same.

        Way out: count iterations; read the clock for messages only.
        """
        with fast_clock():
            states = self._advance(self.make(1), self.services(), self.steps)
        require(same(states[-1], self._whole()[0][-1]), "with a clock that runs faster the result is another one")

    def test_done_is_a_property_of_the_state(self) -> None:
        """`done` is False for a new strategy, a bool, the same until the next step, and the same after loading.

        Way out: compute `done` from counters of the state, without changing anything.
        """
        strategy, services = self.make(1), self.services()
        require(strategy.done is False, f"done of a new strategy is {strategy.done!r}")
        for _ in range(self.steps):
            if not strategy.done:
                strategy.step(services)
            ended = strategy.done
            require(type(ended) is bool and strategy.done is ended, f"done is {ended!r} and then {strategy.done!r}")
            other = self.make(1)
            other.load_state_dict(stored(strategy.state_dict()))
            require(other.done is ended, f"done is {ended}, and {other.done} after loading the state")

    def test_logged_numbers_are_numbers(self) -> None:
        """`Services.log` receives names and numbers, with a step that never decreases; progress stays within its total.

        Way out: log `loss.item()` instead of the tensor; count iterations of the whole stage.
        """
        services = self._whole()[1]
        last = 0
        for step, values in services.logged:
            require(type(step) is int and step >= last, f"the step {step!r} follows {last}")
            last = step
            for name, value in values.items():
                plain = type(name) is str and type(value) in (int, float)
                require(plain, f"it logs {name!r} = {value!r}, a {type(value).__name__}")
        for done, total, unit in services.progressed:
            numbers = [number for number in (done, total) if number is not None]
            require(all(type(number) in (int, float) and math.isfinite(number) for number in numbers), f"{numbers}")
            require(type(unit) is str and unit, f"the unit of the progress is {unit!r}")
            require(done >= 0 and (total is None or done <= total * (1 + 1e-9)), f"progress is {done} of {total}")

    def test_proposals_have_the_declared_types(self) -> None:
        """Proposals have an Architecture, a fidelity that is None or a number, and JSON ``info``.

        Way out: propose `Proposal(architecture)` with plain numbers in ``info``.
        """
        for proposal in self._whole()[1].submitted:
            require(type(proposal) is Proposal, f"a proposal is a {type(proposal).__name__}")
            require(isinstance(proposal.architecture, Architecture), "the architecture has another type")
            fidelity = proposal.fidelity
            require(fidelity is None or type(fidelity) in (int, float), f"the fidelity is {fidelity!r}")
            require_json(proposal.info, "info", 10_000)

    def test_what_it_receives_is_not_changed(self) -> None:
        """Trials that the services return are the same afterwards.

        Way out: copy before changing; never `object.__setattr__`.
        """
        services = self._whole()[1]
        for trial in services.trials(state=None):
            original = services.originals[trial.number]
            require(fingerprint(trial) == fingerprint(original), f"trial {trial.number} was changed")


_WHOLE: dict[type, tuple[list[Any], SimulatedServices]] = {}
_CHANGE = 0.0137
"""By which the recorded metrics differ from those that a strategy measured."""


def _numbers(state: Any, path: str = "") -> dict[str, float]:
    """Return place -> number, of all numbers of a state that are not in tensors."""
    items: Any = ()
    if isinstance(state, Mapping):
        items = state.items()
    elif isinstance(state, list | tuple):
        items = enumerate(state)
    elif type(state) is float:
        return {path: state}
    return {place: value for name, item in items for place, value in _numbers(item, f"{path}[{name!r}]").items()}


def _is_share(value: float) -> bool:
    """Whether a number is a share of a small count, such as an accuracy: others may be equal to it by chance."""
    return abs(value * 5040 - round(value * 5040)) < 1e-9


def _logged(services: SimulatedServices) -> list[Any]:
    return [[step, values] for step, values in services.logged]


def _plain(state: Any) -> Any:
    """Return a state as JSON, with digests of its tensors."""
    if isinstance(state, torch.Tensor):
        return f"{state.dtype} {tuple(state.shape)} {digest(state)}"
    if isinstance(state, Mapping):
        return {str(name): _plain(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return [_plain(value) for value in state]
    if isinstance(state, bytes):
        return hashlib.sha256(state).hexdigest()
    if isinstance(state, float) and not math.isfinite(state):
        return str(state)
    return state
