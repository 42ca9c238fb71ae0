"""Blocks and channels searched together, against the published network of that search."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SupernetSpace
from automl_nas.testing.supernets import SupernetContract
from automl_nas_spaces.channels import SCALES, ShuffleNetV2Channels
from automl_nas_spaces.shufflenet_v2 import CANDIDATES, shufflenet_v2

SMALL: Mapping[str, Any] = {
    "num_classes": 3,
    "input_shape": (3, 16, 16),
    "stem_channels": 4,
    "stem_stride": 1,
    "widths": (20, 40),
    "repeats": (2, 1),
    "strides": (1, 2),
    "last_channels": 16,
}


class TestChannelsContract(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return ShuffleNetV2Channels(**SMALL)

    def weighable(self, space: SupernetSpace) -> Collection[str]:
        assert space.weighable == {name for name in space.decisions if not name.endswith(".scale")}
        return space.weighable


# The network of SPOS's joint search (megvii-model/SinglePathOneShot): 327.9M multiply-adds, 3.43M parameters.
BLOCKS = [0, 0, 3, 1, 1, 1, 0, 0, 2, 0, 2, 1, 1, 0, 2, 0, 2, 1, 3, 2]
WIDTHS = [6, 5, 3, 5, 2, 6, 3, 4, 2, 5, 7, 5, 4, 6, 7, 4, 4, 5, 4, 3]


def multiply_adds(network: nn.Module, shape: tuple[int, ...]) -> int:
    total = 0

    def add(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d | nn.Linear):
            total += output.numel() * module.weight[0].numel()

    for module in network.modules():
        module.register_forward_hook(add)
    network.eval()(torch.zeros(1, *shape, device="meta"))
    return total


def test_the_published_network() -> None:
    space = ShuffleNetV2Channels(variant="final")
    values: dict[str, object] = {}
    for names, block, width in zip(space.segments(), BLOCKS, WIDTHS, strict=True):
        values.update(zip(names, (CANDIDATES[block], SCALES[width]), strict=True))
    with torch.device("meta"):
        network = space.build(Architecture(values))
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_432_579
    assert multiply_adds(network, (3, 224, 224)) == 327_857_920


def test_scale_one_is_the_block_search() -> None:
    """The same modules with the same shapes as the space whose supernet is searched."""
    blocks, both = shufflenet_v2(**SMALL, variant="final"), ShuffleNetV2Channels(**SMALL, variant="final")
    values = {name: CANDIDATES[place % 4] for place, name in enumerate(blocks.decisions)}
    scales = {f"{name}.scale": 1.0 for name in values}
    with torch.device("meta"):
        mine, theirs = both.build(Architecture({**values, **scales})), blocks.build(Architecture(values))
    shapes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (mine, theirs)]
    assert shapes[0] == shapes[1]


def test_narrow_blocks_use_the_first_weights_of_the_widest() -> None:
    """As in the paper's code: rows of the outputs, columns of the inputs, ``int(half * scale)`` of each."""
    space = ShuffleNetV2Channels(**SMALL)
    supernet = space.build_supernet()
    values = {name: "xception" if "scale" not in name else 0.4 for name in space.decisions}
    network = supernet.extract(values)
    for place, half in (("stage1.block2", 10), ("stage2.block1", 20)):
        whole = {name: tensor for name, tensor in supernet.state_dict().items() if f"{place}.xception.main" in name}
        mid, largest = int(half * 0.4), int(half * 1.6)
        checked = 0
        for name, tensor in network.state_dict().items():
            if name.startswith(f"{place}.main") and name.endswith("weight"):
                theirs = next(t for n, t in whole.items() if n.endswith(name.partition(".main.")[2]))
                cut = theirs[: tensor.shape[0], : tensor.shape[1]]
                assert torch.equal(tensor, cut)
                assert {mid} & {*tensor.shape[:2]} or theirs.shape == tensor.shape
                assert {largest} & {*theirs.shape[:2]} or theirs.shape == tensor.shape
                checked += 1
        assert checked == 6  # three depthwise and three 1x1 convolutions


def test_the_supernet_holds_the_decisions_of_the_space() -> None:
    space = ShuffleNetV2Channels(input_shape=(3, 64, 64))
    with torch.device("meta"):
        supernet = space.build_supernet()
    assert dict(supernet.decisions) == dict(space.decisions)
    assert [*supernet.decisions] == [*space.decisions]
    assert space.size == 32**20


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scales": ()}, "one or more numbers"),
        ({"scales": (0.0, 1.0)}, "above 0"),
        ({"scales": (0.01, 1.0)}, "gives 0 channels"),
        ({"dropout": 1.0}, "probability"),
        ({"num_classes": 0}, "num_classes"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        ShuffleNetV2Channels(**{**SMALL, **settings})
