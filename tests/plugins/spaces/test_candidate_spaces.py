"""The spaces of ProxylessNAS and FBNet: sizes by formula, published networks, and costs that are sums."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from plugins.spaces.mobile import TOY, counted

from automl_nas.errors import SpaceError
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.space import SupernetSpace
from automl_nas.testing.supernets import SupernetContract
from automl_nas_costs.models import Flops
from automl_nas_spaces.mobile.candidates import from_names
from automl_nas_spaces.mobile.fbnet import FBNETS, fbnet
from automl_nas_spaces.mobile.outline import from_lists
from automl_nas_spaces.mobile.proxylessnas import proxylessnas
from automl_nas_spaces.mobile.proxylessnas_elastic import proxylessnas_elastic

SMALL: Mapping[str, Any] = {**TOY, "widths": (8, 16), "repeats": (1, 2), "strides": (1, 2), "last_channels": 16}


class TestProxylessNASContract(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return proxylessnas(**SMALL, first_channels=8, kernels=(3, 5), expansions=(2, 3))


class TestFBNetContract(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return fbnet(**SMALL)


def test_sizes() -> None:
    assert proxylessnas().size == 6**6 * 7**15 == 221_502_229_807_900_608
    assert fbnet().size == 8**6 * 9**16


# Parameters and multiply-adds by formula: with the first convolution of blocks of expansion 1, and without. The first
# pair of FBNet-A is also the published one, 4.3M and 249M.
COUNTS = {
    "fbnet_a": ((4_321_464, 249_921_848), (4_304_584, 244_452_664)),
    "fbnet_b": ((4_863_288, 306_210_888), (4_801_368, 291_004_424)),
    "fbnet_c": ((5_572_200, 384_960_160), (5_570_664, 378_136_224)),
}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("expand_at_one", [True, False])
def test_published_fbnets(name: str, expand_at_one: bool) -> None:
    space = fbnet(expand_at_one=expand_at_one, last_channels=1504 if name == "fbnet_a" else 1984)
    with torch.device("meta"):
        network = space.build(from_names(space, FBNETS[name].replace("|", " ").split()))
    assert counted(network, 224) == COUNTS[name][not expand_at_one]


def test_the_largest_networks() -> None:
    """That of FBNet by formula; that of ProxylessNAS is also the largest of once-for-all's space at width 1.0."""
    space = fbnet()
    elastic, paper = proxylessnas_elastic(width_multiplier=1.0), proxylessnas()
    with torch.device("meta"):
        assert counted(space.build(from_names(space, ["k5_e6"] * 22)), 224) == (5_754_072, 572_634_080)
        one = elastic.build(from_lists(elastic, [7] * 21, [6] * 21, [4] * 5))
        assert counted(paper.build(from_names(paper, ["k7_e6"] * 21)), 224) == counted(one, 224)


def test_costs_are_sums_and_options_can_be_weighted() -> None:
    space = proxylessnas(**SMALL, first_channels=8, kernels=(3, 5), expansions=(2, 3))
    assert space.weighable == set(space.decisions)
    costs = TabulatedCost(Flops(space), space)
    assert costs.additive
    largest = costs.extremes()
    with torch.device("meta"):
        assert counted(space.build(largest.largest), 12)[1] == largest.largest_value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernels": (4,)}, "odd, so that sizes are kept, not 4"),
        ({"expansions": ()}, "need numbers from 1 on"),
        ({"repeats": (1,)}, "their lengths are: widths 6, repeats 1"),
        ({"repeats": (4, 4, 4, 4, 4, 0)}, "at least one block"),
        ({"input_shape": (3, 4, 4)}, "too small"),
        ({"width_multiplier": -1}, "above 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        proxylessnas(**settings)


def test_odd_widths_of_fbnet_and_wrong_names_are_refused() -> None:
    with pytest.raises(SpaceError, match="must be even, not 15"):
        fbnet(stem_channels=15)
    with pytest.raises(SpaceError, match="22 blocks, not 1"):
        from_names(fbnet(), ["skip"])
    with pytest.raises(SpaceError, match="last_channels must be at least 1"):
        fbnet(last_channels=0)
