"""Counts against published numbers and another counter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch

from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.torchvision_import import import_torchvision
from automl_nas_costs.models import Flops, Params

Wrap = Callable[..., SearchSpace]
ONLY = Architecture({"network": 0})


@pytest.fixture(scope="module")
def models() -> ModuleType:
    """torchvision's classification models."""
    return import_torchvision("torchvision.models")


NAMES = [
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x1_0",
    "efficientnet_b0",
    "densenet121",
    "regnet_y_400mf",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
]


@pytest.mark.parametrize("name", NAMES)
def test_torchvision_publishes_the_same(wrap: Wrap, models: ModuleType, name: str) -> None:
    """``_ops`` is in 10^9 multiply-adds with three digits after the point; ``num_params`` is exact."""
    published = models.get_model_weights(name).DEFAULT.meta
    space = wrap((3, 224, 224), lambda: models.get_model(name))
    assert round(Flops(space).estimate(ONLY) / 1e9, 3) == published["_ops"]
    assert Params(space).estimate(ONLY) == published["num_params"]


def test_mobilenet_v2_to_the_unit(wrap: Wrap, models: ModuleType) -> None:
    assert Flops(wrap((3, 224, 224), models.mobilenet_v2)).estimate(ONLY) == 300_774_272


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x1_0"])
def test_fvcore_counts_the_same_layer_by_layer(wrap: Wrap, models: ModuleType, name: str) -> None:
    """fvcore also counts normalisation and pooling, which are left out."""
    analysis = pytest.importorskip("fvcore.nn").FlopCountAnalysis
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it traces with what newer versions of torch call deprecated
        counted: Any = analysis(models.get_model(name).eval(), torch.zeros(1, 3, 64, 64))
        theirs = {
            path: int(operators["conv"] + operators["linear"])
            for path, operators in counted.by_module_and_operator().items()
        }
    ours = Flops(wrap((3, 64, 64), lambda: models.get_model(name)))
    layers = ours.breakdown(ONLY)
    assert len(layers) > 20
    assert {path: theirs[path] for path in layers} == layers
    assert ours.estimate(ONLY) == theirs[""]
