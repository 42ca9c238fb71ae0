"""Extracted networks of the spaces of inverted residual blocks as pt2 and ONNX files; exporters compare outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from plugins.spaces.mobile import TOY

from automl_nas.evaluation.exporter import Delivery
from automl_nas.space import SupernetSpace
from automl_nas_export.onnx_format import OnnxExporter
from automl_nas_export.pt2 import Pt2Exporter
from automl_nas_spaces.mobile.efficientnet import efficientnet
from automl_nas_spaces.mobile.fbnet import fbnet
from automl_nas_spaces.mobile.mobilenet_v2 import mobilenet_v2
from automl_nas_spaces.mobile.mobilenet_v3 import mobilenet_v3
from automl_nas_spaces.mobile.proxylessnas import proxylessnas
from automl_nas_spaces.mobile.proxylessnas_elastic import proxylessnas_elastic

TWO: Mapping[str, Any] = {**TOY, "widths": (8, 16), "strides": (1, 2)}
ELASTIC: Mapping[str, Any] = {**TWO, "depths": (1, 2), "last_channels": 16}
CASES: Mapping[str, tuple[Callable[..., SupernetSpace], Mapping[str, Any]]] = {
    "mobilenet_v3": (
        mobilenet_v3,
        {**ELASTIC, "activations": ("relu", "hardswish"), "squeeze": (False, True), "last_channels": (16, 16)},
    ),
    "mobilenet_v2": (mobilenet_v2, {**ELASTIC, "scales": (0.5, 1.0)}),
    "efficientnet": (efficientnet, ELASTIC),
    "proxylessnas_elastic": (proxylessnas_elastic, ELASTIC),
    "proxylessnas": (proxylessnas, {**TWO, "repeats": (1, 1), "last_channels": 16}),
    "fbnet": (fbnet, {**TWO, "repeats": (1, 1), "last_channels": 16}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_extracted_networks_are_exported(name: str, tmp_path: Path) -> None:
    make, settings = CASES[name]
    space = make(**settings)
    # The second option of every block: of FBNet the grouped one, with a shuffle; kernels that matrices make.
    architecture = space.validate({key: decision.options[1] for key, decision in space.decisions.items()})
    network = space.build_supernet().eval().extract(architecture)
    delivery = Delivery(network, architecture, tuple(space.input_shape))
    for exporter in (Pt2Exporter(), OnnxExporter()):
        assert exporter.export(delivery, tmp_path)
