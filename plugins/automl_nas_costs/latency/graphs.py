"""ONNX models as data: with a fixed batch, without free dimensions, identified by a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from automl_nas.errors import SpaceError

_LARGEST = (1 << 31) - 1  # bytes of a protocol buffer
_MOST_NODES = 100_000


def fixed(model: bytes | Path, batch: int, name: str = "") -> bytes:
    """Return an ONNX model in which the free first dimension of every input is set to the batch.

    A fixed size lets ONNX Runtime plan its memory and fold shapes, as it would for a network exported with it.

    Args:
        model: serialised, or a file (its weights may be in a second file beside it).
        batch: number of inputs at once.
        name: for messages.

    Raises:
        SpaceError: the file cannot be read, a dimension other than the first is free, a dimension is 0, or the batch
            is fixed to another number.
    """
    name = name or (str(model) if isinstance(model, Path) else "the ONNX model")
    try:
        proto = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
    except FileNotFoundError as error:
        raise SpaceError(f"{name} cannot be read: {error.strerror}: {error.filename}") from None
    except Exception as error:
        # The exceptions of protocol buffers have no common base class; each means that the file is not a model.
        raise SpaceError(f"{name} is not an ONNX model: {type(error).__name__}: {error}") from error
    if isinstance(model, Path):
        _check(proto, name)
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [item for item in proto.graph.input if item.name not in weights]
    changed = False
    for item in inputs:
        for place, dimension in enumerate(item.type.tensor_type.shape.dim):
            free = not dimension.HasField("dim_value")
            if free and place == 0:
                dimension.dim_value = batch
                changed = True
            elif free:
                raise SpaceError(
                    f"{name}: dimension {place} of the input '{item.name}' has no fixed size "
                    f"('{dimension.dim_param or '?'}'); latency depends on it: export the network with a fixed shape"
                )
            elif dimension.dim_value < 1:
                raise SpaceError(
                    f"{name}: dimension {place} of the input '{item.name}' is {dimension.dim_value}; a network cannot "
                    "be measured on an empty input"
                )
            elif place == 0 and dimension.dim_value != batch:
                raise SpaceError(
                    f"{name}: the input '{item.name}' has the fixed batch {dimension.dim_value}, not {batch}; set "
                    f"batch: {dimension.dim_value}, or export it with a free batch"
                )
    if changed:
        # The shapes inferred for the free batch would contradict the fixed one.
        del proto.graph.value_info[:]
        for item in proto.graph.output:
            if item.type.tensor_type.shape.dim and not item.type.tensor_type.shape.dim[0].HasField("dim_value"):
                item.type.tensor_type.shape.dim[0].Clear()
    if proto.ByteSize() > _LARGEST:
        raise SpaceError(f"{name} has more than 2 GiB of weights; ONNX Runtime cannot take it from memory")
    serialized: bytes = proto.SerializeToString()
    return serialized


def _check(proto: Any, name: str) -> None:
    """Check what the analyses rely on, in a model that a user wrote or received.

    Raises:
        SpaceError: it has no operators, an operator reads what none before it writes, functions call themselves, or it
            has more than `_MOST_NODES` operators.
    """
    graph = proto.graph
    if not graph.node:
        raise SpaceError(f"{name} holds no network: its graph has no operators; export the network again")
    written = {"", *(item.name for item in (*graph.initializer, *graph.input))}
    written |= {item.values.name for item in graph.sparse_initializer}
    for number, node in enumerate(graph.node):
        place = f"{name}: the operator {node.domain or 'ai.onnx'}::{node.op_type} (node '{node.name or number}')"
        for read in node.input:
            if read not in written:
                raise SpaceError(f"{place} reads '{read}', which nothing before it writes: the file is ill-formed")
        for output in node.output:
            if output and output in written:
                raise SpaceError(f"{place} writes '{output}', which exists already: the file is ill-formed")
            written.add(output)
    if (count := _expanded_size(proto, name)) > _MOST_NODES:
        raise SpaceError(
            f"{name} has {count:,} operators with its functions expanded; at most {_MOST_NODES:,} are read"
        )


def _expanded_size(proto: Any, name: str) -> int:
    """Return the number of operators of a graph. Functions may call functions, so a short file can have any number."""
    bodies = {(function.domain, function.name): function.node for function in proto.functions}
    sizes: dict[tuple[str, str], int | None] = {}

    def size(nodes: Any) -> int:
        return sum(function_size((node.domain, node.op_type)) for node in nodes)

    def function_size(key: tuple[str, str]) -> int:
        if key not in bodies:
            return 1
        if key not in sizes:
            sizes[key] = None  # while it is computed
            sizes[key] = size(bodies[key])
        if (expanded := sizes[key]) is None:
            raise SpaceError(f"{name}: the function {key[0]}::{key[1]} calls itself: the file is ill-formed")
        return expanded

    return size(proto.graph.node)


def digest(model: bytes) -> str:
    """Return a SHA-256 of everything that determines a model's latency: operators, attributes, connections, shapes.

    Names and the values of weights are left out: networks that differ only in these have the same latency. Whole
    numbers and scalars are included, since shapes and bounds are among them.
    """
    proto = onnx.load_from_string(model)
    state = hashlib.sha256()
    for opset in sorted((item.domain, item.version) for item in proto.opset_import):
        state.update(repr(opset).encode())
    for part in _graph(proto.graph, {}):
        state.update(part)
    for function in sorted(proto.functions, key=lambda item: (item.domain, item.name)):
        state.update(function.SerializeToString(deterministic=True))
    return state.hexdigest()


def _graph(graph: Any, outer: dict[str, bytes]) -> Iterator[bytes]:
    identities = dict(outer)
    identities[""] = b"none"
    for tensor in graph.initializer:
        identities[tensor.name] = _tensor(tensor)
    for number, item in enumerate(item for item in graph.input if item.name not in identities):
        identities[item.name] = f"input {len(outer)} {number}".encode()
        yield identities[item.name] + item.type.SerializeToString(deterministic=True)
    for number, node in enumerate(graph.node):
        for place, output in enumerate(node.output):
            identities[output] = f"node {len(outer)} {number} {place}".encode() if output else b"none"
        yield repr((node.domain, node.op_type, len(node.output))).encode()
        for name in node.input:
            yield identities.get(name, name.encode()) + b";"
        for attribute in sorted(node.attribute, key=lambda item: item.name):
            yield attribute.name.encode()
            if attribute.HasField("t"):
                yield _tensor(attribute.t)
            elif attribute.HasField("g"):
                yield from _graph(attribute.g, identities)
            else:
                plain = onnx.AttributeProto()
                plain.CopyFrom(attribute)
                plain.doc_string = ""
                yield plain.SerializeToString(deterministic=True)
    for item in graph.output:
        yield identities.get(item.name, item.name.encode())


def _tensor(tensor: Any) -> bytes:
    floating = tensor.data_type in (
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.BFLOAT16,
    )
    head = repr((tensor.data_type, tuple(tensor.dims))).encode()
    size = 1
    for dimension in tensor.dims:
        size *= dimension
    return head if floating and size > 1 else head + numpy_helper.to_array(tensor).tobytes()
