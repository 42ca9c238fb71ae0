"""Every metric equals scikit-learn's on plain arrays, and every interval the one of resampled arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from scipy.stats import binomtest
from torch import Tensor
from torch.nn import functional as F

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import TensorTask, make_loss, make_metrics
from automl_nas.evaluation.tasks.bootstrap import bootstrap_weights, percentile_interval
from automl_nas.evaluation.tasks.losses import balanced_weights

N, K = 60, 7
GENERATOR = torch.Generator().manual_seed(0)
SCORES = torch.randn(N, K, generator=GENERATOR)
CLASSES = torch.randint(0, K, (N,), generator=GENERATOR)
SCORES[torch.arange(N), CLASSES] += 1.0
LABELS = (torch.rand(N, K, generator=GENERATOR) < 0.4).float()
LOGITS = torch.randn(N, K, generator=GENERATOR) + 2 * LABELS - 1
NUMBERS = torch.randn(N, 3, generator=GENERATOR)
GUESSES = NUMBERS + torch.randn(N, 3, generator=GENERATOR)
MASKS = torch.randint(0, 3, (N, 4, 5), generator=GENERATOR)
MAPS = torch.randn(N, 3, 4, 5, generator=GENERATOR) + 2 * F.one_hot(MASKS, 3).movedim(3, 1)
IGNORING = torch.where(torch.rand(N, 4, 5, generator=GENERATOR) < 0.2, 255, MASKS)

Reference = Callable[[Any, Any], float]


def _pixels(function: Callable[..., float], **settings: Any) -> Reference:
    def of(targets: Any, outputs: Any) -> float:
        counted = targets != 255
        return function(targets[counted], outputs.argmax(1)[counted], **settings)

    return of


CASES: list[tuple[str, str, Tensor, Tensor, int | None, Reference]] = [
    ("accuracy", "cross_entropy", SCORES, CLASSES, None, lambda t, o: sk.accuracy_score(t, o.argmax(1))),
    ("top5_accuracy", "cross_entropy", SCORES, CLASSES, None,
     lambda t, o: sk.top_k_accuracy_score(t, o, k=5, labels=range(K))),
    ("balanced_accuracy", "cross_entropy", SCORES, CLASSES, None,
     lambda t, o: sk.balanced_accuracy_score(t, o.argmax(1))),
    ("macro_f1", "cross_entropy", SCORES, CLASSES, None, lambda t, o: sk.f1_score(t, o.argmax(1), average="macro")),
    ("loss", "cross_entropy", SCORES, CLASSES, None,
     lambda t, o: sk.log_loss(t, torch.softmax(torch.tensor(o).double(), 1).numpy(), labels=range(K))),
    ("mean_iou", "cross_entropy", MAPS, MASKS, None, _pixels(sk.jaccard_score, average="macro")),
    ("mean_iou", "cross_entropy", MAPS, IGNORING, 255, _pixels(sk.jaccard_score, average="macro")),
    ("accuracy", "cross_entropy", MAPS, IGNORING, 255, _pixels(sk.accuracy_score)),
    ("balanced_accuracy", "cross_entropy", MAPS, IGNORING, 255, _pixels(sk.balanced_accuracy_score)),
    ("exact_match", "binary_cross_entropy", LOGITS, LABELS, None, lambda t, o: sk.accuracy_score(t, o > 0)),
    ("multilabel_f1", "binary_cross_entropy", LOGITS, LABELS, None,
     lambda t, o: sk.f1_score(t, o > 0, average="macro")),
    ("multilabel_f1", "binary_cross_entropy", LOGITS[:, :1], LABELS[:, :1], None,
     lambda t, o: sk.f1_score(t[:, 0], o[:, 0] > 0)),
    ("average_precision", "binary_cross_entropy", LOGITS, LABELS, None,
     lambda t, o: sk.average_precision_score(t, o, average="macro")),
    ("loss", "binary_cross_entropy", LOGITS, LABELS, None,
     lambda t, o: float(np.mean([sk.log_loss(t[:, k], 1 / (1 + np.exp(-o[:, k].astype(float))), labels=[0, 1])
                                 for k in range(K)]))),
    ("rmse", "mse", GUESSES, NUMBERS, None, sk.root_mean_squared_error),
    ("mae", "mse", GUESSES, NUMBERS, None, sk.mean_absolute_error),
    ("r2", "huber", GUESSES, NUMBERS, None, sk.r2_score),
    ("rmse", "mse", GUESSES[:, 0], NUMBERS[:, 0], None, sk.root_mean_squared_error),
    ("loss", "mse", GUESSES, NUMBERS, None, sk.mean_squared_error),
    ("loss", "mae", GUESSES, NUMBERS, None, sk.mean_absolute_error),
]  # fmt: skip


@pytest.mark.parametrize(("name", "loss", "outputs", "targets", "ignored", "reference"), CASES)
def test_metrics_and_intervals_are_scikit_learns(
    name: str, loss: str, outputs: Tensor, targets: Tensor, ignored: int | None, reference: Reference
) -> None:
    metric = make_metrics([name], make_loss(loss, ignore_index=ignored), ignored)[name]
    metric.check(outputs, targets)
    collected = metric.collect(True)
    for part in (slice(0, 17), slice(17, 40), slice(40, N)):
        collected.add(outputs[part], targets[part])
    expected = reference(targets.numpy(), outputs.numpy())
    assert collected.value() == pytest.approx(expected, rel=1e-5)

    interval = collected.interval(bootstrap_weights(N, 40))
    if name in ("accuracy", "top5_accuracy", "exact_match") and targets.dim() <= 2:
        theirs = binomtest(round(expected * N), N).proportion_ci(0.95, "wilson")
        assert interval == pytest.approx((theirs.low, theirs.high), rel=1e-9)
        return
    resampled = []
    for weights in bootstrap_weights(N, 40):
        drawn = np.repeat(np.arange(N), weights.astype(int))
        resampled.append(reference(targets.numpy()[drawn], outputs.numpy()[drawn]))
    low, high = np.percentile(resampled, [2.5, 97.5])
    assert interval == pytest.approx((min(low, expected), max(high, expected)), rel=1e-5)


def test_bootstrap_intervals_of_a_mean_have_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    means = [float(w @ values / 400) for w in bootstrap_weights(400, 2000)]
    interval = percentile_interval(float(values.mean()), means)
    assert interval is not None
    half = 1.96 * values.std() / 20
    assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_undefined_resamples_do_not_count_and_undefined_values_have_no_interval() -> None:
    assert percentile_interval(1.0, [float("nan"), 0.5, 1.5]) == pytest.approx((0.525, 1.475))
    assert percentile_interval(float("nan"), [1.0]) is None
    assert percentile_interval(2.0, [1.0, 1.0]) == (1.0, 2.0)


def test_training_losses_are_torchs() -> None:
    weights = torch.tensor([0.5, 1, 2, 1, 1, 1, 3])
    cases = [
        (make_loss("cross_entropy", label_smoothing=0.1, weights=weights), SCORES, CLASSES,
         F.cross_entropy(SCORES, CLASSES, weight=weights, label_smoothing=0.1)),
        (make_loss("cross_entropy", ignore_index=255), MAPS, IGNORING,
         F.cross_entropy(MAPS, IGNORING, ignore_index=255)),
        (make_loss("binary_cross_entropy", weights=weights), LOGITS, LABELS,
         F.binary_cross_entropy_with_logits(LOGITS, LABELS, pos_weight=weights)),
        (make_loss("huber"), GUESSES, NUMBERS, F.huber_loss(GUESSES, NUMBERS)),
        (make_loss(lambda o, t: (o - t).abs().max()), GUESSES, NUMBERS, (GUESSES - NUMBERS).abs().max()),
    ]  # fmt: skip
    for loss, outputs, targets, expected in cases:
        assert torch.equal(loss.training(outputs, targets), expected)


def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    expected = compute_class_weight("balanced", classes=np.arange(K), y=CLASSES.numpy())
    assert balanced_weights(CLASSES, "classes", K).numpy() == pytest.approx(expected, rel=1e-6)
    positive = LABELS.sum(0)
    assert balanced_weights(LABELS, "labels", K).numpy() == pytest.approx(((N - positive) / positive).numpy())
    with pytest.raises(DataError, match="needs every class in the training split; the counts of class 7 are 0"):
        balanced_weights(CLASSES, "classes", K + 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "crossentropy"}, "task.loss: unknown loss 'crossentropy'; did you mean 'cross_entropy'"),
        ({"loss": "mse", "label_smoothing": 0.1}, "task.label_smoothing: label_smoothing belongs to the loss"),
        ({"label_smoothing": 1.0}, "task.label_smoothing: label_smoothing must be at least 0 and below 1"),
        ({"loss": "huber", "class_weights": "balanced"}, "task.class_weights: class_weights must be 'balanced'"),
        ({"class_weights": [1.0, 2.0]}, "task.class_weights: needs 7 finite numbers"),
        ({"metrics": ["acuracy"]}, "task.metrics: unknown metric 'acuracy'; did you mean 'accuracy'"),
        ({"metrics": "rmse"}, "task.metrics: the metric 'rmse' does not fit.*accuracy, top5_accuracy, balanced"),
        ({"metrics": {"own": abs}}, r"task.metrics: the metric 'own' must be \(function, 'maximize'\)"),
        ({"sampler": "balance"}, "task.sampler: unknown sampler 'balance'; did you mean 'balanced'"),
        ({"batch_size": 0}, "task.batch_size"),
        ({"resamples": -1}, "task.resamples"),
        ({"test_fraction": 1.0}, "task.test_fraction"),
        ({"class_names": ["a"]}, "task.class_names: there are 1 names for 7 classes"),
        ({"class_names": list("abcdefb")}, "task.class_names: the classes 1 and 6 are both called 'b'"),
    ],
)  # fmt: skip
def test_wrong_settings_name_their_path(settings: dict[str, Any], message: str) -> None:
    targets = NUMBERS if settings.get("loss") in ("mse", "huber") else CLASSES.repeat(10)
    with pytest.raises(ConfigurationError, match=message):
        TensorTask(SCORES if len(targets) == N else SCORES.repeat(10, 1), targets, **settings)


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "warning"),
    [
        ("cross_entropy", torch.tensor([[0.0, 1.0]]), [0, 1, 1, 1], "predicts the class '1' for every sample"),
        ("cross_entropy", torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]), [0, 1, 1, 1], r"\('1', 0.7500\)"),
        ("binary_cross_entropy", torch.tensor([[1.0, -1.0]]), [[0, 1], [1, 0], [1, 1], [1, 0]], "the same labels"),
        ("mse", torch.tensor([[2.5]]), [[1.0], [2.0], [3.0], [4.0]], "predicting their mean for every sample"),
        ("cross_entropy", torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]]), [0, 1, 1, 1], None),
        ("mse", torch.tensor([[1.0], [2.0], [3.0], [3.0]]), [[1.0], [2.0], [3.0], [4.0]], None),
    ],
)  # fmt: skip
def test_a_result_that_a_constant_reaches_has_a_warning(
    loss: str, outputs: Tensor, targets: list[Any], warning: str | None
) -> None:
    x, y = np.zeros((40, 3)), np.array(targets * 10)
    task = TensorTask(x, y, test=(np.zeros((4, 3)), targets), loss=loss, batch_size=4, resamples=0)
    report = task.report(lambda inputs: outputs.expand(len(inputs), -1), "test")
    if warning is None:
        assert not report.warnings
    else:
        (message,) = report.warnings
        with pytest.raises(AssertionError, match=warning):
            raise AssertionError(message)
