"""The task of arrays in memory: `TensorTask`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from automl_nas.errors import DataError
from automl_nas.evaluation.sampling import Indices, sample_draws, sample_generator
from automl_nas.evaluation.task import Batch
from automl_nas.evaluation.tasks.losses import LossFunction, make_loss
from automl_nas.evaluation.tasks.metrics import Metrics
from automl_nas.evaluation.tasks.samples import as_inputs, as_targets
from automl_nas.evaluation.tasks.split_task import ClassWeights, LossSettings, Sampler, Sizes, SplitSettings, SplitTask
from automl_nas.evaluation.tasks.supervised import RESAMPLES

Augmentation: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""``augment(input, target) -> (input, target)`` of one sample."""


class TensorTask(SplitTask):
    """Any supervised task whose samples are in memory: arrays of NumPy, tensors or lists of numbers.

    The loss determines what targets are, and which metrics fit:

    - ``cross_entropy``: classes ``0 .. k - 1``, shape ``(samples,)``, or ``(samples, *positions)`` for dense targets
      such as masks. Networks return ``(batch, k)`` or ``(batch, k, *positions)``. Metrics: accuracy, top5_accuracy,
      balanced_accuracy, macro_f1, mean_iou.
    - ``binary_cross_entropy``: any number of labels, 0 or 1, shape ``(samples, labels)``; networks return logits.
      Metrics: average_precision (macro), multilabel_f1 (macro), exact_match.
    - ``mse``, ``mae``, ``huber``: numbers, shape ``(samples, k)`` or ``(samples,)``; networks return this shape.
      Metrics: rmse, mae, r2 (means over the outputs).
    - a function ``loss(outputs, targets)`` that returns the mean over the batch.

    Without ``search`` or ``test`` these splits are held out of x and y, stratified by class where there is one class
    for each sample.

    Args:
        x: inputs, shape ``(samples, ...)``: floating, or integers for tokens (at least 0).
        y: targets, see above.
        search: inputs and targets of the split ``search``; None: held out.
        test: inputs and targets of the split ``test``; None: held out.
        loss: a name or a function, see above.
        metrics: names, and mappings from a name to ``(function, "maximize" or "minimize")`` with a function of outputs
            and targets of a split. The first is the default objective; ``loss`` is added. None: those of the loss.
        num_classes: the number of classes; None: from the targets.
        class_names: for the report, each another one; None: numbers.
        augment: a function of one sample in training; it may draw from the global generators of torch, NumPy and
            Python, which are seeded for each sample. None: no augmentation.
        batch_size: samples in a training batch.
        score_batch_size: samples in a batch when a network is scored.
        search_fraction: share of the samples outside the test split that is held out for the search.
        test_fraction: share of all samples that is held out for the final report.
        split_seed: seed of the splits.
        label_smoothing: of ``cross_entropy``, at least 0 and below 1.
        class_weights: ``balanced`` or one weight for each class in the training loss (for labels: of their positive
            targets); None: equal weights.
        sampler: ``shuffle``, or ``balanced``: training samples are drawn with replacement, every class equally often.
        ignore_index: the class number of targets that do not count; None: all count.
        standardize_targets: whether networks learn ``(target - mean) / deviation`` of the training split. Metrics are
            in the unit of the targets; `TaskReport.details` contains mean and deviation as ``target_scale``.
        resamples: the number of bootstrap resamples of an interval; 0: metrics that need them have no interval.
        preprocessing: how x was computed from raw data, as plain data; the report contains it, for users of the
            network. None: nothing is recorded.
        workers: number of processes that make training batches; worth it only if ``augment`` is slow.

    Raises:
        ConfigurationError: a setting is out of its range.
        DataError: shapes or types do not fit, or a value is NaN or infinite.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        *,
        search: tuple[Any, Any] | None = None,
        test: tuple[Any, Any] | None = None,
        loss: str | LossFunction = "cross_entropy",
        metrics: Metrics | None = None,
        num_classes: int | None = None,
        class_names: Sequence[str] | None = None,
        augment: Augmentation | None = None,
        batch_size: int = 64,
        score_batch_size: int = 512,
        search_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
        sampler: Sampler = "shuffle",
        ignore_index: int | None = None,
        standardize_targets: bool = False,
        resamples: int = RESAMPLES,
        preprocessing: Mapping[str, Any] | None = None,
        workers: int = 0,
    ) -> None:
        kind = make_loss(loss, ignore_index=ignore_index).kind
        parts = []
        for name, part in (("", (x, y)), ("search: ", search), ("test: ", test)):
            if part is not None:
                inputs, targets = as_inputs(part[0], f"{name}x"), as_targets(part[1], kind, f"{name}y")
                _check_pair(inputs, targets, name)
                parts.append((inputs, targets))
        for inputs, targets in parts[1:]:
            first = parts[0]
            if inputs.shape[1:] != first[0].shape[1:] or targets.shape[1:] != first[1].shape[1:]:
                raise DataError(
                    f"samples of a given split have the shapes {tuple(inputs.shape[1:])} and "
                    f"{tuple(targets.shape[1:])}, those of x and y {tuple(first[0].shape[1:])} and "
                    f"{tuple(first[1].shape[1:])}"
                )
            if inputs.dtype != first[0].dtype:
                raise DataError(f"the inputs of a given split are {inputs.dtype}, and x is {first[0].dtype}")
        source = _Tensors(torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]), augment)
        sizes = Sizes(
            len(parts[0][0]), None if search is None else len(search[0]), None if test is None else len(test[0])
        )
        super().__init__(
            source,
            sizes,
            source.targets,
            tuple(source.inputs.shape[1:]),
            LossSettings(loss, metrics, num_classes, label_smoothing, class_weights, ignore_index, class_names),
            SplitSettings(batch_size, score_batch_size, search_fraction, test_fraction, split_seed, sampler, workers),
            standardize=standardize_targets,
            resamples=resamples,
            preprocessing=preprocessing,
        )
        if augment is not None:
            source(self._splits["train"][:1], 0, 0)
        self._tensors = source

    @property
    def in_memory(self) -> bool:
        """True."""
        return True

    @property
    def augmented(self) -> bool:
        """Whether the task has an augmentation."""
        return self._tensors.augment is not None

    def fingerprint(self) -> str:
        """Return the SHA-256 of all inputs and targets with their shapes and types, and of the splits."""
        digest = hashlib.sha256()
        for tensor in (self._tensors.inputs, self._tensors.targets):
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        for split in ("train", "search", "test"):
            digest.update(self._splits[split].tobytes() + b"|")
        return digest.hexdigest()


@dataclass(frozen=True)
class _Tensors:
    """Reads samples from tensors, whose memory loader workers share."""

    inputs: Tensor
    targets: Tensor
    augment: Augmentation | None

    def __call__(self, indices: Indices, seed: int, epoch: int) -> Batch:
        inputs, targets = self.plain(indices)
        if self.augment is None:
            return inputs, targets
        words = sample_draws(seed, "augment", epoch, indices)[:, 0].tolist()
        changed = []
        with sample_generator() as seed_sample:
            for k, word in enumerate(words):
                seed_sample(word)
                changed.append(self._augmented(inputs[k], targets[k]))
        return torch.stack([pair[0] for pair in changed]), torch.stack([pair[1] for pair in changed])

    def plain(self, indices: Indices) -> Batch:
        """Return the samples without augmentation."""
        chosen = torch.from_numpy(indices)
        return self.inputs[chosen], self.targets[chosen]

    def _augmented(self, inputs: Tensor, targets: Tensor) -> Batch:
        assert self.augment is not None
        result: Any = self.augment(inputs, targets)
        if not isinstance(result, tuple) or len(result) != 2:
            raise DataError(f"augment must return (input, target), not a {type(result).__name__}")
        for name, before, after in zip(("input", "target"), (inputs, targets), result, strict=True):
            if not isinstance(after, Tensor) or after.shape != before.shape or after.dtype != before.dtype:
                described = f"{after.dtype} {tuple(after.shape)}" if isinstance(after, Tensor) else type(after).__name__
                raise DataError(
                    f"augment turned the {name} {before.dtype} {tuple(before.shape)} into {described}; it must keep "
                    "shape and type"
                )
        return result


def _check_pair(inputs: Tensor, targets: Tensor, name: str) -> None:
    if inputs.dim() < 2:
        raise DataError(f"{name}x has the shape {tuple(inputs.shape)}; it needs (samples, ...), such as x[:, None]")
    if targets.dim() < 1 or len(inputs) != len(targets):
        count = len(targets) if targets.dim() else "no"
        raise DataError(f"{name}x has {len(inputs)} samples, and y has {count} targets")
    if 0 in inputs.shape:
        raise DataError(f"{name}x is empty: its shape is {tuple(inputs.shape)}")
