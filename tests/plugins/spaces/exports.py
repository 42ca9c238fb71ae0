"""A network of a ready-made space in all formats of delivery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from automl_nas.evaluation import Delivery
from automl_nas.space import Architecture
from automl_nas_export.onnx_format import OnnxExporter
from automl_nas_export.package.exporter import PackageExporter
from automl_nas_export.pt2 import Pt2Exporter


def check_exports(network: nn.Module, shape: Sequence[int], folder: Path, samples: Tensor | None = None) -> None:
    """Write a network as ONNX, pt2 and package; each exporter reads its file and compares outputs with the network's.

    Args:
        network: any.
        shape: of one input.
        folder: an empty folder.
        samples: inputs; None: normal numbers.
    """
    delivery = Delivery(network.eval(), Architecture({"block": "a"}), tuple(shape), samples=samples)
    names = {path.name for each in (OnnxExporter(), Pt2Exporter()) for path in each.export(delivery, folder)}
    assert names == {"model.onnx", "model.pt2"}
    if samples is None:
        samples = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    package = Delivery(
        network.eval(),
        delivery.architecture,
        tuple(shape),
        {"space": {"name": "toy"}, "task": {"name": "toy"}, "seed": 0},
        samples=samples,
        held_out=samples,
        shared=delivery.shared,
    )
    names = {path.name for path in PackageExporter().export(package, folder)}
    assert {"model.onnx", "model.pt2", "model.safetensors", "network.py", "infer.py"} <= names
