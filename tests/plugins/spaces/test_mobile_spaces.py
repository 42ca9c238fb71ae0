"""The spaces of MobileNetV2, EfficientNet and once-for-all's ProxylessNAS against figures of their own code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pytest
import torch
from plugins.spaces.mobile import TOY, counted, equal_outputs, supernet_parameters

from automl_nas.errors import SpaceError
from automl_nas.space import SupernetSpace
from automl_nas.testing.supernets import SupernetContract
from automl_nas.torchvision_import import import_torchvision
from automl_nas_spaces.mobile.efficientnet import efficientnet
from automl_nas_spaces.mobile.members import TORCHVISION, torchvision_architecture
from automl_nas_spaces.mobile.mobilenet_v2 import mobilenet_v2
from automl_nas_spaces.mobile.outline import from_lists
from automl_nas_spaces.mobile.proxylessnas_elastic import proxylessnas_elastic

SMALL: Mapping[str, Any] = {
    **TOY,
    "kernels": (3, 5),
    "expansions": (2, 3),
    "depths": (2, 1),
    "min_depth": 1,
    "widths": (8, 16),
    "strides": (1, 2),
    "first_channels": 8,
    "last_channels": 16,
}
SPACES: Mapping[str, Callable[..., SupernetSpace]] = {
    "mobilenet_v2": mobilenet_v2,
    "efficientnet": efficientnet,
    "proxylessnas_elastic": proxylessnas_elastic,
}


class TestMobileNetV2Contract(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return mobilenet_v2(**SMALL, scales=(0.5, 1.0), kernel_transformation=True)

    def weighable(self, space: SupernetSpace) -> Collection[str]:
        assert not space.weighable
        return space.weighable


class TestEfficientNetContract(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return efficientnet(**SMALL)


class TestElasticProxylessNASContract(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return proxylessnas_elastic(**SMALL, width_multiplier=1.0)


# Networks of mit-han-lab/once-for-all, run with its own code: kernels, expansions, depths of the first five stages;
# parameters and multiply-adds at width 1.3 and at 1.0.
ROWS: dict[str, tuple[Any, Any, Any, tuple[int, int], tuple[int, int]]] = {
    "largest": (7, 6, 4, (7_942_056, 1_004_908_032), (5_103_336, 606_590_720)),
    "smallest": (3, 3, 2, (3_718_832, 265_526_256), (2_500_632, 154_160_000)),
    "A": (5, 4, 3, (5_053_864, 486_974_112), (3_312_936, 286_405_120)),
    "B": (3, 6, 4, (7_391_016, 823_521_792), (4_684_776, 472_620_800)),
    "C": (7, 3, 2, (3_858_032, 307_768_176), (2_606_232, 185_018_240)),
    "D": (3, 4, [2, 2, 3, 4, 4], (5_548_648, 452_112_768), (3_592_296, 261_906_688)),
    "E": (
        [*((3, 5, 7)[i % 3] for i in range(20)), 7],
        [*((3, 4, 6)[i % 3] for i in range(20)), 6],
        [2, 3, 4, 3, 2],
        (5_428_152, 500_462_048),
        (3_553_024, 296_035_776),
    ),
}


def repeated(value: int | Sequence[int], count: int) -> Sequence[int]:
    return [value] * count if isinstance(value, int) else value


@pytest.mark.parametrize(("width", "supernet"), [(1.3, 7_956_882), (1.0, 5_118_162)])
def test_published_networks_of_once_for_all(width: float, supernet: int) -> None:
    space = proxylessnas_elastic(width_multiplier=width)
    assert supernet_parameters(space) == supernet
    for kernels, expansions, depths, wide, narrow in ROWS.values():
        lists = repeated(kernels, 21), repeated(expansions, 21), repeated(depths, 5)
        with torch.device("meta"):
            assert counted(space.build(from_lists(space, *lists)), 224) == (wide if width == 1.3 else narrow)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [("mobilenet_v2", (3_504_872, 300_774_272)), ("efficientnet_b0", (5_288_548, 385_814_752))],
)
def test_networks_of_torchvision_are_members(name: str, oracle: tuple[int, int]) -> None:
    member = TORCHVISION[name]
    space = SPACES[member.space](**member.settings)
    architecture = torchvision_architecture(space, name)
    with torch.device("meta"):
        assert counted(space.build(architecture), 224) == oracle
    equal_outputs(space, architecture, getattr(import_torchvision("torchvision.models"), name)(), 64)


def test_a_narrower_mobilenet_v2_is_that_of_torchvision() -> None:
    """The same widths after rounding, and the last width of the paper."""
    with torch.device("meta"):
        space = mobilenet_v2(width_multiplier=0.35)
        network = space.build(torchvision_architecture(space, "mobilenet_v2"))
        theirs = import_torchvision("torchvision.models").mobilenet_v2(width_mult=0.35)
    assert counted(network, 224) == counted(theirs, 224)


def test_searched_widths() -> None:
    """With the scales of all stages equal, a network is that of the space of this width."""
    with torch.device("meta"):
        searched = mobilenet_v2(**SMALL, scales=(0.5, 1.0))
        assert searched.decisions["stage2.width"].options == (0.5, 1.0)
        halves = searched.build(from_lists(searched, [5, 3, 5], [2, 3, 2], [2]).replace({"stage1.width": 0.5}))
    # Inputs of 8 channels: hidden 16 and 8 * 3; the second stage reads 8 (half of 8 is rounded to 8).
    shapes = {name: tuple(tensor.shape) for name, tensor in halves.state_dict().items() if tensor.dim() == 4}
    assert shapes["stage1.0.expand.0.weight"] == (16, 8, 1, 1)
    assert shapes["stage1.1.layers.depthwise.0.weight"] == (24, 1, 3, 3)
    assert shapes["stage2.0.project.0.weight"] == (16, 16, 1, 1)


def test_options_that_round_to_the_same_channels_are_one_network() -> None:
    """16 times 2.3 and 2.5 are 36.8 and 40, which both become 40; half of 8 channels becomes 8."""
    space = mobilenet_v2(
        **{**SMALL, "first_channels": 16, "expansions": (2.3, 2.5), "depths": (1, 1)}, scales=(0.5, 1.0)
    )
    one, *others = (
        space.canonical(from_lists(space, [3, 3], [expansion, 2.5], []).replace({"stage1.width": scale}))
        for expansion in (2.3, 2.5)
        for scale in (0.5, 1.0)
    )
    assert [*others] == [one] * 3
    # The second block reads 8 channels: 18 and 20 become 24.
    assert (one["stage1.block1.expansion"], one["stage2.block1.expansion"]) == (2.3, 2.3)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_shape": (3, 8, 8)}, "8x8 are too small"),
        ({"depths": (4, 4)}, "their lengths are: depths 2, widths 6"),
        ({"width_multiplier": 0}, "above 0"),
    ],
)
def test_bad_settings_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SPACES[name](**settings)


def test_bad_scales_are_refused() -> None:
    with pytest.raises(SpaceError, match="scales must be increasing"):
        mobilenet_v2(scales=(1.0, 0.5))
