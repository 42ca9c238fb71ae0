"""Peak memory of ONNX graphs: against values computed by hand and the networks from which they were exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas_costs.latency.export import export
from automl_nas_costs.models import Flops, PeakMemory
from automl_nas_costs.network.locate_network import OneNetwork, find_network
from automl_nas_costs.network.onnx_counts import count_onnx
from automl_nas_costs.network.onnx_memory import onnx_peak

NODES: dict[str, tuple[str, list[str], str, list[int], dict[str, Any]]] = {
    "exp": ("Exp", ["x"], "a", [1, 4, 8, 8], {}),
    "sin": ("Sin", ["a"], "b", [1, 4, 8, 8], {}),
    "both": ("Concat", ["b", "b"], "c", [1, 8, 8, 8], {"axis": 1}),
    "pool": ("GlobalAveragePool", ["a"], "d", [1, 4, 1, 1], {}),
    "view": ("Reshape", ["c", "shape"], "e", [1, 512], {}),
    "cos": ("Cos", ["e"], "f", [1, 512], {}),
}


def graph(*order: str, dtype: int = TensorProto.FLOAT) -> bytes:
    graph = helper.make_graph(
        [helper.make_node(NODES[n][0], NODES[n][1], [NODES[n][2]], name=n, **NODES[n][4]) for n in order],
        "g",
        [helper.make_tensor_value_info("x", dtype, [1, 4, 8, 8])],
        [helper.make_tensor_value_info(NODES[n][2], dtype, NODES[n][3]) for n in ("pool", "cos")],
        [helper.make_tensor("shape", TensorProto.INT64, [2], [1, 512])],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return model.SerializeToString()  # type: ignore[no-any-return]


def test_a_graph_by_hand() -> None:
    # A tensor of 4 channels has 1,024 bytes. `a` lives until the pooling, so `b`, computed from it, has its own buffer.
    assert onnx_peak(graph("exp", "sin", "both", "pool", "view", "cos")) == {"exp": 1024, "sin": 1024, "both": 2048}
    # If the pooling ran earlier, only 16 bytes of `a` would remain; `b` still cannot overwrite `a`.
    assert onnx_peak(graph("exp", "sin", "pool", "both", "view", "cos")) == {"sin": 1024, "both": 2048, "pool": 16}
    # Before the sine: `b` overwrites `a`. Half the bytes in half precision.
    early = ("exp", "pool", "sin", "both", "view", "cos")
    assert onnx_peak(graph(*early)) == {"sin": 1024, "both": 2048, "pool": 16}
    assert onnx_peak(graph(*early, dtype=TensorProto.FLOAT16)) == {"sin": 512, "both": 1024, "pool": 8}


def test_the_input_is_not_written_to() -> None:
    model = export(nn.Sequential(nn.ReLU(), nn.Tanh()), (4, 8, 8))
    assert sum(onnx_peak(model).values()) == 2 * 4 * 256
    assert onnx_peak(model)[""] == 4 * 256


def residual() -> nn.Module:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(4, 24, 1), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 4, 1))

        def forward(self, x: Any) -> Any:
            return x + self.body(x)

    return nn.Sequential(nn.Conv2d(3, 4, 1), Residual(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize(
    ("name", "make"),
    [("residual", residual), *((name, None) for name in ("resnet18", "mobilenet_v2", "shufflenet_v2_x0_5"))],
)
def test_a_file_needs_what_its_network_needs(name: str, make: Callable[[], nn.Module] | None) -> None:
    if make is None:
        network = find_network(name, {}, (3, 64, 64))
        make, shape = network.make, network.input_shape
    else:
        shape = (3, 8, 8)
    space, only = OneNetwork(make, shape), Architecture({})
    model = export(make(), shape)
    assert sum(onnx_peak(model).values()) == PeakMemory(space).estimate(only)
    # The halves of ShuffleNet's blocks are slices whose bounds the file computes from a shape.
    assert sum(count_onnx(model).macs.values()) == Flops(space).estimate(only)


def test_a_shape_that_depends_on_data_is_named() -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["y"], name="the node")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [1, "n"])],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with pytest.raises(SpaceError, match=r"NonZero \(node 'the node'\) makes a tensor whose shape depends on the data"):
        onnx_peak(model.SerializeToString())
