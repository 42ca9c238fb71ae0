"""The task `arrays`: inputs and targets of any kind in a NumPy ``.npz`` file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import Indices, NpzFile, TensorTask, mean_and_deviation
from automl_nas_estimators.splits import make_splits

Loss = Literal["auto", "cross_entropy", "binary_cross_entropy", "mse", "mae", "huber"]
_log = logging.getLogger(__name__)
_CHANNELS = (1, 3, 4)
"""The numbers of channels by which images with the channels last are recognised."""
_FEW = 20
"""Floating targets with at most this number of different values, all whole, may have been meant as classes."""
_RARE = 10
"""A vocabulary above this number of tokens for each sample may be that of a table of integers."""


def arrays(
    *,
    path: Path,
    x: str = "x",
    y: str = "y",
    loss: Loss = "auto",
    normalize: bool = True,
    class_names: tuple[str, ...] | None = None,
    feature_names: tuple[str, ...] | None = None,
    metrics: list[str] | None = None,
    batch_size: int = 64,
    score_batch_size: int = 512,
    search_fraction: float = 0.2,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    label_smoothing: float = 0.0,
    class_weights: Literal["balanced"] | tuple[float, ...] | None = None,
    sampler: Literal["shuffle", "balanced"] = "shuffle",
) -> TensorTask:
    """Return the task of predicting one array of an npz file from another one.

    Inputs have the shape ``(samples, features)`` (a table), ``(samples, channels, length)`` (signals), ``(samples,
    channels, height, width)`` (images), or ``(samples, length)`` with an integer type (tokens). Numbers are normalised;
    targets that are numbers are standardised for the loss, and metrics are in their own unit. Arrays of Python objects
    are refused, so that nothing in the file is executed.

    Splits are stratified by class. Where classes are too small for that, samples are held out of all classes together,
    and one sample of each class is kept for training.

    Args:
        path: of the file; ``~`` is the home folder, a relative path starts at the current directory.
        x: name of the array of inputs.
        y: name of the array of targets: integers 0 .. k - 1 are classes, shape ``(samples,)`` or ``(samples, 1)``;
            floating numbers have the shape ``(samples,)`` or ``(samples, k)``.
        loss: see `TensorTask`; ``auto``: ``cross_entropy`` for integers, else ``mse``.
        normalize: whether numbers are normalised to mean 0 and standard deviation 1 of the training split: each feature
            of a table, each channel of signals and images.
        class_names: the names of the classes; null: their numbers.
        feature_names: the names of the columns of a table; null: ``x0``, ``x1``, ...
        metrics: names; see `TensorTask`. null: the default of the loss.
        batch_size: samples in a training batch.
        score_batch_size: samples in a batch when a network is scored.
        search_fraction: share of the samples outside the test split that is held out for the search.
        test_fraction: share of all samples that is held out for the final report.
        split_seed: seed of the splits.
        label_smoothing: of the loss of classes.
        class_weights: ``balanced``, or one weight for each class.
        sampler: ``shuffle`` or ``balanced``.

    Raises:
        ConfigurationError: a setting is out of its range.
        DataError: the file cannot be read, arrays do not fit each other, or there are too few samples.
    """
    file = NpzFile(path)
    inputs, targets = _inputs(file, x), _targets(file, y)
    if len(inputs) != len(targets):
        raise DataError(f"{file.path}: '{x}' has {len(inputs)} samples, and '{y}' has {len(targets)}")
    chosen = ("cross_entropy" if targets.dtype.kind == "i" else "mse") if loss == "auto" else loss
    if chosen == "cross_entropy" and targets.dtype.kind == "i":
        targets = _classes(targets, inputs, f"{file.path}: '{y}'", class_names)
    labels = targets if chosen == "cross_entropy" and targets.ndim == 1 else None
    _warn_of_guesses(inputs, targets, x, y, loss)
    _check_fractions(search_fraction, test_fraction)
    try:
        splits = make_splits(labels, len(inputs), test_fraction, search_fraction, split_seed)
        inputs, preprocessing = _preprocessed(inputs, splits["train"], normalize, feature_names, y)
        parts = {split: (inputs[rows], targets[rows]) for split, rows in splits.items()}
        return TensorTask(
            *parts["train"],
            search=parts["search"],
            test=parts["test"],
            loss=chosen,
            metrics=metrics,
            num_classes=len(class_names) if labels is not None and class_names else None,
            class_names=class_names,
            batch_size=batch_size,
            score_batch_size=score_batch_size,
            label_smoothing=label_smoothing,
            class_weights=class_weights,
            sampler=sampler,
            standardize_targets=chosen in ("mse", "mae", "huber"),
            preprocessing=preprocessing,
        )
    except DataError as error:
        raise DataError(f"{file.path}, '{x}' and '{y}': {error}") from error


def normalization(preprocessing: Mapping[str, Any] | None, dimensions: int) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return what is subtracted from inputs and what they are divided by, as arrays that fit one input.

    Args:
        preprocessing: of a task of this package, or of images; see `automl_nas.evaluation.Task.preprocessing`.
        dimensions: of one input.

    Returns:
        Two float64 arrays; None if inputs are used as they are.
    """
    rule = preprocessing or {}
    if rule.get("input") == "table":
        values = [[feature[name] for feature in rule["features"]] for name in ("mean", "deviation")]
    elif rule.get("input") == "image":
        values = [[255 * value for value in rule[name]] for name in ("mean", "std")]
    elif "mean" in rule:
        values = [rule["mean"], rule["deviation"]]
    else:
        return None
    shape = (-1, *(1,) * (dimensions - 1))
    mean, deviation = (np.array(each, dtype=np.float64).reshape(shape) for each in values)
    return mean, deviation


def _inputs(file: NpzFile, name: str) -> NDArray[Any]:
    array = file.read(name)
    where = f"{file.path}: '{name}' is {array.dtype} of shape {array.shape}"
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}, but inputs must be numbers")
    if not 2 <= array.ndim <= 4 or 0 in array.shape:
        raise DataError(
            f"{where}, but inputs must be (samples, features), (samples, channels, length), "
            "(samples, channels, height, width), or integers (samples, length)"
        )
    if array.ndim == 4 and _channels_last(array.shape):
        raise DataError(
            f"{where}, which looks like channels last; save it with x.transpose(0, 3, 1, 2), so that it is (samples, "
            "channels, height, width)"
        )
    if array.dtype.kind in "iu" and array.ndim == 2:
        if int(array.min()) < 0:
            raise DataError(f"{where}, and its smallest value is {array.min()}; tokens are at least 0")
        return array.astype(np.int64)
    with np.errstate(over="ignore"):  # infinity is refused below
        numbers = array.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise DataError(f"{where} and contains NaN, infinity or a number too large for float32; replace them first")
    return numbers


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Whether images ``(samples, ...)`` look as if their channels were last; square maps such as 64 x 4 x 4 do not."""
    return shape[1] not in _CHANNELS and shape[3] in _CHANNELS and shape[2] != shape[3]


def _targets(file: NpzFile, name: str) -> NDArray[Any]:
    array = file.read(name)
    where = f"{file.path}: '{name}'"
    if array.dtype.kind not in "biuf":
        text = array.dtype.kind in "US"
        way = "; number the classes with numpy.unique(y, return_inverse=True), and give their names as class_names"
        raise DataError(f"{where} is {array.dtype}; targets must be integers or floating numbers{way if text else ''}")
    if array.ndim == 0:
        raise DataError(f"{where} is one number; targets need the shape (samples,) or (samples, k)")
    if array.dtype.kind != "f":
        return array.astype(np.int64)
    with np.errstate(over="ignore"):  # infinity is refused below
        numbers = array.astype(np.float32)
    wrong = np.argwhere(~np.isfinite(numbers))
    if len(wrong):
        place = ", ".join(map(str, wrong[0]))
        raise DataError(
            f"{where} is {array[tuple(wrong[0])]} at the index [{place}] (NaN, infinite or too large for float32: "
            f"{len(wrong)} of {array.size}); remove these samples, or replace the values"
        )
    return numbers[:, None] if numbers.ndim == 1 else numbers


def _classes(
    targets: NDArray[Any], inputs: NDArray[Any], where: str, names: tuple[str, ...] | None
) -> NDArray[np.int64]:
    """Return class numbers, ``(samples,)``, or one for each position of the inputs, ``(samples, *positions)``.

    They are checked before the splits, which hold samples out of each class.

    Args:
        targets: integers, at least one axis.
        inputs: of the same samples.
        where: the file and the array, for messages.
        names: of the classes; None: unknown.

    Raises:
        DataError: the shape is not one of these, a number is negative or has no name, or numbers have gaps.
    """
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    positions = inputs.shape[1:] if inputs.dtype.kind == "i" else inputs.shape[2:]
    if targets.ndim == 2 and targets.shape[1:] != positions:
        raise DataError(
            f"{where} has whole numbers of the shape {targets.shape}, but classes have the shape (samples,): if each "
            "row has a single 1, save y.argmax(1); if a sample may have several labels, set loss: "
            "binary_cross_entropy; if these are numbers to predict, save floating numbers"
        )
    if targets.ndim > 1 or not len(targets):
        return targets
    present = np.unique(targets)
    low, high = int(present[0]), int(present[-1])
    if low < 0:
        raise DataError(f"{where} contains the class number {low}; classes are 0 .. k - 1")
    if names:
        if high >= len(names):
            raise DataError(f"{where} contains the class number {high}, but class_names has {len(names)} names")
    elif len(present) != high + 1:
        raise DataError(
            f"{where} has {len(present)} different class numbers from {low} to {high}; renumber them to 0 .. k - 1 "
            "with numpy.unique(y, return_inverse=True), or save floating numbers to predict numbers"
        )
    return targets


def _warn_of_guesses(inputs: NDArray[Any], targets: NDArray[Any], x: str, y: str, loss: str) -> None:
    """Warn where the type of an array decides what it is, and its values suggest something else."""
    if loss == "auto" and targets.dtype.kind == "f" and targets.shape[1:] == (1,):
        values = np.unique(targets)
        if len(values) <= _FEW and (values == np.trunc(values)).all():
            _log.warning(
                "task arrays: '%s' has %d different values, all whole, and is taken as numbers to predict since its "
                "type is floating; save classes as integers, y.astype(int), or set loss: mse to omit this message",
                y,
                len(values),
            )
    if inputs.dtype.kind == "i":
        vocabulary = int(inputs.max()) + 1
        # A few long sequences may have a large vocabulary, but it is not above the number of all their tokens.
        if vocabulary > max(_RARE * len(inputs), inputs.size):
            _log.warning(
                "task arrays: '%s' holds integers and is taken as sequences of tokens, with a vocabulary of %s for "
                "%s samples; save the numbers of a table as floating ones, x.astype(numpy.float32)",
                x,
                f"{vocabulary:,}",
                f"{len(inputs):,}",
            )


def _check_fractions(search: float, test: float) -> None:
    for name, value in (("search_fraction", search), ("test_fraction", test)):
        if not 0 < value < 1:
            raise ConfigurationError(f"{name} must be between 0 and 1, not {value}", path=f"task.{name}")


def _preprocessed(
    inputs: NDArray[Any], training: Indices, normalize: bool, names: tuple[str, ...] | None, target: str
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return normalised inputs, and what `Task.preprocessing` says of them."""
    if inputs.dtype.kind == "i":
        return inputs, {"input": "tokens", "vocabulary": int(inputs.max()) + 1}
    axes = (0, *range(2, inputs.ndim))
    seen = inputs[training].astype(np.float64)
    mean, deviation = mean_and_deviation(seen, axes)
    if not normalize:
        mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
    shape = (-1, *(1,) * (inputs.ndim - 2))
    normal = ((inputs - mean.reshape(shape)) / deviation.reshape(shape)).astype(np.float32)
    values = {"mean": mean.tolist(), "deviation": deviation.tolist()}
    if inputs.ndim > 2:
        return normal, {"input": "array", **values}
    columns = [f"x{number}" for number in range(inputs.shape[1])] if names is None else list(names)
    if len(columns) != inputs.shape[1]:
        raise ConfigurationError(
            f"there are {len(columns)} names for {inputs.shape[1]} features", path="task.feature_names"
        )
    features = [
        {"column": name, "mean": m, "deviation": d, "missing": False}
        for name, m, d in zip(columns, *values.values(), strict=True)
    ]
    return normal, {
        "input": "table",
        "features": features,
        "targets": [target],
        "kind": "numbers",
        "separator": ",",
        "missing_values": [],
    }
