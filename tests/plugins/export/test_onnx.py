from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import automl_nas
from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation.exporter import Delivery, Exporter
from automl_nas.space.architecture import Architecture
from automl_nas.testing.exporters import ExporterContract
from automl_nas_export import onnx_format
from automl_nas_export.onnx_format import OnnxExporter
from automl_nas_export.quiet import quiet_tracing
from automl_nas_export.tracing import trace

Deliver = Callable[[str], Delivery]


def run(file: Path, x: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(output) for output in session.run(None, {"input": x.numpy()})]


class TestContract(ExporterContract):
    # Five layers of at most 27 terms each: other orders of summation move a float32 by some ten roundings of 6e-8.
    tolerance = 1e-6

    def make(self) -> Exporter:
        return OnnxExporter()

    def load(self, paths: Sequence[Path], delivery: Delivery) -> Callable[[Tensor], Tensor]:
        return lambda x: run(paths[0], x)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tied", "graph_module"])
def test_hard_networks(deliver: Deliver, name: str, tmp_path: Path) -> None:
    delivery = deliver(name)
    (file,) = OnnxExporter().export(delivery, tmp_path)
    x = torch.randn(7, *delivery.input_shape)
    with torch.no_grad():
        torch.testing.assert_close(run(file, x)[0], delivery.network(x), rtol=1e-5, atol=1e-6)


def test_several_outputs_keep_their_order_and_a_newer_opset_is_written(deliver: Deliver, tmp_path: Path) -> None:
    delivery = deliver("several")
    (file,) = OnnxExporter(opset=20).export(delivery, tmp_path)
    assert {item.domain: item.version for item in onnx.load(file).opset_import}[""] == 20
    x = torch.randn(2, *delivery.input_shape)
    mean, high, low = run(file, x)
    torch.testing.assert_close(mean, x.mean((2, 3)))
    assert torch.equal(high, x.amax((2, 3)))
    assert torch.equal(low, x.amin((2, 3)))


def test_what_the_file_says_of_itself(deliver: Deliver, tmp_path: Path) -> None:
    (file,) = OnnxExporter().export(deliver("shuffled"), tmp_path)
    model = onnx.load(file)
    assert {item.domain: item.version for item in model.opset_import}[""] == 18
    (value,) = model.graph.input
    assert value.name == "input"
    batch, *rest = value.type.tensor_type.shape.dim
    assert batch.dim_param
    assert [dim.dim_value for dim in rest] == [4, 6, 6]
    properties = {item.key: json.loads(item.value) for item in model.metadata_props}
    assert properties == {
        "architecture": {"block": "a", "edges": ["x", "y"]},
        "description": {"accuracy": 0.75},
    }
    places = (Path(__file__).parent, Path(automl_nas.__file__).parent, Path(torch.__file__).parent)
    assert not [place for place in places if str(place).encode() in file.read_bytes()]


@pytest.fixture(scope="module")
def linear() -> tuple[Delivery, onnx.ModelProto]:
    """A network whose output is its bias plus something, and its model: converting it once is enough."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(6, 64)).eval()
    delivery = Delivery(network, Architecture({"block": "a"}), (2, 3))
    with quiet_tracing():
        return delivery, onnx_format.convert(trace(network, torch.zeros(2, 2, 3)), 18)


def converted_to(model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> onnx.ModelProto:
    mine = onnx.ModelProto()
    mine.CopyFrom(model)
    monkeypatch.setattr(onnx_format, "convert", lambda program, opset: mine)
    return mine


def test_large_weights_go_beside_the_model(
    linear: tuple[Delivery, onnx.ModelProto], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery, model = linear
    converted_to(model, monkeypatch)
    (tmp_path / "here").mkdir()
    paths = OnnxExporter(inline_limit=0).export(delivery, tmp_path / "here")
    assert [path.name for path in paths] == ["model.onnx", "model.onnx.data"]
    assert set((tmp_path / "here").iterdir()) == set(paths)
    moved = (tmp_path / "here").rename(tmp_path / "there")
    x = torch.randn(2, *delivery.input_shape)
    with torch.no_grad():
        torch.testing.assert_close(run(moved / "model.onnx", x)[0], delivery.network(x), rtol=1e-5, atol=1e-6)


def test_a_wrong_weight_is_found_and_its_size_told(
    linear: tuple[Delivery, onnx.ModelProto], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery, model = linear
    (bias,) = (item for item in converted_to(model, monkeypatch).graph.initializer if item.name.endswith("1.bias"))
    bias.raw_data = (numpy.frombuffer(bias.raw_data, numpy.float32) + numpy.float32(0.25)).tobytes()
    with pytest.raises(RunFailedError, match=r"model\.onnx, batch size 1, output: differs .* by up to 0\.25 \("):
        OnnxExporter().export(delivery, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert OnnxExporter(tolerance=10.0).export(delivery, tmp_path)


def test_a_file_the_checker_refuses(
    linear: tuple[Delivery, onnx.ModelProto], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery, model = linear
    converted_to(model, monkeypatch).graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(RunFailedError, match=r"onnx\.checker refuses model\.onnx.*NoSuchOperator"):
        OnnxExporter().export(delivery, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"opset": 11}, "opset 11 cannot be written"),
        ({"opset": 1000}, "opset 1000"),
        ({"tolerance": -1e-3}, "tolerance"),
        ({"inline_limit": 1 << 31}, "inline_limit"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, float], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        OnnxExporter(**settings)  # type: ignore[arg-type]


def test_a_network_of_tokens(tmp_path: Path) -> None:
    """Its inputs are integers below 7, as the task's samples are; normal numbers would be no tokens."""
    network = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 3)).eval()
    samples = torch.arange(15).view(3, 5) % 7
    (file,) = OnnxExporter().export(Delivery(network, Architecture({}), (5,), samples=samples), tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(run(file, samples)[0], network(samples), rtol=1e-5, atol=1e-6)
