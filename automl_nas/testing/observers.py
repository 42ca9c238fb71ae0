"""What every observer must pass: `ObserverContract`.

A plugin's test subclasses it, in a class whose name begins with ``Test``, and gives `make`::

    class TestDiary(ObserverContract):
        def make(self, space, folder):
            return Diary(file=str(folder / "diary.txt"))
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import pytest

from automl_nas.errors import RunInterrupted
from automl_nas.evaluation.evaluator import State
from automl_nas.plugin.events import ResultInfo, RunInfo, StepInfo, frozen_trial
from automl_nas.plugin.manager import PluginManager
from automl_nas.plugin.observer import Observer
from automl_nas.run.configuration.builtin import with_builtin
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.session import Session
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.trial import Trial
from automl_nas.testing.failing_candidates import FailingEvaluator, RandomProposals, failing_space, suspect
from automl_nas.testing.toys import ToyCost

TRIALS = 9
"""In each of two stages."""


class ObserverContract(ABC):
    """What every `Observer` must keep: it watches runs of all kinds without raising, and they find what they find."""

    @abstractmethod
    def make(self, space: SearchSpace, folder: Path) -> Observer:
        """Return a fresh observer.

        Args:
            space: what the run searches.
            folder: the test's own, for what the observer writes outside the run directory.
        """

    def seen(self, observer: Observer, trials: dict[int, Trial], folder: Path) -> None:  # noqa: B027 - a default
        """Check what the observer of a run made of it, once it was closed (default: nothing is known of that).

        Args:
            observer: which watched the run, or the last part of it.
            trials: of the run.
            folder: as in `make`.
        """

    def _config(self, folder: Path, observer: Observer | None) -> dict[str, Any]:
        space = failing_space(blocks=2)
        evaluator = FailingEvaluator(space, interrupt=str(folder / "interrupt"))
        first = {
            "name": "first",
            "strategy": RandomProposals,
            "evaluator": evaluator,
            "budget": {"trials": TRIALS},
            "batch": 2,
        }
        # Without an evaluator costs are recorded, and nothing else.
        second = {
            "name": "second",
            "strategy": RandomProposals,
            "problem": {"objectives": {"toy_cost": "minimize"}},
            "budget": {"trials": TRIALS},
        }
        return {
            "space": space,
            "problem": {
                "objectives": {"accuracy": "maximize", "toy_cost": "minimize"},
                "constraints": {"toy_cost": "<= 4"},
                "costs": {"toy_cost": ToyCost(space)},
            },
            "runtime": {"device": "cpu", "threads": 1},
            "stages": [first, second],
            "observers": [] if observer is None else [observer],
            "checkpoint_seconds": 0.0,
        }

    def _found(self, run: Path) -> dict[int, Trial]:
        ledger = Ledger(run / "trials.jsonl", writable=False)
        assert not ledger.damage, "the record of trials is damaged"
        return ledger.trials

    def _manager(self) -> PluginManager:
        # An observer that raises is an error.
        return with_builtin(PluginManager({"AUTOML_NAS_PLUGINS": "", "AUTOML_NAS_STRICT_PLUGINS": "1"}).load())

    def test_a_run_finds_the_same_with_it(self, tmp_path: Path) -> None:
        """It raises nothing, and neither the trials nor the files of the run are others because it watched."""
        manager = self._manager()
        Session.start(self._config(tmp_path, None), tmp_path / "alone", manager=manager).run()
        observer = self.make(failing_space(blocks=2), tmp_path)
        watched = Session.start(self._config(tmp_path, observer), tmp_path / "watched", manager=manager).run()
        alone, found = self._found(tmp_path / "alone"), self._found(tmp_path / "watched")
        assert {trial.state for trial in found.values()} == set(State), "the run does not show all there is"
        assert _timeless(found) == _timeless(alone)
        missing = _files(tmp_path / "alone") - _files(tmp_path / "watched")
        assert not missing, f"files of the run are missing: {sorted(map(str, missing))}"
        assert RunDirectory.open(tmp_path / "watched").read_result() == watched
        self.seen(observer, found, tmp_path)

    def test_a_run_that_was_interrupted_is_watched_again(self, tmp_path: Path) -> None:
        """It is closed without the end, and another one watches the run when it is resumed."""
        manager = self._manager()
        Session.start(self._config(tmp_path, None), tmp_path / "alone", manager=manager).run()
        observer = self.make(failing_space(blocks=2), tmp_path)
        session = Session.start(self._config(tmp_path, observer), tmp_path / "watched", manager=manager)
        (tmp_path / "interrupt").touch()
        with pytest.raises(RunInterrupted):
            session.run()
        observer = self.make(failing_space(blocks=2), tmp_path)
        raw = self._config(tmp_path, observer)
        Session.resume(tmp_path / "watched", raw=raw, manager=manager).run()
        found = self._found(tmp_path / "watched")
        assert _timeless(found) == _timeless(self._found(tmp_path / "alone"))
        self.seen(observer, found, tmp_path)

    def test_it_can_be_asked_before_there_is_a_run(self, tmp_path: Path) -> None:
        """`Observer.check` leaves no run directory behind."""
        run = RunInfo(tmp_path / "run", objectives={"first": {"accuracy": "maximize"}})
        self.make(failing_space(), tmp_path).check(run)
        assert not run.directory.exists()

    def test_the_global_generators_are_left_alone(self, tmp_path: Path) -> None:
        """Whatever it does, what is drawn after it is not changed; it takes trials of every state and values of any."""
        import numpy as np
        import torch

        observer = self.make(failing_space(), tmp_path)
        directory = tmp_path / "run"
        directory.mkdir()
        (directory / "trials.jsonl").touch()
        run = RunInfo(directory, objectives={"first": {"accuracy": "maximize"}})
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
        observer.check(run)
        observer.search_started(run)
        for number, (state, value) in enumerate([(s, v) for s in State for v in (0.5, math.nan, math.inf)]):
            metrics = {"accuracy": value} if state is State.COMPLETE else {}
            trial = Trial(number, suspect(0), metrics, state=state, error="" if metrics else "none", stage="first")
            observer.trial_finished(run, frozen_trial(trial))
            observer.step_finished(run, StepInfo("first", number, number + 1))
        observer.search_finished(run, ResultInfo(trials=number + 1))
        observer.close()
        assert random.getstate() == before[0], "it changed Python's generator"
        assert np.random.get_state()[1].tolist() == before[1], "it changed NumPy's generator"  # type: ignore[index]
        assert torch.equal(torch.get_rng_state(), before[2]), "it changed torch's generator"


def _files(run: Path) -> set[Path]:
    # The names of checkpoints contain what evaluations took.
    found = {path.relative_to(run) for path in run.rglob("*")}
    return {path for path in found if path.parts[0] != "checkpoints"}


def _timeless(trials: dict[int, Trial]) -> dict[int, dict[str, Any]]:
    plain = {number: dict(vars(trial)) for number, trial in trials.items()}
    for fields in plain.values():
        del fields["seconds"]
    return plain
