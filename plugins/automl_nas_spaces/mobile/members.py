"""Published networks as architectures of the spaces, and the conversion of torchvision's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space import Architecture, SearchSpace, Value


@final
@dataclass(frozen=True)
class Member:
    """A network of torchvision: the space that contains it, and its blocks.

    Attributes:
        space: the name of the space.
        settings: of the space.
        stages: (kernel, expansion) of each block of each stage.
    """

    space: str
    settings: Mapping[str, Any]
    stages: Sequence[Sequence[tuple[int, float]]]


TORCHVISION: Mapping[str, Member] = {
    "mobilenet_v3_large": Member(
        "mobilenet_v3",
        {"expansions": (2.3, 2.5, 3, 4, 6), "last_bias": True, "dropout": 0.2, "bn_eps": 1e-3},
        (
            ((3, 4), (3, 3)),
            ((5, 3), (5, 3), (5, 3)),
            ((3, 6), (3, 2.5), (3, 2.3), (3, 2.3)),
            ((3, 6), (3, 6)),
            ((5, 6), (5, 6), (5, 6)),
        ),
    ),
    "mobilenet_v3_small": Member(
        "mobilenet_v3",
        {
            "expansions": (3, 3.67, 4, 4.5, 6),
            "depths": (4, 4, 4, 4),
            "widths": (24, 40, 48, 96),
            "strides": (2, 2, 1, 2),
            "activations": ("relu", "hardswish", "hardswish", "hardswish"),
            "squeeze": (False, True, True, True),
            "first_stride": 2,
            "first_squeeze": True,
            "last_channels": (576, 1024),
            "last_bias": True,
            "dropout": 0.2,
            "bn_eps": 1e-3,
        },
        (
            ((3, 4.5), (3, 3.67)),
            ((5, 4), (5, 6), (5, 6)),
            ((5, 3), (5, 3)),
            ((5, 6), (5, 6), (5, 6)),
        ),
    ),
    "mobilenet_v2": Member("mobilenet_v2", {}, tuple(((3, 6),) * depth for depth in (2, 3, 4, 3, 3, 1))),
    "efficientnet_b0": Member(
        "efficientnet",
        {},
        tuple(((kernel, 6),) * depth for kernel, depth in ((3, 2), (5, 2), (3, 3), (5, 3), (5, 4), (3, 1))),
    ),
}
"""Name of a model of torchvision -> where it is in the spaces."""


def torchvision_architecture(space: SearchSpace, name: str) -> Architecture:
    """Return the architecture of a model of torchvision.

    Args:
        space: the space of `TORCHVISION`, with at least the options that the model has.
        name: of the model, such as ``mobilenet_v3_large``.

    Raises:
        SpaceError: the model is unknown, or the space lacks an option.
    """
    if name not in TORCHVISION:
        raise SpaceError(f"no space contains the model '{name}' of torchvision{did_you_mean(name, TORCHVISION)}")
    values: dict[str, Value] = {}
    for number, blocks in enumerate(TORCHVISION[name].stages, start=1):
        values[f"stage{number}.depth"] = len(blocks)
        for place, (kernel, expansion) in enumerate(blocks, start=1):
            values[f"stage{number}.block{place}.kernel"] = kernel
            values[f"stage{number}.block{place}.expansion"] = expansion
    unused = {key: decision.options[0] for key, decision in space.decisions.items()}
    scales = {key: 1.0 for key in space.decisions if key.endswith(".width")}
    return space.validate({**unused, **scales, **{key: value for key, value in values.items() if key in unused}})


def from_torchvision(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return torchvision's weights under the names of a network of a space, for `load_state_dict` or a file.

    Both have the same layers in the same order, so that the tensors of one are those of the other in their order.

    Args:
        network: of the architecture that `torchvision_architecture` returns.
        weights: the ``state_dict`` of the model of torchvision.

    Raises:
        SpaceError: the layers differ.
    """
    own = network.state_dict()
    if len(own) != len(weights):
        raise SpaceError(f"the network has {len(own)} tensors, and torchvision's model {len(weights)}")
    converted: dict[str, Tensor] = {}
    for (name, mine), (other, tensor) in zip(own.items(), weights.items(), strict=True):
        if mine.shape != tensor.shape:
            raise SpaceError(
                f"{name} has the shape {tuple(mine.shape)}, and {other} of torchvision's model {tuple(tensor.shape)}"
            )
        converted[name] = tensor
    return converted
