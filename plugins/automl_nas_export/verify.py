"""Comparing the outputs of an exported program with those of its network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from automl_nas.errors import RunFailedError
from automl_nas.streams import stream_seed
from automl_nas_export.places import module_that_raised, of

TRACE_BATCH = 2
"""The batch size at which networks are traced: tracers treat 0 and 1 as constants."""

TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

CHECK_BATCHES = (1, 3)
"""The batch sizes at which outputs are compared: the smallest one, and one at which networks are not traced, so that a
program that only takes the batch size of the trace is refused."""


def probe(network: nn.Module, shape: Sequence[int], batch: int, samples: Tensor | None = None) -> Tensor:
    """Return inputs to compare outputs with, the same on every call: samples of the task, or else normal numbers.

    Floating-point inputs have the network's own precision; integers, such as tokens, remain integers.

    Args:
        network: its first floating-point parameter or buffer has the precision; float32 if it has neither.
        shape: of one input without the batch.
        batch: number of inputs; samples are repeated if there are fewer.
        samples: of the task, resized if ``shape`` has another height or width; None: standard normal inputs.
    """
    tensors = (*network.parameters(), *network.buffers())
    dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), torch.float32)
    if samples is not None:
        inputs = samples[torch.arange(batch) % len(samples)]
        if tuple(inputs.shape[1:]) != tuple(shape):
            inputs = interpolate(inputs, size=tuple(shape[1:]), mode="bilinear", align_corners=False)
        return inputs.to(dtype) if inputs.is_floating_point() else inputs
    generator = torch.Generator().manual_seed(stream_seed(0, "export/probe", batch))
    return torch.randn((batch, *shape), generator=generator).to(dtype)


def flat(outputs: object, where: str = "output") -> Iterator[tuple[str, Tensor]]:
    """Yield (place, tensor) for every tensor of a network's output, depth first.

    Raises:
        RunFailedError: the output holds anything but tensors in tuples, lists and dicts.
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


def run_network(
    network: nn.Module, shape: Sequence[int], batch: int, samples: Tensor | None
) -> tuple[Tensor, list[tuple[str, Tensor]]]:
    """Return inputs (see `probe`) and the outputs of the network for them, by their places.

    Raises:
        RunFailedError: the network cannot be run at this batch size, or its output holds anything but tensors.
    """
    x = probe(network, shape, batch, samples)
    try:
        with torch.no_grad():
            outputs = network(x)
    except Exception as error:
        module = of(module_that_raised(error.__traceback__, network))
        raise RunFailedError(
            f"the network itself cannot be run at batch size {batch}: {brief(error)} (the forward{module})"
        ) from error
    return x, list(flat(outputs))


def _runs(exported: Callable[[Tensor], Sequence[Tensor]], x: Tensor) -> bool:
    with suppress(Exception):
        exported(x)
        return True
    return False


def check_same(
    name: str,
    network: nn.Module,
    exported: Callable[[Tensor], Sequence[Tensor]],
    shape: Sequence[int],
    tolerance: float,
    samples: Tensor | None = None,
    other_size: bool = False,
) -> None:
    """Compare an exported program with its network at every one of `CHECK_BATCHES`, for inputs of one shape.

    Args:
        name: of the file, for messages.
        network: the original, in evaluation mode.
        exported: computes the outputs of the exported program, flat.
        shape: of one input without the batch.
        tolerance: by how much an output may differ, as a fraction of its largest magnitude.
        samples: inputs of the task; see `probe`.
        other_size: whether the shape is another one than that of the task, for messages.

    Raises:
        RunFailedError: the outputs differ in number, shape or value; names the output and the difference.
    """
    size = f", inputs of shape {tuple(shape)}" if other_size else ""
    for batch in CHECK_BATCHES:
        x, expected = run_network(network, shape, batch, samples)
        try:
            outputs = list(exported(x))
        except Exception as error:
            fixed = _runs(exported, probe(network, shape, TRACE_BATCH, samples))
            reason = f"; the batch size became fixed at {TRACE_BATCH}, the one of the trace" if fixed else ""
            raise RunFailedError(f"{name} cannot be run at batch size {batch}{size}: {brief(error)}{reason}") from error
        if len(outputs) != len(expected):
            raise RunFailedError(f"{name} has {len(outputs)} outputs, the network {len(expected)}")
        for (place, reference), output in zip(expected, outputs, strict=True):
            _compare(f"{name}, batch size {batch}{size}, {place}", reference, output, tolerance)


def _compare(place: str, reference: Tensor, output: Tensor, tolerance: float) -> None:
    if reference.shape != output.shape:
        raise RunFailedError(f"{place}: shape {tuple(output.shape)} instead of {tuple(reference.shape)}")
    if not bool(torch.isfinite(reference).all()):
        raise RunFailedError(f"{place}: the network itself gives NaN or infinity, so nothing can be compared")
    scale = reference.double().abs().max().item() if reference.numel() else 0.0
    difference = (reference.double() - output.double()).abs().max().item() if reference.numel() else 0.0
    # Written so that NaN fails.
    if not difference <= tolerance * scale:
        relative = f"{difference / scale:.2e} of its largest value {scale:.4g}" if scale else "its values are all 0"
        raise RunFailedError(
            f"{place}: differs from the network by up to {difference:.4g} ({relative}; allowed {tolerance:.0e}). "
            "If that is rounding (of a lower precision, say), raise the exporter's tolerance"
        )


def brief(error: BaseException) -> str:
    """Return the class of an exception and the first line of its message, without codes that colour a terminal."""
    lines = TERMINAL_CODES.sub("", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
