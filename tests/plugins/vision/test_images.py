from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from torch.nn import functional as F

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.torchvision_import import import_torchvision
from automl_nas_vision import digits
from automl_nas_vision.digits import Digits, read_digits
from automl_nas_vision.images import ImageTask, MemoryImages, channel_statistics


def test_the_digits_are_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = read_digits()
    theirs = load_digits()
    # Grey level g becomes the nearest integer to 255 g / 16: the level comes back by rounding.
    assert np.array_equal(np.rint(pixels * (16 / 255)), theirs.images) and pixels.max() == 255
    assert np.array_equal(labels, theirs.target)
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    again = read_digits()
    assert np.array_equal(again[0], pixels) and np.array_equal(again[1], labels)


@pytest.mark.slow
@pytest.mark.process
def test_the_default_digits_import_neither_torchvision_nor_scikit_learn() -> None:
    code = (
        "import sys; import automl_nas_vision; assert 'torch' not in sys.modules\n"
        "from automl_nas_vision.digits import Digits; next(Digits().batches('train', 0, 0))\n"
        "assert not {'torchvision', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env={**_environment()})


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_inputs_are_torchvisions_normalisation_of_the_training_statistics() -> None:
    task = Digits(augment="none", batch_size=30)
    v2 = import_torchvision("torchvision.transforms.v2")
    pixels, labels = read_digits()
    train = pixels[task._splits["train"]] / 255
    normalise = v2.Compose(
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize([float(train.mean())], [float(train.std())])]
    )
    seen: list[torch.Tensor] = []
    task.score(lambda inputs: seen.append(inputs) or torch.zeros(len(inputs), 10), "test")
    expected = torch.stack([normalise(torch.from_numpy(pixels[k])[None]) for k in task._splits["test"]])
    # Both round each of three float32 operations once: a few units in the last place of values up to about 2.
    torch.testing.assert_close(torch.cat(seen), expected, rtol=1e-5, atol=1e-6)
    whole = torch.cat([inputs for inputs, _ in Digits(augment="none", batch_size=1).batches("train", 0, 0)]).double()
    # Mean and deviation of float32 values: each input carries a relative error of about 1e-7.
    assert abs(float(whole.mean())) < 1e-6 and abs(float(whole.std(correction=0)) - 1) < 1e-6
    assert np.array_equal(labels[task._splits["test"]], task._data.labels[task._splits["test"]])


def test_channel_statistics_are_numpys_and_a_constant_channel_is_not_divided_by_zero() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1500, 3, 5, 4), dtype=np.uint8)
    pixels[:, 2] = 17
    indices = np.sort(rng.permutation(1500)[:1100])
    mean, deviation = channel_statistics(MemoryImages(torch.from_numpy(pixels)), indices)
    chosen = pixels[indices].astype(np.float64) / 255
    # NumPy's float64 sums of 22,000 terms are good to about 1e-13.
    np.testing.assert_allclose(mean, chosen.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(deviation[:2], chosen.std(axis=(0, 2, 3))[:2], rtol=1e-12)
    assert deviation[2] == 1.0


def test_score_is_accuracy_and_cross_entropy_over_the_whole_split() -> None:
    task = Digits(score_batch_size=100)
    weight = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []

    def model(inputs: torch.Tensor) -> torch.Tensor:
        seen.append(inputs)
        return inputs.flatten(1) @ weight

    scores = task.score(model, "test")
    assert [len(inputs) for inputs in seen] == [100, 100, 100, 60]
    outputs = torch.cat(seen).flatten(1) @ weight
    targets = task._data.labels[task._splits["test"]]
    assert scores["accuracy"] == (outputs.argmax(1) == targets).float().mean(dtype=torch.float64).item()
    # float32 products summed in batches of another size: about 1e-6 relative in each output.
    assert scores["loss"] == pytest.approx(F.cross_entropy(outputs, targets).item(), rel=1e-5)
    perfect = {"accuracy": 1.0, "loss": 0.0}
    answers = iter(targets.split(100))
    assert task.score(lambda inputs: 1e4 * F.one_hot(next(answers), 10).float(), "test") == perfect


def test_the_loss_smooths_labels_and_the_score_does_not() -> None:
    outputs, targets = torch.tensor([[2.0, 0.0] + [0.0] * 8]), torch.tensor([0])
    log = torch.log_softmax(outputs, 1)[0]
    # Label smoothing e: (1 - e) of the weight on the target, e spread evenly over all classes (Szegedy et al., 2016).
    expected = -(0.9 * log[0] + 0.1 * log.mean())
    torch.testing.assert_close(Digits(label_smoothing=0.1).loss(outputs, targets), expected)
    torch.testing.assert_close(Digits(label_smoothing=0.0).loss(outputs, targets), -log[0])
    scores = [Digits(label_smoothing=e).score(lambda x: x.flatten(1)[:, :10], "search") for e in (0.0, 0.5)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, r"task\.batch_size: batch_size must be at least 1, not 0"),
        ({"score_batch_size": 0}, r"task\.score_batch_size"),
        ({"workers": -1}, r"task\.workers: workers must be at least 0"),
        ({"label_smoothing": 1.0}, r"task\.label_smoothing: label_smoothing must be at least 0 and below 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Digits(**settings)  # type: ignore[arg-type]


def test_the_interval_of_an_accuracy_is_wilsons() -> None:
    task = Digits()
    report = task.report(lambda x: x.flatten(1)[:, :10], "test")
    correct = round(report.metrics["accuracy"] * 360)
    theirs = binomtest(correct, 360).proportion_ci(0.95, "wilson")
    assert report.intervals["accuracy"] == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert report.intervals["loss"][0] < report.metrics["loss"] < report.intervals["loss"][1]
    assert sum(map(sum, report.details["confusion_matrix"])) == 360


def test_a_batch_larger_than_the_split_leaves_no_batches() -> None:
    task = Digits(batch_size=5000)
    assert task.batches_per_epoch("train") == 0 and list(task.batches("train", 0, 0)) == []


def test_an_unknown_split_is_offered_the_nearest() -> None:
    with pytest.raises(DataError, match="unknown split 'serach'; did you mean 'search'"):
        Digits().size("serach")


def test_the_base_class_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        ImageTask()  # type: ignore[abstract, call-arg]


def test_preprocessing_from_raw_pixels_gives_the_inputs() -> None:
    task = Digits()
    described = task.preprocessing()
    assert described is not None
    assert task.class_names == tuple("0123456789") and (described["channels"], described["resize"]) == ("L", "none")
    pixels = load_digits().images[task._splits["test"]][:, None] * (255 / 16)
    low, high = described["value_range"]
    mean, std = (np.array(described[key])[:, None, None] for key in ("mean", "std"))
    expected = (low + np.rint(pixels) / 255 * (high - low) - mean) / std
    inputs = next(task.scored_batches("test"))[0].numpy()
    assert inputs == pytest.approx(expected, abs=1e-5)
    assert task.report(lambda x: torch.zeros(len(x), 10), "test").details["preprocessing"] == described
