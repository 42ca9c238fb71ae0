"""The contract of observers: `ObserverContract`.

A test of a plugin subclasses it, in a class whose name begins with ``Test``, and implements `make`::

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
from automl_nas.testing.failing_candidates import FailingEvaluator, RandomProposals, failing_candidate, failing_space
from automl_nas.testing.toys import ToyCost

TRIALS = 9
"""Number of trials in each of two stages."""


class ObserverContract(ABC):
    """The contract of every `Observer`: it observes runs with trials of all states without raising or changing them."""

    @abstractmethod
    def make(self, space: SearchSpace, folder: Path) -> Observer:
        """Return a fresh observer.

        Args:
            space: the search space of the run.
            folder: a folder of the test, for files that the observer writes outside the run directory.
        """

    def seen(self, observer: Observer, trials: dict[int, Trial], folder: Path) -> None:  # noqa: B027 - a default
        """Check what an observer did with a run, after it was closed (default: no check).

        Args:
            observer: that observed the run, or its last part after an interruption.
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
        # Without an evaluator only costs are recorded.
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

    def _trials(self, run: Path) -> dict[int, Trial]:
        ledger = Ledger(run / "trials.jsonl", writable=False)
        assert not ledger.damage, "the record of trials is damaged"
        return ledger.trials

    def _manager(self) -> PluginManager:
        # Strict: an observer that raises ends the run.
        return with_builtin(PluginManager({"AUTOML_NAS_PLUGINS": "", "AUTOML_NAS_STRICT_PLUGINS": "1"}).load())

    def test_trials_are_the_same_without_it(self, tmp_path: Path) -> None:
        """The observer raises nothing, and trials and files of the run are the same without it."""
        manager = self._manager()
        Session.start(self._config(tmp_path, None), tmp_path / "alone", manager=manager).run()
        observer = self.make(failing_space(blocks=2), tmp_path)
        watched = Session.start(self._config(tmp_path, observer), tmp_path / "watched", manager=manager).run()
        expected, trials = self._trials(tmp_path / "alone"), self._trials(tmp_path / "watched")
        assert {trial.state for trial in trials.values()} == set(State), "the run has not trials of all states"
        assert _timeless(trials) == _timeless(expected)
        missing = _files(tmp_path / "alone") - _files(tmp_path / "watched")
        assert not missing, f"files of the run are missing: {sorted(map(str, missing))}"
        assert RunDirectory.open(tmp_path / "watched").read_result() == watched
        self.seen(observer, trials, tmp_path)

    def test_a_resumed_run_is_observed_again(self, tmp_path: Path) -> None:
        """The observer is closed without a result, and a new one observes the resumed run."""
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
        trials = self._trials(tmp_path / "watched")
        assert _timeless(trials) == _timeless(self._trials(tmp_path / "alone"))
        self.seen(observer, trials, tmp_path)

    def test_check_creates_no_run_directory(self, tmp_path: Path) -> None:
        """`Observer.check` may be called before the run exists and does not create its directory."""
        run = RunInfo(tmp_path / "run", objectives={"first": {"accuracy": "maximize"}})
        self.make(failing_space(), tmp_path).check(run)
        assert not run.directory.exists()

    def test_the_global_generators_are_left_alone(self, tmp_path: Path) -> None:
        """The observer does not advance or seed them, for trials of every state and with all kinds of values."""
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
            trial = Trial(
                number, failing_candidate(0), metrics, state=state, error="" if metrics else "none", stage="first"
            )
            observer.trial_finished(run, frozen_trial(trial))
            observer.step_finished(run, StepInfo("first", number, number + 1))
        observer.search_finished(run, ResultInfo(trials=number + 1))
        observer.close()
        assert random.getstate() == before[0], "it changed Python's generator"
        assert np.random.get_state()[1].tolist() == before[1], "it changed NumPy's generator"  # type: ignore[index]
        assert torch.equal(torch.get_rng_state(), before[2]), "it changed torch's generator"


def _files(run: Path) -> set[Path]:
    # The names of checkpoints depend on durations, through their digest.
    files = {path.relative_to(run) for path in run.rglob("*")}
    return {path for path in files if path.parts[0] != "checkpoints"}


def _timeless(trials: dict[int, Trial]) -> dict[int, dict[str, Any]]:
    plain = {number: dict(vars(trial)) for number, trial in trials.items()}
    for fields in plain.values():
        del fields["seconds"]
    return plain
