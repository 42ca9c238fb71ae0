"""Packages of networks of the spaces of transformers and perceptrons: ONNX, pt2, weights and source, each checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from automl_nas.evaluation import Delivery
from automl_nas.space import Architecture, ModuleSpace
from automl_nas.streams import stream
from automl_nas_export.package.exporter import PackageExporter
from automl_nas_spaces.convnext import convnext
from automl_nas_spaces.mlp import mlp
from automl_nas_spaces.token_transformer import token_transformer
from automl_nas_spaces.vit import vit

TRANSFORMER: dict[str, Any] = {"heads": (1, 2), "ratios": (0.5, 2.0), "depth": (1, 2), "head_width": 4}
SPACES: dict[str, Callable[[], ModuleSpace]] = {
    "mlp": lambda: mlp(input_shape=(5,), num_classes=3, width=(6, 8), blocks=2, min_blocks=1),
    "vit": lambda: vit(
        num_classes=3, input_shape=(2, 8, 12), patch=4, embeddings=(8, 12), distance=1, drop_path=0.1, **TRANSFORMER
    ),
    "token_transformer": lambda: token_transformer(
        num_classes=3, input_shape=(7,), vocabulary=11, padding=0, embeddings=(6, 8), **TRANSFORMER
    ),
    "convnext": lambda: convnext(
        num_classes=3, input_shape=(2, 8, 8), widths=(8, 12), depths=(2, 1), min_depths=(1, 1), patch=2
    ),
}


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_a_network_becomes_a_package(name: str, tmp_path: Path) -> None:
    """The exporter compares the outputs of every file with those of the network, and so of the written source."""
    space = SPACES[name]()
    architecture: Architecture = space.sample(stream(0, "x"))
    network = space.build_supernet().extract(architecture).eval()
    samples = torch.arange(21).view(3, 7) % 11 if name == "token_transformer" else torch.randn(3, *space.input_shape)
    PackageExporter().export(Delivery(network, architecture, space.input_shape, samples=samples), tmp_path)
    files = {file.name for file in (tmp_path / "package").iterdir()}
    assert {"model.onnx", "model.pt2", "model.safetensors", "network.py"} <= files
