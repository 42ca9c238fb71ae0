"""Multiply-adds, memory access and weights of an ONNX model, from the shapes of its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper, numpy_helper

from automl_nas.errors import SpaceError
from automl_nas_costs.network.onnx_graph import WORKED_OUT, Shape, read_graph, shapes_of


@dataclass(frozen=True)
class OnnxCounts:
    """The costs of one run of a model.

    Attributes:
        macs: node -> multiply-adds.
        accesses: node -> elements read and written.
        weights: node that reads them first -> elements of floating-point or quantised weights.
        uncounted: operator -> number of nodes, for operators that count 0.
    """

    macs: Mapping[str, int]
    accesses: Mapping[str, int]
    weights: Mapping[str, int]
    uncounted: Mapping[str, int]


# Operators that reinterpret a tensor or create a constant.
_FREE = frozenset(("Constant", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape", "ConstantOfShape"))
_POOLS = frozenset(("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"))
_REDUCTIONS = frozenset(("ReduceMean", "ReduceMax"))
_CONTROL = frozenset(("If", "Loop", "Scan", "SequenceMap"))
_UNKNOWN = frozenset(("Attention", "DFT", "Det", "FlexAttention", "LinearAttention", "STFT", "CausalConvWithState"))
# Operator -> the positions of its two factors among the inputs.
_CONVOLUTIONS = {"Conv": (0, 1), "ConvInteger": (0, 1), "QLinearConv": (0, 3), "DeformConv": (0, 1)}
_PRODUCTS = {"MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}


def count_onnx(model: bytes, name: str = "the ONNX model") -> OnnxCounts:
    """Count a model as `automl_nas_costs.models` counts a network: the same conventions.

    Args:
        model: with fixed shapes.
        name: for messages.

    Raises:
        SpaceError: the model has an operator that may multiply and has no formula, control flow, or a shape
            that depends on data.
    """
    graph = read_graph(model)
    shapes = shapes_of(graph)
    weights = {item.name: item for item in graph.initializer}
    macs: dict[str, int] = {}
    accesses: dict[str, int] = {}
    weights_of: dict[str, int] = {}
    uncounted: dict[str, int] = {}
    seen: set[str] = set()
    for number, node in enumerate(graph.node):
        label = node.name or f"{node.op_type} {number}"
        place = f"{name}: the operator {node.domain or 'ai.onnx'}::{node.op_type} (node '{label}')"
        for read in node.input:
            if read in weights and read not in seen and _is_weight(weights[read]):
                seen.add(read)
                weights_of[label] = weights_of.get(label, 0) + math.prod(weights[read].dims)
        if node.op_type in _CONTROL:
            raise SpaceError(f"{place} selects at run time what is computed, so its cost depends on the data")
        if node.domain not in ("", "ai.onnx") or node.op_type in _UNKNOWN:
            raise SpaceError(f"{place} has no known cost; export the network with standard operators")
        try:
            cost = _cost(node, shapes, weights)
        except KeyError as error:
            raise SpaceError(
                f"{place} works on a tensor, {error}, whose shape depends on the data; export the network with "
                "fixed shapes"
            ) from None
        if cost is None:
            if node.op_type not in _FREE:
                uncounted[node.op_type] = uncounted.get(node.op_type, 0) + 1
            continue
        if cost[0]:
            macs[label] = macs.get(label, 0) + cost[0]
        accesses[label] = accesses.get(label, 0) + cost[1]
    return OnnxCounts(macs, accesses, weights_of, uncounted)


def _cost(node: Any, shapes: Mapping[str, Shape], weights: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (multiply-adds, elements moved) of a node, or None if it counts 0."""
    kind = node.op_type

    def size(name: str) -> int:
        return math.prod(shapes[name])

    def moved(*names: str) -> int:
        return sum(map(size, names))

    if kind in _CONVOLUTIONS:
        x, w = (node.input[place] for place in _CONVOLUTIONS[kind])
        return size(node.output[0]) * math.prod(shapes[w][1:]), moved(x, w, node.output[0])
    if kind == "ConvTranspose":
        x, w = node.input[:2]
        return size(x) * math.prod(shapes[w][1:]), moved(x, w, node.output[0])
    if kind in _PRODUCTS:
        a, b = (node.input[place] for place in _PRODUCTS[kind])
        return size(node.output[0]) * shapes[a][-1], moved(a, b, node.output[0])
    if kind == "Gemm":
        a, b = node.input[:2]
        inner = shapes[a][0 if _attribute(node, "transA", 0) else 1]
        return size(node.output[0]) * inner, moved(a, b, node.output[0])
    if kind == "Einsum":
        return _einsum(node, shapes), moved(*node.input, node.output[0])
    if kind in ("LSTM", "GRU", "RNN"):
        x, w, r = node.input[:3]
        steps = shapes[x][0] * shapes[x][1]
        # One output of the hidden size for each step and direction.
        hidden = steps * shapes[r][0] * shapes[r][2]
        return steps * moved(w, r), moved(x, w, r) + hidden
    if kind in _POOLS or (kind in _REDUCTIONS and _is_global_pool(node, shapes, weights)):
        return 0, moved(node.input[0], node.output[0])
    return None


def _einsum(node: Any, shapes: Mapping[str, Shape]) -> int:
    """Return the multiply-adds of a product of two tensors: one for each combination of all indices."""
    equation = _attribute(node, "equation", b"").decode().replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    if len(terms) != 2 or "." in equation:
        raise SpaceError(f"the cost of Einsum '{equation}' (node '{node.name}') is unknown; write it with MatMul")
    sizes = {
        letter: number
        for term, name in zip(terms, node.input, strict=True)
        for letter, number in zip(term, shapes[name], strict=True)
    }
    return math.prod(sizes.values())


def _is_global_pool(node: Any, shapes: Mapping[str, Shape], weights: Mapping[str, Any]) -> bool:
    rank = len(shapes[node.input[0]])
    axes: Sequence[int] = _attribute(node, "axes", ())
    if not axes and len(node.input) > 1 and node.input[1] in weights:
        axes = numpy_helper.to_array(weights[node.input[1]]).tolist()
    # Where the axes are the output of a node, the shape of the result is compared.
    dimensions = sorted(axis % rank for axis in axes) if axes else None
    spatial = list(range(2, rank))
    if dimensions is None:
        return rank > 2 and math.prod(shapes[node.output[0]]) == math.prod(shapes[node.input[0]][:2])
    return rank > 2 and dimensions == spatial


def _attribute(node: Any, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)


def _is_weight(tensor: Any) -> bool:
    # Tensors of 64-bit whole numbers are shapes and positions.
    return tensor.doc_string != WORKED_OUT and tensor.data_type not in (
        onnx.TensorProto.INT64,
        onnx.TensorProto.BOOL,
        onnx.TensorProto.STRING,
    )
