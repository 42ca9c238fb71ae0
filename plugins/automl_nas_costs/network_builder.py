"""Building the networks of a space, to count or to measure them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from automl_nas.errors import SpaceError, UserError
from automl_nas.space import Architecture, SearchSpace
from automl_nas_costs.counting import preserve_rng

if TYPE_CHECKING:
    from torch import nn


def network_of(space: SearchSpace, architecture: Architecture, device: str = "cpu") -> nn.Module:
    """Build a network in evaluation mode, without touching the random state.

    Raises:
        SpaceError: it cannot be built; names the architecture.
    """
    import torch

    with preserve_rng(), torch.device(device):
        try:
            return space.build(architecture).eval()
        except UserError:
            raise
        except Exception as error:
            raise SpaceError(
                f"the network of {architecture.key} cannot be built: {type(error).__name__}: {error}"
            ) from error


def networks_of(space: SearchSpace, architectures: Sequence[Architecture]) -> list[nn.Module]:
    """Build networks on the CPU that are to be measured.

    Raises:
        SpaceError: the space builds no networks that could be fed, or one of them cannot be built.
    """
    if not space.input_shape:
        raise SpaceError(f"{type(space).__name__} has no input shape, so its networks cannot be measured")
    return [network_of(space, architecture) for architecture in architectures]
