"""Peak memory of the activations of an ONNX model."""

from __future__ import annotations

import math
from collections.abc import Mapping

from onnx import helper

from automl_nas.errors import SpaceError
from automl_nas_costs.counting.activations import Step, peak
from automl_nas_costs.network.onnx_graph import Shape, read_graph, shapes_of

# Operators that reinterpret their operand.
_VIEWS = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"))

# Operators whose result may overwrite their operand.
_ELEMENTWISE_NAMES = (
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BatchNormalization BitShift BitwiseAnd BitwiseNot "
    "BitwiseOr BitwiseXor Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual "
    "HardSigmoid HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Log Max Mean Min Mish Mod Mul Neg Not "
    "Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Sum "
    "Swish Tan Tanh ThresholdedRelu Where Xor "
)
_ELEMENTWISE = frozenset(_ELEMENTWISE_NAMES.split())


def onnx_peak(model: bytes, name: str = "the ONNX model") -> dict[str, int]:
    """Return the activations that live at the peak: node that wrote them -> bytes; inputs under "".

    The rules are those of `automl_nas_costs.counting.activations.peak`. Nodes run in the order of the file. Tensors
    that depend on weights and shapes alone are not activations: a runtime computes them once, when it loads the model.
    Transposed tensors and slices are copies, as in the runtimes and unlike in torch.

    Args:
        model: with fixed shapes.
        name: for messages.

    Raises:
        SpaceError: the shape of a tensor depends on data; names its node.
    """
    graph = read_graph(model)
    shapes = shapes_of(graph)
    kinds = {item.name: item.type.tensor_type.elem_type for item in (*graph.input, *graph.value_info, *graph.output)}
    fixed = {item.name for item in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer))} | {""}
    numbers: dict[str, int] = {}
    inputs: dict[int, int] = {}
    for item in graph.input:
        if item.name not in fixed:
            numbers[item.name] = len(numbers)
            inputs[numbers[item.name]] = _bytes(item.name, shapes, kinds, f"{name}: the input '{item.name}'")
    steps: list[Step] = []
    for position, node in enumerate(graph.node):
        label = node.name or f"{node.op_type} {position}"
        if node.op_type == "Shape" or all(read in fixed for read in node.input):
            fixed.update(node.output)
            continue
        reads = tuple(numbers[read] for read in node.input if read not in fixed)
        if node.op_type in _VIEWS:
            numbers[node.output[0]] = reads[0]
            fixed.update(node.output[1:])  # the mask of a dropout in evaluation mode
            continue
        where = f"{name}: the operator {node.domain or 'ai.onnx'}::{node.op_type} (node '{label}')"
        writes: dict[int, int] = {}
        for output in node.output:
            if output:
                numbers[output] = number = len(numbers)
                writes[number] = _bytes(output, shapes, kinds, where)
        steps.append(Step(label, reads, writes, node.op_type in _ELEMENTWISE))
    return peak(steps, inputs, [numbers[item.name] for item in graph.output if item.name in numbers])


def _bytes(tensor: str, shapes: Mapping[str, Shape], kinds: Mapping[str, int], where: str) -> int:
    if tensor not in shapes or not kinds.get(tensor):
        raise SpaceError(
            f"{where} makes a tensor whose shape depends on the data; export the network with fixed shapes"
        )
    return math.prod(shapes[tensor]) * int(helper.tensor_dtype_to_np_dtype(kinds[tensor]).itemsize)
