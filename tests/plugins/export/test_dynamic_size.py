"""Programs for images of any height and width: equal to the network at sizes at which they were not traced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from automl_nas.errors import RunFailedError
from automl_nas.evaluation import Delivery, Exporter
from automl_nas.space import Architecture
from automl_nas_export.onnx_format import OnnxExporter
from automl_nas_export.pt2 import Pt2Exporter

TOLERANCE = 1e-5
"""As a fraction of the largest output: ONNX Runtime sums in another order, a wrong size changes the first digit."""


class UNet(nn.Module):
    """Accepts even heights and widths only."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.inner = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ConvTranspose2d(8, 8, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return torch.cat((x, self.inner(x)), 1)


class Rows(nn.Module):
    """Treats one height otherwise than all others."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.shape[2] != 32 else x.amax((2, 3))


def pooled() -> nn.Module:
    body = (nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))


def cells() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5))


def delivery(network: nn.Module, shape: tuple[int, ...] = (3, 16, 16)) -> Delivery:
    return Delivery(network.eval(), Architecture({"block": "a"}), shape, samples=torch.randn(3, *shape))


def pt2(make: Callable[[], nn.Module], folder: Path) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    item = delivery(make())
    (file,) = Pt2Exporter(dynamic_size=True).export(item, folder)
    return item.network, torch.export.load(file).module()


def in_onnx(make: Callable[[], nn.Module], folder: Path) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    item = delivery(make())
    (file,) = OnnxExporter(dynamic_size=True).export(item, folder)
    (value,) = onnx.load(file).graph.input
    axes = [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
    assert axes == ["batch", 3, "height", "width"]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return item.network, lambda x: torch.from_numpy(session.run(None, {"input": x.numpy()})[0])


@pytest.mark.parametrize("export", [pt2, in_onnx])
@pytest.mark.parametrize("make", [pooled, UNet])
def test_other_sizes_give_what_pytorch_gives(
    export: Callable[..., tuple[nn.Module, Callable[[Tensor], Tensor]]],
    make: Callable[[], nn.Module],
    tmp_path: Path,
) -> None:
    network, program = export(make, tmp_path)
    for batch, size in ((1, (16, 16)), (4, (40, 22)), (1, (10, 64))):
        x = torch.randn(batch, 3, *size)
        with torch.no_grad():
            expected, outputs = network(x), program(x)
        assert outputs.shape == expected.shape
        assert (outputs - expected).abs().max() <= TOLERANCE * expected.abs().max()


@pytest.mark.parametrize("exporter", [Pt2Exporter(), OnnxExporter()])
def test_without_the_setting_other_sizes_are_refused(exporter: Exporter, tmp_path: Path) -> None:
    (file,) = exporter.export(delivery(pooled()), tmp_path)
    x = torch.randn(2, 3, 40, 22)
    if isinstance(exporter, Pt2Exporter):
        with pytest.raises((AssertionError, RuntimeError), match="16"):
            torch.export.load(file).module()(x)
    else:
        with pytest.raises(Exception, match="Got invalid dimensions"):
            onnxruntime.InferenceSession(file).run(None, {"input": x.numpy()})


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), (3, 4, 4), r"this one accepts 4 x 4 only.* 1: Linear"),
        (lambda: nn.Linear(7, 2), (7,), r"needs inputs of shape \(channels, height, width\)"),
        (lambda: nn.Sequential(Rows()), (3, 16, 16), r"the height became fixed at 32 .* of 0: Rows"),
    ],
)
@pytest.mark.parametrize("exporter", [Pt2Exporter(dynamic_size=True), OnnxExporter(dynamic_size=True)])
def test_why_not(
    make: Callable[[], nn.Module], shape: tuple[int, ...], message: str, exporter: Exporter, tmp_path: Path
) -> None:
    with pytest.raises(RunFailedError, match=message):
        exporter.export(delivery(make(), shape), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_pools_of_several_cells_are_for_pt2_only(tmp_path: Path) -> None:
    network, program = pt2(cells, tmp_path)
    x = torch.randn(2, 3, 21, 34)
    torch.testing.assert_close(program(x), network(x))
    with pytest.raises(RunFailedError, match=r"no operator that pools images of any size to 2 x 2 cells \(0: Adaptive"):
        OnnxExporter(dynamic_size=True).export(delivery(cells()), tmp_path)
