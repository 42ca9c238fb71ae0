"""The contract of observers: `ObserverContract`.

A test of a plugin subclasses it, in a class whose name begins with ``Test``, and implements `make`::

    class TestDiary(ObserverContract):
        def make(self, space, folder):
            return Diary(file=str(folder / "diary.txt"))
"""

from __future__ import annotations

import json
import math
import time
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

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
from automl_nas.testing.contract import Contract, require
from automl_nas.testing.failing_candidates import FailingEvaluator, RandomProposals, failing_candidate, failing_space
from automl_nas.testing.handed import fingerprint
from automl_nas.testing.toys import ToyCost

TRIALS = 9
"""Number of trials in each of two stages."""


class ObserverContract(Contract):
    """The contract of every `Observer`: it observes runs with trials of all states without raising or changing them.

    Attributes:
        seconds: the largest mean duration of an event, in the fastest of three repetitions of a run.
    """

    seconds: ClassVar[float] = 0.05
    other_dtype: ClassVar[bool] = False
    other_threads: ClassVar[bool] = False

    @abstractmethod
    def make(self, space: SearchSpace, folder: Path) -> Observer:
        """Return a fresh observer.

        Args:
            space: the search space of the run.
            folder: a folder of the test, for files that the observer writes outside the run directory.
        """

    def seen(self, observer: Observer, trials: dict[int, Trial], folder: Path) -> None:
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

    def use(self, store: Path) -> Mapping[str, Any]:
        """Observe a run without a session."""
        run = store / "run"
        if not run.exists():
            run.mkdir()
            self._feed(self.make(failing_space(), store), run)
        return {}

    def _feed(self, observer: Observer, directory: Path, repetitions: int = 1) -> list[float]:
        """Send an observer the events of a run with trials of all states; return the duration of each event."""
        (directory / "trials.jsonl").touch()
        run = RunInfo(directory, objectives={"first": {"accuracy": "maximize"}})
        before, times = fingerprint(run), []
        observer.search_started(run)
        cases = [(state, value) for state in State for value in (0.5, math.nan, math.inf)] * repetitions
        for number, (state, value) in enumerate(cases):
            metrics = {"accuracy": value} if state is State.COMPLETE else {}
            error = "" if metrics else "none"
            trial = frozen_trial(
                Trial(number, failing_candidate(0), metrics, state=state, error=error, stage="first", info={"a": [1]})
            )
            step = StepInfo("first", number, number + 1)
            seen = fingerprint((trial, step))
            begun = time.perf_counter()
            observer.trial_finished(run, trial)
            observer.step_finished(run, step)
            times.append(time.perf_counter() - begun)
            require(fingerprint((trial, step)) == seen, f"trial {number} or its step was changed")
        observer.search_finished(run, ResultInfo(trials=len(cases)))
        observer.close()
        require(fingerprint(run) == before, "the description of the run was changed")
        return times

    def test_what_it_receives_is_not_changed(self) -> None:
        """Trials, steps and the description of the run are the same after the observer received them.

        Way out: copy before changing; never `object.__setattr__`.
        """
        folder = self.folder()
        run = folder / "run"
        run.mkdir()
        self._feed(self.make(failing_space(), folder), run)

    def test_it_does_not_slow_the_run_down(self) -> None:
        """An event takes at most `seconds` on average: the run waits for its observers.

        Way out: collect events, and write or send them every few seconds or in `close`.
        """
        means = []
        for _ in range(3):
            folder = self.folder()
            run = folder / "run"
            run.mkdir()
            times = self._feed(self.make(failing_space(), folder), run, repetitions=3)
            means.append(sum(times) / len(times))
            if means[-1] <= self.seconds:
                return
        raise AssertionError(f"an event takes {min(means):.3f} s, over {self.seconds:g} s")

    def test_trials_are_the_same_without_it(self) -> None:
        """The observer raises nothing, and the trials, files and result of the run are the same without it.

        Way out: an observer reads the run directory, and writes only files of its own, in a folder with its own name.
        """
        folder, manager = self.folder(), self._manager()
        Session.start(self._config(folder, None), folder / "alone", manager=manager).run()
        observer = self.make(failing_space(blocks=2), folder)
        watched = Session.start(self._config(folder, observer), folder / "watched", manager=manager).run()
        expected, trials = self._trials(folder / "alone"), self._trials(folder / "watched")
        assert {trial.state for trial in trials.values()} == set(State), "the run has not trials of all states"
        require(_timeless(trials) == _timeless(expected), "the trials are other ones")
        alone, beside = _files(folder / "alone"), _files(folder / "watched")
        require(alone.keys() <= beside.keys(), f"files of the run are missing: {sorted(alone.keys() - beside.keys())}")
        changed = [name for name, content in alone.items() if beside[name] != content]
        require(not changed, f"files of the run were changed: {', '.join(changed)}")
        require(RunDirectory.open(folder / "watched").read_result() == watched, "the result was changed")
        self.seen(observer, trials, folder)

    def test_a_resumed_run_is_observed_again(self) -> None:
        """The observer is closed without a result, and a new one observes the resumed run.

        Way out: `search_started` with `RunInfo.resumed` reads what an earlier process wrote, and continues it.
        """
        folder, manager = self.folder(), self._manager()
        Session.start(self._config(folder, None), folder / "alone", manager=manager).run()
        observer = self.make(failing_space(blocks=2), folder)
        session = Session.start(self._config(folder, observer), folder / "watched", manager=manager)
        (folder / "interrupt").touch()
        try:
            session.run()
        except RunInterrupted:
            pass
        else:
            raise AssertionError("the run was not interrupted")
        observer = self.make(failing_space(blocks=2), folder)
        raw = self._config(folder, observer)
        Session.resume(folder / "watched", raw=raw, manager=manager).run()
        trials = self._trials(folder / "watched")
        require(_timeless(trials) == _timeless(self._trials(folder / "alone")), "the trials are other ones")
        self.seen(observer, trials, folder)

    def test_a_run_without_trials_is_observed(self) -> None:
        """A run whose only stage has no objectives and no trials is observed without an error, up to its result.

        Way out: no mean and no maximum of an empty list; `run.objectives.get(stage)`, since a stage may have none.
        """
        folder = self.folder()
        directory = folder / "run"
        directory.mkdir()
        (directory / "trials.jsonl").touch()
        run = RunInfo(directory)
        observer = self.make(failing_space(), folder)
        observer.search_started(run)
        for steps in (1, 2):
            observer.step_finished(run, StepInfo("train", steps, 0))
        observer.search_finished(run, ResultInfo())
        observer.close()

    def test_check_creates_no_run_directory(self) -> None:
        """`Observer.check` may be called before the run exists and does not create its directory.

        Way out: create folders in `search_started`.
        """
        folder = self.folder()
        run = RunInfo(folder / "run", objectives={"first": {"accuracy": "maximize"}})
        self.make(failing_space(), folder).check(run)
        require(not run.directory.exists(), "check created the run directory")

    def test_it_can_be_closed_at_any_time(self) -> None:
        """`close` works before `search_started`, after it, and twice.

        Way out: set attributes in the constructor, and close what was opened.
        """
        for started in (False, True):
            folder = self.folder()
            run = folder / "run"
            run.mkdir()
            (run / "trials.jsonl").touch()
            observer = self.make(failing_space(), folder)
            if started:
                observer.search_started(RunInfo(run, objectives={"first": {"accuracy": "maximize"}}))
            observer.close()
            observer.close()


def _files(run: Path) -> dict[str, object]:
    """Return the files of a run with their contents, as far as they do not depend on durations."""
    files: dict[str, object] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        # The names of checkpoints depend on durations, through their digest.
        if name.partition("/")[0] == "checkpoints" or not path.is_file():
            continue
        timed = name in ("lock", "trials.jsonl", "result.json", "attempts.jsonl")
        files[name] = None if timed else _config(path) if name == "config.yaml" else _timeless_text(path)
    return files


def _config(path: Path) -> object:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    return (
        {name: value for name, value in config.items() if name != "observers"} if isinstance(config, dict) else config
    )


def _timeless_text(path: Path) -> object:
    content = path.read_bytes()
    try:
        lines = [json.loads(line) for line in content.decode().splitlines()]
    except ValueError:
        return content
    timed = ("time", "seconds", "date", "started", "finished")
    return [{k: v for k, v in line.items() if k not in timed} if isinstance(line, dict) else line for line in lines]


def _timeless(trials: dict[int, Trial]) -> dict[int, dict[str, Any]]:
    plain = {number: dict(vars(trial)) for number, trial in trials.items()}
    for fields in plain.values():
        del fields["seconds"]
    return plain
