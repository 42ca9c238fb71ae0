"""`ReplayableStudy`: the study behind a strategy, whose proposals and results can be written and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, final

from automl_nas.errors import ReplayError
from automl_nas.streams import stream_seed
from automl_nas_optuna.strategy.code_parameters import CodeParameters
from automl_nas_optuna.strategy.memory_study import TrialResult, new_study
from automl_nas_optuna.strategy.samplers import Sampler, reseed

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial


@final
class ReplayableStudy:
    """A study in memory whose sampler is reseeded for every proposal.

    A proposal therefore depends on the seed, the number of earlier proposals, and the trials only. The state is a list
    of events: ``ask`` (the sampler proposed this code), ``add`` (the code comes from elsewhere), ``tell`` (the result
    of a trial), ``retell`` (other results of finished trials). `load` restores the trials and, of Optuna's own
    attributes, integers and lists of integers only (generations, populations, positions in sequences); nothing is
    unpickled. A sampler that stores more than that is asked for all its proposals again; they must be the recorded
    ones.

    Args:
        parameters: the parameters of the search space.
        directions: the directions of the objectives.
        sampler: the sampler of the study.
        seed: the seed of the random streams.

    Attributes:
        asked: the number of proposals by the sampler.
    """

    def __init__(
        self,
        parameters: CodeParameters,
        directions: Sequence[Literal["maximize", "minimize"]],
        sampler: Sampler,
        seed: int,
    ) -> None:
        self._parameters, self._sampler, self._seed = parameters, sampler, seed
        self._sequence = _seed_of_32_bits(stream_seed(seed, "optuna/sequence"))
        self._fresh = sampler.traits.fresh
        self._study = new_study(directions, self._make(0))
        self._running: dict[int, Trial] = {}
        self._events: list[list[Any]] = []
        self.asked = 0

    def ask(self) -> tuple[int, list[int]]:
        """Return the number and the code of a new trial that the sampler proposes."""
        self._seed_sampler()
        self.asked += 1
        trial = self._study.ask(self._parameters.distributions)
        code = self._parameters.code(trial.params)
        self._running[trial.number] = trial
        self._events.append(["ask", code])
        return trial.number, code

    def add(self, code: Sequence[int]) -> int:
        """Return the number of a new trial with a code that the sampler did not propose."""
        self._study.enqueue_trial(self._parameters.values(code))
        trial = self._study.ask(self._parameters.distributions)
        self._study.join_generation(trial.number)
        self._running[trial.number] = trial
        self._events.append(["add", list(code)])
        return trial.number

    def tell(self, number: int, result: TrialResult) -> None:
        """Finish a trial."""
        self._finish(number, result)
        self._events.append(["tell", *_written(number, result)])

    def retell(self, results: Mapping[int, TrialResult], *, restart: bool) -> None:
        """Give finished trials other results.

        Args:
            results: number of a trial -> its result.
            restart: whether results are no longer compared with those before. Then the generations of a genetic
                algorithm begin again with the trials that are complete now.
        """
        # A sampler may remember which trials it has seen.
        self._study.sampler = self._make(self.asked)
        numbers = sorted(results)
        self._running |= dict(zip(numbers, self._study.reopen(numbers), strict=True))
        # A trial that had no value so far joins the present generation, not the one in which it was proposed.
        self._study.forget_generations(None if restart else numbers)
        for number in numbers:
            if results[number].state == "complete":
                self._study.join_generation(number)
            self._finish(number, results[number])
        if restart:
            for number in sorted(self._running):
                self._study.join_generation(number)
        self._events.append(["retell", restart, [_written(number, results[number]) for number in numbers]])

    def _finish(self, number: int, result: TrialResult) -> None:
        from optuna.trial import TrialState

        trial = self._running.pop(number)
        for name, value in result.constraints.items():
            trial.set_constraint(name, value)
        for step, value in result.steps:
            trial.report(value, step)
        values = list(result.values) if result.state == "complete" else None
        self._study.tell(trial, values, state=TrialState[result.state.upper()])

    def results(self) -> dict[int, TrialResult]:
        """Return the present results of the finished trials by their numbers."""
        return _results(self._events)

    def codes(self) -> list[list[int]]:
        """Return the codes of all trials in the order of their numbers."""
        return _codes(self._events)

    def state(self) -> dict[str, Any]:
        """Return the events and Optuna's attributes as plain data."""
        attributes = {} if self._sampler.traits.replay else self._study.integer_attributes()
        return {"events": [list(event) for event in self._events], "attributes": attributes}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `state` returned.

        Raises:
            ReplayError: the sampler, asked again, makes another proposal than the recorded one.
        """
        self._study = new_study(self._study.raw_directions, self._make(0))
        self._running, self._events, self.asked = {}, [], 0
        (self._replay if self._sampler.traits.replay else self._restore)(state)

    def _replay(self, state: Mapping[str, Any]) -> None:
        for event in state["events"]:
            if event[0] == "ask":
                _, code = self.ask()
                if code != event[1]:
                    raise ReplayError(
                        f"the sampler '{self._sampler.name}' is resumed by asking for its proposals again, and "
                        f"proposal {self.asked - 1} is now {code}, but was {event[1]}. Either the version of Optuna or "
                        "of the sampler has changed, or its proposals do not depend on the seed and the trials only. "
                        "Start a new search"
                    )
            elif event[0] == "add":
                self.add(event[1])
            elif event[0] == "retell":
                self.retell(dict(map(_read, event[2])), restart=event[1])
            else:
                self.tell(*_read(event[1:]))

    def _restore(self, state: Mapping[str, Any]) -> None:
        events = state["events"]
        results = _results(events)
        for number, code in enumerate(_codes(events)):
            values = self._parameters.values(code)
            if (result := results.get(number)) is None:
                self._running[number] = self._study.restore_running(values, self._parameters.distributions)
            else:
                self._study.restore_finished(values, self._parameters.distributions, result)
        self._study.restore_attributes(state["attributes"])
        self._events = [list(event) for event in events]
        self.asked = sum(event[0] == "ask" for event in events)

    def _make(self, step: int) -> BaseSampler:
        return self._sampler_with(_seed_of_32_bits(stream_seed(self._seed, "optuna/sampler", step)))

    def _sampler_with(self, seed: int) -> BaseSampler:
        return self._sampler.make(seed, self._sequence, self._parameters.distributions)

    def _seed_sampler(self) -> None:
        seed = _seed_of_32_bits(stream_seed(self._seed, "optuna/sampler", self.asked))
        if self._fresh or not reseed(self._study.sampler, seed):
            self._study.sampler = self._sampler_with(seed)


def _written(number: int, result: TrialResult) -> list[Any]:
    constraints, steps = [[*item] for item in result.constraints.items()], [[*item] for item in result.steps]
    return [number, result.state, list(result.values), constraints, steps]


def _read(written: Sequence[Any]) -> tuple[int, TrialResult]:
    number, state, values, constraints, steps = written
    return number, TrialResult(state, tuple(values), dict(constraints), tuple((step, value) for step, value in steps))


def _results(events: Sequence[Sequence[Any]]) -> dict[int, TrialResult]:
    results: dict[int, TrialResult] = {}
    for kind, *content in events:
        if kind == "tell":
            results.update([_read(content)])
        elif kind == "retell":
            results.update(map(_read, content[1]))
    return results


def _codes(events: Sequence[Sequence[Any]]) -> list[list[int]]:
    return [event[1] for event in events if event[0] in ("ask", "add")]


def _seed_of_32_bits(seed: int) -> int:
    # `numpy.random.RandomState` takes seeds of 32 bits.
    return seed >> 31
