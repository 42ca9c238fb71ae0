"""A full disk is an ordinary error: it leaves no partial file and does not end the process."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from automl_nas.evaluation.exporter import Delivery, Exporter
from automl_nas.space.architecture import Architecture
from automl_nas_export.onnx_format import OnnxExporter
from automl_nas_export.package.exporter import PackageExporter
from automl_nas_export.pt2 import Pt2Exporter
from automl_nas_export.safetensors_format import SafetensorsExporter


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A real file system of 64 KiB (or of another size), where one can be mounted."""
    size = getattr(request, "param", "64k")
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("this system mounts no tmpfs")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.process
@pytest.mark.parametrize("exporter", [SafetensorsExporter(), Pt2Exporter(), OnnxExporter(), PackageExporter()])
def test_a_full_disk_is_said(small_disk: Path, exporter: Exporter) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 1000)).eval()
    assert sum(p.numel() * 4 for p in network.parameters()) > 2**16
    with pytest.raises(OSError, match="No space left on device"):
        exporter.export(Delivery(network, Architecture({"a": 1}), (1, 8, 8)), small_disk)
    assert list(small_disk.iterdir()) == []
    assert torch.isfinite(network(torch.zeros(1, 1, 8, 8))).all()


@pytest.mark.process
@pytest.mark.parametrize("small_disk", ["420k", "560k"], indirect=True)
def test_a_disk_that_becomes_full_while_a_network_is_quantised(small_disk: Path) -> None:
    """model.onnx fits, and ONNX Runtime writes only a part of what it makes of it, without an error."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 1000)).eval()
    inputs = torch.randn(8, 1, 8, 8)
    delivery = Delivery(network, Architecture({"a": 1}), (1, 8, 8), calibration=lambda count: inputs[:count])
    with pytest.raises(OSError, match="No space left on device"):
        OnnxExporter(int8=True).export(delivery, small_disk)
    assert list(small_disk.iterdir()) == []
