"""Classification of images that fit into memory: the common base of the tasks of this plugin."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from automl_nas.errors import ConfigurationError, DataError, did_you_mean
from automl_nas.evaluation import SPLITS, Batch, Indices, SupervisedTask, make_loss, make_metrics, seeded_batches
from automl_nas_vision.augment import Augment, Augmentation, make_augmentation

_CHUNK = 1024  # images for each partial sum: bounds memory, has no influence on results


@dataclass(frozen=True)
class Images:
    """A data set.

    Attributes:
        pixels: uint8, shape ``(samples, channels, height, width)``.
        labels: int64, shape ``(samples,)``, in ``[0, num_classes)``.
        num_classes: number of classes.
        class_names: the names of the classes; None: they have none.
        splits: ``train``, ``search`` and ``test`` -> ascending indices of their samples, int64, shape ``(n,)``.
    """

    pixels: Tensor
    labels: Tensor
    num_classes: int
    class_names: tuple[str, ...] | None
    splits: Mapping[str, Indices]


class ImageTask(SupervisedTask):
    """Classify images that are in memory as uint8. A subclass defines a constructor that loads the images.

    Inputs are float32: ``(pixel / 255 - mean) / deviation`` with mean and standard deviation of each channel over the
    training split, computed from exact integer sums. Augmentation is applied before, to uint8 images.

    Args:
        data: the images.
        batch_size: images in a training batch.
        score_batch_size: images at a time in `score`; the last batch may be smaller.
        augment: see `automl_nas_vision.augment.Augment`.
        normalize: subtract the mean and divide by the standard deviation; otherwise inputs are pixel / 255.
        label_smoothing: label smoothing of the training loss, at least 0 and below 1.
        workers: number of processes that make training batches; 0: the training process makes them. The batches are the
            same.

    Raises:
        ConfigurationError: a setting is outside its range, or the augmentation does not fit the images.
    """

    @abstractmethod
    def __init__(
        self,
        data: Images,
        *,
        batch_size: int,
        score_batch_size: int,
        augment: Augment,
        normalize: bool,
        label_smoothing: float,
        workers: int,
    ) -> None:
        for name, value, low in (
            ("batch_size", batch_size, 1),
            ("score_batch_size", score_batch_size, 1),
            ("workers", workers, 0),
        ):
            if value < low:
                raise ConfigurationError(f"{name} must be at least {low}, not {value}", path=f"task.{name}")
        loss = make_loss("cross_entropy", num_classes=data.num_classes, label_smoothing=label_smoothing)
        mean, deviation = channel_statistics(data.pixels, data.splits["train"])
        scale = (mean, deviation) if normalize else (np.zeros_like(mean), np.ones_like(mean))
        super().__init__(
            loss,
            make_metrics(None, loss),
            names=data.class_names,
            preprocessing=describe_preprocessing(tuple(data.pixels.shape[1:]), *scale),
        )
        self._data = data
        self._batch_size, self._score_batch_size, self._workers = batch_size, score_batch_size, workers
        splits = {name: data.splits[name] for name in ("train", "search", "test")}
        self._splits = {**splits, "train+search": np.sort(np.concatenate([splits["train"], splits["search"]]))}
        colour = np.rint(mean * 255).astype(np.uint8)
        augmentation = make_augmentation(augment, colour, data.pixels[int(splits["train"][0])].numpy())
        self._fetch = _Fetch(data, augmentation, *scale)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(channels, height, width)``."""
        return tuple(self._data.pixels.shape[1:])

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self._data.num_classes

    def size(self, split: str) -> int:
        """Return the number of samples in a split.

        Raises:
            DataError: the split does not exist.
        """
        return len(self._indices(split))

    def batches_per_epoch(self, split: str) -> int:
        """Return the number of full batches in a split.

        Raises:
            DataError: the split does not exist.
        """
        return self.size(split) // self._batch_size

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield shuffled, augmented batches: float32 ``(batch, *input_shape)`` and int64 ``(batch,)``.

        Raises:
            DataError: the split does not exist.
        """
        return seeded_batches(
            self._fetch,
            self._indices(split),
            batch_size=self._batch_size,
            seed=seed,
            epoch=epoch,
            start=start,
            workers=self._workers,
            preload=sorted({type(step).__module__ for step in self._fetch.augmentation.steps}),
        )

    def scored_batches(self, split: str) -> Iterator[Batch]:
        """Yield the images of a split without augmentation.

        Raises:
            DataError: the split does not exist.
        """
        indices = self._indices(split)
        for first in range(0, len(indices), self._score_batch_size):
            yield self._fetch.plain(indices[first : first + self._score_batch_size])

    def _indices(self, split: str) -> Indices:
        if split not in self._splits:
            raise DataError(f"unknown split '{split}'{did_you_mean(split, SPLITS)}")
        return self._splits[split]


@dataclass(frozen=True)
class _Fetch:
    """Makes batches: reads, augments and normalises images. Pixels are tensors, whose memory loader workers share."""

    data: Images
    augmentation: Augmentation
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def __call__(self, indices: Indices, seed: int, epoch: int) -> Batch:
        pixels = self.augmentation(self.data.pixels.numpy()[indices], indices, seed, epoch)
        return self._normal(torch.from_numpy(pixels)), self.data.labels[torch.from_numpy(indices)]

    def plain(self, indices: Indices) -> Batch:
        """Return a batch of the samples without augmentation."""
        chosen = torch.from_numpy(indices)
        return self._normal(self.data.pixels[chosen]), self.data.labels[chosen]

    def _normal(self, pixels: Tensor) -> Tensor:
        mean, deviation = (
            torch.from_numpy(values * 255).to(torch.float32).view(1, -1, 1, 1) for values in (self.mean, self.deviation)
        )
        return pixels.to(torch.float32).sub_(mean).div_(deviation)


def describe_preprocessing(
    shape: tuple[int, ...],
    mean: NDArray[np.float64],
    deviation: NDArray[np.float64],
    resize: str = "none",
    fill: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return what `Task.preprocessing` says of images.

    Args:
        shape: ``(channels, height, width)``.
        mean: of each channel of pixel / 255.
        deviation: of each channel of pixel / 255.
        resize: how images are brought to the size.
        fill: the colour of the padding in each channel; None: black.
    """
    channels, height, width = shape
    return {
        "input": "image",
        "size": [height, width],
        "channels": {1: "L", 3: "RGB"}.get(channels, str(channels)),
        "resize": resize,
        "interpolation": "bilinear",
        "fill": [0] * channels if fill is None else list(fill),
        "value_range": [0.0, 1.0],
        "mean": mean.tolist(),
        "std": deviation.tolist(),
        "layout": "NCHW",
    }


def channel_statistics(pixels: Tensor, indices: Indices) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each channel of pixel / 255, over some images.

    The sums are integers, so they are exact and independent of threads. A constant channel gets deviation 1.

    Args:
        pixels: uint8, shape ``(samples, channels, height, width)``.
        indices: indices of the images, shape ``(n,)``.

    Returns:
        Two arrays of shape ``(channels,)``.
    """
    channels = pixels.shape[1]
    total, squares = np.zeros(channels, dtype=np.int64), np.zeros(channels, dtype=np.int64)
    for first in range(0, len(indices), _CHUNK):
        values = pixels[torch.from_numpy(indices[first : first + _CHUNK])].to(torch.int64)
        total += values.sum(dim=(0, 2, 3)).numpy()
        squares += values.square().sum(dim=(0, 2, 3)).numpy()
    count = len(indices) * pixels.shape[2] * pixels.shape[3]
    # count * squares may exceed 64 bits; Python's integers have no limit.
    variances = [(count * int(s) - int(t) ** 2) / count**2 for t, s in zip(total, squares, strict=True)]
    mean = total / count / 255
    deviation = np.sqrt(np.array(variances)) / 255
    return mean, np.where(deviation > 0, deviation, 1.0)
