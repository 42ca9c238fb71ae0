"""The published networks of SPOS (block search), to the unit."""

from __future__ import annotations

import numpy as np
import pytest

from automl_nas.evaluation.costs.table import CostTable
from automl_nas.space.architecture import Architecture
from automl_nas.space.operators import decode
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream
from automl_nas_costs.models import Flops, MemoryAccess, Params
from automl_nas_spaces.shufflenet_v2 import shufflenet_v2

PUBLISHED = [
    ([2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3], 322_918_720, 3_558_464),
    ([2, 0, 2, 0, 3, 1, 1, 0, 0, 1, 0, 1, 0, 3, 1, 2, 2, 0, 1, 3], 317_023_040, 3_353_104),
]


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return shufflenet_v2(variant="final")


def architecture(space: SearchSpace, codes: list[int]) -> Architecture:
    return decode(codes, space.decisions)


@pytest.mark.parametrize(("codes", "flops", "params"), PUBLISHED)
def test_published_flops_and_parameters(space: SearchSpace, codes: list[int], flops: int, params: int) -> None:
    assert Flops(space).estimate(architecture(space, codes)) == flops
    assert Params(space).estimate(architecture(space, codes)) == params


def test_affine_normalisation_changes_parameters_only(space: SearchSpace) -> None:
    """The search variant's BN has no weight and bias: the networks compute with the same multiply-adds."""
    search = shufflenet_v2(variant="search")
    one = architecture(space, PUBLISHED[0][0])
    assert Flops(search).estimate(one) == Flops(space).estimate(one)
    channels = sum(
        module.num_features for module in space.build(one).modules() if type(module).__name__ == "BatchNorm2d"
    )
    assert Params(space).estimate(one) - Params(search).estimate(one) == 2 * channels


@pytest.mark.parametrize("model", [Flops, Params, MemoryAccess])
def test_all_three_are_additive_on_small_images(model: type[Flops] | type[Params] | type[MemoryAccess]) -> None:
    small = shufflenet_v2(
        num_classes=10,
        input_shape=(3, 16, 16),
        stem_stride=1,
        stem_channels=8,
        widths=(16, 32),
        repeats=(2, 2),
        strides=(1, 2),
        last_channels=32,
        variant="final",
    )
    cost = model(small)
    table = CostTable.build(cost, small, checks=16)
    drawn = [small.sample(stream(1, "test", number)) for number in range(5)]
    estimates = table.estimates(table.encode(drawn))
    assert estimates.dtype == np.int64
    assert estimates.tolist() == [sum(cost.breakdown(one).values()) for one in drawn]
    assert table.smallest[1] < table.largest[1]
