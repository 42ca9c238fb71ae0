"""Whether an exported network still computes the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.streams import stream_seed

TRACE_BATCH = 2
"""The batch size networks are traced at: tracers treat 0 and 1 as constants."""

CHECK_BATCHES = (1, 3)
"""The batch sizes that are compared: the smallest one, and one that is neither it nor `TRACE_BATCH`, so that a batch
size baked into the program cannot pass."""


def probe(network: nn.Module, shape: Sequence[int], batch: int) -> Tensor:
    """Return a standard normal input in the network's own precision, the same on every call.

    Args:
        network: its first floating-point parameter or buffer gives the precision; float32 without any.
        shape: of one input without the batch.
        batch: how many.
    """
    tensors = (*network.parameters(), *network.buffers())
    dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    generator = torch.Generator().manual_seed(stream_seed(0, "export/probe", batch))
    return torch.randn((batch, *shape), generator=generator).to(dtype)


def flat(outputs: object, where: str = "output") -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor of a network's output with its place, depth first.

    Raises:
        RunFailedError: there is something else than tensors in tuples, lists and dicts.
    """
    if isinstance(outputs, Tensor):
        yield where, outputs
    elif isinstance(outputs, tuple | list):
        for position, item in enumerate(outputs):
            yield from flat(item, f"{where}[{position}]")
    elif isinstance(outputs, Mapping):
        for name, item in outputs.items():
            yield from flat(item, f"{where}[{name!r}]")
    else:
        raise RunFailedError(f"the network's {where} is a {type(outputs).__name__}; only tensors can be exported")


def check_same(
    name: str,
    network: nn.Module,
    exported: Callable[[Tensor], Sequence[Tensor]],
    shape: Sequence[int],
    tolerance: float,
) -> None:
    """Compare an exported program with its network at every one of `CHECK_BATCHES`.

    Args:
        name: of the file, for messages.
        network: the original, in evaluation mode.
        exported: gives the flat outputs of the exported program.
        shape: of one input without the batch.
        tolerance: how far an output may be off, as a fraction of its largest magnitude.

    Raises:
        RunFailedError: an output differs in number, shape or value; the message says where and by how much.
    """
    for batch in CHECK_BATCHES:
        x = probe(network, shape, batch)
        with torch.no_grad():
            expected = list(flat(network(x)))
        try:
            got = list(exported(x))
        except Exception as error:
            raise RunFailedError(f"{name} cannot be run at batch size {batch}: {_brief(error)}") from error
        if len(got) != len(expected):
            raise RunFailedError(f"{name} has {len(got)} outputs, the network {len(expected)}")
        for (place, want), have in zip(expected, got, strict=True):
            _compare(f"{name}, batch size {batch}, {place}", want, have, tolerance)


def _compare(where: str, want: Tensor, have: Tensor, tolerance: float) -> None:
    if want.shape != have.shape:
        raise RunFailedError(f"{where}: shape {tuple(have.shape)} instead of {tuple(want.shape)}")
    if not bool(torch.isfinite(want).all()):
        raise RunFailedError(f"{where}: the network itself gives NaN or infinity, so nothing can be compared")
    scale = want.double().abs().max().item() if want.numel() else 0.0
    off = (want.double() - have.double()).abs().max().item() if want.numel() else 0.0
    # Written so that NaN fails.
    if not off <= tolerance * scale:
        relative = f"{off / scale:.2e} of its largest value {scale:.4g}" if scale else "its values are all 0"
        raise RunFailedError(
            f"{where}: differs from the network by up to {off:.4g} ({relative}; allowed {tolerance:.0e}). "
            "If that is rounding (a lower precision, say), raise the exporter's tolerance"
        )


def check_tolerance(tolerance: float, path: str) -> float:
    """Return the tolerance.

    Raises:
        ConfigurationError: it is negative, or not a finite number.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ConfigurationError(f"tolerance is a fraction of the largest output, >= 0, not {tolerance!r}", path=path)
    return tolerance


def _brief(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def untraceable(what: str, error: Exception) -> RunFailedError:
    """Return the error for a network that a tracer refuses."""
    return RunFailedError(
        f"{what} cannot trace the network ({_brief(error)}); its forward must not branch on the values of tensors. "
        "The 'safetensors' format holds its weights all the same"
    )
