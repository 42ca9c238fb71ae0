"""The metrics of classes and of labels for the resamples of an interval, without scikit-learn's checks of every call.

scikit-learn checks its arguments for 1 to 3 ms, a hundred times as long as it computes for a few hundred samples, and
an interval needs a thousand resamples.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


def balanced_accuracy(targets: Ints, predictions: Ints, weights: Floats) -> float:
    """Return the mean, over the classes of the targets, of the share of their targets that are predicted.

    Args:
        targets: class numbers from 0 on, shape ``(pairs,)``.
        predictions: of the same shape.
        weights: how often each pair occurs, positive, shape ``(pairs,)``.
    """
    hits, targeted, _ = _counts(targets, predictions, weights)
    present = targeted > 0
    return float((hits[present] / targeted[present]).mean())


def macro_f1(targets: Ints, predictions: Ints, weights: Floats) -> float:
    """Return the mean F1 over the classes of targets and predictions; arguments as of `balanced_accuracy`."""
    hits, targeted, predicted = _counts(targets, predictions, weights)
    both = targeted + predicted
    present = both > 0
    return float((2 * hits[present] / both[present]).mean())


def mean_iou(targets: Ints, predictions: Ints, weights: Floats) -> float:
    """Return the mean, over the classes of targets and predictions, of intersection over union.

    The arguments are as of `balanced_accuracy`.
    """
    hits, targeted, predicted = _counts(targets, predictions, weights)
    union = targeted + predicted - hits
    present = union > 0
    return float((hits[present] / union[present]).mean())


def multilabel_f1(targets: Floats, outputs: Floats, weights: Floats) -> float:
    """Return the mean F1 of the labels; a label that is neither a target nor predicted counts 0, as in scikit-learn.

    Args:
        targets: 0 or 1, shape ``(samples, labels)``.
        outputs: a positive one predicts the label; of the same shape.
        weights: of the samples, positive, shape ``(samples,)``.
    """
    true, predicted = targets > 0.5, outputs > 0
    both = weights @ true + weights @ predicted
    return float(np.divide(2 * (weights @ (true & predicted)), both, out=np.zeros(len(both)), where=both > 0).mean())


def average_precision(targets: Floats, outputs: Floats, weights: Floats) -> float:
    """Return the mean average precision of the labels; a label that no sample has counts 0, as in scikit-learn.

    Samples with equal outputs have one threshold. The arguments are as of `multilabel_f1`.
    """
    scores = []
    for true, output in zip((targets > 0.5).T, outputs.T, strict=True):
        order = np.argsort(-output, kind="stable")
        last = np.append(np.diff(output[order]) != 0, True)
        hits = np.cumsum(weights[order] * true[order])[last]
        precision = hits / np.cumsum(weights[order])[last]
        scores.append(float(np.diff(hits, prepend=0.0) @ precision / hits[-1]) if hits[-1] > 0 else 0.0)
    return float(np.mean(scores))


def _counts(targets: Ints, predictions: Ints, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the numbers of hits, of targets and of predictions of each class."""
    size = int(max(targets.max(), predictions.max())) + 1
    hits = np.where(targets == predictions, weights, 0.0)

    def sums(classes: Ints, terms: Floats) -> Floats:
        return np.bincount(classes, terms, size).astype(np.float64)

    return sums(targets, hits), sums(targets, weights), sums(predictions, weights)
