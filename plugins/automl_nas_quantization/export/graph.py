"""The ONNX graph of a quantised network.

A copy of the network is traced in which each quantiser is an operator of a domain of its own (`MARKERS`). These nodes
are then replaced by ``QuantizeLinear`` and ``DequantizeLinear``. If the quantisers themselves were traced, batch
normalisation would be folded into the weights, which would no longer be on their grid.
"""

from __future__ import annotations

import contextlib
import copy
import io
import multiprocessing
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.export import Dim

from automl_nas.errors import RunFailedError
from automl_nas_quantization.layers import QuantizedLayer, run_with
from automl_nas_quantization.precision import FLOAT
from automl_nas_quantization.quantizers import SMALLEST_CLIP, steps, weight_steps

MARKERS = "automl_nas_quantization"
_INPUT, _WEIGHT = "QuantizedInput", "QuantizedWeight"

# Type, opset that has it, smallest and largest value; the smallest types first.
_TYPES = (
    ("UINT2", 25, 0, 3),
    ("INT2", 25, -2, 1),
    ("UINT4", 21, 0, 15),
    ("INT4", 21, -8, 7),
    ("UINT8", 13, 0, 255),
    ("INT8", 13, -128, 127),
    ("INT16", 21, -32768, 32767),
)

_BYTES = 18
"""An opset without types of fewer than 8 bits."""


@dataclass(frozen=True)
class Storage:
    """An integer type of ONNX.

    Attributes:
        name: such as ``INT4``.
        low: its smallest value.
        high: its largest value.
    """

    name: str
    low: int
    high: int

    @property
    def number(self) -> int:
        """The number of the type in ONNX."""
        return int(TensorProto.DataType.Value(self.name))


def storage(low: int, high: int, opset: int) -> Storage | None:
    """Return the smallest type of an opset that holds whole numbers from low to high; None: there is no such type."""
    for name, since, smallest, largest in _TYPES:
        if opset >= since and smallest <= low and high <= largest:
            return Storage(name, smallest, largest)
    return None


class _Marked(nn.Module):
    """A quantised layer whose quantisers are nodes of the traced graph."""

    def __init__(self, quantized: QuantizedLayer, path: str) -> None:
        super().__init__()
        self.layer, self.path, self.precision = quantized.layer, path, quantized.precision

    def forward(self, x: Tensor) -> Tensor:
        if self.precision.activations != FLOAT:
            x = _marker(_INPUT, x, self.path)
        if self.precision.weights == FLOAT:
            return run_with(self.layer, x, lambda weight: weight)
        return run_with(self.layer, x, lambda weight: _marker(_WEIGHT, weight, self.path))


def _marker(name: str, x: Tensor, path: str) -> Tensor:
    result: Tensor = torch.onnx.ops.symbolic(
        f"{MARKERS}::{name}", (x,), attrs={"path": path}, dtype=x.dtype, shape=x.shape, version=1
    )
    return result


def layers_of(network: nn.Module) -> dict[str, QuantizedLayer]:
    """Return path -> quantised layer."""
    return {path: module for path, module in network.named_modules() if isinstance(module, QuantizedLayer)}


def traced(network: nn.Module, example: Tensor, opset: int) -> onnx.ModelProto:
    """Return the graph of a network with markers in place of quantisers.

    Args:
        network: in evaluation mode; it is copied.
        example: inputs of batch size 2.
        opset: version of the ONNX operators.

    Raises:
        RunFailedError: torch cannot trace or convert the network.
    """
    marked = copy.deepcopy(network)
    for path, layer in layers_of(marked).items():
        parent, _, name = path.rpartition(".")
        setattr(marked.get_submodule(parent), name, _Marked(layer, path))
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                marked,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=({0: Dim("batch", min=1)},),
                opset_version=opset,
            )
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise RunFailedError(f"torch.onnx cannot convert the network: {type(error).__name__}: {reason}") from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    written = next(item.version for item in model.opset_import if item.domain == "")
    if written != opset:
        raise RunFailedError(f"torch could not convert the model from opset {written} to {opset}; use another opset")
    graph = model.graph
    # The exporter writes stack traces with paths of files on this machine.
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del item.metadata_props[:]
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide what torch's exporter prints and warns of, and undo what it sets."""
    method = multiprocessing.get_start_method(allow_none=True)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        # The lock of a progress bar inside it fixes the start method of processes.
        multiprocessing.set_start_method(method, force=True)


@dataclass(frozen=True)
class Site:
    """A quantiser in the graph.

    Attributes:
        path: of the layer.
        weight: whether it is that of the weights; False: of the input.
        source: the tensor that it receives.
        result: the tensor that it returns.
    """

    path: str
    weight: bool
    source: str
    result: str


class Quantizers:
    """Replaces the markers of a traced graph.

    Args:
        model: with markers; changed in place.
        network: whose quantisers the markers are for.
        opset: of the model.

    Attributes:
        sites: the quantisers.
        types: path of a layer -> type of its weights, lower case; ``float32`` where no type holds them.
    """

    def __init__(self, model: onnx.ModelProto, network: nn.Module, opset: int) -> None:
        self._graph, self._layers, self._opset = model.graph, layers_of(network), opset
        self.sites: list[Site] = []
        self.types: dict[str, str] = {}
        self._constants: list[onnx.TensorProto] = []
        nodes: list[onnx.NodeProto] = []
        for node in self._graph.node:
            nodes += self._replaced(node) if node.domain == MARKERS else [node]
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        remaining = [each for each in self._graph.initializer if each.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend([*remaining, *self._constants])
        others = [item for item in model.opset_import if item.domain != MARKERS]
        del model.opset_import[:]
        model.opset_import.extend(others)

    def _replaced(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        path = helper.get_node_attr_value(node, "path").decode()
        site = Site(path, node.op_type == _WEIGHT, node.input[0], node.output[0])
        self.sites.append(site)
        return self._weight(site) if site.weight else self._input(site)

    def _weight(self, site: Site) -> list[onnx.NodeProto]:
        codes, scale = weight_codes(self._layers[site.path])
        kind = storage(*_range(self._layers[site.path]), self._opset)
        if kind is None:
            self.types[site.path] = "float32"
            shape = (-1, *[1] * (codes.ndim - 1)) if scale.ndim else ()
            values = codes.astype(np.float32) * scale.reshape(shape)
            self._constants.append(numpy_helper.from_array(values, site.result))
            return []
        self.types[site.path] = kind.name.lower()
        name = f"{site.result}_codes"
        self._constants.append(helper.make_tensor(name, kind.number, codes.shape, codes.flatten().tolist()))
        zero = self._integers(f"{site.result}_zero", np.zeros(scale.shape, np.int64), kind)
        inputs = [name, self._floats(f"{site.result}_scale", scale), zero]
        axis: dict[str, Any] = {"axis": 0} if scale.ndim else {}
        return [helper.make_node("DequantizeLinear", inputs, [site.result], name=f"{site.result}_dequantize", **axis)]

    def _input(self, site: Site) -> list[onnx.NodeProto]:
        layer = self._layers[site.path]
        assert layer.clip is not None
        level = layer.clip.detach().clamp_min(SMALLEST_CLIP)
        number = steps(layer.precision.activations, layer.signed)
        low, high = (-number if layer.signed else 0), number
        kind = storage(low, high, self._opset)
        if kind is None or (low, high) != (kind.low, kind.high):
            # ONNX Runtime 1.32 fails to load a model with a Clip before a QuantizeLinear of fewer than 8 bits.
            kind = storage(low, high, _BYTES)
        assert kind is not None  # 8 bits at most
        nodes, source = [], site.source
        if (low, high) != (kind.low, kind.high):
            limits = (-level if layer.signed else torch.zeros_like(level), level)
            names = [
                self._floats(f"{site.result}_{name}", limit.reshape(()).numpy())
                for name, limit in zip(("low", "high"), limits, strict=True)
            ]
            source = f"{site.result}_clipped"
            nodes.append(helper.make_node("Clip", [site.source, *names], [source], name=f"{site.result}_clip"))
        scale = self._floats(f"{site.result}_scale", (level / number).reshape(()).numpy())
        zero = self._integers(f"{site.result}_zero", np.zeros((), np.int64), kind)
        codes = f"{site.result}_codes"
        nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero], [codes], name=f"{site.result}_quantize"))
        nodes.append(
            helper.make_node("DequantizeLinear", [codes, scale, zero], [site.result], name=f"{site.result}_dequantize")
        )
        return nodes

    def _floats(self, name: str, values: NDArray[Any]) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def _integers(self, name: str, values: NDArray[Any], kind: Storage) -> str:
        self._constants.append(helper.make_tensor(name, kind.number, values.shape, values.flatten().tolist()))
        return name


def weight_codes(layer: QuantizedLayer) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the quantised weights as whole numbers, and their step: one number, or one for each output channel.

    The products of both are equal to the quantised weights to the last bit.
    """
    weight: Any = layer.layer.weight
    with torch.no_grad():
        values = layer.quantized_weight(weight.detach())
        scale = weight_steps(weight.detach(), layer.precision.weights, layer.scheme.weights)
        shape = (-1, *[1] * (weight.dim() - 1)) if scale.dim() else ()
        # Weights of one bit may have a mean of 0.
        codes = torch.where(values == 0, 0, torch.round(values / scale.reshape(shape)))
        assert torch.equal(codes * scale.reshape(shape), values)
    return codes.to(torch.int64).numpy(), scale.numpy()


def _range(layer: QuantizedLayer) -> tuple[int, int]:
    bits = layer.precision.weights
    most = 1 if bits == 1 else steps(bits, signed=layer.scheme.weights == "symmetric")
    return -most, most
