"""The contract of pruners: `PrunerContract`.

A test of a plugin subclasses it, in a class whose name begins with ``Test``, and implements `make`::

    class TestMyPruner(PrunerContract):
        def make(self, problem):
            return MyPruner(problem, patience=3)
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from automl_nas.evaluation.evaluator import Earlier, EarlierTrial, State
from automl_nas.evaluation.pruner import Judge, Pruner
from automl_nas.run.trials.pruning import read_earlier, serialize_earlier
from automl_nas.strategy.problem import Problem
from automl_nas.streams import stream
from automl_nas.testing.contract import Contract, require
from automl_nas.testing.handed import fingerprint, require_json

FAILED_ONE = 3
"""The number of the trial that fails."""

NOTES_LIMIT = 10_000
"""The largest number of characters of the JSON of a trial's notes."""


class PrunerContract(Contract):
    """The contract of every `Pruner`. Noisy learning curves of a few trials are judged.

    Attributes:
        trials: their number.
        steps: the number of reports of a trial that is not pruned.
    """

    trials: ClassVar[int] = 12
    steps: ClassVar[int] = 9

    @abstractmethod
    def make(self, problem: Problem) -> Pruner:
        """Return the pruner under test; all instances have the same settings."""

    def curve(self, number: int) -> list[tuple[int, float]]:
        """Return (step, value) of all reports of a trial."""
        noise = stream(0, "contract-curve", number)
        best = noise.uniform(0.5, 1.0)
        return [(step, best * step / (step + 2) + noise.gauss(0, 0.02)) for step in range(1, self.steps + 1)]

    def use(self, store: Path) -> Mapping[str, Any]:
        """Judge all trials, one after the other."""
        return {"trials": [_plain(trial) for trial in self._judged(self._make())]}

    def test_decisions_depend_on_the_arguments_only(self) -> None:
        """The same pruner, another one, and one that judged other trials before decide the same.

        Way out: keep no state in the pruner that one judge changes and another reads; note what later trials need.
        """
        first = self._make()
        trials = self._judged(first)
        for other in (first, self._make()):
            require(self._judged(other) == trials, "the decisions or notes of a second pass differ")
        used = self._make()
        for trial in reversed(trials):
            judged = self._judge(used, Earlier(trial.number, tuple(trials[: trial.number])))
            require(judged == trial or trial.number == FAILED_ONE, f"trial {trial.number} is judged in another way")

    def test_judges_of_several_trials_are_independent(self) -> None:
        """Trials that are evaluated at the same time are judged as if each were alone.

        Way out: keep what a judge knows of its trial in the judge.
        """
        pruner = self._make()
        past = tuple(self._judged(pruner)[:6])
        numbers = range(6, self.trials)
        alone = [self._judge(pruner, Earlier(number, past)) for number in numbers]
        judges = {number: pruner.judge(Earlier(number, past)) for number in numbers}
        reports: dict[int, list[tuple[int, float]]] = {number: [] for number in numbers}
        running = set(numbers)
        for step in range(self.steps):
            for number in sorted(running):
                reports[number].append(self.curve(number)[step])
                if judges[number].prunes(*reports[number][-1]):
                    running.discard(number)
        together = [self._trial(number, reports[number], judges[number], number not in running) for number in numbers]
        require(together == alone, "the decisions differ from those of trials that are evaluated alone")

    def test_notes_are_json(self) -> None:
        """Notes are JSON values, and notes that were recorded and read again lead to the same decisions.

        Way out: convert with float(), int() or list().
        """
        pruner = self._make()
        trials = self._judged(pruner)
        for trial in trials:
            require_json(dict(trial.notes), f"the notes of trial {trial.number}", NOTES_LIMIT)
            earlier = Earlier(trial.number, tuple(trials[: trial.number]))
            read = read_earlier(json.loads(json.dumps(serialize_earlier(earlier))))
            require(read == earlier, "the earlier trials are not the same after they were written and read")
            judged = self._judge(pruner, read)
            require(judged == trial or trial.number == FAILED_ONE, f"trial {trial.number} is judged in another way")

    def test_trials_may_be_missing(self) -> None:
        """The numbers of earlier trials may have gaps, and there may be none.

        Way out: find earlier trials by their number, not by their position.
        """
        pruner = self._make()
        trials = self._judged(pruner)
        for past in ((), tuple(trials[1:8:3])):
            judged = self._judge(pruner, Earlier(self.trials + 5, past))
            require(judged.reports, "nothing was reported")

    def test_it_leaves_its_arguments_alone(self) -> None:
        """The earlier trials and the problem are not changed.

        Way out: copy what you change.
        """
        problem = self._problem()
        pruner = self.make(problem)
        earlier = Earlier(self.trials, tuple(self._judged(pruner)))
        before = fingerprint(problem), [_plain(trial) for trial in earlier.trials]
        self._judge(pruner, earlier)
        require((fingerprint(problem), [_plain(trial) for trial in earlier.trials]) == before, "they were changed")

    def _problem(self) -> Problem:
        return Problem({"accuracy": "maximize"})

    def _make(self) -> Pruner:
        return self.make(self._problem())

    def _judged(self, pruner: Pruner) -> list[EarlierTrial]:
        trials: list[EarlierTrial] = []
        for number in range(self.trials):
            trial = self._judge(pruner, Earlier(number, tuple(trials)))
            if number == FAILED_ONE:
                trial = EarlierTrial(number, State.FAILED, None, trial.reports[:2])
            trials.append(trial)
        return trials

    def _judge(self, pruner: Pruner, earlier: Earlier) -> EarlierTrial:
        judge, reports = pruner.judge(earlier), list[tuple[int, float]]()
        for step, value in self.curve(earlier.number):
            reports.append((step, value))
            pruned = judge.prunes(step, value)
            require(type(pruned) is bool, f"prunes returned {pruned!r}, a {type(pruned).__name__}")
            if pruned:
                break
        return self._trial(earlier.number, reports, judge, len(reports) < self.steps or pruned)

    def _trial(self, number: int, reports: Sequence[tuple[int, float]], judge: Judge, pruned: bool) -> EarlierTrial:
        state, value = (State.PRUNED, None) if pruned else (State.COMPLETE, reports[-1][1])
        return EarlierTrial(number, state, value, tuple(reports), dict(judge.notes))


def _plain(trial: EarlierTrial) -> list[Any]:
    return [trial.number, trial.state.value, trial.value, [list(item) for item in trial.reports], dict(trial.notes)]
