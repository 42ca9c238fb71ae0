"""`automl-nas cost` for networks: models of torchvision, importable modules, ONNX files."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.cli import cli
from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.torchvision_import import import_torchvision
from automl_nas_costs.latency.export import export
from automl_nas_costs.models import Flops, MemoryAccess, Params
from automl_nas_costs.network.locate_network import find_network
from automl_nas_costs.network.onnx_counts import count_onnx

Wrap = Callable[..., SearchSpace]
ONLY = Architecture({"network": 0})

QUICK = [f"--set=latency_ms.{name}" for name in ("rounds=5", "burst_ms=0", "warmup_ms=0", "round_ms=0", "cache=null")]

MODULE = """
from torch import nn

class Small(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, width, 3)

    def forward(self, x):
        return self.convolution(x).relu()

made = Small(5)
number = 3

def wrong():
    return "a network"
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run ``automl-nas cost`` in a folder that has a module; its name is new, since imports are cached."""
    monkeypatch.chdir(tmp_path)
    name = f"networks_{random.Random(str(tmp_path)).getrandbits(40):x}"
    (tmp_path / f"{name}.py").write_text(MODULE)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli, ["cost", *(text.replace("MODULE", name) for text in arguments)])

    return run


def costs(done: Any) -> dict[str, float]:
    assert done.exit_code == 0, done.output
    return {name: cost["value"] for name, cost in json.loads(done.stdout)["costs"].items()}


# --- PyTorch networks -----------------------------------------------------------------------------------------------


def test_a_model_of_torchvision(program: Callable[..., Any]) -> None:
    """Peak: the first 3x3 convolution of stride 2 over 96 channels, 112 x 112 to 56 x 56."""
    by_name = costs(program("mobilenet_v2", "--json"))
    assert (by_name["flops"], by_name["params"]) == (300_774_272, 3_504_872)
    assert by_name["peak_memory"] == 4 * 96 * (112**2 + 56**2)
    text = program("mobilenet_v2").stdout
    assert "input: 1x3x224x224" in text
    assert "multiply-adds  300,774,272" in text
    assert "flops: called and not counted: native_batch_norm (52)" in text


def test_an_importable_class_with_arguments(program: Callable[..., Any]) -> None:
    def flops(*more: str) -> float:
        return costs(program("MODULE:Small", "--input-shape", "3,8,8", "--json", *more))["flops"]

    assert flops() == 36 * 27 * 4
    assert flops("--set", "network.width=7") == 36 * 27 * 7
    assert flops("--set", "flops.convention=flops") == 2 * 36 * 27 * 4
    assert costs(program("MODULE:made", "--input-shape", "3,8,8", "--json"))["flops"] == 36 * 27 * 5


def test_latency_and_layers(program: Callable[..., Any]) -> None:
    done = program("MODULE:Small", "--input-shape=3,8,8", "--latency", "--by-layer", "--json", *QUICK)
    assert done.exit_code == 0, done.output
    by_name = json.loads(done.stdout)["costs"]
    latency = by_name["latency_ms"]
    assert latency["measurement"]["low"] <= latency["value"] <= latency["measurement"]["high"]
    assert latency["measurement"]["details"]["options"]["rounds"] == 5
    # Shares of one number: sums round at 1e-16.
    assert math.isclose(sum(latency["by_layer"].values()), latency["value"], rel_tol=1e-12)
    assert "convolution" in latency["by_layer"]
    assert by_name["flops"]["by_layer"] == {"convolution": 36 * 27 * 4}
    text = program("MODULE:Small", "--input-shape=3,8,8", "--latency", "--by-layer", *QUICK).stdout
    assert "latency_ms: median of 5 rounds; 95 % interval" in text
    assert "CPUExecutionProvider, 1 thread, batch 1, optimisation all" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnt18"], "classification model of torchvision; did you mean 'resnet18'?"),
        (["MODULE:Small"], "the shape of one input of"),
        (["MODULE:Smal", "--input-shape=3,8,8"], "has no 'Smal'; did you mean 'Small'?"),
        (["MODULE:number", "--input-shape=3,8,8"], "is a int; name a class or function"),
        (["MODULE:wrong", "--input-shape=3,8,8"], "returns a str, not a torch.nn.Module"),
        (["MODULE:Small", "--input-shape=3,8,8", "--set=network.depth=3"], "unexpected keyword argument 'depth'"),
        (["MODULE:Small", "--input-shape=3,8,8", "--set=flop.convention=flops"], "did you mean 'flops'?"),
        (["MODULE:Small", "--input-shape=3,8,8", "--set=flops.convention=three"], "convention"),
        (["MODULE:Small", "--input-shape=4,8,8"], "cannot be run on one input of shape (4, 8, 8)"),
        (["MODULE:Small", "--input-shape=3,big"], "'3,big' is not a shape"),
        (["no_such_module_here:Small", "--input-shape=3,8,8"], "cannot import no_such_module_here"),
        (["resnet18", "--architecture=smallest"], "--architecture needs a configuration"),
        (["gone.onnx"], "gone.onnx cannot be read: No such file"),
        (["gone.yaml"], "cannot read gone.yaml"),
    ],
)
def test_what_cannot_be_shown(program: Callable[..., Any], arguments: list[str], message: str) -> None:
    done = program(*arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_every_classification_model_has_an_input_shape() -> None:
    """The resolutions of the published weights, some of which are not 224 x 224."""
    models = import_torchvision("torchvision.models")
    shapes = {name: find_network(name, {}, None).input_shape for name in models.list_models(module=models)}
    assert shapes["inception_v3"] == (3, 299, 299)
    assert shapes["efficientnet_b7"] == (3, 600, 600)
    assert all(shape[0] == 3 for shape in shapes.values())
    assert len(shapes) >= 80


# --- ONNX files -----------------------------------------------------------------------------------------------------


class Various(nn.Module):
    """Every kind of operator that is counted in ONNX files, without normalisation, which exporters fold."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 8, 3, stride=2, groups=2)
        self.back = nn.ConvTranspose2d(8, 6, 3, stride=2, dilation=2)
        self.pool = nn.MaxPool2d(2)
        self.lines = nn.Conv1d(6, 5, 3, padding=1)
        self.table = nn.Parameter(torch.ones(5, 7))
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.back(F.relu(self.grouped(x)))).flatten(2)
        x = self.lines(x).transpose(1, 2) @ self.table
        scores = x @ x.transpose(1, 2)
        return self.head(torch.softmax(scores, 2) @ x)  # type: ignore[no-any-return]


def test_an_exported_network_counts_as_the_network(wrap: Wrap) -> None:
    space = wrap((4, 9, 9), Various)
    counted = count_onnx(export(Various(), (4, 9, 9)))
    assert sum(counted.macs.values()) == Flops(space).estimate(ONLY)
    assert sum(counted.accesses.values()) == MemoryAccess(space).estimate(ONLY)
    assert sum(counted.weights.values()) == Params(space).estimate(ONLY)
    assert counted.uncounted["Softmax"] == 1
    assert "MatMul" not in counted.uncounted


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers(wrap: Wrap, kind: type[nn.Module]) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = kind(6, 4, num_layers=2, bidirectional=True, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)[0]  # type: ignore[no-any-return]

    counted = count_onnx(export(Recurrent(), (5, 6)))
    assert sum(counted.macs.values()) == Flops(wrap((5, 6), Recurrent)).estimate(ONLY)


def test_a_model_of_torchvision_as_a_file() -> None:
    network = find_network("mobilenet_v2", {}, (3, 96, 96))
    counted = count_onnx(export(network.make(), network.input_shape))
    # 300,774,272 at 224 x 224, of which the classifier's 1,280,000 do not depend on the resolution.
    spatial, classifier = 300_774_272 - 1_280_000, 1_280_000
    assert sum(counted.macs.values()) * 49 == spatial * 9 + classifier * 49


def one_node(kind: str, shapes: list[list[Any]], output: list[Any], domain: str = "", **attributes: Any) -> bytes:
    names = [f"x{number}" for number in range(len(shapes))]
    graph = helper.make_graph(
        [helper.make_node(kind, names, ["y"], name="the node", domain=domain, **attributes)],
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in zip(names, shapes, strict=True)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.acme", 1)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return model.SerializeToString()  # type: ignore[no-any-return]


def test_products_in_closed_form() -> None:
    gemm = count_onnx(one_node("Gemm", [[7, 5], [3, 7]], [5, 3], transA=1, transB=1))
    assert gemm.macs == {"the node": 5 * 7 * 3}
    einsum = count_onnx(one_node("Einsum", [[2, 5, 7], [7, 3]], [2, 3, 5], equation="bij,jk->bki"))
    assert einsum.macs == {"the node": 2 * 5 * 7 * 3}
    pool = count_onnx(one_node("GlobalAveragePool", [[1, 4, 8, 8]], [1, 4, 1, 1]))
    assert (pool.macs, pool.accesses) == ({}, {"the node": 4 * 64 + 4})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (one_node("Secret", [[2, 3]], [2, 3], domain="com.acme"), r"com.acme::Secret \(node 'the node'\) has no known"),
        (
            one_node("Einsum", [[2, 3], [3, 4], [4, 5]], [2, 5], equation="ij,jk,kl->il"),
            "cost of Einsum 'ij,jk,kl->il'",
        ),
        (one_node("MatMul", [[2, "n"], ["n", 4]], [2, 4]), r"MatMul \(node 'the node'\) works on a tensor, 'x0'"),
    ],
)
def test_nodes_that_cannot_be_counted_are_named(model: bytes, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        count_onnx(model)


def test_an_onnx_file_on_the_command_line(program: Callable[..., Any]) -> None:
    Path("model.onnx").write_bytes(export(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (3, 8, 8)))
    done = program("model.onnx", "--latency", "--by-layer", "--json", *QUICK)
    assert done.exit_code == 0, done.output
    shown = json.loads(done.stdout)
    assert shown["inputs"] == [[1, 3, 8, 8]]
    assert shown["costs"]["flops"]["value"] == 36 * 27 * 4
    assert shown["costs"]["params"]["value"] == 27 * 4 + 4
    # The input and the output; the activation overwrites the output.
    assert shown["costs"]["peak_memory"]["value"] == 4 * (3 * 64 + 4 * 36)
    assert "unknown" not in shown
    latency = shown["costs"]["latency_ms"]
    assert math.isclose(sum(latency["by_layer"].values()), latency["value"], rel_tol=1e-12)
    assert "not counted: Relu (1)" in shown["costs"]["flops"]["remarks"]
    assert "multiply-adds" in program("model.onnx").stdout


def hostile(kind: str) -> bytes:
    """Return a file that a tool would not write."""
    node, shape = helper.make_node, [1, 3, 8, 8]
    weights = [helper.make_tensor("w", TensorProto.FLOAT, [4, 3, 3, 3], [0.0] * 108)]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    functions: list[Any] = []
    nodes = [node("Conv", ["x", "w"], ["y"])]
    if kind == "a cycle":
        nodes = [node("Add", ["x", "b"], ["a"], name="first"), node("Add", ["x", "a"], ["b"])]
    elif kind == "written twice":
        nodes = [node("Relu", ["x"], ["x"])]
    elif kind == "a recursive function":
        nodes = [node("F", ["x"], ["y"], domain="local")]
        functions = [
            helper.make_function("local", "F", ["a"], ["b"], [node("F", ["a"], ["b"], domain="local")], opsets)
        ]
    elif kind == "nested functions":
        nodes = [node("F0", ["x"], ["y"], domain="local")]
        for n in range(29):
            calls = [node(f"F{n + 1}", [i], [o], domain="local") for i, o in ("ac", "cb")]
            functions.append(helper.make_function("local", f"F{n}", ["a"], ["b"], calls, opsets))
        last = [node("Identity", ["a"], ["b"])]
        functions.append(helper.make_function("local", "F29", ["a"], ["b"], last, opsets))
    elif kind == "a short tensor":
        weights.append(TensorProto(name="s", data_type=TensorProto.INT64, dims=[5], raw_data=b"123"))
        nodes.append(node("Reshape", ["y", "s"], ["z"]))
    elif kind == "a missing operand":
        nodes = [node("Conv", [], ["y"])]
    elif kind == "no operators":
        nodes = []
    elif kind == "weights elsewhere":
        location = onnx.StringStringEntryProto(key="location", value="../../etc/passwd")
        weights[0] = TensorProto(name="w", data_type=1, dims=[4, 3, 3, 3], data_location=1, external_data=[location])
    elif kind == "vectors of 4 * 100^6 numbers":  # 3 TiB, if their values were computed
        nodes += [node("Shape", ["x"], ["s0"])]
        nodes += [node("Concat", [f"s{n}"] * 100, [f"s{n + 1}"], axis=0) for n in range(6)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name="y")],
        weights,
    )
    model: bytes = helper.make_model(graph, opset_imports=opsets, functions=functions).SerializeToString()
    return model


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no operators", "holds no network: its graph has no operators; export the network again"),
        ("a cycle", "ai.onnx::Add (node 'first') reads 'b', which nothing before it writes: the file is ill-formed"),
        ("written twice", "writes 'x', which exists already"),
        ("a recursive function", "the function local::F calls itself"),
        ("nested functions", "has 536,870,912 operators with its functions expanded"),
        ("a short tensor", "cannot be analysed, it may be ill-formed: ValueError: buffer size"),
        ("a missing operand", "cannot be analysed, it may be ill-formed: InferenceError"),
        ("weights elsewhere", "points outside the directory"),
    ],
)
def test_a_hostile_file_is_described(program: Callable[..., Any], kind: str, message: str) -> None:
    Path("m.onnx").write_bytes(hostile(kind))
    done = program("m.onnx")
    assert (done.exit_code, done.exception.__class__) == (2, SystemExit)
    assert "m.onnx" in done.output
    assert message in " ".join(done.output.split())


def test_an_empty_file_is_no_network(program: Callable[..., Any]) -> None:
    Path("m.onnx").write_bytes(b"")
    done = program("m.onnx")
    assert done.exit_code == 2
    assert "m.onnx holds no network" in done.output


def test_vectors_that_would_fill_the_memory_are_not_computed(program: Callable[..., Any]) -> None:
    Path("m.onnx").write_bytes(hostile("vectors of 4 * 100^6 numbers"))
    assert costs(program("m.onnx", "--json"))["flops"] == 4 * 6 * 6 * 27


def test_a_file_that_counts_but_whose_memory_depends_on_data(program: Callable[..., Any]) -> None:
    """Multiply-adds do not depend on data; the number of elements that are not 0 does."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("NonZero", ["y"], ["z"], name="last")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("z", TensorProto.INT64, [2, "n"])],
        [helper.make_tensor("w", TensorProto.FLOAT, [3, 2], [1.0] * 6)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), "m.onnx")
    shown = json.loads(program("m.onnx", "--json").stdout)
    assert shown["costs"]["flops"]["value"] == 6
    assert "peak_memory" not in shown["costs"]
    assert "NonZero (node 'last')" in shown["unknown"]["peak_memory"]
    assert "peak_memory: not known" in program("m.onnx").stdout
