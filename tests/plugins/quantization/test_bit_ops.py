"""Bit operations against published numbers and closed forms."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.evaluation import CostInterval, CostTable, TabulatedCost, best_under_limits
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.space import Architecture, ModuleSpace, OneOf, SearchSpace, enumerate_all
from automl_nas.testing.costs import CostModelContract
from automl_nas_quantization.bit_ops import BitOps
from automl_nas_quantization.resnet import mixed_precision_resnet

UNIFORM = ((2, 2), (3, 3), (4, 4), (8, 8))
SMALL: dict[str, Any] = {
    "num_classes": 3,
    "input_shape": (1, 8, 8),
    "stem": "small",
    "widths": (4, 8),
    "repeats": (1, 1),
    "strides": (1, 2),
}


class TestBitOpsContract(CostModelContract):
    metric = "bit_ops"

    def make_space(self) -> SearchSpace:
        return mixed_precision_resnet(**SMALL)

    def make(self, space: SearchSpace) -> CostModel:
        return BitOps(space)


@pytest.fixture(scope="module")
def resnet18() -> SearchSpace:
    return mixed_precision_resnet(precisions=UNIFORM)


def uniform(space: SearchSpace, bits: int) -> Architecture:
    return Architecture(dict.fromkeys(space.decisions, f"W{bits}A{bits}"))


# Multiply-adds of ResNet-18 without its first and last layer, times b^2; SPOS prints them in units of 2^30.
@pytest.mark.parametrize(
    ("bits", "middle", "published"),
    [(2, 6_782_189_568, 6.32), (3, 15_259_926_528, 14.21), (4, 27_128_758_272, 25.27), (8, 108_515_033_088, None)],
)
def test_resnet18(resnet18: SearchSpace, bits: int, middle: int, published: float | None) -> None:
    architecture = uniform(resnet18, bits)
    assert BitOps(resnet18, layers="searched").estimate(architecture) == middle
    # The first and the last layer have 118,013,952 and 512,000 multiply-adds, with 8 bits each.
    assert BitOps(resnet18).estimate(architecture) == middle + 7_585_660_928
    assert published is None or round(middle / 2**30, 2) == published


def test_resnet34_has_the_published_number() -> None:
    space = mixed_precision_resnet(precisions=UNIFORM, repeats=(3, 4, 6, 3))
    assert BitOps(space, layers="searched").estimate(uniform(space, 2)) == 14_180_941_824


def test_the_table_is_exact_and_counts(resnet18: SearchSpace) -> None:
    """Of 4^8 networks: every block has its multiply-adds times b^2, so a brute force over blocks needs no network."""
    table = CostTable.build(BitOps(resnet18), resnet18, checks=4)
    block = {2: 115_605_504 * 2, 3: 57_802_752 + 115_605_504 + 6_422_528}
    layers = [block[2]] * 2 + [block[3], block[2]] * 3
    assert 118_013_952 + 512_000 + sum(layers) == 1_814_073_344  # published for torchvision's resnet18
    rng = random.Random(0)
    for _ in range(20):
        bits = [rng.choice((2, 3, 4, 8)) for _ in layers]
        architecture = Architecture({name: f"W{b}A{b}" for name, b in zip(resnet18.decisions, bits, strict=True)})
        expected = 7_585_660_928 + sum(macs * b * b for macs, b in zip(layers, bits, strict=True))
        assert table.estimate(architecture) == expected
    costs = [7_585_660_928]
    for macs in layers:
        costs = [cost + macs * b * b for cost in costs for b in (2, 3, 4, 8)]
    limit = 30_000_000_000
    assert table.count(high=limit) == sum(cost <= limit for cost in costs)
    drawn = table.sample(random.Random(1), high=limit, low=29_000_000_000)
    assert 29_000_000_000 <= table.estimate(drawn) <= limit
    # The best sum of weight bits under the limit, over all 65,536 networks.
    scores = dict.fromkeys(resnet18.decisions, (2.0, 3.0, 4.0, 8.0))
    best = best_under_limits(resnet18.decisions, scores, [CostInterval(table, high=limit)])
    assert best.exact and table.estimate(best.architecture) <= limit
    bits = [0]
    for _ in layers:
        bits = [total + b for total in bits for b in (2, 3, 4, 8)]
    assert best.score == max(total for total, cost in zip(bits, costs, strict=True) if cost <= limit)


def test_bits_and_widths_are_counted_together() -> None:
    """Not a sum over decisions: the model itself is used, and agrees with the sizes of the tensors."""
    space = mixed_precision_resnet(**SMALL, scales=(0.5, 1.0), precisions=((1, 2), (4, 4)))
    cost = TabulatedCost(BitOps(space), space)
    for architecture in enumerate_all(space.decisions):
        expected = 8 * 8 * (9 * 4 * 64 + 8 * 3)
        for block, (inp, out, size) in {"layer1.0": (4, 4, 64), "layer2.0": (4, 8, 16)}.items():
            mid = int(out * float(str(architecture[f"{block}.scale"])))
            macs = 9 * (inp + out) * mid * size + (inp * out * size if inp != out else 0)
            expected += macs * (2 if architecture[f"{block}.precision"] == "W1A2" else 16)
        assert cost.estimate(architecture) == expected


class _Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.matrix = nn.Parameter(torch.ones(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.conv(x).flatten(1) @ self.matrix
        return outputs


def test_other_matrix_products_count_as_float32() -> None:
    space = ModuleSpace(lambda: nn.Sequential(OneOf([_Scaled(), _Scaled()])), input_shape=(1, 4, 4))
    architecture = Architecture({"0": 0})
    costs = BitOps(space).breakdown(architecture)
    assert costs == {"0.conv": 9 * 2 * 4 * 1024, "": 8 * 5 * 1024}
    assert BitOps(space, layers="searched").estimate(architecture) == 0


def test_a_network_that_reads_values_is_an_error() -> None:
    class Reads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum().item() > 0 else -x

    space = ModuleSpace(lambda: nn.Sequential(OneOf([Reads(), nn.Identity()])), input_shape=(4,))
    with pytest.raises(SpaceError, match="without data"):
        BitOps(space).estimate(Architecture({"0": 0}))
