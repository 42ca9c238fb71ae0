"""The space `convnext`: contract, ConvNeXt-T to the unit, agreement with torchvision's block, refused settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, SearchSpace, enumerate_all
from automl_nas.testing import SupernetContract
from automl_nas.torchvision_import import import_torchvision
from automl_nas_costs.counting.counts import count, parameters
from automl_nas_spaces.convnext import convnext

SMALL: dict[str, Any] = {
    "num_classes": 3,
    "input_shape": (2, 8, 8),
    "widths": (8, 12),
    "multipliers": (0.5, 1.0),
    "depths": (2, 1),
    "min_depths": (1, 1),
    "kernels": (3, 5),
    "ratios": (0.5, 2.0),
    "patch": 2,
    "layer_scale": 1.0,
}


class TestConvNeXt(SupernetContract):
    def make_space(self) -> SearchSpace:
        return convnext(**SMALL, drop_path=0.1)


def largest(space: SearchSpace) -> Architecture:
    return Architecture({name: decision.options[-1] for name, decision in space.decisions.items()})


def test_the_number_of_different_networks() -> None:
    """Two widths a stage; kernel and ratio of each block that runs: 4 or 16 in the first stage, 4 in the second."""
    space = convnext(**SMALL)
    assert len({space.canonical(each) for each in enumerate_all(space.decisions)}) == 2 * 2 * (4 + 16) * 4


def test_the_largest_network_is_convnext_t() -> None:
    """Published: torchvision's, counted by hooks on convolutions and linear layers."""
    space = convnext()
    architecture = largest(space)
    assert sum(parameters(space, architecture).values()) == 28_589_128
    assert sum(count(space, architecture).macs.values()) == 4_455_531_264


def test_a_block_is_that_of_torchvision() -> None:
    torch.manual_seed(0)
    space = convnext(**SMALL)
    ours: Any = space.build(largest(space)).get_submodule("stage1.1").double().eval()
    theirs = import_torchvision("torchvision.models.convnext").CNBlock(8, 0.5, 0.0).double().eval()
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    # Theirs has kernel 7 and ratio 4: our kernel 5 in a frame of zeros, our 16 hidden features and 16 that are zero.
    state = {name: torch.zeros_like(tensor) for name, tensor in theirs.state_dict().items()}
    state["layer_scale"] = ours.scale.weight.detach()[:, None, None]
    state["block.0.weight"][:, :, 1:6, 1:6] = ours.depthwise.weight.detach()
    state["block.0.bias"] = ours.depthwise.bias.detach()
    state["block.2.weight"], state["block.2.bias"] = ours.norm.weight.detach(), ours.norm.bias.detach()
    state["block.3.weight"][:16], state["block.3.bias"][:16] = ours.expand.weight.detach(), ours.expand.bias.detach()
    state["block.5.weight"][:, :16], state["block.5.bias"] = ours.project.weight.detach(), ours.project.bias.detach()
    theirs.load_state_dict(state)
    x = torch.randn(3, 8, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": (8,)}, "one number for each stage"),
        ({"kernels": (4,)}, "kernels must be odd"),
        ({"kernels": (5, 3)}, "kernels must be .* increasing"),
        ({"min_depths": (0, 1)}, "min_depths"),
        ({"min_depths": (3, 1)}, "min_depths"),
        ({"multipliers": (0.05, 1.0)}, "stage 1 is below 1"),
        ({"multipliers": ()}, "multipliers"),
        ({"ratios": (2.0, 2.0)}, "ratios"),
        ({"patch": 8}, "images of 8x8 are too small"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        convnext(**{**SMALL, **settings})
