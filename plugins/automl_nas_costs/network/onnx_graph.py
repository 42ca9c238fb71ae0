"""The graph of an ONNX model, with the shape of every tensor whose shape is fixed."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import inliner, numpy_helper
from onnx.reference import ReferenceEvaluator

Shape: TypeAlias = tuple[int, ...]

_MOST_NUMBERS = 1024
"""Largest size of a tensor that is computed in advance: shapes and bounds have a few numbers."""

_LONGEST_VECTOR = 1 << 16
"""Largest size of a vector of whole numbers whose values shape inference follows."""

WORKED_OUT = "worked out from shapes"
"""The note of such a tensor."""

_ARITHMETIC = frozenset(
    (
        *("Add", "And", "Cast", "Concat", "Div", "Equal", "Gather", "Greater", "Identity", "Less", "Max", "Min", "Mod"),
        *("Mul", "Neg", "Not", "Or", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Slice"),
        *("Squeeze", "Sub", "Unsqueeze", "Where"),
    )
)


def read_graph(model: bytes) -> Any:
    """Return the graph of a model, with its functions inlined and its shapes inferred.

    Exporters write the computation of the bounds of a slice from the shape of a tensor as nodes, and shape inference
    does not follow these through every operator. Nodes that compute whole numbers from shapes alone are therefore
    replaced by constants: initializers with the note `WORKED_OUT`.
    """
    proto = inliner.inline_local_functions(onnx.load_from_string(model))
    propagated = _can_be_propagated(proto)
    while True:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=propagated)
        if not _fold(proto):
            return proto.graph


def _can_be_propagated(proto: Any) -> bool:
    """Whether the values of all vectors of whole numbers, which shape inference follows, fit into memory."""
    graph = onnx.shape_inference.infer_shapes(proto).graph
    shapes = shapes_of(graph)
    whole = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    vectors = [
        shapes[item.name]
        for item in graph.value_info
        if item.type.tensor_type.elem_type in whole and len(shapes.get(item.name, ())) == 1
    ]
    return all(length <= _LONGEST_VECTOR for (length,) in vectors)


def shapes_of(graph: Any) -> dict[str, Shape]:
    """Return the shape of every tensor whose shape is fixed."""
    shapes: dict[str, Shape] = {item.name: tuple(item.dims) for item in graph.initializer}
    for item in (*graph.input, *graph.value_info, *graph.output):
        kind = item.type.tensor_type
        if kind.HasField("shape") and all(dimension.HasField("dim_value") for dimension in kind.shape.dim):
            shapes[item.name] = tuple(dimension.dim_value for dimension in kind.shape.dim)
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    shapes[node.output[0]] = tuple(attribute.t.dims)
    return shapes


def _fold(proto: Any) -> bool:
    """Replace nodes whose inputs are constant by constants; return whether there were any."""
    graph = proto.graph
    shapes = shapes_of(graph)
    constants = {item.name: _numbers(item) for item in graph.initializer if _is_small(item)}
    left, folded = [], False
    for node in graph.node:
        value = _value(node, shapes, constants, proto)
        if value is not None:
            constants[node.output[0]] = value
            if node.op_type != "Constant":
                constant = numpy_helper.from_array(value, node.output[0])
                constant.doc_string = WORKED_OUT
                graph.initializer.append(constant)
                folded = True
                continue
        left.append(node)
    if folded:
        del graph.node[:]
        graph.node.extend(left)
    return folded


def _value(node: Any, shapes: dict[str, Shape], constants: dict[str, NDArray[Any]], proto: Any) -> NDArray[Any] | None:
    """Return the whole numbers that a node computes; None if they are not constant or not whole numbers."""
    if node.op_type == "Constant":
        tensors = [attribute.t for attribute in node.attribute if attribute.name == "value"]
        return _numbers(tensors[0]) if tensors and _is_small(tensors[0]) else None
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1 or not node.input:
        return None
    if node.op_type == "Shape":
        return _shape(node, shapes)
    if node.op_type not in _ARITHMETIC or not all(name in constants for name in node.input if name):
        return None
    inputs = [onnx.helper.make_tensor_value_info(name, 0, None) for name in node.input if name]
    output = onnx.helper.make_tensor_value_info(node.output[0], 0, None)
    small = onnx.helper.make_model(
        onnx.helper.make_graph([node], "node", inputs, [output]), opset_imports=proto.opset_import
    )
    try:
        (result,) = ReferenceEvaluator(small).run(None, {name: constants[name] for name in node.input if name})
    except Exception:
        return None  # such as a division by zero: the shape stays unknown, and an error names its node
    value = np.asarray(result)
    return value if value.dtype.kind in "iub" and value.size <= _MOST_NUMBERS else None


def _shape(node: Any, shapes: dict[str, Shape]) -> NDArray[Any] | None:
    if node.input[0] not in shapes:
        return None
    ends = {attribute.name: attribute.i for attribute in node.attribute}
    return np.array(shapes[node.input[0]][ends.get("start", 0) : ends.get("end")], dtype=np.int64)


def _numbers(tensor: Any) -> NDArray[Any]:
    numbers: NDArray[Any] = numpy_helper.to_array(tensor)
    return numbers


def _is_small(tensor: Any) -> bool:
    whole = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.BOOL)
    return tensor.data_type in whole and 0 <= math.prod(tensor.dims) <= _MOST_NUMBERS
