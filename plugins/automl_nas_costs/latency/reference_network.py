"""The control network: a fixed small network that every session measures, too."""

from __future__ import annotations

from functools import cache

import numpy as np
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIZE, LAYERS = 32, 28, 6
"""About a millisecond on one core of 2020: much longer than the clock's resolution, much shorter than a burst."""


@cache
def control_model() -> bytes:
    """Return the control network: six 3x3 convolutions of 32 channels with ReLU on a 28 x 28 image, batch 1.

    It must never change: sessions of different days are compared by its latency.
    """
    generator = np.random.default_rng(0)
    nodes, weights, last = [], [], "input"
    for layer in range(LAYERS):
        # He's variance avoids denormal numbers, on which processors are slow.
        scale = (2 / (9 * CHANNELS)) ** 0.5
        kernel = (generator.standard_normal((CHANNELS, CHANNELS, 3, 3)) * scale).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{layer}"))
        nodes.append(
            helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        )
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        last = f"r{layer}"
    shape = [1, CHANNELS, SIZE, SIZE]
    graph = helper.make_graph(
        nodes,
        "control",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, shape)],
        weights,
    )
    # Versions of 2020, which the runtime of every device reads.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    serialized: bytes = model.SerializeToString()
    return serialized
