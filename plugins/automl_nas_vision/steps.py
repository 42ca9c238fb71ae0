"""Augmentation steps that work on whole batches: crop, flip, cutout.

Each equals a function of ``torchvision.transforms.v2.functional`` applied to every sample by itself, bit for bit, with
parameters drawn from the sample's own part of the stream; on small images it costs a hundredth of the per-sample call.
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
    """Which samples a step sees.

    Attributes:
        indices: their numbers in the data set.
        seed: of the stream.
        epoch: counted from 0.
        stage: the step's place in the augmentation; each place draws numbers of its own.
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

        What becomes of a sample depends on the context's seed, epoch and stage and the sample's index alone.
        """


@dataclass(frozen=True)
class Crop(Step):
    """Pad every side and cut out the original size at a uniformly random place.

    Attributes:
        padding: pixels at each side.
        fill: value of the padding, 0 to 255.
    """

    padding: int = 4
    fill: int = 0

    def __post_init__(self) -> None:
        _check(self.padding >= 1, "crop", f"padding must be at least 1, not {self.padding}")
        _check(0 <= self.fill <= 255, "crop", f"fill must lie between 0 and 255, not {self.fill}")

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
        probability: of mirroring a sample.
    """

    probability: float = 0.5

    def __post_init__(self) -> None:
        _check(0 <= self.probability <= 1, "flip", f"probability must lie between 0 and 1, not {self.probability}")

    def __call__(self, images: Pixels, context: Context) -> Pixels:
        """See `Step`."""
        chosen = uniform(context.draws(1)[:, 0]) < self.probability
        result = images.copy()
        result[chosen] = images[chosen, :, :, ::-1]
        return result


@dataclass(frozen=True)
class Cutout(Step):
    """Blank a square.

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.

    The centre is uniform over the image's pixels, so the square may lie partly outside.

    Attributes:
        size: its side in pixels.
        fill: 0 to 255; None: the mean colour of the training split, which is what normalisation turns into about 0.
    """

    size: int
    fill: int | None = None

    def __post_init__(self) -> None:
        _check(self.size >= 1, "cutout", f"size must be at least 1, not {self.size}")
        _check(
            self.fill is None or 0 <= self.fill <= 255, "cutout", f"fill must lie between 0 and 255, not {self.fill}"
        )

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
