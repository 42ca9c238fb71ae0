from __future__ import annotations

import json
import logging
import pickle
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any

import pytest

from automl_nas.errors import PluginError
from automl_nas.plugin import (
    PluginManager,
    ResultInfo,
    RunFinished,
    RunInfo,
    RunStarted,
    StepFinished,
    StepInfo,
    TrialFinished,
    hookimpl,
)
from automl_nas.plugin.events import FrozenDict, deep_freeze, frozen_trial
from automl_nas.run.notifications import Notifications, subscribe_hooks
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.trial import Trial

RUN = RunInfo(Path("runs/first"), config={"seed": 1, "stages": [{"name": "search"}]})


def make_trial() -> Trial:
    return Trial(
        3, Architecture({"a": 1}), {"accuracy": 0.5}, {"flops": 7.0}, {"f": -1.0}, info={"parents": [1, {"x": 2}]}
    )


def notifications_of(manager: PluginManager) -> Notifications:
    notifications = Notifications(RUN, strict=manager.strict)
    subscribe_hooks(notifications, manager)
    return notifications


class Watcher:
    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    @hookimpl
    def search_started(self, run: RunInfo) -> None:
        self.seen.append(("search_started", run))

    @hookimpl
    def step_finished(self, step: StepInfo) -> None:
        self.seen.append(("step_finished", step))

    @hookimpl
    def trial_finished(self, run: RunInfo, trial: Trial) -> None:
        self.seen.append(("trial_finished", trial))

    @hookimpl
    def search_finished(self, run: RunInfo, result: ResultInfo) -> None:
        self.seen.append(("search_finished", result))


class Raising:
    def __init__(self) -> None:
        self.calls = 0

    @hookimpl
    def step_finished(self, run: RunInfo, step: StepInfo) -> None:
        self.calls += 1
        raise SystemExit(1)

    @hookimpl
    def trial_finished(self, trial: Trial) -> None:
        self.calls += 1


def test_hooks_receive_the_arguments_they_ask_for() -> None:
    manager, watcher = PluginManager({}), Watcher()
    plugin = manager.register_module(watcher)
    assert set(plugin.observers) == {"search_started", "step_finished", "trial_finished", "search_finished"}
    trial, step, result = (
        make_trial(),
        StepInfo("search", 4, 9),
        ResultInfo(make_trial(), (make_trial(),), 10, {"x": 1}),
    )
    notifications = notifications_of(manager)
    notifications.send(RunStarted(RUN))
    notifications.send(StepFinished(RUN, step))
    notifications.send(TrialFinished(RUN, frozen_trial(trial)))
    notifications.send(RunFinished(RUN, result))
    expected = [("search_started", RUN), ("step_finished", step)]
    assert watcher.seen[:2] == expected
    assert watcher.seen[2][1].architecture == trial.architecture
    assert watcher.seen[3] == ("search_finished", result)


def test_what_observers_receive_cannot_be_changed() -> None:
    manager, watcher, trial = PluginManager({}), Watcher(), make_trial()
    manager.register_module(watcher)
    notifications_of(manager).send(TrialFinished(RUN, frozen_trial(trial)))
    received: Any = watcher.seen[0][1]
    for mapping in (
        received.metrics,
        received.costs,
        received.violations,
        received.info,
        received.info["parents"][1],
        RUN.config,
    ):
        with pytest.raises(TypeError, match="frozen"):
            mapping["accuracy"] = 1.0
    with pytest.raises(TypeError, match="frozen"):
        received.metrics.update(accuracy=1.0)
    with pytest.raises(FrozenInstanceError):
        received.number = 4
    with pytest.raises(TypeError):
        RUN.config["stages"][0]["name"] = "other"
    # It is a copy: what the run keeps stays open to the run itself.
    trial.metrics["late"] = 1.0  # type: ignore[index]
    assert received.metrics == {"accuracy": 0.5}


def test_frozen_data_can_be_written_and_pickled() -> None:
    data = {"a": [1, {"b": (2, 3)}], "c": None}
    frozen = deep_freeze(data)
    assert json.loads(json.dumps(frozen)) == json.loads(json.dumps(data))
    again = pickle.loads(pickle.dumps(frozen))  # noqa: S301 - made one line above
    assert again == frozen
    assert type(again) is FrozenDict
    for change in ("clear", "popitem"):
        with pytest.raises(TypeError):
            getattr(frozen, change)()
    for change in ("pop", "setdefault", "__delitem__", "__ior__"):
        with pytest.raises(TypeError):
            getattr(frozen, change)("a")
    assert frozen == deep_freeze(data)


def test_a_frozen_trial_equals_the_trial_in_every_field() -> None:
    trial = make_trial()
    copy = frozen_trial(trial)
    for item in fields(Trial):
        assert json.dumps(getattr(copy, item.name), default=str) == json.dumps(getattr(trial, item.name), default=str)


def test_an_observer_that_raises_is_logged_once_and_disabled(caplog: pytest.LogCaptureFixture) -> None:
    manager, raising, watcher = PluginManager({}), Raising(), Watcher()
    manager.register_module(raising, "raising")
    manager.register_module(watcher, "watching")
    notifications = notifications_of(manager)
    with caplog.at_level(logging.WARNING):
        for steps in range(3):
            notifications.send(StepFinished(RUN, StepInfo("search", steps, 0)))
            notifications.send(TrialFinished(RUN, make_trial()))
    assert raising.calls == 1
    assert len(watcher.seen) == 6
    assert len(caplog.records) == 1
    assert "plugin 'raising'" in caplog.text
    assert [fault.error for fault in manager.disabled_observers] == ["step_finished: SystemExit: 1"]
    assert len(manager.plugins) == 2
    notifications_of(manager).send(StepFinished(RUN, StepInfo("search", 0, 0)))  # another run in the same process
    assert raising.calls == 1


def test_strict_lets_an_observer_end_the_run() -> None:
    manager = PluginManager({"AUTOML_NAS_STRICT_PLUGINS": "1"})
    manager.register_module(Raising(), "raising")
    with pytest.raises(PluginError, match="step_finished: SystemExit"):
        notifications_of(manager).send(StepFinished(RUN, StepInfo("search", 1, 0)))


def test_a_run_is_called_like_its_directory() -> None:
    assert RUN.name == "first"
    assert RunInfo(Path("x"), name="other").name == "other"
