"""int8: what is recorded is what ONNX Runtime computes, and calibration sees training images only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from plugins.export.package.test_package import delivered, infer, predictions
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation import Batch, Delivery
from automl_nas.space import Architecture
from automl_nas_export.int8 import _in_float
from automl_nas_export.onnx_format import OnnxExporter
from automl_nas_export.package.exporter import PackageExporter
from automl_nas_vision.digits import Digits, read_digits

AGREE = 0.95
"""The smallest share of test images that get the class of the float network. Of 360 images 0.99 did; a scale or a zero
point that is wrong by a factor of two makes it 0.1 to 0.8."""


class Recorded(Digits):
    """Records the splits whose training batches are read."""

    def __init__(self) -> None:
        super().__init__(augment="none")
        self.read: list[str] = []

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        self.read.append(split)
        return super().batches(split, epoch, seed, start)


@pytest.fixture(scope="module")
def trained() -> tuple[Delivery, Recorded]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = Recorded()
        body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
        network = nn.Sequential(body, nn.Linear(512, 10))
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for epoch in range(2):
            for x, y in task.batches("train", epoch, 0):
                loss = task.loss(network(x), y)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return delivered(task, network), task


def fresh(delivery: Delivery, **changes: Any) -> Delivery:
    return dataclasses.replace(delivery, notes=[], conversions=[], **changes)


def run(file: Path, x: Tensor) -> Tensor:
    return torch.from_numpy(onnxruntime.InferenceSession(file).run(None, {"input": x.numpy()})[0])


def test_the_record_is_what_the_files_compute(trained: tuple[Delivery, Recorded], tmp_path: Path) -> None:
    delivery, task = fresh(trained[0]), trained[1]
    task.read.clear()
    files = OnnxExporter(int8=True, int8_samples=64).export(delivery, tmp_path)
    assert [file.name for file in files] == ["model.onnx", "model.int8.onnx"]
    assert set(task.read) == {"train"}  # the split of final; `described` was called with it

    (conversion,) = delivery.conversions
    assert (conversion.file, conversion.source) == ("model.int8.onnx", "model.onnx")
    assert "calibrated on 64 training inputs" in conversion.method
    values = {value.name: value for value in conversion.values}
    assert [values["size"].before, values["size"].after] == [file.stat().st_size for file in files]
    assert values["latency"].before > 0 and values["latency"].after > 0
    x, y = (torch.cat(parts) for parts in zip(*task.scored_batches("test"), strict=True))
    classes = [run(file, x).argmax(1) for file in files]
    accuracies = [float((each == y).double().mean()) for each in classes]
    assert [values["accuracy"].before, values["accuracy"].after] == pytest.approx(accuracies)
    with torch.no_grad():
        own = delivery.network(x).argmax(1)
    assert torch.equal(classes[0], own)
    assert float((classes[1] == own).double().mean()) >= AGREE

    graph = onnx.load(files[1]).graph
    weights = [tensor for tensor in graph.initializer if int(np.prod(tensor.dims)) in (72, 5120)]
    assert {tensor.data_type for tensor in weights} == {onnx.TensorProto.INT8}
    assert max(int(np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max()) for tensor in weights) <= 64
    assert not delivery.notes


def test_a_loss_beyond_the_interval_is_noted(trained: tuple[Delivery, Recorded], tmp_path: Path) -> None:
    """Calibrated on black images, activations are cut off."""
    delivery, task = trained
    black = fresh(delivery, calibration=lambda count: torch.full((count, 1, 8, 8), -0.8))
    OnnxExporter(int8=True).export(black, tmp_path)
    (note,) = black.notes
    assert note.startswith("model.int8.onnx: accuracy on the test split is 0.")
    assert "accuracy" in task.metrics


def test_a_rehearsal_reads_no_test_image(trained: tuple[Delivery, Recorded], tmp_path: Path) -> None:
    def judge(_: object) -> Any:
        raise AssertionError("the test split was read")

    delivery = fresh(trained[0], rehearsal=True, judge=judge)
    OnnxExporter(int8=True).export(delivery, tmp_path)
    assert [value.name for value in delivery.conversions[0].values] == ["size"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"int8": True, "int8_samples": 0}, "int8_samples must be at least 1"),
        ({"int8_samples": 10}, "int8_samples needs int8: true"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    for exporter in (OnnxExporter, PackageExporter):
        with pytest.raises(ConfigurationError, match=message):
            exporter(**settings)


@pytest.mark.parametrize(
    ("network", "calibration", "message"),
    [
        (nn.Linear(4, 2), None, "needs inputs of the training data"),
        (nn.Linear(4, 2).double(), torch.ones(8, 4), "needs a float32 network; this one has torch.float64"),
        (nn.Hardtanh(), torch.ones(8, 4), "no operator of the network can be computed with int8"),
    ],
)
def test_networks_that_cannot_be_quantised(
    network: nn.Module, calibration: Tensor | None, message: str, tmp_path: Path
) -> None:
    delivery = Delivery(
        network.eval(),
        Architecture({}),
        (4,),
        calibration=None if calibration is None else lambda count: calibration[:count],
    )
    with pytest.raises(RunFailedError, match=message):
        OnnxExporter(int8=True).export(delivery, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_normalisation_and_probabilities_stay_in_float() -> None:
    node = onnx.helper.make_node
    value = onnx.helper.make_tensor_value_info
    nodes = [
        node("Mul", ["input", "scale"], ["a"], "mul"),
        node("Add", ["a", "offset"], ["b"], "add"),
        node("Conv", ["b", "w"], ["c"], "conv"),
        node("Mul", ["c", "scale"], ["d"], "later"),
        node("Softmax", ["d"], ["output"], "softmax"),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [value("input", 1, [1])], [value("output", 1, [1])])
    assert _in_float(onnx.helper.make_model(graph)) == ["mul", "add", "softmax"]


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("baked", [{}, {"normalization": True, "softmax": True}])
def test_infer_runs_it(trained: tuple[Delivery, Recorded], tmp_path: Path, baked: dict[str, bool]) -> None:
    delivery, task = fresh(trained[0]), trained[1]
    PackageExporter(int8=True, **baked).export(delivery, tmp_path)
    folder = tmp_path / "package"
    pixels, _ = read_digits()
    rows = task._splits["test"][:8]
    files = [tmp_path / f"{number}.png" for number in range(8)]
    for file, row in zip(files, rows, strict=True):
        Image.fromarray(pixels[row]).save(file)
    result = predictions(folder, "--int8", *files)
    x = torch.cat([inputs for inputs, _ in task.scored_batches("test")])[:8]
    levels = torch.from_numpy(np.stack([pixels[row] for row in rows]).astype(np.float32))[:, None]
    outputs = run(folder / "model.int8.onnx", levels if baked else x)
    expected = outputs.double() if baked else outputs.double().softmax(1)
    values = torch.tensor([list(each["probabilities"].values()) for each in result], dtype=torch.float64)
    torch.testing.assert_close(values, expected, rtol=0, atol=0.02)  # a level of 8 bits of a logit
    page = (folder / "README.md").read_text()
    accuracy = next(value for value in delivery.conversions[0].values if value.name == "accuracy")
    assert f"| accuracy | {accuracy.before:.6g} (95 % interval" in page
    (folder / "model.int8.onnx").unlink()
    assert "model.int8.onnx is not in" in infer(folder, "--int8", files[0]).stderr
