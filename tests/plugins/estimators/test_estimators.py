"""`NASClassifier` and `NASRegressor`: what they keep, continue, export and refuse."""

from __future__ import annotations

import copy
import io
import logging
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from plugins.estimators.fast import fast, small_images
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import automl_nas
import automl_nas_estimators.estimator as estimator_module
from automl_nas.cli import cli
from automl_nas.errors import ConfigurationError, DataError, RunDirectoryError, RunInterrupted
from automl_nas.plugin import StageStarted
from automl_nas.run import read_yaml
from automl_nas_estimators import NASClassifier, NASRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = np.where(X[:, 0] > 0, "yes", "no")
SETTINGS: dict[str, Any] = {"random_state": 0, "progress": "none", "sections": fast()}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> NASClassifier:
    return NASClassifier(**SETTINGS, directory=tmp_path_factory.mktemp("fitted")).fit(X, Y)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_classes_are_those_of_y_and_probabilities_follow_their_order(fitted: NASClassifier) -> None:
    assert fitted.classes_.tolist() == ["no", "yes"]
    chances = fitted.predict_proba(X)
    assert chances.shape == (60, 2)
    np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-12)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[chances.argmax(1)])


def test_predictions_are_those_of_the_delivered_network(fitted: NASClassifier) -> None:
    """The run directory is read as a user would: the network with its weights, and the normalisation it records."""
    result = automl_nas.open_run(fitted.directory_)
    rule = result.delivery().preprocessing
    assert rule is not None
    features = rule["features"]
    mean, deviation = (np.array([feature[key] for feature in features]) for key in ("mean", "deviation"))
    inputs = torch.from_numpy((X - mean) / deviation).float()
    with torch.no_grad():
        expected = result.load_trained()(inputs).softmax(1).numpy()
    # float32 against float64: outputs are of the order of 1, and a network of six layers rounds to some 1e-6.
    np.testing.assert_allclose(fitted.predict_proba(X), expected, atol=1e-5)
    assert result.delivery().class_names == ("no", "yes")


@pytest.mark.parametrize("how", ["pickle", "joblib", "copy"])
def test_a_copy_predicts_the_same(fitted: NASClassifier, how: str) -> None:
    if how == "pickle":
        other = pickle.loads(pickle.dumps(fitted))  # noqa: S301 - our own bytes
    elif how == "joblib":
        buffer = io.BytesIO()
        joblib.dump(fitted, buffer)
        buffer.seek(0)
        other = joblib.load(buffer)
    else:
        other = copy.deepcopy(fitted)
    np.testing.assert_array_equal(other.predict_proba(X), fitted.predict_proba(X))
    assert other.result_.architecture == fitted.result_.architecture


def test_a_clone_has_the_parameters_and_is_not_fitted(fitted: NASClassifier) -> None:
    other = clone(fitted)
    assert other.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        other.predict(X)
    with pytest.raises(NotFittedError):
        _ = other.result_


def test_the_seed_determines_the_network(fitted: NASClassifier) -> None:
    again = NASClassifier(**SETTINGS).fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    other = NASClassifier(**{**SETTINGS, "random_state": np.random.RandomState(1)}).fit(X, Y)
    assert (other.predict_proba(X) != fitted.predict_proba(X)).any()


def test_a_second_fit_in_the_directory_takes_over_the_run(fitted: NASClassifier) -> None:
    folder = Path(fitted.directory)
    before = files(folder)
    for seed in (0, None):  # None: the seed that the directory records
        again = NASClassifier(**{**SETTINGS, "random_state": seed}, directory=folder).fit(X, Y)
        np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert files(folder) == before


def test_a_directory_of_another_fit_is_kept(fitted: NASClassifier, tmp_path: Path) -> None:
    folder = Path(fitted.directory)
    before = files(folder)
    for changes, x, message in (
        ({}, X + 1, "other data"),
        ({"random_state": 1}, X, "line .* is 'seed: 0' instead of 'seed: 1'"),
        ({"sections": fast(3)}, X, "is not the configuration of this fit"),
    ):
        with pytest.raises(RunDirectoryError, match=message):
            NASClassifier(**{**SETTINGS, **changes}, directory=folder).fit(x, Y)
    assert files(folder) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match=r"contains notes\.txt"):
        NASClassifier(**SETTINGS, directory=tmp_path).fit(X, Y)


def test_an_interrupted_fit_is_continued_to_the_same_network(
    fitted: NASClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(event: StageStarted) -> None:
        if event.stage == "search":
            raise KeyboardInterrupt

    def search(*arguments: Any, **settings: Any) -> automl_nas.Result:
        return automl_nas.search(*arguments, **settings, handlers={StageStarted: stop})

    with monkeypatch.context() as patch:
        patch.setattr(estimator_module, "search", search)
        with pytest.raises(RunInterrupted):
            NASClassifier(**SETTINGS, directory=tmp_path).fit(X, Y)
    stages = []
    handlers = {StageStarted: lambda event: stages.append(event.stage)}
    monkeypatch.setattr(
        estimator_module, "search", lambda *a, **settings: automl_nas.search(*a, **settings, handlers=handlers)
    )
    again = NASClassifier(**SETTINGS, directory=tmp_path).fit(X, Y)
    assert stages == ["search", "final"]
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


def test_the_configuration_is_one_for_the_command_line(fitted: NASClassifier, tmp_path: Path) -> None:
    file = Path(fitted.directory) / "configuration.yaml"
    outcome = CliRunner().invoke(cli, ["run", str(file), "--out", str(tmp_path / "run")])
    assert outcome.exit_code == 0, outcome.output
    assert automl_nas.open_run(tmp_path / "run").data == fitted.result_.data


def test_exports_and_reports(fitted: NASClassifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file, *_) = fitted.export(tmp_path / "onnx", "onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    mean, deviation = fitted._normalization
    outputs = session.run(None, {"input": ((X - mean) / deviation).astype(np.float32)})[0]
    np.testing.assert_array_equal(fitted.classes_[outputs.argmax(1)], fitted.predict(X))
    with pytest.raises(ConfigurationError, match="did you mean 'onnx'"):
        fitted.export(tmp_path / "onnx", "onx")
    file.write_bytes(b"mine")
    with pytest.raises(RunDirectoryError, match="would replace"):
        fitted.export(tmp_path / "onnx", "onnx")
    assert file.read_bytes() == b"mine"
    fitted.export(tmp_path / "onnx", "onnx", replace=True)
    assert file.read_bytes() != b"mine"
    page = fitted.report(tmp_path / "report.html").read_text()
    assert "accuracy" in page and capsys.readouterr().out == ""
    with pytest.raises(ConfigurationError, match="does not exist"):
        fitted.report(tmp_path / "missing" / "report.html")


def test_a_temporary_run_directory_ends_with_the_estimator(tmp_path: Path) -> None:
    estimator = NASClassifier(**SETTINGS).fit(X, Y)
    folder, copied = Path(estimator.directory_), pickle.loads(pickle.dumps(estimator))  # noqa: S301 - our own bytes
    assert folder.is_dir() and estimator.result_.metrics["accuracy"] >= 0
    del estimator
    assert not folder.parent.exists()
    assert copied.predict(X).shape == (60,)
    with pytest.raises(RunDirectoryError, match="directory="):
        copied.export(tmp_path)


def test_choices_are_printed_unless_progress_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    NASClassifier(**{**SETTINGS, "progress": "log"}, directory=tmp_path).fit(X, Y)
    shown = capsys.readouterr().err
    for part in ("table of 4 features", "2 classes", "mlp", "0.8 * largest", str(tmp_path / "configuration.yaml")):
        assert part in shown
    NASClassifier(**SETTINGS).fit(X, Y)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("x", "data", "space", "task"),
    [
        (RNG.normal(size=(30, 2, 24)), "auto", "signal_cnn", "arrays"),
        (RNG.integers(0, 9, (30, 12)), "tokens", "token_cnn", "arrays"),
        (RNG.normal(size=(30, 1, 8, 8)), "auto", "shufflenet_v2", "arrays"),
        (RNG.integers(0, 256, (30, 8, 8, 3)).astype(np.uint8), "auto", "shufflenet_v2", "npz"),
        (RNG.integers(0, 17, (30, 8, 8)).astype(float), "auto", "shufflenet_v2", "npz"),
    ],
)
def test_inputs_of_every_kind(tmp_path: Path, x: Any, data: str, space: str, task: str) -> None:
    sections = small_images(1) if space == "shufflenet_v2" else fast(1, 1)
    classes = np.arange(30) % 2
    estimator = NASClassifier(**{**SETTINGS, "sections": sections}, data=data, directory=tmp_path).fit(x, classes)
    config: Any = read_yaml(tmp_path / "configuration.yaml").value
    assert (config["space"]["name"], config["task"]["name"]) == (space, task)
    # What the task passes to the network is what `predict` passes to it.
    expected = estimator.result_.delivery().held_out
    assert expected is not None
    own = torch.cat(list(estimator._batches(x))).float()
    distances = (own[None] - expected[:, None].float()).abs().flatten(2).amax(2)
    assert float(distances.amin(1).max()) < 1e-5
    assert estimator.predict_proba(x).shape == (30, 2)
    with pytest.raises(ValueError, match=r"had the shape|X has 11 features"):
        estimator.predict(x[:, :, :-1] if x.ndim > 2 else x[:, :-1])


def test_time_limit_and_device_are_sections_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    configurations: list[Any] = []

    def search(file: Path, **_: Any) -> automl_nas.Result:
        configurations.append(read_yaml(file).value)
        raise RunInterrupted("stopped")

    monkeypatch.setattr(estimator_module, "search", search)
    with pytest.raises(RunInterrupted):
        NASClassifier(**SETTINGS, time_limit=90, device="cpu").fit(X, Y)
    assert configurations[0]["budget"] == {"minutes": 1.5}
    assert configurations[0]["runtime"] == {"device": "cpu"}


def test_settings_of_the_task_are_added(tmp_path: Path) -> None:
    sections = {**fast(), "task": {"class_weights": "balanced", "batch_size": 5}}
    NASClassifier(**{**SETTINGS, "sections": sections}, directory=tmp_path).fit(X, Y)
    config: Any = read_yaml(tmp_path / "configuration.yaml").value
    assert (config["task"]["class_weights"], config["task"]["batch_size"]) == ("balanced", 5)
    assert config["task"]["class_names"] == ["no", "yes"]


def test_unknown_tokens_are_refused() -> None:
    x = RNG.integers(0, 9, (30, 12))
    estimator = NASClassifier(**SETTINGS, data="tokens").fit(x, np.arange(30) % 2)
    with pytest.raises(DataError, match="contains the token 99"):
        estimator.predict(np.full((1, 12), 99))


def test_several_numbers_are_predicted_in_their_own_unit() -> None:
    y = np.stack([X[:, 0] * 100 + 1000, X[:, 1]], axis=1)
    estimator = NASRegressor(**{**SETTINGS, "sections": fast(2, 150)}).fit(X, y)
    predicted = estimator.predict(X)
    assert predicted.shape == (60, 2)
    # The deviation of the targets is 100 and 1: a network that learned something is nearer than their mean.
    assert (np.abs(predicted - y).mean(0) < 0.5 * np.abs(y - y.mean(0)).mean(0)).all()
    assert NASRegressor(**SETTINGS).fit(X, y[:, 0]).predict(X[:3]).shape == (3,)


@pytest.mark.parametrize(
    ("changes", "x", "y", "message"),
    [
        ({}, np.where(X > 1, np.nan, X), Y, "NaN"),
        ({}, np.where(X > 1, np.inf, X), Y, "infinity"),
        ({}, X, Y[:-1], "inconsistent numbers of samples"),
        ({}, X, np.zeros(60), "one class only"),
        ({}, X[:2], Y[:2], "n_samples=2"),
        ({}, X[:1], Y[:1], "one class only"),
        ({}, X, np.linspace(0, 1, 60), "Unknown label type: continuous"),
        ({"data": "pictures"}, X, Y, "unknown data='pictures'"),
        ({"test_fraction": 0}, X, Y, "test_fraction must be between 0 and 1"),
        ({"time_limit": 0}, X, Y, "time_limit must be a positive"),
        ({"sections": {"task": "digits"}}, X, Y, "section task must be a mapping"),
        ({"sections": {"task": {"path": "x"}}}, X, Y, "must not contain the path"),
        ({"sections": {"task": {"batch": 3}}}, X, Y, "batch"),
        ({"sections": {"seed": 1}}, X, Y, "must not contain seed"),
        ({"sections": {"spaces": "mlp"}}, X, Y, "space"),
        ({"device": "gpu"}, X, Y, "gpu"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(
    tmp_path: Path, changes: Any, x: Any, y: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        NASClassifier(**{**SETTINGS, **changes}, directory=tmp_path / "run").fit(x, y)
    assert files(tmp_path) == {}  # so that the directory can be used with other parameters


def test_no_warning_is_logged_for_ordinary_data(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        # A few whole numbers might be classes elsewhere; whoever takes a regressor has said that they are numbers.
        NASRegressor(**{**SETTINGS, "sections": fast(2, 60)}).fit(X, np.round(2 * X[:, 0]))
    assert not caplog.records
