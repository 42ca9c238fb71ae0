"""The study behind a strategy: what a sampler was asked and told, kept so that it can be written and read again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, final

from automl_nas.errors import ReplayError
from automl_nas.streams import stream_seed
from automl_nas_optuna.parameters import Parameters
from automl_nas_optuna.samplers import Sampler, reseed
from automl_nas_optuna.studies import new_study

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

Ending = Literal["complete", "pruned", "fail"]


@dataclass(frozen=True)
class Told:
    """What a sampler is told of a trial.

    Attributes:
        ending: Optuna's state: a failed trial is as good as deleted to its samplers.
        values: the objectives, if complete.
        constraints: name -> by how much it is missed; <= 0 is met.
        steps: (step, value of the objective) of reports, if pruned.
    """

    ending: Ending
    values: tuple[float, ...] = ()
    constraints: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[tuple[int, float], ...] = ()


FAILED = Told("fail")


@final
class ReplayableStudy:
    """A study in memory, whose sampler is seeded anew for every proposal.

    So what is proposed depends on nothing but the seed, the number of proposals before, and the trials. The state is a
    list of events: ``ask`` (the sampler proposed this code), ``add`` (somebody else did), ``tell``. Reading it puts the
    trials back as they were, and of Optuna's own attributes whole numbers and lists of them only (generations,
    populations, places in sequences); nothing is unpickled. A sampler that keeps more than that is asked for all its
    proposals again, which must turn out the same.

    Args:
        parameters: of the space.
        directions: of the objectives.
        sampler: to ask.
        seed: of the streams.
    """

    def __init__(
        self, parameters: Parameters, directions: Sequence[Literal["maximize", "minimize"]], sampler: Sampler, seed: int
    ) -> None:
        self._parameters, self._sampler, self._seed = parameters, sampler, seed
        self._sequence = _short(stream_seed(seed, "optuna/sequence"))
        self._fresh = sampler.traits.fresh
        self._study = new_study(directions, self._make(0))
        self._running: dict[int, Trial] = {}
        self._events: list[list[Any]] = []
        self.asked = 0

    def ask(self) -> tuple[int, list[int]]:
        """Return the number and the code of a trial that the sampler proposes."""
        self._seed_sampler()
        self.asked += 1
        trial = self._study.ask(self._parameters.distributions)
        code = self._parameters.code(trial.params)
        self._running[trial.number] = trial
        self._events.append(["ask", code])
        return trial.number, code

    def add(self, code: Sequence[int]) -> int:
        """Return the number of a new trial that the sampler did not propose."""
        from optuna.samplers import BaseGASampler

        self._study.enqueue_trial(self._parameters.values(code))
        trial = self._study.ask(self._parameters.distributions)
        if isinstance(self._study.sampler, BaseGASampler):
            # Else it would belong to no generation, and never be a parent.
            self._study.sampler.get_trial_generation(self._study, self._study.get_trials(deepcopy=False)[-1])
        self._running[trial.number] = trial
        self._events.append(["add", list(code)])
        return trial.number

    def tell(self, number: int, told: Told) -> None:
        """Finish a trial."""
        from optuna.trial import TrialState

        trial = self._running.pop(number)
        for name, value in told.constraints.items():
            trial.set_constraint(name, value)
        for step, value in told.steps:
            trial.report(value, step)
        values = list(told.values) if told.ending == "complete" else None
        self._study.tell(trial, values, state=TrialState[told.ending.upper()])
        self._events.append(
            [
                "tell",
                number,
                told.ending,
                list(told.values),
                [[*item] for item in told.constraints.items()],
                [[*item] for item in told.steps],
            ]
        )

    def state(self) -> dict[str, Any]:
        """Return events and attributes as plain data."""
        own = {} if self._sampler.traits.replay else self._study.whole_attributes()
        return {"events": [list(event) for event in self._events], "attributes": own}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned.

        Raises:
            ReplayError: the sampler, asked again, proposes something else.
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
                        f"proposal {self.asked - 1} came out as {code}, not as {event[1]}: another version of Optuna "
                        "or of the sampler, or a sampler that is no function of its seed and the trials. Start a new "
                        "search"
                    )
            elif event[0] == "add":
                self.add(event[1])
            else:
                self.tell(event[1], _told(event))

    def _restore(self, state: Mapping[str, Any]) -> None:
        events = state["events"]
        told = {event[1]: _told(event) for event in events if event[0] == "tell"}
        codes = [event[1] for event in events if event[0] != "tell"]
        for number, code in enumerate(codes):
            values = self._parameters.values(code)
            if (ending := told.get(number)) is None:
                self._running[number] = self._study.put_back(values, self._parameters.distributions)
            else:
                self._study.put_back_finished(
                    values,
                    self._parameters.distributions,
                    ending.ending,
                    ending.values,
                    ending.constraints,
                    dict(ending.steps),
                )
        self._study.restore_attributes(state["attributes"])
        self._events = [list(event) for event in events]
        self.asked = sum(event[0] == "ask" for event in events)

    def _make(self, step: int) -> BaseSampler:
        return self._sampler.make(_short(stream_seed(self._seed, "optuna/sampler", step)), self._sequence)

    def _seed_sampler(self) -> None:
        seed = _short(stream_seed(self._seed, "optuna/sampler", self.asked))
        if self._fresh or not reseed(self._study.sampler, seed):
            self._study.sampler = self._sampler.make(seed, self._sequence)


def _told(event: Sequence[Any]) -> Told:
    _, _, ending, values, constraints, steps = event
    return Told(ending, tuple(values), dict(constraints), tuple((step, value) for step, value in steps))


def _short(seed: int) -> int:
    # NumPy's older generators take 32 bits.
    return seed >> 31
