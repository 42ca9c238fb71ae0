"""Both tasks keep every promise of a task."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from automl_nas.evaluation.task import Task
from automl_nas.testing.tasks import TaskContract
from automl_nas_vision.digits import Digits
from automl_nas_vision.npz import Npz

PHOTOMETRIC: list[Any] = [{"name": "RandomAffine", "degrees": 20, "translate": [0.1, 0.1]}, "flip", "RandAugment"]


class TestDigits(TaskContract):
    def make_task(self) -> Task:
        return Digits()

    def equivalents(self) -> Iterable[Task]:
        yield Digits(batch_size=37)
        yield Digits(score_batch_size=7)


class TestNpz(TaskContract):
    """Colour images that are not square, with torchvision's transforms and loader workers."""

    other_dtype = False  # torchvision draws parameters in the default dtype

    def _file(self) -> Path:
        rng = np.random.default_rng(0)
        path = self.folder() / "images.npz"
        np.savez(
            path,
            train_images=rng.integers(0, 256, (60, 6, 5, 3), dtype=np.uint8),
            train_labels=np.arange(60) % 3,
            test_images=rng.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8),
            test_labels=np.arange(20) % 3,
        )
        return path

    def make(self, **settings: Any) -> Task:
        return Npz(path=str(self._file()), augment=PHOTOMETRIC, **{"batch_size": 8, **settings})

    def make_task(self) -> Task:
        return self.make()

    def equivalents(self) -> Iterable[Task]:
        yield self.make(batch_size=5)
        yield self.make(workers=1)
        yield self.make(workers=2, batch_size=3)
