"""Sections with which an estimator is fitted in a second."""

from __future__ import annotations

from typing import Any


def fast(epochs: int = 2, final: int = 4) -> dict[str, Any]:
    """Return sections in place of the chosen ones: short trainings, and few candidates."""
    recipe = {"optimizer": "adamw", "learning_rate": 0.01}
    evaluator = {"name": "supernet_weights", "weights": "supernet", "recalibration_images": 8}
    return {
        "stages": [
            {"name": "supernet", "strategy": {"name": "single_path", "train": {"epochs": epochs, **recipe}}},
            {"name": "search", "strategy": "random", "budget": {"trials": 3}, "evaluator": evaluator},
        ],
        "final": {"train": {"epochs": final, **recipe}, "export": []},
        "check_networks": 0,
    }


def small_images(epochs: int) -> dict[str, Any]:
    """Return `fast` sections with a space of two blocks for images of at least 8 x 8 pixels."""
    space = {
        "name": "shufflenet_v2",
        "stem_stride": 1,
        "stem_channels": 4,
        "widths": [8],
        "repeats": [2],
        "strides": [2],
        "last_channels": 8,
    }
    return {**fast(epochs, epochs), "space": space}
