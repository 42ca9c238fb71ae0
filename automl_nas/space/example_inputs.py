"""Running a network of which only the shape of an input is known: `example_input`, `run_on_example`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


def example_input(
    network: nn.Module, input_shape: Sequence[int], *, batch: int = 1, device: torch.device | str | None = None
) -> Tensor:
    """Return zeros, of the type of the network's first floating parameter or buffer.

    Args:
        network: it tells type and device.
        input_shape: of one input, without the batch.
        batch: the number of inputs.
        device: None: that of the network's first parameter or buffer; the CPU if it has none.

    Returns:
        Shape ``(batch, *input_shape)``.
    """
    tensors = list(chain(network.parameters(), network.buffers()))
    kind = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.get_default_dtype())
    if device is None:
        device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    return torch.zeros(batch, *input_shape, dtype=kind, device=device)


def run_on_example(run: Callable[..., T], *inputs: Tensor) -> T:
    """Call a function with floating inputs, and again with int64 zeros of their shapes if a network refuses floats.

    A space states no type of its inputs. The error of the network shows that it takes tokens.

    Args:
        run: runs a network on the inputs. It may be called twice.
        inputs: floating numbers.

    Returns:
        What the last call returns.
    """
    try:
        return run(*inputs)
    except Exception as error:
        if not _refuses_floats(error):
            raise
    return run(*(torch.zeros_like(each, dtype=torch.int64) for each in inputs))


def _refuses_floats(error: Exception) -> bool:
    """Whether torch raised the error because an embedding, a one-hot encoding or an index received floating inputs."""
    text = str(error)
    return isinstance(error, RuntimeError | IndexError) and ("indices" in text or "index tensor" in text)
