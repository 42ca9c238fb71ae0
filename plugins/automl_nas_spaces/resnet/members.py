"""Settings of the space `resnet` with which it contains networks of torchvision."""

from __future__ import annotations

from typing import Any, Final

from automl_nas.space import Architecture, SearchSpace

_TORCHVISION: Final[dict[str, Any]] = {"multipliers": (1.0,), "stem": "7x7", "downsample": "strided"}

TORCHVISION: Final[dict[str, dict[str, Any]]] = {
    "resnet18": {
        **_TORCHVISION,
        "block": "basic",
        "ratios": (0.5, 0.75, 1.0),
        "widths": (64, 128, 256, 512),
        "min_depths": (1, 1, 1, 1),
        "max_depths": (2, 2, 2, 2),
    },
    "resnet34": {
        **_TORCHVISION,
        "block": "basic",
        "ratios": (0.5, 0.75, 1.0),
        "widths": (64, 128, 256, 512),
        "min_depths": (2, 2, 2, 2),
        "max_depths": (3, 4, 6, 3),
    },
    "resnet50": {
        **_TORCHVISION,
        "ratios": (0.125, 0.1875, 0.25),
        "min_depths": (2, 2, 3, 2),
        "max_depths": (3, 4, 6, 3),
    },
}
"""Name of torchvision's model -> settings of a space whose largest network it is, with the same names of weights."""


def largest(space: SearchSpace) -> Architecture:
    """Return the architecture of the last options of all decisions: the network of torchvision."""
    return space.validate({name: decision.options[-1] for name, decision in space.decisions.items()})
