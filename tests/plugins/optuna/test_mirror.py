"""Mirroring runs into an Optuna storage."""

from __future__ import annotations

import datetime
import json
import math
import signal
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
from click.testing import CliRunner
from plugins.optuna.spaces import Mixed

import automl_nas
from automl_nas.errors import ConfigurationError, UserError
from automl_nas.evaluation.evaluator import State
from automl_nas.plugin import RunInfo
from automl_nas.run import RunDirectory, complete_manager, recorded_after
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.record.lines import with_checksums
from automl_nas.run.session import Session
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Choice
from automl_nas.strategy.trial import Trial
from automl_nas.streams import stream
from automl_nas.testing import ToyCost, ToyEvaluator, ToySpace
from automl_nas_optuna.commands import mirror as command
from automl_nas_optuna.mirror.highest_fidelity import HighestFidelities
from automl_nas_optuna.mirror.mirror import NUMBER, Mirror, MirrorParameters
from automl_nas_optuna.mirror.mirror_once import mirror_once
from automl_nas_optuna.mirror.observer import MirrorObserver
from automl_nas_optuna.mirror.run_description import RunDescription
from automl_nas_optuna.objective.suggesting import architecture_of, suggest
from automl_nas_optuna.storages import (
    StorageError,
    open_storage,
    reached,
    refuse_password,
    time_limits,
    without_password,
)

SPACE = ToySpace(blocks=3, options=4)


def configuration(*observers: Any, trials: int = 12) -> dict[str, Any]:
    return {
        "space": SPACE,
        "problem": {
            "objectives": {"accuracy": "maximize", "toy_cost": "minimize"},
            "constraints": {"toy_cost": "<= 6"},
            "costs": {"toy_cost": ToyCost(SPACE)},
        },
        "runtime": {"device": "cpu", "threads": 1},
        "observers": list(observers),
        "stages": [
            {"name": "search", "strategy": "random", "evaluator": ToyEvaluator(SPACE), "budget": {"trials": trials}}
        ],
    }


def recorded(run: Path) -> dict[int, Trial]:
    return Ledger(run / "trials.jsonl", writable=False).trials


def mirrored(storage: str, name: str) -> dict[int, optuna.trial.FrozenTrial]:
    study = optuna.load_study(study_name=name, storage=open_storage(storage))
    trials = study.get_trials()
    copies = {trial.user_attrs[NUMBER]: trial for trial in trials}
    assert len(copies) == len(trials), "a trial was copied twice"
    return copies


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not mirrored."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    Session.start(configuration(), run).run()
    RunDescription.of(run, {"search": {"accuracy": "maximize", "toy_cost": "minimize"}}, SPACE)
    return run


@pytest.mark.process
def test_the_copy_is_complete_when_the_run_is(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/trials.db"
    run = tmp_path / "first"
    # A patience that suffices on a busy machine.
    Session.start(configuration({"name": "optuna", "storage": storage, "patience": 300.0}), run).run()
    copies = mirrored(storage, "first/search")
    assert copies.keys() == recorded(run).keys() == set(range(12))
    for number, trial in recorded(run).items():
        copy = copies[number]
        assert architecture_of(copy.params, SPACE) == trial.architecture
        assert copy.values == [trial.metrics["accuracy"], trial.costs["toy_cost"]]
        # Optuna reads both its own attributes and that of optuna-dashboard, which are numbered.
        assert {name: copy.constraints[name] for name in trial.violations} == trial.violations
        assert copy.system_attrs["constraints"] == list(trial.violations.values())
        assert copy.user_attrs["automl_nas:architecture"] == trial.architecture.to_dict()
        assert copy.duration is not None
        assert copy.duration.total_seconds() == pytest.approx(trial.seconds, abs=2e-6)
    with pytest.raises(ConfigurationError, match=r"a study called 'first/search' is already there"):
        Session.start(configuration({"name": "optuna", "storage": storage}), tmp_path / "other" / "first")
    assert not (tmp_path / "other").exists()


def test_a_run_is_mirrored_afterwards_and_each_trial_once(finished: Path, tmp_path: Path) -> None:
    storage = str(tmp_path / "trials.journal")
    assert mirror_once(finished, storage, None) == (12, ["finished/search"])
    assert mirror_once(finished, storage, None) == (0, ["finished/search"])
    assert mirrored(storage, "finished/search").keys() == set(range(12))
    result = CliRunner().invoke(command, [str(finished), storage, "--study", "again"])
    assert result.output == "12 trials copied; studies: again/search\n"


def test_the_times_are_those_of_the_run(finished: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in (finished / "trials.jsonl").read_text().splitlines()]
    times = {line["number"]: line["time"] for line in lines if line["event"] == "finished"}
    assert times.keys() == set(range(12))
    began = (finished / "config.yaml").stat().st_mtime
    assert began - 1 < min(times.values()) <= max(times.values()) <= (finished / "result.json").stat().st_mtime + 1
    storage = str(tmp_path / "trials.journal")
    mirror_once(finished, storage, "later")
    for number, copy in mirrored(storage, "later/search").items():
        assert copy.datetime_complete is not None
        assert copy.datetime_complete.timestamp() == pytest.approx(times[number], abs=1e-3)


def test_trials_of_earlier_versions_have_the_time_of_copying(tmp_path: Path) -> None:
    description = RunDescription.of(tmp_path, {"search": {"accuracy": "maximize"}}, SPACE)
    ledger = Ledger(tmp_path / "trials.jsonl", writable=True)
    ledger.finished([Trial(0, SPACE.sample(stream(0, "test")), {"accuracy": 0.5}, stage="search", seconds=4.0)])
    ledger.close()
    body, _, _ = (tmp_path / "trials.jsonl").read_bytes().partition(b',"time"')
    (tmp_path / "trials.jsonl").write_bytes(with_checksums([body]))
    assert recorded_after(tmp_path / "trials.jsonl", 0)[0][0][1] is None
    before = time.time()
    mirror = Mirror(tmp_path, description, str(tmp_path / "trials.journal"), "run")
    while mirror.copy():
        pass
    (copy,) = mirrored(str(tmp_path / "trials.journal"), "run/search").values()
    assert copy.datetime_complete is not None
    assert before - 1 <= copy.datetime_complete.timestamp() <= time.time() + 1
    assert copy.duration == datetime.timedelta(seconds=4)


def test_a_study_names_its_run(tmp_path: Path) -> None:
    run, storage = tmp_path / "run", str(tmp_path / "trials.journal")
    Session.start({**configuration(trials=3), "space": SPACE}, run).run()
    recorded = (run / "config.yaml").read_text()
    # An earlier version recorded passwords, and no checksums (the last line).
    old = recorded.replace("executor:\n  name: in_process", "executor:\n  name: postgresql://me:secret@host/db")
    (run / "config.yaml").write_text("".join(old.splitlines(keepends=True)[:-1]))
    RunDescription.of(run, {"search": {"accuracy": "maximize", "toy_cost": "minimize"}}, SPACE)
    mirror_once(run, storage, None)
    study = optuna.load_study(study_name="run/search", storage=open_storage(storage))
    assert study.user_attrs["automl_nas:directory"] == str(run.resolve())
    written = study.user_attrs["automl_nas:configuration"]
    assert written["stages"] == RunDirectory(run).read_config()["stages"]
    assert written["executor"]["name"] == "postgresql://me:***@host/db"
    assert study.user_attrs["automl_nas:options"] == {name: list(d.options) for name, d in SPACE.decisions.items()}
    # The study may be continued by an objective that suggests architectures of the space.
    suggest(study.ask(), SPACE)


@pytest.mark.process
def test_the_end_of_a_run_does_not_depend_on_the_mirror_process(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a busy machine the process may not even have imported Optuna when the run ends."""
    monkeypatch.setattr("automl_nas_optuna.mirror.observer.EXIT_SECONDS", 0.2)
    storage = str(tmp_path / "trials.journal")
    observer = MirrorObserver(SPACE, storage=storage)
    objectives = RunDescription.read(finished).objectives
    observer.search_started(RunInfo(finished, "slow", objectives=objectives))
    assert observer._process is not None
    observer._process.send_signal(signal.SIGSTOP)
    observer.close()
    assert mirrored(storage, "slow/search").keys() == set(range(12))
    assert caplog.text == ""


def test_trials_that_a_storage_missed_are_copied_when_it_is_back(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    storage = f"sqlite:///{folder}/trials.db"
    mirror = Mirror(finished, RunDescription.read(finished), storage, "x")
    with pytest.raises(StorageError, match="unable to open database file"):
        mirror.copy()
    assert mirror.behind == 12
    folder.mkdir()
    for _ in range(5):
        assert mirror.copy()
    folder.rename(tmp_path / "gone")
    mirror.close()  # removes the open connection to the file
    with pytest.raises(StorageError):
        mirror.copy()
    (tmp_path / "gone").rename(folder)
    while mirror.copy():
        pass
    assert mirror.behind == 0
    assert mirrored(storage, "x/search").keys() == set(range(12))


@pytest.mark.process
def test_a_run_whose_storage_is_down_goes_on_and_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    storage = f"sqlite:///{folder}/trials.db"
    observer = {"name": "optuna", "storage": storage, "patience": 1.0}
    session = Session.start(configuration(observer), tmp_path / "run")
    (folder / "trials.db").unlink()
    folder.rmdir()
    session.run()
    assert recorded(tmp_path / "run").keys() == set(range(12))
    assert "unable to open database file; trying again for 1 s" in caplog.text
    assert "12 trials were not copied in time; to copy them: automl-nas mirror" in caplog.text
    folder.mkdir()
    assert mirror_once(tmp_path / "run", storage, None)[0] == 12


def test_studies_of_others_are_left_alone(finished: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/trials.db"
    optuna.create_study(storage=storage, study_name="theirs/search", directions=["maximize", "minimize"]).ask()
    with pytest.raises(ConfigurationError, match=r"'theirs/search' .* belongs to somebody else"):
        mirror_once(finished, storage, "theirs")
    optuna.create_study(storage=storage, study_name="empty/search", directions=["minimize"])
    with pytest.raises(ConfigurationError, match=r"has the directions minimize, .* need maximize, minimize"):
        mirror_once(finished, storage, "empty")
    mirror_once(finished, storage, "ours")
    (finished / "optuna.json").write_text(
        json.dumps({**json.loads((finished / "optuna.json").read_text()), "run": "another"})
    )
    with pytest.raises(ConfigurationError, match=r"'ours/search' .* belongs to another run"):
        mirror_once(finished, storage, "ours")


def test_all_kinds_of_decisions_and_states_are_copied(tmp_path: Path) -> None:
    space = Mixed()
    description = RunDescription.of(tmp_path, {"search": {"accuracy": "maximize"}}, space)
    assert dict(RunDescription.read(tmp_path).decisions) == dict(space.decisions)
    assert RunDescription.of(tmp_path, {}, space) == description, "the description is created once"
    architecture = space.validate({"branch": True, "operation": "pool", "width": 32, "edges": ["b", "d"]})
    trials = [
        Trial(
            0, architecture, {"accuracy": 0.5, "loss": 2.0}, {"flops": 7.0}, {"flops <= 9": math.inf}, stage="search"
        ),
        Trial(1, architecture, state=State.PRUNED, stage="search", info={"intermediate": [[1, 0.1], [3, 0.2]]}),
        Trial(2, architecture, state=State.FAILED, stage="search", error="out of memory", fidelity=3.0),
        Trial(3, architecture, {"accuracy": 0.9}, stage="final"),
    ]
    ledger = Ledger(tmp_path / "trials.jsonl", writable=True)
    ledger.finished(trials)
    ledger.close()
    mirror = Mirror(tmp_path, RunDescription.read(tmp_path), f"sqlite:///{tmp_path}/trials.db", "run")
    while mirror.copy():
        pass
    mirror.close()
    copies = mirrored(f"sqlite:///{tmp_path}/trials.db", "run/search")
    assert copies.keys() == {0, 1, 2}
    for copy in copies.values():
        assert architecture_of(copy.params, space) == architecture
    assert [copy.state.name for copy in copies.values()] == ["COMPLETE", "PRUNED", "FAIL"]
    assert copies[0].constraints == {"flops <= 9": math.inf, "0": math.inf}
    assert (copies[0].user_attrs["loss"], copies[0].user_attrs["flops"]) == (2.0, 7.0)
    assert (copies[1].value, copies[1].intermediate_values) == (0.2, {1: 0.1, 3: 0.2})
    assert copies[2].user_attrs["automl_nas:error"] == "out of memory"
    assert copies[2].user_attrs["automl_nas:fidelity"] == 3.0


def test_options_that_are_equal_to_python_stay_apart(tmp_path: Path) -> None:
    description = RunDescription("x", {}, {"a": Choice((1, True, 1.0)), "b": Choice(("p", "q"))})
    parameters = MirrorParameters(description)
    values = [parameters.values(Architecture({"a": option, "b": "q"})) for option in (1, True, 1.0)]
    assert values == [{"a": "1", "b": "q"}, {"a": "true", "b": "q"}, {"a": "1.0", "b": "q"}]
    assert parameters.distributions(Architecture({"a": 1, "b": "p"}))["a"].choices == ("1", "true", "1.0")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("", "write a URL such as sqlite"),
        ("nosuch://host/x", r"'nosuch://host/x' is not a storage"),
        ("postgresql://me:${PASSWORD}@127.0.0.1:1/x", r"postgresql://me:\*\*\*@127.0.0.1:1/x"),
        ("postgresql://me:secret@127.0.0.1:1/x", r"write \$\{PASSWORD\} .*postgresql://me:\$\{PASSWORD\}@127"),
        ("sqlite:////nowhere/at/all.db", "unable to open database file"),
        ("mysql://u:${NO_SUCH_VARIABLE}@h/x", "a variable in .* is not set"),
        ("grpc://host", "needs a host and a port"),
    ],
)
def test_storages_that_cannot_be_reached_are_refused_before_the_run(
    storage: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "secret")
    with pytest.raises(UserError, match=message) as caught:
        Session.start(configuration({"name": "optuna", "storage": storage}), tmp_path / "run")
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_old_optuna_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna, "__version__", "4.6.0")
    with pytest.raises(ConfigurationError, match=r"Optuna 4\.6\.0 is too old"):
        MirrorObserver(SPACE, storage="x.journal")


def test_passwords_are_not_shown() -> None:
    assert without_password("postgresql://me:pa:ss@w@host:1/db") == "postgresql://me:***@host:1/db"
    assert without_password("sqlite:///a@b:c.db") == "sqlite:///a@b:c.db"
    assert without_password("mysql://h/d?user=me&password=a%20b&x=1") == "mysql://h/d?user=me&password=***&x=1"
    address = "postgresql://me:pass%20word@host/db"
    with pytest.raises(StorageError) as caught, reached(address):
        raise OSError("authentication of me with 'pass word' failed (pass%20word@host)")
    assert "pass" not in str(caught.value).replace("password", "")
    short = "postgresql://me:a@host/db"
    with pytest.raises(StorageError, match=r"a bad URL postgresql://me:\*\*\*@host/db"), reached(short):
        raise OSError(f"a bad URL {short}")


@pytest.mark.parametrize(
    ("storage", "literal"),
    [
        ("postgresql://me:secret@h/d", True),
        ("postgresql://me:se${X}@h/d", True),
        ("mysql+pymysql://h/d?passwd=secret", True),
        ("grpc://me:secret@h:13000", True),
        ("postgresql://me:${A}${B}@h/d", False),
        ("postgresql://me:$PASSWORD@h/d", False),
        ("mysql://h/d?password=${P}", False),
        ("postgresql://me@h:5432/d", False),
        ("sqlite:///a:b@c.db", False),
        ("folder:with@signs.journal", False),
        ("grpc://h:13000", False),
    ],
)
def test_passwords_are_refused_where_they_would_be_recorded(storage: str, literal: bool) -> None:
    if not literal:
        return refuse_password(storage)
    with pytest.raises(ConfigurationError, match="contains a password") as caught:
        refuse_password(storage)
    assert "secret" not in str(caught.value)
    return None


def test_silent_servers_are_noticed() -> None:
    lock = {"init_command": "SET SESSION innodb_lock_wait_timeout = 10"}
    waits = {"connect_timeout": 10, "read_timeout": 60, "write_timeout": 60, **lock}
    assert time_limits("mysql+pymysql", {}) == time_limits("mysql", {}) == waits
    assert time_limits("mysql+pymysql", {"read_timeout": "5"}) == {"connect_timeout": 10, "write_timeout": 60, **lock}
    assert "init_command" not in time_limits("mysql+pymysql", {"init_command": "SET NAMES utf8mb4"})
    assert set(time_limits("postgresql+psycopg2", {})) == {
        "connect_timeout",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "options",
    }
    assert time_limits("postgresql", {})["options"] == "-c lock_timeout=10s"
    assert time_limits("mssql+pyodbc", {}) == {}


def of_fidelities(strategy: dict[str, Any], objectives: dict[str, str]) -> dict[str, Any]:
    problem = {"objectives": objectives, "costs": ["params"] if "params" in objectives else []}
    stage = {"name": "search", "strategy": strategy, "evaluator": "nasbench201", "budget": {"trials": 24}}
    return {"space": "nasbench201", "problem": problem, "stages": [stage], "final": None, "progress": "none"}


@pytest.mark.process
@pytest.mark.parametrize("live", [True, False], ids=["while it runs", "afterwards"])
@pytest.mark.parametrize(
    "strategy",
    [
        {"name": "hyperband", "fidelities": [12, 200]},
        {"name": "retry", "strategy": {"name": "asha", "fidelities": [12, 200]}},
    ],
    ids=["hyperband", "asha inside another"],
)
def test_trials_of_a_lower_fidelity_are_pruned_ones(tmp_path: Path, strategy: dict[str, Any], live: bool) -> None:
    storage = str(tmp_path / "optuna.journal")
    observers = [{"name": "optuna", "storage": storage, "study": "copy"}] if live else []
    result = automl_nas.search(
        **of_fidelities(strategy, {"accuracy": "maximize"}), observers=observers, out=tmp_path / "run"
    )
    if not live:
        mirror_once(tmp_path / "run", storage, "copy")
    study = optuna.load_study(study_name="copy/search", storage=open_storage(storage))
    trials = {trial.user_attrs[NUMBER]: trial for trial in study.get_trials()}
    recorded = {trial.number: trial for trial, _ in recorded_after(tmp_path / "run" / "trials.jsonl", 0)[0]}
    assert set(trials) == set(recorded)
    fidelities = {number: trial.fidelity for number, trial in recorded.items()}
    assert set(fidelities.values()) == {12, 200}
    for number, trial in trials.items():
        accuracy = recorded[number].metrics["accuracy"]
        lower = fidelities[number] == 12
        assert trial.state is (optuna.trial.TrialState.PRUNED if lower else optuna.trial.TrialState.COMPLETE)
        assert trial.value == accuracy
        assert trial.intermediate_values == ({12: accuracy} if lower else {})
    assert study.best_trial.user_attrs[NUMBER] == result.best.number


def test_of_other_strategies_the_highest_fidelity_so_far_counts() -> None:
    fidelities = HighestFidelities([{"name": "search", "strategy": {"name": "random"}}], complete_manager().registry)

    def trial(fidelity: float | None) -> Trial:
        return Trial(0, SPACE.sample(stream(0, "test", 0)), {"accuracy": 1.0}, {}, fidelity=fidelity, stage="search")

    for fidelity, lower in ((1.0, False), (3.0, False), (1.0, True), (None, False), (3.0, True)):
        fidelities.see(trial(fidelity))
        assert fidelities.is_lower(trial(fidelity)) is lower
