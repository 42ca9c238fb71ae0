"""Heights and widths other than those of the training, for programs that accept any (``dynamic_size``)."""

from __future__ import annotations

from torch import Tensor, nn

from automl_nas.errors import RunFailedError
from automl_nas_export.verify import TRACE_BATCH, run_network

Shape = tuple[int, ...]


def free_shapes(network: nn.Module, shape: Shape, samples: Tensor | None) -> list[Shape]:
    """Return the shapes of inputs at which a program of free height and width is compared with its network.

    The first one is that of the training. The second one, at which the network is traced, is the double height and the
    threefold width: multiples, since some networks accept no others, and not square, so that the tracer does not take
    two sizes for one. The others are an odd and a smaller size, where the network itself accepts them.

    Args:
        network: in evaluation mode.
        shape: of one input of the training.
        samples: of the task; see `probe`.

    Raises:
        RunFailedError: inputs have no height and width, or the network itself cannot be run at another one.
    """
    if len(shape) != 3:
        raise RunFailedError(
            f"dynamic_size: true needs inputs of shape (channels, height, width), and those of the task are {shape}; "
            "leave it out"
        )
    channels, height, width = shape
    traced = (channels, 2 * height, 3 * width)
    try:
        run_network(network, traced, TRACE_BATCH, samples)
    except RunFailedError as error:
        raise RunFailedError(
            f"dynamic_size: true needs a network for any height and width, and this one accepts {height} x {width} "
            f"only: at {traced[1]} x {traced[2]} {error}; pool to a fixed size before the first linear layer "
            "(nn.AdaptiveAvgPool2d(1)), or leave dynamic_size out"
        ) from error
    others = [(channels, height + 1, width + 3), (channels, max(1, height - height // 4), width)]
    return [shape, traced, *(other for other in others if _runs(network, other, samples))]


def _runs(network: nn.Module, shape: Shape, samples: Tensor | None) -> bool:
    try:
        run_network(network, shape, TRACE_BATCH, samples)
    except RunFailedError:
        return False
    return True
