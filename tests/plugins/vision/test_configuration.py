"""The tasks as a configuration names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import automl_nas_vision
from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.task import Task
from automl_nas.plugin import PluginManager
from automl_nas_vision.images import ImageTask
from automl_nas_vision.steps import Crop, Flip
from automl_nas_vision.torchvision_step import TorchvisionStep


def make(spec: Any) -> ImageTask:
    manager = PluginManager({})
    manager.register_module(automl_nas_vision, "automl_nas_vision")
    registry = manager.registry
    resolved = registry.resolve("tasks", spec, path="task")
    assert registry.resolve("tasks", resolved, path="task") == resolved
    task = registry.construct("tasks", resolved, path="task")
    assert isinstance(task, Task) and isinstance(task, ImageTask)
    return task


def test_a_name_is_enough_for_the_digits() -> None:
    assert make("digits").input_shape == (1, 8, 8)


def test_every_form_of_augmentation_passes_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, images=np.zeros((30, 8, 8, 3), dtype=np.uint8), labels=np.arange(30) % 3)
    spec = {
        "name": "npz",
        "path": str(path),
        "train_images": "images",
        "train_labels": "labels",
        "test_fraction": 0.2,
        "augment": [
            "flip",
            {"name": "crop", "padding": 2},
            {"name": "RandomAffine", "degrees": 5, "translate": [0.1, 0]},
        ],
    }
    steps = make(spec)._fetch.augmentation.steps
    assert steps[:2] == (Flip(), Crop(padding=2)) and isinstance(steps[2], TorchvisionStep)
    assert make({**spec, "augment": {"name": "flip", "probability": 0.1}})._fetch.augmentation.steps == (
        Flip(probability=0.1),
    )
    assert make({**spec, "augment": "none"})._fetch.augmentation.steps == ()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "digits", "batchsize": 32}, "task.batchsize.*did you mean 'batch_size'"),
        ({"name": "npz"}, "task.path"),
        ({"name": "digits", "augment": "shfit"}, "task.augment.*did you mean 'shift'"),
        ({"name": "digits", "augment": 3}, "task.augment"),
        ({"name": "digits", "workers": True}, "task.workers"),
    ],
)
def test_mistakes_are_located(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(spec)
