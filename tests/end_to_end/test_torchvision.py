"""Networks of the installed torchvision are counted, searched and exported, whichever torch it was compiled against."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import automl_nas
from automl_nas import ModuleSpace, OneOf
from automl_nas.cli import cli
from automl_nas.torchvision_import import import_torchvision


def network() -> nn.Module:
    """Return a small MobileNetV2 for digits, whose residual blocks may be wider or left out."""
    models = import_torchvision("torchvision.models.mobilenetv2")
    # Expansion, channels, number of blocks, stride.
    stages = [[1, 16, 1, 1], [4, 16, 2, 1], [4, 24, 2, 2]]
    net = models.mobilenet_v2(num_classes=10, width_mult=0.5, inverted_residual_setting=stages)
    old = net.features[0][0]
    net.features[0][0] = nn.Conv2d(1, old.out_channels, 3, stride=1, padding=1, bias=False)
    for position, block in enumerate(net.features):
        if getattr(block, "use_res_connect", False):
            channels = block.out_channels
            wide = models.InvertedResidual(channels, channels, 1, 6)
            net.features[position] = OneOf({"kept": block, "wide": wide, "skip": nn.Identity()})
    result: nn.Module = net
    return result


@pytest.mark.parametrize(("name", "weights"), [("resnet18", "ResNet18"), ("mobilenet_v3_small", "MobileNet_V3_Small")])
def test_a_network_of_torchvision_has_the_published_counts(name: str, weights: str) -> None:
    done = CliRunner().invoke(cli, ["cost", name, "--json"])
    assert done.exit_code == 0, done.output
    costs = json.loads(done.output)["costs"]
    published = getattr(import_torchvision("torchvision.models"), f"{weights}_Weights").DEFAULT.meta
    assert costs["params"]["value"] == published["num_params"]
    # Published in units of 1e9 multiply-adds with three decimals.
    assert round(costs["flops"]["value"] / 1e9, 3) == published["_ops"]


@pytest.mark.slow
def test_blocks_of_torchvision_are_searched_and_exported(tmp_path: Path) -> None:
    supernet = {"name": "single_path", "train": {"epochs": 1}}
    evaluator = {"name": "inherited", "weights": "supernet", "recalibration_images": 128}
    result = automl_nas.search(
        space=ModuleSpace(network, input_shape=(1, 8, 8)),
        task={"name": "digits", "batch_size": 128},
        problem={"constraints": {"flops": "<= 0.8 * largest"}},
        runtime={"device": "cpu", "threads": 1},
        stages=[
            {"name": "supernet", "strategy": supernet},
            {"name": "search", "strategy": "random", "evaluator": evaluator, "budget": {"trials": 4}},
        ],
        final={"train": {"epochs": 1}, "export": ["safetensors", "pt2", "onnx"], "rehearse": False},
        out=tmp_path / "run",
    )
    assert result.found
    assert result.final is not None and result.final.not_exported == ()
    trained = result.load_trained().eval()
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = trained(x).detach()
    program = torch.export.load(tmp_path / "run" / "export" / "model.pt2").module()
    torch.testing.assert_close(program(x), expected)
    session = onnxruntime.InferenceSession(tmp_path / "run" / "export" / "model.onnx")
    (output,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.abs(output - expected.numpy()).max() <= 1e-4 * expected.abs().max()  # the exporter's tolerance
    costs = result.final.delivered.costs
    with FlopCounterMode(display=False) as counter:
        trained.to("meta")(torch.empty(1, 1, 8, 8, device="meta"))
    assert costs["flops"] == counter.get_total_flops() / 2  # torch counts two operations for a multiply-add
    assert costs["params"] == sum(parameter.numel() for parameter in trained.parameters())
