"""The common base of the tasks of this plugin: images of one size with their labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from automl_nas.evaluation import Batch, Indices, LossSettings, Sizes, SplitSettings, SplitTask
from automl_nas_vision.augment import Augment, Augmentation, make_augmentation
from automl_nas_vision.steps import Pixels

_CHUNK = 1024  # images for each partial sum: bounds memory, has no influence on results


class Reader(Protocol):
    """Reads images by number; picklable, since loader workers receive a copy."""

    def __call__(self, indices: Indices) -> Pixels:
        """Return new or shared images, uint8, shape ``(len(indices), channels, height, width)``."""


@dataclass(frozen=True)
class MemoryImages:
    """Images in memory, which loader workers share.

    Attributes:
        pixels: uint8, shape ``(samples, channels, height, width)``.
    """

    pixels: Tensor

    def __call__(self, indices: Indices) -> Pixels:
        """See `Reader`."""
        images: Pixels = self.pixels.numpy()[indices]
        return images


@dataclass(frozen=True)
class Images:
    """A data set.

    Attributes:
        read: reads images; those of the training data are numbered first, then those of given splits.
        labels: classes, int64, shape ``(samples,)``; or labels 0 and 1, float32, shape ``(samples, labels)``.
        sizes: the numbers of samples.
        num_classes: the number of classes or labels.
        class_names: the names of the classes or labels; None: they have none.
        resize: how images were brought to their size; see `Task.preprocessing`.
        fill: the grey level of the padding, 0 to 255.
        background: the grey level behind transparent pixels, 0 to 255.
    """

    read: Reader
    labels: Tensor
    sizes: Sizes
    num_classes: int
    class_names: tuple[str, ...] | None
    resize: str = "none"
    fill: int = 0
    background: int = 255


class ImageTask(SplitTask):
    """Classify images, or predict their labels. A subclass defines a constructor that finds the images.

    Inputs are float32: ``(pixel / 255 - mean) / deviation`` with mean and standard deviation of each channel over the
    training split, computed from exact integer sums. Augmentation is applied before, to uint8 images.

    Args:
        data: the images.
        judging: loss and metrics; see `TensorTask`.
        splitting: splits and batches; see `TensorTask`.
        augment: see `automl_nas_vision.augment.Augment`.
        normalize: subtract the mean and divide by the standard deviation; otherwise inputs are pixel / 255.
        most: the largest number of images from which mean and deviation are computed, evenly spaced in the training
            split; None: all.

    Raises:
        ConfigurationError: a setting is outside its range, or the augmentation does not fit the images.
        DataError: a class is too small for a split.
    """

    @abstractmethod
    def __init__(
        self,
        data: Images,
        judging: LossSettings,
        splitting: SplitSettings,
        *,
        augment: Augment,
        normalize: bool = True,
        most: int | None = None,
    ) -> None:
        self._data = data
        labels = data.labels[: data.sizes.train].numpy() if data.labels.dim() == 1 else None
        train = splitting.make(data.sizes, labels, data.class_names)["train"]
        if most is not None and len(train) > most:
            train = train[np.linspace(0, len(train) - 1, most).astype(np.int64)]
        mean, deviation = channel_statistics(data.read, train)
        colour = np.rint(mean * 255).astype(np.uint8)
        example = data.read(train[:1])[0]
        augmentation = make_augmentation(augment, colour, example)
        if not normalize:
            mean, deviation = np.zeros_like(mean), np.ones_like(mean)
        self._fetch = _Fetch(data, augmentation, mean, deviation)
        super().__init__(
            self._fetch,
            data.sizes,
            data.labels,
            tuple(example.shape),
            judging,
            splitting,
            preprocessing=_preprocessing(data, example.shape, mean, deviation),
            preload=sorted({type(part).__module__ for part in (data.read, *augmentation.steps)}),
        )

    @property
    def num_classes(self) -> int:
        """The number of classes or labels."""
        return self._data.num_classes

    @property
    def in_memory(self) -> bool:
        """Whether the images are in memory."""
        return isinstance(self._data.read, MemoryImages)

    @property
    def augmented(self) -> bool:
        """Whether training images are augmented."""
        return bool(self._fetch.augmentation.steps)


@dataclass(frozen=True)
class _Fetch:
    """Makes batches: reads, augments and normalises images."""

    data: Images
    augmentation: Augmentation
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def __call__(self, indices: Indices, seed: int, epoch: int) -> Batch:
        pixels = self.augmentation(self.data.read(indices), indices, seed, epoch)
        return self._normal(torch.from_numpy(pixels)), self.data.labels[torch.from_numpy(indices)]

    def plain(self, indices: Indices) -> Batch:
        """Return a batch of the samples without augmentation."""
        return self._normal(torch.from_numpy(self.data.read(indices))), self.data.labels[torch.from_numpy(indices)]

    def _normal(self, pixels: Tensor) -> Tensor:
        return normalized(pixels, self.mean, self.deviation)


def normalized(pixels: Tensor, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> Tensor:
    """Return inputs of a network, float32: ``(pixel / 255 - mean) / deviation``.

    Args:
        pixels: uint8, shape ``(samples, channels, height, width)``.
        mean: of each channel, shape ``(channels,)``.
        deviation: of each channel.
    """
    shift, scale = (torch.from_numpy(values * 255).to(torch.float32).view(1, -1, 1, 1) for values in (mean, deviation))
    return pixels.to(torch.float32).sub_(shift).div_(scale)


def class_settings(
    data_names: Sequence[str] | None, num_classes: int, label_smoothing: float, metrics: list[str] | None = None
) -> LossSettings:
    """Return loss and metrics of one class for each image."""
    return LossSettings("cross_entropy", metrics, num_classes, label_smoothing, None, None, data_names)


def _preprocessing(
    data: Images, shape: tuple[int, ...], mean: NDArray[np.float64], deviation: NDArray[np.float64]
) -> dict[str, Any]:
    """Return what `Task.preprocessing` says of images of shape ``(channels, height, width)``."""
    channels, height, width = shape
    return {
        "input": "image",
        "size": [height, width],
        "channels": {1: "L", 3: "RGB"}.get(channels, str(channels)),
        "resize": data.resize,
        "interpolation": "bilinear",
        "fill": [data.fill] * channels,
        "background": [data.background] * channels,
        "value_range": [0.0, 1.0],
        "mean": mean.tolist(),
        "std": deviation.tolist(),
        "layout": "NCHW",
    }


def channel_statistics(read: Reader, indices: Indices) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each channel of pixel / 255, over some images.

    The sums are integers, so they are exact and independent of threads. A constant channel gets deviation 1.

    Args:
        read: reads images.
        indices: indices of the images, shape ``(n,)``.

    Returns:
        Two arrays of shape ``(channels,)``.
    """
    total: Any = 0
    squares: Any = 0
    count = 0
    for first in range(0, len(indices), _CHUNK):
        pixels = read(indices[first : first + _CHUNK])
        values = torch.from_numpy(pixels).to(torch.int64)
        total = total + values.sum(dim=(0, 2, 3)).numpy()
        squares = squares + values.square().sum(dim=(0, 2, 3)).numpy()
        count += pixels.shape[0] * pixels.shape[2] * pixels.shape[3]
    # count * squares may exceed 64 bits; Python's integers have no limit.
    variances = [(count * int(s) - int(t) ** 2) / count**2 for t, s in zip(total, squares, strict=True)]
    mean = total / count / 255
    deviation = np.sqrt(np.array(variances)) / 255
    return mean, np.where(deviation > 0, deviation, 1.0)
