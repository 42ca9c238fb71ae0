"""The task `digits`: scikit-learn's digits, for tutorials and tests."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from automl_nas.evaluation import Sizes, SplitSettings
from automl_nas_vision.augment import Augment
from automl_nas_vision.images import Images, ImageTask, MemoryImages, class_settings

_BRIGHTEST: Final = 16  # pixels of the digits are 0 to 16


class Digits(ImageTask):
    """Classify handwritten digits: 1,797 grey images of 8 x 8 pixels in 10 classes, which are part of scikit-learn.

    (E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998: its test part.)
    With the default fractions 1,149 images train, 288 search and 360 test.

    Args:
        batch_size: images in a training batch.
        search_fraction: share of the images outside the test split that is held out for the search.
        test_fraction: share of all images that is held out for the final report.
        split_seed: seed of the splits. It does not depend on the run's seed, so runs with different seeds use the same
            splits and can be compared.
        augment: ``shift`` moves an image by at most one pixel in each direction; see
            `automl_nas_vision.augment.Augment`.
        label_smoothing: label smoothing of the training loss, at least 0 and below 1.
        workers: number of processes that make training batches; 0: the training process makes them. The batches are the
            same.
        score_batch_size: images in a batch when a network is scored.

    Raises:
        ConfigurationError: a setting is outside its range, or the augmentation does not fit the images.
        DataError: a fraction leaves a class without samples in a split.
    """

    def __init__(
        self,
        *,
        batch_size: int = 64,
        search_fraction: float = 0.2,
        test_fraction: float = 0.2,
        split_seed: int = 0,
        augment: Augment = "shift",
        label_smoothing: float = 0.1,
        workers: int = 0,
        score_batch_size: int = 512,
    ) -> None:
        pixels, labels = read_digits()
        data = Images(
            read=MemoryImages(torch.from_numpy(pixels)[:, None]),
            labels=torch.from_numpy(labels),
            sizes=Sizes(len(labels), None, None),
            num_classes=10,
            class_names=tuple(map(str, range(10))),
        )
        super().__init__(
            data,
            class_settings(data.class_names, 10, label_smoothing),
            SplitSettings(batch_size, score_batch_size, search_fraction, test_fraction, split_seed, "shuffle", workers),
            augment=augment,
        )


def read_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images, uint8 ``(1797, 8, 8)`` from 0 to 255, and their labels ``(1797,)``.

    The 17 grey levels are scaled to 0 to 255, the range that transforms of uint8 images expect.
    """
    table = _table()
    levels = table[:, :-1].reshape(-1, 8, 8)
    return np.rint(levels * (255 / _BRIGHTEST)).astype(np.uint8), table[:, -1].astype(np.int64)


def _table() -> NDArray[np.float64]:
    """Return a row per image: 64 grey levels, then the label."""
    # Importing scikit-learn takes more than a second in every worker process, so its data file is read directly.
    spec = find_spec("sklearn")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    data, target = load_digits(return_X_y=True)
    return np.column_stack([data, target])
