"""Networks to be measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from automl_nas.errors import SpaceError, UserError
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas_costs.counting import untouched

if TYPE_CHECKING:
    from torch import nn


def networks_of(space: SearchSpace, architectures: Sequence[Architecture]) -> list[nn.Module]:
    """Build networks on the CPU, in evaluation mode, without touching the random state.

    Raises:
        SpaceError: the space builds no networks, or one of them cannot be built.
    """
    import torch

    if not space.input_shape:
        raise SpaceError(f"{type(space).__name__} has no input shape, so its networks cannot be measured")
    found = []
    for architecture in architectures:
        with untouched(), torch.device("cpu"):
            try:
                found.append(space.build(architecture).eval())
            except UserError:
                raise
            except Exception as error:
                raise SpaceError(
                    f"the network of {architecture.key} cannot be built: {type(error).__name__}: {error}"
                ) from error
    return found
