"""Helpers that elastic layers share: the check of a width, a transform of weights, and the plain layer of a slice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space.modules.choice import ModuleResolver

Transform: TypeAlias = Callable[[Tensor], Tensor]


def check_width(path: str, width: int, largest: int) -> None:
    """Check that a layer has weights for the width of its input.

    Raises:
        SpaceError: the input is wider than the layer's weights.
    """
    if width > largest:
        raise SpaceError(
            f"the elastic layer '{path}' has weights for at most {largest} inputs, but its input has {width}"
        )


def plain_layer(
    build: Callable[[], nn.Conv1d | nn.Conv2d | nn.Linear],
    owner: nn.Conv1d | nn.Conv2d | nn.Linear,
    slices: tuple[Tensor, Tensor | None],
    resolver: ModuleResolver,
    is_largest: bool,
) -> nn.Module:
    """Return the layer that an elastic layer becomes when it is extracted.

    Args:
        build: constructs the plain layer of the selected sizes.
        owner: the elastic layer.
        slices: of its weight and its bias.
        resolver: says whether the layer gets fresh weights, which its constructor draws for its own fan-in.
        is_largest: whether the slices are the whole weights; then fresh weights are those of the owner.
    """
    if resolver.fresh and not is_largest:
        # The constructor draws weights for the fan-in of the narrower layer.
        with torch.device(owner.weight.device):
            return build().train(owner.training)
    with torch.device("meta"):
        module = build()
    weight, bias = slices
    module.weight = nn.Parameter(weight.detach().clone(), owner.weight.requires_grad)
    if bias is not None:
        module.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return module.train(owner.training)
