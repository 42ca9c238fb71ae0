"""Observers that break their contract."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from automl_nas.plugin import Observer, ResultInfo, RunInfo, StepInfo
from automl_nas.space import SearchSpace
from automl_nas.strategy import Trial
from automl_nas.testing import Contract, ObserverContract
from broken_plugins.cases import Cases


def contract(component: Any) -> type[Contract]:
    class Subject(ObserverContract):
        def make(self, space: SearchSpace, folder: Path) -> Observer:
            made: Observer = component()
            return made

    return Subject


CASES = Cases("observers", contract)


@CASES.keeps
class Tally(Observer):
    """Counts trials, and writes the number into a file of its own; keeps the contract."""

    def __init__(self) -> None:
        self.trials = 0
        self.run: RunInfo | None = None

    def search_started(self, run: RunInfo) -> None:
        self.run = run

    def trial_finished(self, run: RunInfo, trial: Trial) -> None:
        self.trials += 1

    def close(self) -> None:
        if self.run is not None:
            folder = self.run.directory / "tally"
            folder.mkdir(exist_ok=True)
            (folder / "trials.txt").write_text(str(self.trials))


@CASES.breaks("the_global_generators_are_left_alone")
class Samples(Tally):
    def trial_finished(self, run: RunInfo, trial: Trial) -> None:
        random.random()


@CASES.breaks("nothing_is_printed")
class PrintsTrials(Tally):
    def trial_finished(self, run: RunInfo, trial: Trial) -> None:
        print(trial.number)


@CASES.breaks("no_file_is_written_elsewhere")
class WritesHere(Tally):
    def trial_finished(self, run: RunInfo, trial: Trial) -> None:
        Path("trials.txt").write_text("x")


@CASES.breaks("global_settings_are_left_alone")
class SetsAVariable(Tally):
    def search_started(self, run: RunInfo) -> None:
        import os

        super().search_started(run)
        os.environ["RUN_NAME"] = run.name


@CASES.breaks("other_modules_are_left_alone")
class LeavesAThread(Tally):
    def search_started(self, run: RunInfo) -> None:
        import threading

        super().search_started(run)
        threading.Thread(target=time.sleep, args=(60.0,), daemon=True, name="sender").start()


@CASES.breaks("it_does_not_slow_the_run_down")
class Slow(Tally):
    def trial_finished(self, run: RunInfo, trial: Trial) -> None:
        time.sleep(0.08)


@CASES.breaks("it_does_not_slow_the_run_down")
class SlowSteps(Tally):
    """Every fourth step takes long."""

    def step_finished(self, run: RunInfo, step: StepInfo) -> None:
        if step.steps % 4 == 3:
            time.sleep(0.4)


@CASES.breaks("what_it_receives_is_not_changed")
class ChangesTheTrial(Tally):
    def trial_finished(self, run: RunInfo, trial: Trial) -> None:
        object.__setattr__(trial, "metrics", {})


@CASES.breaks("what_it_receives_is_not_changed")
class ChangesFrozenData(Tally):
    def trial_finished(self, run: RunInfo, trial: Trial) -> None:
        dict.__setitem__(trial.info, "seen", True)  # type: ignore[arg-type]


@CASES.breaks("trials_are_the_same_without_it")
class ChangesTheRecord(Tally):
    def search_finished(self, run: RunInfo, result: ResultInfo) -> None:
        (run.directory / "metrics.jsonl").write_text("")
        (run.directory / "notes.txt").write_text("x")
        file = run.directory / "trials.jsonl"
        file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")


@CASES.breaks("trials_are_the_same_without_it")
class RemovesAFile(Tally):
    def close(self) -> None:
        if self.run is not None:
            (self.run.directory / "result.json").unlink(missing_ok=True)


@CASES.breaks("trials_are_the_same_without_it")
class ChangesTheResult(Tally):
    def close(self) -> None:
        if self.run is not None and (self.run.directory / "result.json").exists():
            file = self.run.directory / "result.json"
            file.write_text(file.read_text().replace("first", "other"))


@CASES.breaks("trials_are_the_same_without_it")
class Raises(Tally):
    def trial_finished(self, run: RunInfo, trial: Trial) -> None:
        trial.metrics["accuracy"]


@CASES.breaks("a_resumed_run_is_observed_again")
class RefusesToContinue(Tally):
    def search_started(self, run: RunInfo) -> None:
        super().search_started(run)
        (run.directory / "tally").mkdir()


@CASES.breaks("check_creates_no_run_directory")
class CreatesTheDirectory(Tally):
    def check(self, run: RunInfo) -> None:
        run.directory.mkdir()


@CASES.breaks("it_can_be_closed_at_any_time")
class ClosesOnce(Tally):
    def close(self) -> None:
        assert self.run is not None
        super().close()
        self.run = None


@CASES.breaks("trials_are_the_same_without_it")
class ChangesTheConfiguration(Tally):
    def search_finished(self, run: RunInfo, result: ResultInfo) -> None:
        file = run.directory / "config.yaml"
        file.write_text(file.read_text() + "note: seen\n")


# --- Found by a second attack ----------------------------------------------------------------------------------------


@CASES.breaks("a_run_without_trials_is_observed")
class MeanOfNothing(Tally):
    def search_finished(self, run: RunInfo, result: ResultInfo) -> None:
        assert 1 / self.trials


@CASES.breaks("a_run_without_trials_is_observed")
class NeedsObjectives(Tally):
    """A stage that trains a supernet has no objectives."""

    def step_finished(self, run: RunInfo, step: StepInfo) -> None:
        assert run.objectives[step.stage]
