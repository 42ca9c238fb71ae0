"""Studies that tune the settings of searches."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from plugins.optuna.worker_processes import configuration, entries, install, start

from automl_nas.errors import ConfigurationError, RunFailedError, RunInterrupted
from automl_nas.plugin.manager import PluginManager
from automl_nas.run.configuration.builtin import with_builtin
from automl_nas.run.record.yaml import dump_yaml
from automl_nas.run.session import Session
from automl_nas.space.architecture import Architecture
from automl_nas.testing import ToySpace, toy_metric
from automl_nas_optuna.commands import study as command
from automl_nas_optuna.tuning.study_file import StudyFile
from automl_nas_optuna.tuning.tuning import Tuning


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Install the toy plugin for this process and others; yield the environment of the others."""
    folder = tmp_path / "installed"
    folder.mkdir()
    variables = install(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("AUTOML_NAS_PLUGINS", variables["AUTOML_NAS_PLUGINS"])
    manager = with_builtin(PluginManager().load())
    for module in ("automl_nas_optuna.tuning.tuning", "automl_nas.run.session"):
        monkeypatch.setattr(f"{module}.complete_manager", lambda: manager)
    return variables


def write_study(folder: Path, *, seconds: float = 0.0, **sections: Any) -> Path:
    """Write a study over evolutionary searches."""
    base = configuration(folder / "event_log", "in_process", seconds=seconds, trials=6, ahead=1)
    base["stages"][0]["strategy"] = {"name": "aging", "population": 4}
    (folder / "search.yaml").write_text(dump_yaml(base))
    settings: dict[str, Any] = {
        "configuration": "search.yaml",
        "parameters": {
            "stages.search.strategy.population": {"low": 2, "high": 6},
            "stages.search.strategy.sample_size": {"options": [1, 2]},
        },
        "trials": 5,
        "seed": 7,
        "sampler": {"name": "tpe", "settings": {"n_startup_trials": 3}},
        **sections,
    }
    path = folder / "study.yaml"
    path.write_text(dump_yaml({key: value for key, value in settings.items() if value is not None}))
    return path


def settings_and_values(tuning: Tuning) -> list[tuple[Mapping[str, Any], Any]]:
    return [(trial.user_attrs["settings"], trial.values) for trial in tuning.study.trials]


def test_each_trial_is_a_run_whose_best_is_its_value(environment: dict[str, str], tmp_path: Path) -> None:
    file = write_study(tmp_path, repeats=2)
    tuning = Tuning(StudyFile(file), tmp_path / "out")
    tuning.run()
    assert tuning.objectives == {"accuracy": "maximize"}
    assert [trial.state for trial in tuning.study.trials] == [TrialState.COMPLETE] * 5
    for trial in tuning.study.trials:
        accuracies = []
        for repeat in range(2):
            run = tmp_path / "out" / f"{trial.number:04d}-{repeat}"
            accuracies.append(json.loads((run / "result.json").read_text())["best"]["metrics"]["accuracy"])
            strategy = StudyFile(file).configuration(trial.user_attrs["settings"]).value["stages"][0]["strategy"]
            assert strategy["population"] == trial.params["stages.search.strategy.population"]
            assert f"seed: {7 + repeat}" in (run / "config.yaml").read_text()
        assert trial.value == pytest.approx(sum(accuracies) / 2)
    (best,) = tuning.best()
    assert best.value == max(trial.value or 0.0 for trial in tuning.study.trials)
    shown = CliRunner().invoke(command, ["best", str(file), "--out", str(tmp_path / "out"), "--json"])
    assert json.loads(shown.output)[0]["settings"] == best.user_attrs["settings"]


KILL_IN_EVALUATION_16 = """
import os, signal, sys
from automl_nas.testing.event_log import LoggingEvaluator
evaluate, begun = LoggingEvaluator.evaluate, 0
def killed(self, requests):
    global begun
    for request in requests:
        begun += 1
        if begun == 16:
            os.kill(os.getpid(), signal.SIGKILL)
        yield from evaluate(self, [request])
LoggingEvaluator.evaluate = killed
"""


@pytest.mark.slow
@pytest.mark.process
def test_a_killed_study_goes_on_where_it_was(environment: dict[str, str], tmp_path: Path) -> None:
    undisturbed = Tuning(StudyFile(write_study(tmp_path)), tmp_path / "undisturbed")
    undisturbed.run()
    (tmp_path / "event_log").unlink()
    file = write_study(tmp_path)
    arguments = ("study", "run", str(file), "--out", str(tmp_path / "killed"))
    process = start(environment, *arguments, prelude=KILL_IN_EVALUATION_16)
    output = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, output
    resumed = Tuning(StudyFile(file), tmp_path / "killed")
    states = [trial.state for trial in resumed.study.trials]
    assert 0 < sum(state.is_finished() for state in states) < 5
    resumed.run()
    assert settings_and_values(resumed) == settings_and_values(undisturbed)
    ended = [number for number, _ in entries(tmp_path / "event_log", "end")]
    assert len(ended) <= 30 + 1, "finished trials were evaluated again"


def test_an_interrupted_trial_is_continued(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = Tuning(StudyFile(write_study(tmp_path)), tmp_path / "undisturbed")
    undisturbed.run()
    tuning = Tuning(StudyFile(write_study(tmp_path)), tmp_path / "out")
    with monkeypatch.context() as patched:

        def stop(trial: object) -> None:
            raise RunInterrupted("stopped")

        with pytest.raises(RunInterrupted):
            tuning.run(stop)

        def stop_run(session: Session) -> None:
            session.directory.unlock()
            raise RunInterrupted("stopped")

        patched.setattr(Session, "run", stop_run)
        with pytest.raises(RunInterrupted):
            tuning.run()
    assert [trial.state for trial in tuning.study.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    again = Tuning(StudyFile(write_study(tmp_path)), tmp_path / "out")
    again.run()
    assert settings_and_values(again) == settings_and_values(undisturbed)


@pytest.mark.parametrize("times", [1, 3])
def test_an_interruption_while_settings_are_proposed_does_not_count(
    times: int, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = Tuning(StudyFile(write_study(tmp_path)), tmp_path / "undisturbed")
    undisturbed.run()
    file = write_study(tmp_path, max_failures=2)
    sample = TPESampler.sample_independent
    for _ in range(times):  # also more often than max_failures
        with monkeypatch.context() as patched:

            def interrupted(self: TPESampler, study: Study, trial: FrozenTrial, *rest: Any) -> Any:
                if len(trial.params) == 1 and len(study.get_trials(states=[TrialState.COMPLETE])) == 2:
                    raise KeyboardInterrupt
                return sample(self, study, trial, *rest)

            patched.setattr(TPESampler, "sample_independent", interrupted)
            with pytest.raises(KeyboardInterrupt):
                Tuning(StudyFile(file), tmp_path / "out").run()
    again = Tuning(StudyFile(file), tmp_path / "out")
    again.run()
    states = [trial.state for trial in again.study.trials]
    assert states.count(TrialState.FAIL) == times
    counted = [trial for trial in again.study.trials if trial.state is not TrialState.FAIL]
    assert [(trial.user_attrs["settings"], trial.values) for trial in counted] == settings_and_values(undisturbed)


KILL_IN_ASK_3 = """
import os, signal
from optuna.samplers import TPESampler
sample = TPESampler.sample_independent
def killed(self, study, trial, *rest):
    if trial.number == 2 and trial.params:
        os.kill(os.getpid(), signal.SIGKILL)
    return sample(self, study, trial, *rest)
TPESampler.sample_independent = killed
"""


@pytest.mark.slow
@pytest.mark.process
def test_a_kill_while_settings_are_proposed_does_not_count(environment: dict[str, str], tmp_path: Path) -> None:
    undisturbed = Tuning(StudyFile(write_study(tmp_path)), tmp_path / "undisturbed")
    undisturbed.run()
    file = write_study(tmp_path)
    process = start(environment, "study", "run", str(file), "--out", str(tmp_path / "out"), prelude=KILL_IN_ASK_3)
    output = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, output
    again = Tuning(StudyFile(file), tmp_path / "out")
    again.run()
    assert again.study.trials[2].state is TrialState.FAIL
    counted = [trial for trial in again.study.trials if trial.state is not TrialState.FAIL]
    assert [(trial.user_attrs["settings"], trial.values) for trial in counted] == settings_and_values(undisturbed)


def test_architectures_and_settings_are_searched_together(environment: dict[str, str], tmp_path: Path) -> None:
    file = write_study(
        tmp_path,
        joint="search",
        parameters={"stages.search.evaluator.seconds": {"low": 0.0, "high": 0.001}},
        sampler="random",
        trials=8,
    )
    tuning = Tuning(StudyFile(file), tmp_path / "out")
    tuning.run()
    space = ToySpace(blocks=4, options=3)
    for trial in tuning.study.trials:
        (values,) = trial.user_attrs["settings"]["stages.search.strategy"]["architectures"]
        assert trial.value == pytest.approx(toy_metric(Architecture(values), space))
        assert values == {name: trial.params[name] for name in space.decisions}
    assert len({json.dumps(trial.params, sort_keys=True) for trial in tuning.study.trials}) == 8


def test_settings_that_do_not_go_together_are_a_failed_trial(environment: dict[str, str], tmp_path: Path) -> None:
    parameters = {"stages.search.strategy.population": {"options": [4, 0]}}
    tuning = Tuning(
        StudyFile(write_study(tmp_path, parameters=parameters, trials=6, sampler="random")), tmp_path / "out"
    )
    tuning.run()
    states = {trial.user_attrs["settings"][next(iter(parameters))]: trial.state for trial in tuning.study.trials}
    assert states == {0: TrialState.FAIL, 4: TrialState.COMPLETE}


def test_a_study_whose_runs_all_fail_ends(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(session: Session) -> None:
        session.directory.unlock()
        raise RunFailedError("the disk is full")

    monkeypatch.setattr(Session, "run", fail)
    with pytest.raises(RunFailedError, match="the last 2 trials of the study failed; the last one: the disk is full"):
        Tuning(StudyFile(write_study(tmp_path, max_failures=2)), tmp_path / "never").run()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"parameters": {}}, "there is nothing to tune"),
        ({"parameters": {"x": {"low": 3, "high": 1}}}, r"study.yaml:\d+: parameters.x.low: low \(3\) is above high"),
        ({"parameters": {"x": {"low": 3}}}, "write options"),
        ({"parameters": {"x": {"optoins": [1]}}}, "did you mean 'options'"),
        ({"parameters": {"stages.serch.x": {"low": 1, "high": 2}}}, "'stages' has no item 'serch'"),
        ({"sampler": "tpee"}, "sampler.name: unknown sampler 'tpee'; did you mean 'tpe'"),
        ({"trials": 0}, "trials: must be at least 1"),
        ({"configuration": "nowhere.yaml"}, "nowhere.yaml"),
        ({"parameters": {"stages.search.strategy.popultion": {"options": [4]}}}, "did you mean 'population'"),
        ({"joint": "nostage"}, "no stage is called 'nostage'"),
        ({"objectives": {"acuracy": "maximize"}}, "a run has no number called 'acuracy'; there are accuracy"),
    ],
)
def test_mistakes_in_a_study_file_are_located(
    environment: dict[str, str], tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Tuning(StudyFile(write_study(tmp_path, **sections)), tmp_path / "out").run()


def test_a_study_is_not_continued_with_other_settings(environment: dict[str, str], tmp_path: Path) -> None:
    Tuning(StudyFile(write_study(tmp_path)), tmp_path / "out").close()
    Tuning(
        StudyFile(write_study(tmp_path, trials=50)), tmp_path / "out"
    ).close()  # more trials do not make it another study
    with pytest.raises(ConfigurationError, match=r"was begun with other settings \(seed\)"):
        Tuning(StudyFile(write_study(tmp_path, seed=8)), tmp_path / "out")


def test_passwords_in_the_configuration_of_the_runs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tune.yaml"
    path.write_text(
        "configuration: {space: toy, executor: {name: optuna, storage: 'postgresql://me:secret@host/db'}}\n"
        "parameters: {seed: {options: [1, 2]}}\n"
    )
    with pytest.raises(ConfigurationError, match="contains a password") as caught:
        StudyFile(path)
    assert caught.value.path == "configuration.executor.storage"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("sampler", ["grid", "brute_force"])
def test_a_study_that_enumerates_ends_when_all_settings_were_tried(sampler: str, tmp_path: Path) -> None:
    path = tmp_path / "tune.yaml"
    path.write_text(
        f"""
configuration:
  space: {{name: shufflenet_v2, input_shape: [3, 32, 32], num_classes: 10}}
  problem: {{objectives: {{flops: minimize}}, costs: {{flops: flops}}}}
  runtime: {{device: cpu, threads: 1}}
  stages:
    - {{name: search, strategy: {{name: aging, population: 4, sample_size: 2}}, budget: {{trials: 4}}}}
parameters:
  stages.search.strategy.population: {{low: 3, high: 4}}
trials: 5
sampler: {sampler}
"""
    )
    for _ in range(2):  # the second time, nothing is left
        tuning = Tuning(StudyFile(path), tmp_path / "study")
        tuning.run()
        values = [trial.params["stages.search.strategy.population"] for trial in tuning.study.trials]
        assert sorted(values) == [3, 4]
        assert tuning.exhausted
        tuning.close()
