"""Augmentation steps for whole batches: crop, flip, cutout.

Each is bit-equal to a function of ``torchvision.transforms.v2.functional`` that is applied to every sample, with random
parameters from the sample's part of the stream. On small images it takes a hundredth of the time of per-sample calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Indices, below, sample_draws, uniform

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Context:
    """The samples and random numbers of a step.

    Attributes:
        indices: indices of the samples in the data set.
        seed: the seed of the random stream.
        epoch: counted from 0.
        stage: position of the step in the augmentation; each position has its own random numbers.
        mean: the mean colour of the training split, shape ``(channels,)``.
    """

    indices: Indices
    seed: int
    epoch: int
    stage: int
    mean: Pixels

    def draws(self, count: int) -> NDArray[np.uint64]:
        """Return ``count`` random words for each sample, shape ``(batch, count)``."""
        return sample_draws(self.seed, f"augment/{self.stage}", self.epoch, self.indices, count)


class Step(ABC):
    """One step of an augmentation."""

    @abstractmethod
    def __call__(self, images: Pixels, context: Context) -> Pixels:
        """Return changed copies of images of shape ``(batch, channels, height, width)``, in the same shape.

        The result for a sample is a function of the context's seed, epoch and stage and of the sample's index.
        """


@dataclass(frozen=True)
class Crop(Step):
    """Pad every side and crop the original size at a uniformly random position.

    Attributes:
        padding: pixels on each side.
        fill: value of the padding, 0 to 255.
    """

    padding: int = 4
    fill: int = 0

    def __post_init__(self) -> None:
        _check(self.padding >= 1, "crop", f"padding must be at least 1, not {self.padding}")
        _check(0 <= self.fill <= 255, "crop", f"fill must be between 0 and 255, not {self.fill}")

    def __call__(self, images: Pixels, context: Context) -> Pixels:
        """See `Step`."""
        _, _, height, width = images.shape
        p = self.padding
        tops, lefts = below(context.draws(2), 2 * p + 1).T.tolist()
        padded = np.pad(images, ((0, 0), (0, 0), (p, p), (p, p)), constant_values=self.fill)
        result = np.empty_like(images)
        for k, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            result[k] = padded[k, :, top : top + height, left : left + width]
        return result


@dataclass(frozen=True)
class Flip(Step):
    """Mirror left and right.

    Attributes:
        probability: probability of mirroring a sample.
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check(0 <= self.probability <= 1, "flip", f"probability must be between 0 and 1, not {self.probability}")

    def __call__(self, images: Pixels, context: Context) -> Pixels:
        """See `Step`."""
        chosen = uniform(context.draws(1)[:, 0]) < self.probability
        result = images.copy()
        result[chosen] = images[chosen, :, :, ::-1]
        return result


@dataclass(frozen=True)
class Cutout(Step):
    """Fill a square with one colour.

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.

    The centre is uniform over the image's pixels, so the square may lie partly outside.

    Attributes:
        size: side of the square in pixels.
        fill: 0 to 255; None: the mean colour of the training split, which becomes about 0 by normalisation.
    """

    size: int
    fill: int | None = None

    def __post_init__(self) -> None:
        _check(self.size >= 1, "cutout", f"size must be at least 1, not {self.size}")
        _check(self.fill is None or 0 <= self.fill <= 255, "cutout", f"fill must be between 0 and 255, not {self.fill}")

    def __call__(self, images: Pixels, context: Context) -> Pixels:
        """See `Step`."""
        _, channels, height, width = images.shape
        words = context.draws(2)
        rows, columns = below(words[:, 0], height).tolist(), below(words[:, 1], width).tolist()
        colour = context.mean if self.fill is None else np.full(channels, self.fill, dtype=np.uint8)
        result = images.copy()
        for k, (row, column) in enumerate(zip(rows, columns, strict=True)):
            top, left = row - self.size // 2, column - self.size // 2
            area = result[k, :, max(top, 0) : top + self.size, max(left, 0) : left + self.size]
            area[...] = colour[:, None, None]
        return result


def _check(holds: bool, name: str, message: str) -> None:
    if not holds:
        raise ConfigurationError(f"{name}: {message}", path="task.augment")
