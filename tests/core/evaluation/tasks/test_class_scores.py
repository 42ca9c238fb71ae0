"""The metrics of resamples against scikit-learn's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score, f1_score, jaccard_score

from automl_nas.evaluation.tasks.class_scores import (
    average_precision,
    balanced_accuracy,
    macro_f1,
    mean_iou,
    multilabel_f1,
)

# Two orders of summing some dozens of numbers of size 1 in float64.
CLOSE = {"rel": 1e-12, "abs": 1e-12}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("targeted", "predicted"), [((0, 5), (0, 5)), ((3, 7), (0, 5)), ((2, 3), (4, 5))])
def test_classes_as_in_scikit_learn(seed: int, targeted: tuple[int, int], predicted: tuple[int, int]) -> None:
    """Also where some classes are never predicted, or never targets, or neither."""
    generator = np.random.default_rng(seed)
    targets, predictions = generator.integers(*targeted, 30), generator.integers(*predicted, 30)
    weights = generator.integers(1, 5, 30).astype(float)
    settings = {"average": "macro", "sample_weight": weights, "zero_division": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of classes that are no targets
        accuracy = balanced_accuracy_score(targets, predictions, sample_weight=weights)
    assert balanced_accuracy(targets, predictions, weights) == pytest.approx(accuracy, **CLOSE)
    assert macro_f1(targets, predictions, weights) == pytest.approx(f1_score(targets, predictions, **settings), **CLOSE)
    overlap = jaccard_score(targets, predictions, **settings)
    assert mean_iou(targets, predictions, weights) == pytest.approx(overlap, **CLOSE)


@pytest.mark.parametrize("labels", [1, 4])
@pytest.mark.parametrize("case", ["varied", "ties", "no sample has a label", "no label is given", "neither", "all"])
def test_labels_as_in_scikit_learn(labels: int, case: str) -> None:
    generator = np.random.default_rng(labels)
    targets = (generator.random((40, labels)) < 0.4).astype(float)
    outputs = generator.normal(size=(40, labels)) + targets
    if case == "ties":
        outputs = np.round(outputs)
    if case in ("no sample has a label", "neither"):
        targets[:, 0] = 0
    if case in ("no label is given", "neither"):
        outputs[:, 0] = -np.abs(outputs[:, 0]) - 1
    if case == "all":
        targets[:, 0] = 1
    weights = generator.integers(1, 5, 40).astype(float)
    has, given = targets > 0.5, outputs > 0
    # scikit-learn takes a single column as two classes.
    arguments, average = ((has, given), "macro") if labels > 1 else ((has[:, 0], given[:, 0]), "binary")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of labels that no sample has
        f1 = f1_score(*arguments, average=average, sample_weight=weights, zero_division=0.0)
        precision = average_precision_score(has, outputs, average="macro", sample_weight=weights)
    assert multilabel_f1(targets, outputs, weights) == pytest.approx(f1, **CLOSE)
    assert average_precision(targets, outputs, weights) == pytest.approx(precision, **CLOSE)
