"""Building the networks of a space: `preserve_rng`, `network_of`."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from automl_nas.errors import SpaceError, UserError
from automl_nas.space import Architecture, SearchSpace


@contextlib.contextmanager
def preserve_rng() -> Iterator[None]:
    """Restore the global random generators at the end: computing a cost must not change later random numbers."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def network_of(space: SearchSpace, architecture: Architecture, device: str = "cpu") -> nn.Module:
    """Build a network in evaluation mode, without changing the random state.

    Raises:
        SpaceError: the network cannot be built; names the architecture.
    """
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
    """Build networks on the CPU, to measure them.

    Raises:
        SpaceError: the space has no input shape, or a network cannot be built.
    """
    measurable_shape(space)
    return [network_of(space, architecture) for architecture in architectures]


def measurable_shape(space: SearchSpace) -> tuple[int, ...]:
    """Return the shape of one input of a space's networks, without the batch.

    Raises:
        SpaceError: the space has no input shape.
    """
    if not space.input_shape:
        raise SpaceError(f"{type(space).__name__} has no input shape, so its networks cannot be measured")
    return tuple(space.input_shape)
