"""A task: data, loss and metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Direction: TypeAlias = Literal["maximize", "minimize"]
Batch: TypeAlias = "tuple[Tensor, Tensor]"
"""Inputs of shape ``(batch, *input_shape)``, floating or int64 (tokens), and targets, both on the CPU."""
Predictor: TypeAlias = "Callable[[Tensor], Tensor]"
"""Inputs on the CPU -> outputs on the CPU; made by `Runtime.predictor`, which owns device and precision."""

SPLITS = ("train", "search", "test", "train+search")
"""train: for weights. search: held out of train, for ranking, alpha and lambda. test: for the final report only.
train+search: both splits, for retraining."""


@dataclass(frozen=True)
class TaskReport:
    """The metrics of a network over a split, with their intervals, for the final report.

    Attributes:
        metrics: as returned by `Task.score`.
        intervals: metric -> 95 % confidence interval, which contains the value; metrics without one are left out.
        details: results that are not scalars, such as a confusion matrix, as plain data (JSON).
        warnings: what a user should know about the result, such as that a constant prediction is as good.
    """

    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Task(ABC):
    """Data, loss and metrics. The splits are `SPLITS`; train, search and test have no sample in common.

    The methods are pure functions: results depend neither on earlier calls nor on the number of loader workers.
    """

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input without the batch, e.g. ``(3, 32, 32)``."""

    @property
    def num_classes(self) -> int | None:
        """The default of a space's setting ``num_classes``, the number of outputs (default: None, no such number).

        Nothing is checked against it: `check_outputs` judges a network.
        """
        return None

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes or labels in the order of the outputs (default: None, they have no names)."""
        return None

    def preprocessing(self) -> Mapping[str, Any] | None:
        """Return how inputs are computed from raw data, as plain data (JSON), for users of a network (default: None).

        The key ``input`` names the raw data. For ``image`` the other keys are:

        - ``size``: ``[height, width]`` of the inputs.
        - ``channels``: ``RGB``, ``L`` (grey), or another number of channels as ``"4"``.
        - ``resize``: ``squash`` (to the size, whatever its aspect ratio), ``crop`` (the shorter side to the size, then
          the centre), ``pad`` (the longer side to the size, then centred on ``fill``) or ``none`` (images must have the
          size). Before, images are turned as their EXIF orientation says.
        - ``interpolation``: ``bilinear``, with antialiasing.
        - ``fill``: the colour of the padding in each channel, 0 to 255.
        - ``background``: the colour behind transparent pixels in each channel, 0 to 255.
        - ``value_range``: the range to which pixels 0 to 255 are scaled, ``[0.0, 1.0]``.
        - ``mean`` and ``std``: of each channel in that range; inputs are ``(value - mean) / std``.
        - ``layout``: ``NCHW``, the order of the axes of a batch.
        """
        return None

    def files(self, split: str) -> Sequence[str] | None:
        """Return the files of the raw data of a split, one for each sample in the order of `score` (default: None)."""
        return None

    def reader(self) -> Callable[[str], Tensor] | None:
        """Return a function from a file of raw data to an input as `score` passes it to a network (default: None).

        It can be pickled and needs no data of the task, so that a network can be used with new files.
        """
        return None

    def outputs(self) -> Mapping[str, Any] | None:
        """Return what the outputs of a network mean, as plain data (JSON), for users of a network (default: None).

        - ``kind``: ``classes`` (axis 1 has an output for each class), ``labels`` (axis 1 has an output for each label)
          or ``numbers``.
        - ``logits``: whether softmax (classes) or sigmoid (labels) turns outputs into probabilities.
        - ``target_scale``: ``mean`` and ``deviation`` if networks learn standardised numbers: the number is ``output *
          deviation + mean``.
        """
        return None

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Direction]:
        """The names of the metrics that `score` returns -> direction; the first one is the default objective."""

    @abstractmethod
    def size(self, split: str) -> int:
        """Return the number of samples of a split."""

    @abstractmethod
    def batches_per_epoch(self, split: str) -> int:
        """Return the number of batches that `batches` yields for one epoch with ``start=0``."""

    @abstractmethod
    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield the shuffled, augmented training batches of one epoch, all of the same size.

        The order is a function of (seed, epoch). The augmentation of a sample is a function of (seed, epoch, index).

        Args:
            split: one of `SPLITS`.
            epoch: counted from 0.
            seed: of the streams for shuffling and augmentation.
            start: the first batch to yield; earlier batches are skipped without reading their samples.
        """

    def batch_parts(
        self, split: str, epoch: int, seed: int, start: int = 0, *, rank: int, size: int
    ) -> Iterator[Batch]:
        """Yield every size-th sample of each of the `batches`, from sample ``rank`` on, for data-parallel training.

        By default whole batches are read and divided. A task that reads only the samples of its part overrides it.

        Args:
            split: one of `SPLITS`.
            epoch: counted from 0.
            seed: of the streams for shuffling and augmentation.
            start: the first batch to yield.
            rank: the number of the process, from 0.
            size: the number of processes.
        """
        for inputs, targets in self.batches(split, epoch, seed, start):
            yield inputs[rank::size], targets[rank::size]

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the training loss of one batch: a scalar, the mean over the batch."""

    @abstractmethod
    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        """Return the `metrics` of a network over a whole split, in a fixed order and without augmentation."""

    def check_outputs(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise an error if the outputs of a network are not what loss and metrics need (default: nothing is checked).

        Called with the outputs for one batch before a run begins, after `loss` accepted them. The default is enough
        where the loss refuses everything else. Losses that broadcast, or ignore additional classes, do not.

        Raises:
            DataError: the outputs do not fit the targets; the message contains both shapes and the way out.
        """
        return None

    def report(self, model: Predictor, split: str) -> TaskReport:
        """Return the metrics of a network over a split with intervals and details (default: those of `score` alone).

        The final stage calls it for the test split. A search calls `score`, which is faster.
        """
        return TaskReport(dict(self.score(model, split)))

    def on_device(self, device: torch.device, limit: float) -> Task:
        """Return the task with its samples on a device, if they are in memory and small (default: the task itself).

        Called by `Runtime.resident` for devices other than the CPU. Batches of the returned task are on the device,
        with the same values; targets of scored batches stay on the CPU.

        Args:
            device: the device.
            limit: the largest number of bytes of all samples.
        """
        return self

    def fingerprint(self) -> str | None:
        """Return what changes when the data changes, such as a digest of its files (default: None, not known).

        A run records it, and is resumed only if it is the same. It is the same in every process and on every machine.
        """
        return None
