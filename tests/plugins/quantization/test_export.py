"""ONNX files of quantised networks: the types of ONNX, equal values, and agreement on real images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation import Delivery, Exporter, Fit, Recipe, Runtime, Task
from automl_nas.space import Architecture, SearchSpace
from automl_nas.testing.exporters import ExporterContract
from automl_nas_quantization.export import exporter
from automl_nas_quantization.export.exporter import QuantizedOnnxExporter
from automl_nas_quantization.export.graph import layers_of, storage, weight_codes
from automl_nas_quantization.resnet import mixed_precision_resnet
from automl_nas_vision.digits import Digits

PAIRS = ((1, 2), (2, 2), (3, 3), (4, 4), (8, 8), (32, 32))


def run(file: Path, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"input": x.numpy()})[0])


class TestContract(ExporterContract):
    # As for the exporter `onnx`: sums in another order, of a network without quantised layers.
    tolerance = 1e-6

    def make(self) -> Exporter:
        return QuantizedOnnxExporter()

    def load(self, paths: Sequence[Path], delivery: Delivery) -> Callable[[Tensor], Tensor]:
        return lambda x: run(paths[0], x)


def space(**settings: Any) -> SearchSpace:
    small: dict[str, Any] = {"num_classes": 3, "input_shape": (1, 8, 8), "stem": "small", "widths": (4, 8)}
    return mixed_precision_resnet(**{**small, "repeats": (2, 3), "strides": (1, 2), "precisions": PAIRS, **settings})


def delivery(of: SearchSpace) -> Delivery:
    """A network with blocks of all precisions, its clipping levels at awkward numbers."""
    names = [f"W{weights}A{activations}" for weights, activations in PAIRS]
    architecture = Architecture({name: names[place] for place, name in enumerate(of.decisions)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = of.build(architecture)
        for layer in layers_of(network).values():
            if layer.clip is not None:
                layer.clip.data.uniform_(0.7, 2.9)
        for _ in range(3):
            network(torch.randn(16, 1, 8, 8))
    return Delivery(network.eval(), architecture, (1, 8, 8))


def codes_types(file: Path) -> dict[str, int]:
    """Type of the stored weights -> number of layers; floats are those that no integer type holds."""
    model = onnx.load(file)
    names = [TensorProto.DataType.Name(each.data_type) for each in model.graph.initializer if "_codes" in each.name]
    return dict(Counter(names))


# 13 layers: the first and the last, symmetric with 8 bits, and blocks of 1, 2, 3, 4 and 8 bits with 2, 2, 3, 2 and 2
# layers. Whole numbers of DoReFa are odd, up to 2^k - 1: 4 bits need int8, and 8 bits int16, which opset 18 lacks.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("weights", "opset", "types"),
    [
        ("symmetric", 25, {"INT2": 4, "INT4": 5, "INT8": 4}),
        ("dorefa", 18, {"INT8": 11}),
    ],
)
def test_types_of_weights(weights: Any, opset: int, types: dict[str, int], tmp_path: Path) -> None:
    """The exporter itself compares all quantisers; outputs of the whole network agree but for rounding.

    That a value may be moved across a half by rounding is why whole outputs are compared by the class they predict.
    """
    made = delivery(space(weights=weights))
    (file,) = QuantizedOnnxExporter(opset=opset).export(made, tmp_path)
    assert codes_types(file) == types
    x = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected = made.network(x)
    assert (run(file, x).argmax(1) == expected.argmax(1)).float().mean() >= 0.995
    (conversion,) = made.conversions
    size = file.stat().st_size
    assert [value.after for value in conversion.values] == [size]


@pytest.mark.slow
def test_stored_weights_are_equal_to_the_last_bit(tmp_path: Path) -> None:
    """Integers times steps, computed by NumPy from the file and not by ONNX Runtime."""
    made = delivery(space(weights="dorefa"))
    (file,) = QuantizedOnnxExporter().export(made, tmp_path)
    assert codes_types(file) == {"INT4": 7, "INT8": 4, "INT16": 2}
    model = onnx.load(file)
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    stored = {
        node.output[0]: constants[node.input[0]].astype(np.float32)
        * constants[node.input[1]].reshape(-1, *[1] * (constants[node.input[0]].ndim - 1))
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    weights = {
        node.output[0]: stored[node.input[1]]
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm")
        if node.input[1] in stored
    }
    stored_bytes = sorted(values.tobytes() for values in weights.values() if values.ndim == 4)
    with torch.no_grad():
        expected = sorted(
            layer.quantized_weight(layer.layer.weight).numpy().tobytes()
            for layer in layers_of(made.network).values()
            if layer.layer.weight.dim() == 4
        )
    assert stored_bytes == expected


@pytest.mark.parametrize(
    ("low", "high", "opset", "name"),
    [
        (0, 3, 25, "UINT2"),
        (0, 3, 24, "UINT4"),
        (0, 15, 21, "UINT4"),
        (0, 15, 20, "UINT8"),
        (-1, 1, 25, "INT2"),
        (-3, 3, 25, "INT4"),
        (-8, 8, 25, "INT8"),
        (-255, 255, 21, "INT16"),
        (-255, 255, 20, None),
    ],
)
def test_the_smallest_type_is_chosen(low: int, high: int, opset: int, name: str | None) -> None:
    chosen = storage(low, high, opset)
    assert (None if chosen is None else chosen.name) == name


# y = saturate(round_half_even(x / s) + z), ONNX's definition; the types that ONNX Runtime on CPUs has.
@pytest.mark.parametrize(
    ("name", "opset", "expected"),
    [
        ("INT8", 18, (-3, -2, -2, 0, 0, 2, 2, 9)),
        ("UINT8", 18, (0, 0, 0, 0, 0, 2, 2, 9)),
        ("INT16", 21, (-3, -2, -2, 0, 0, 2, 2, 9)),
        ("INT4", 21, (-3, -2, -2, 0, 0, 2, 2, 7)),
        ("UINT4", 21, (0, 0, 0, 0, 0, 2, 2, 9)),
        ("INT2", 25, (-2, -2, -2, 0, 0, 1, 1, 1)),
    ],
)
def test_types_that_the_installed_runtime_has(name: str, opset: int, expected: tuple[int, ...]) -> None:
    kind = TensorProto.DataType.Value(name)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
        "both",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8])],
        [helper.make_tensor("s", TensorProto.FLOAT, [], [1.0]), helper.make_tensor("z", kind, [], [0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.array((-3, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 9), np.float32)
    assert tuple(session.run(None, {"x": x})[0]) == expected


@pytest.fixture(scope="module")
def digits() -> tuple[Delivery, Task]:
    """A network with bits of all kinds, trained on handwritten digits for some seconds."""
    task, runtime = Digits(batch_size=64), Runtime(threads=1)
    of = space(weights="dorefa", num_classes=10)
    with runtime.seeded(0, "build"):
        made = delivery(of)
        network = of.build(made.architecture)
    recipe = Recipe(epochs=8, optimizer="adamw", learning_rate=0.01)
    fit = Fit(network, task, runtime, recipe, seed=0, split="train")
    while not fit.done:
        fit.advance(50)
    trained = replace(
        made, network=network.eval(), judge=lambda predictor: task.report(predictor, "test"), conversions=[]
    )
    return trained, task


@pytest.mark.slow
def test_classes_agree_on_the_test_split_of_digits(digits: tuple[Delivery, Task], tmp_path: Path) -> None:
    made, task = digits
    (file,) = QuantizedOnnxExporter().export(made, tmp_path)
    size, accuracy, *_ = made.conversions[0].values
    assert size.name == "size" and accuracy.name == "accuracy"
    assert accuracy.before > 0.6  # it is trained: agreement of a constant network would say nothing
    assert abs(accuracy.after - accuracy.before) <= 0.005
    equal: list[bool] = []

    def compare(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            outputs: Tensor = made.network(inputs)
        equal.extend((run(file, inputs).argmax(1) == outputs.argmax(1)).tolist())
        return outputs

    assert made.judge is not None
    made.judge(compare)
    same, total = sum(equal), len(equal)
    assert total == task.size("test") and same >= 0.995 * total
    assert f"equal predicted classes for {same:,} of {total:,} test inputs" in made.conversions[0].method


@pytest.mark.slow
def test_too_little_agreement_is_an_error(
    digits: tuple[Delivery, Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of other weights has all quantisers right only for those: agreement is what tests the whole."""
    made, _ = digits
    original = exporter.traced

    def without_bias(network: nn.Module, example: Tensor, opset: int) -> onnx.ModelProto:
        model = original(network, example, opset)
        for each in model.graph.initializer:
            if each.name.endswith("fc.layer.bias"):
                wrong = np.array([9.0] + [0.0] * 9, np.float32)
                each.CopyFrom(onnx.numpy_helper.from_array(wrong, each.name))
        return model

    monkeypatch.setattr(exporter, "traced", without_bias)
    with pytest.raises(RunFailedError, match=r"predicts the class of the network for [\d,]+ of 3\d\d test inputs"):
        QuantizedOnnxExporter().export(made, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_quantiser_that_differs_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = delivery(space())
    real = exporter.Quantizers

    def after(model: onnx.ModelProto, network: nn.Module, opset: int) -> Any:
        made_of = real(model, network, opset)
        layers_of(network)["layer2.0.conv1"].clip.data.mul_(1.001)
        return made_of

    monkeypatch.setattr(exporter, "Quantizers", after)
    with pytest.raises(RunFailedError, match=r"quantised inputs of the layer 'layer2\.0\.conv1' differ"):
        QuantizedOnnxExporter().export(made, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"opset": 17}, "opset 17 cannot be written"), ({"opset": 99}, "opset 99"), ({"agreement": 1.5}, "a share")],
)
def test_settings_that_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        QuantizedOnnxExporter(**settings)


def test_other_types_of_numbers_are_refused(tmp_path: Path) -> None:
    made = delivery(space())
    with pytest.raises(RunFailedError, match=r"needs a float32 network; this one has torch.float64"):
        QuantizedOnnxExporter().export(replace(made, network=made.network.double()), tmp_path)


def test_codes_of_all_bits() -> None:
    """Codes are whole numbers in the stated range, for one and for all other numbers of bits."""
    of = space(weights="dorefa")
    for layer in layers_of(delivery(of).network).values():
        codes, scale = weight_codes(layer)
        bits = layer.precision.weights
        if layer.scheme.weights == "dorefa":
            assert set(np.unique(codes % 2)) == {1} and scale.ndim == 0  # odd numbers: there is no 0
            assert np.abs(codes).max() == (1 if bits == 1 else 2**bits - 1)
        else:
            assert np.abs(codes).max() == 127 and scale.shape == codes.shape[:1]
