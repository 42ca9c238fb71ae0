"""Export of a network to an ONNX model for measuring: quick, and without changing the network."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import run_on_example, running_modules
from automl_nas.streams import stream_seed
from automl_nas_costs.latency.export_diagnosis import (
    brief,
    data_dependence,
    module_text,
    unsupported_operator,
)
from automl_nas_costs.network_builder import preserve_rng

OPSET = 18
"""The version that torch's newer exporter writes by itself, and that the exporter `onnx` writes by default."""

_TRACER: type[Warning] = torch.jit.TracerWarning  # type: ignore[attr-defined]


def export(network: nn.Module, input_shape: Sequence[int], *more: Sequence[int], batch: int = 1) -> bytes:
    """Return a network as a serialised ONNX model with fixed shapes.

    Torch's older exporter, which traces, is tried first: it takes about 0.5 s for a MobileNetV2, the newer one 4 s, and
    both files have the same latency in ONNX Runtime (paired: ratios of 0.96 to 1.03 for five networks). The newer
    exporter is used for networks with operators that the older one does not support.

    Args:
        network: on the CPU; it is exported in evaluation mode and not changed, and neither is the random state.
        input_shape: of one input without the batch.
        more: shapes of the second, third, ... input, for a network with several.
        batch: the first dimension of every input.

    Raises:
        SpaceError: the network depends on the values of its input, has an operation that ONNX cannot express, or an
            input of size 0; names the operation and the module.
    """
    shapes = [(batch, *shape) for shape in (input_shape, *more)]
    for shape in shapes:
        if not all(size > 0 for size in shape):
            raise SpaceError(
                f"a network cannot be measured on an input of shape {shape}: every dimension must be 1 or more"
            )

    def accepted(*inputs: Tensor) -> tuple[Tensor, ...]:
        network(*inputs)
        return inputs

    with preserve_rng(), _evaluating(network), torch.no_grad():
        example = tuple(_example(network, shape, number) for number, shape in enumerate(shapes))
        with running_modules(network) as running:
            try:
                example = run_on_example(accepted, *example)
            except Exception as error:
                raise SpaceError(
                    f"the network cannot be run on an input of shape {' and '.join(map(str, shapes))} "
                    f"({module_text(running[-1][0])}): {type(error).__name__}: {brief(error)}"
                ) from error
        try:
            return _traced(network, example)
        except SpaceError:
            raise
        except Exception as first:
            return _exported(network, example, first)


def _traced(network: nn.Module, example: tuple[Tensor, ...]) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(record=True) as recorded:
        # The other warnings only advise to use the newer exporter.
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", category=_TRACER)
        torch.onnx.export(network, example, file, dynamo=False, opset_version=OPSET, verbose=False)  # type: ignore[arg-type]
    if any(issubclass(item.category, _TRACER) for item in recorded):
        # The tracer also warns of branches on shapes, which are harmless: all shapes are fixed.
        reason = data_dependence(network, example)
        if reason:
            raise SpaceError(f"the network cannot be measured: {reason}")
    return file.getvalue()


def _exported(network: nn.Module, example: tuple[Tensor, ...], first: Exception) -> bytes:
    reason = data_dependence(network, example)
    if reason:
        raise SpaceError(f"the network cannot be measured: {reason}") from first
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(network, example, dynamo=True, opset_version=OPSET, verbose=False)
    except Exception as second:
        raise SpaceError(
            f"the network cannot be measured: {unsupported_operator(network, example, first, second)}"
        ) from second
    assert program is not None
    model: bytes = program.model_proto.SerializeToString()
    return model


def _example(network: nn.Module, shape: tuple[int, ...], number: int) -> Tensor:
    kinds = (item.dtype for item in (*network.parameters(), *network.buffers()) if item.is_floating_point())
    generator = torch.Generator().manual_seed(stream_seed(0, "latency/input", number))
    return torch.randn(shape, generator=generator).to(next(kinds, torch.float32))


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    before = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
