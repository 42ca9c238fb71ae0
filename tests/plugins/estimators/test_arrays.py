"""The task `arrays` and its splits: contracts, normalisation as scikit-learn's, small data, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import Task
from automl_nas.testing import TaskContract
from automl_nas_estimators.arrays import arrays, normalization
from automl_nas_estimators.splits import make_splits

RNG = np.random.default_rng(0)


def save(folder: Path, **values: Any) -> Path:
    np.savez(folder / "data.npz", **values)
    return folder / "data.npz"


class TestTable(TaskContract):
    def make_task(self) -> Task:
        rng = np.random.default_rng(0)
        return arrays(path=save(self.folder(), x=rng.normal(3, 2, (60, 4)), y=np.arange(60) % 3), batch_size=8)


class TestTokens(TaskContract):
    output_shape = (1,)
    integers = True

    def make_task(self) -> Task:
        rng = np.random.default_rng(0)
        # The first number is different in all rows: no two samples are equal.
        x = np.stack([np.arange(60), *rng.integers(0, 60, (7, 60))], axis=1)
        return arrays(path=save(self.folder(), x=x, y=rng.normal(size=60)), batch_size=8)


@pytest.mark.parametrize("shape", [(80, 5), (80, 3, 9), (80, 2, 4, 6)])
def test_numbers_are_normalised_by_the_training_split_as_scikit_learn_does(tmp_path: Path, shape: Any) -> None:
    x = RNG.normal(5, 3, shape).astype(np.float32)
    task = arrays(path=save(tmp_path, x=x, y=np.arange(80) % 2))
    values = {split: next(task.scored_batches(split))[0].numpy() for split in ("train", "search", "test")}

    def rows(part: Any) -> Any:  # the channels are the features of a scaler
        return np.moveaxis(part, 1, -1).reshape(-1, shape[1])

    rules = normalization(task.preprocessing(), len(shape) - 1)
    assert rules is not None
    mean, deviation = rules
    scaler = StandardScaler().fit(rows(values["train"] * deviation + mean))
    np.testing.assert_allclose(mean.ravel(), scaler.mean_, rtol=1e-5)
    np.testing.assert_allclose(deviation.ravel(), scaler.scale_, rtol=1e-5)
    # Every sample of the file is in one split: float32 rounds it twice, by at most 1e-7 of values below 20.
    everything = np.concatenate([values[split] * deviation + mean for split in values])
    np.testing.assert_allclose(np.sort(everything, axis=None), np.sort(x, axis=None), atol=1e-5)


def test_a_constant_feature_becomes_0(tmp_path: Path) -> None:
    x = np.stack([np.full(230, 0.3), RNG.normal(size=230)], axis=1)
    task = arrays(path=save(tmp_path, x=x, y=np.arange(230) % 2))
    rule = task.preprocessing()
    assert rule is not None and rule["features"][0]["deviation"] == 1.0
    assert rule["features"][0]["mean"] == np.float32(0.3)
    for split in ("train", "search", "test"):
        assert not next(task.scored_batches(split))[0][:, 0].any()


def test_a_table_describes_its_columns(tmp_path: Path) -> None:
    path = save(tmp_path, x=np.arange(20.0).reshape(10, 2), y=np.arange(10.0))
    rule = arrays(path=path, feature_names=("a", "b")).preprocessing()
    assert rule is not None and rule["input"] == "table"
    assert [feature["column"] for feature in rule["features"]] == ["a", "b"]
    with pytest.raises(ConfigurationError, match="1 names for 2 features"):
        arrays(path=path, feature_names=("a",))


def test_tokens_are_integers_and_their_number_is_known(tmp_path: Path) -> None:
    x = RNG.integers(0, 30, (40, 6), dtype=np.int16)
    task = arrays(path=save(tmp_path, x=x, y=np.arange(40) % 2), batch_size=8)
    assert next(task.batches("train", 0, 0))[0].dtype == torch.int64
    assert task.preprocessing() == {"input": "tokens", "vocabulary": int(x.max()) + 1}
    assert normalization(task.preprocessing(), 1) is None


@pytest.mark.parametrize(("classes", "count"), [(2, 4), (2, 6), (3, 11), (1, 5), (1, 10), (1, 25)])
def test_splits_of_few_samples_keep_one_of_each_class_for_training(classes: int, count: int) -> None:
    for seed in range(20):
        labels = np.concatenate([np.arange(classes), np.random.default_rng(seed).integers(0, classes, count - classes)])
        splits = make_splits(labels if classes > 1 else None, count, 0.1, 0.2, seed)
        assert sorted(np.concatenate(list(splits.values())).tolist()) == list(range(count))
        assert len(splits["train"]) >= 1
        assert min(len(splits["search"]), len(splits["test"])) >= (2 if classes == 1 else 1)
        assert set(labels[splits["train"]]) == set(range(classes))


def test_splits_of_many_samples_are_stratified() -> None:
    labels = np.repeat([0, 1, 2], [100, 200, 300])
    splits = make_splits(labels, 600, 0.1, 0.2, 0)
    assert [np.bincount(labels[splits[name]]).tolist() for name in ("test", "search", "train")] == [
        [10, 20, 30], [18, 36, 54], [72, 144, 216],
    ]  # fmt: skip


@pytest.mark.parametrize(("classes", "count"), [(1, 1), (1, 4), (2, 2), (2, 3), (10, 11)])
def test_too_few_samples_are_refused_with_the_number_that_is_needed(classes: int, count: int) -> None:
    labels = np.arange(count) % classes if classes > 1 else None
    needed = classes + 2 if classes > 1 else 5
    with pytest.raises(DataError, match=f"n_samples={count} .*at least {needed} samples"):
        make_splits(labels, count, 0.1, 0.2, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": np.zeros((9, 2)), "y": np.zeros(8)}, "9 samples, and 'y' has 8"),
        ({"x": np.zeros(9), "y": np.zeros(9)}, "inputs must be"),
        ({"x": np.full((9, 2), np.nan), "y": np.zeros(9)}, "contains NaN"),
        ({"x": np.full((9, 2), 1e300), "y": np.zeros(9)}, "too large for float32"),
        ({"x": np.full((9, 2), -1), "y": np.zeros(9)}, "tokens are at least 0"),
        ({"x": np.full((9, 2), "a"), "y": np.zeros(9)}, "inputs must be numbers"),
        (
            {"x": np.zeros((9, 2)), "y": np.full(9, "a")},
            r"'y' is <U1; targets must be .*numpy.unique\(y, return_inverse=True\), and give .* as class_names",
        ),
        (
            {"x": np.zeros((9, 2)), "y": np.where(np.arange(9) == 7, np.nan, 1.5)},
            r"'y' is nan at the index \[7\] .*: 1 of 9\); remove",
        ),
        ({"x": np.zeros((9, 2)), "y": np.full((9, 1), np.inf)}, r"'y' is inf at the index \[0, 0\] .*: 9 of 9\)"),
        ({"x": np.zeros((9, 2)), "y": np.full(9, 1e300)}, r"'y' is 1e\+300 at the index \[0\]"),
        ({"x": np.zeros((9, 2)), "y": np.arange(9) % 3 - 1}, "class number -1"),
        (
            {"x": np.zeros((9, 2)), "y": np.repeat([0, 20_260_101, 10**12], 3)},
            r"'y' has 3 different class numbers from 0 to 1000000000000; renumber .*numpy.unique\(y",
        ),
        ({"x": np.zeros((9, 10)), "y": np.eye(10, dtype=np.int64)[:9]}, r"'y' has whole .*\(9, 10\).*y.argmax\(1\)"),
        ({"x": np.zeros((9, 2)), "y": np.ones((9, 3), np.uint8)}, "labels, set loss: binary_cross_entropy"),
        ({"x": np.zeros((9, 8, 8, 3)), "y": np.zeros(9)}, r"looks like channels last; .* x.transpose\(0, 3, 1, 2\)"),
        ({"x": np.zeros((9, 28, 20, 1)), "y": np.zeros(9)}, "looks like channels last"),
        ({"x": np.zeros((9, 2)), "z": np.zeros(9)}, "no array 'y'"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, values: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        arrays(path=save(tmp_path, **values))
    assert str(tmp_path) in str(caught.value)


def test_python_objects_are_not_read(tmp_path: Path) -> None:
    path = save(tmp_path, x=np.array([[{}], [{}]], dtype=object), y=np.zeros(2))
    with pytest.raises(DataError, match="Python objects"):
        arrays(path=path)


def test_fractions_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="test_fraction"):
        arrays(path=save(tmp_path, x=np.zeros((9, 2)), y=np.zeros(9)), test_fraction=1.0)


@pytest.mark.parametrize("shape", [(40, 3, 8, 8), (40, 1, 8, 3), (40, 64, 4, 4), (40, 8, 8, 2)])
def test_images_with_the_channels_first_are_taken_as_they_are(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert arrays(path=save(tmp_path, x=RNG.normal(size=shape), y=np.arange(40) % 2)).input_shape == shape[1:]


def test_a_column_of_classes_is_the_classes(tmp_path: Path) -> None:
    x, y = RNG.normal(size=(40, 2)), np.arange(40) % 4
    flat = arrays(path=save(tmp_path, x=x, y=y))
    fingerprint = flat.fingerprint()
    column = arrays(path=save(tmp_path, x=x, y=y[:, None].astype(np.uint8)))
    assert (column.num_classes, column.fingerprint()) == (4, fingerprint)


def test_whole_numbers_for_each_label_or_position_are_taken(tmp_path: Path) -> None:
    labels = RNG.integers(0, 2, (40, 3))
    task = arrays(path=save(tmp_path, x=RNG.normal(size=(40, 2)), y=labels), loss="binary_cross_entropy")
    assert task.outputs() is not None and task.num_classes == 3
    positions = np.arange(40 * 6).reshape(40, 6) % 5
    for x in (positions + 1, RNG.normal(size=(40, 2, 6))):
        assert arrays(path=save(tmp_path, x=x, y=positions)).num_classes == 5


def test_names_are_given_to_class_numbers_that_do_not_occur(tmp_path: Path) -> None:
    path = save(tmp_path, x=RNG.normal(size=(40, 2)), y=np.arange(40) % 2 * 2)
    assert arrays(path=path, class_names=("a", "b", "c")).num_classes == 3
    with pytest.raises(DataError, match=r"'y' contains the class number 2, but class_names has 2 names"):
        arrays(path=path, class_names=("a", "b"))


def test_floating_classes_have_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x, y = RNG.normal(size=(60, 2)), np.arange(60.0) % 10
    arrays(path=save(tmp_path, x=x, y=y))
    assert caplog.messages == [
        "task arrays: 'y' has 10 different values, all whole, and is taken as numbers to predict since its type is "
        "floating; save classes as integers, y.astype(int), or set loss: mse to omit this message"
    ]
    caplog.clear()
    arrays(path=tmp_path / "data.npz", loss="mse")
    for values in (y + 0.5, np.arange(60.0), np.stack([y, y], 1)):
        arrays(path=save(tmp_path, x=x, y=values))
    assert caplog.messages == []


def test_a_table_of_integers_has_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x = RNG.integers(0, 50_000, (400, 5))
    x[0, 0] = 49_999
    arrays(path=save(tmp_path, x=x, y=np.arange(400) % 2))
    assert caplog.messages == [
        "task arrays: 'x' holds integers and is taken as sequences of tokens, with a vocabulary of 50,000 for 400 "
        "samples; save the numbers of a table as floating ones, x.astype(numpy.float32)"
    ]
    caplog.clear()
    texts = RNG.integers(0, 30_000, (100, 512))  # few samples for this vocabulary, and many tokens
    for tokens in (texts, x % 3000):
        arrays(path=save(tmp_path, x=tokens, y=np.arange(len(tokens)) % 2))
    assert caplog.messages == []
