"""Reading single image files as inputs of a trained network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from automl_nas.errors import DataError
from automl_nas_vision.decode import BrokenImageError, Format, quiet, shown
from automl_nas_vision.images import normalized


@dataclass(frozen=True)
class FileReader:
    """Reads an image file as an input of a network; see `automl_nas.evaluation.Task.reader`.

    Attributes:
        form: the form of the images.
        mean: of each channel, which is subtracted.
        deviation: of each channel.
    """

    form: Format
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def __call__(self, path: str) -> Tensor:
        """Return the input, float32, shape ``(channels, height, width)``.

        Raises:
            DataError: the file is not a readable image.
        """
        try:
            with quiet():
                pixels = self.form.read(path)
        except BrokenImageError as error:
            raise DataError(f"{shown(path)}: {error}") from error
        return normalized(torch.from_numpy(pixels)[None], self.mean, self.deviation)[0]
