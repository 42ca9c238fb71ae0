"""Published figures of the SPOS block-search space, counted here independently of any cost model."""

from __future__ import annotations

import itertools
import statistics

import numpy
import pytest
import torch
from torch import Tensor, nn

from automl_nas.space.space import SupernetSpace
from automl_nas_spaces.shufflenet_v2 import from_codes, shufflenet_v2

OFFICIAL = [2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3]
MMRAZOR = [2, 0, 2, 0, 3, 1, 1, 0, 0, 1, 0, 1, 0, 3, 1, 2, 2, 0, 1, 3]
CHANNEL = [0, 0, 3, 1, 1, 1, 0, 0, 2, 0, 2, 1, 1, 0, 2, 0, 2, 1, 3, 2]
CHANNEL_IDS = [6, 5, 3, 5, 2, 6, 3, 4, 2, 5, 7, 5, 4, 6, 7, 4, 4, 5, 4, 3]
SCALES = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
SCALED = tuple(SCALES[number] for number in CHANNEL_IDS)


def multiply_adds(network: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    """Count by hooks: each output element of a layer takes one multiply-add per weight it sees."""
    counts: dict[str, int] = {}

    def hook(name: str, layer: nn.Conv2d | nn.Linear) -> None:
        def count(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            counts[name] = output.numel() * layer.weight[0].numel()

        layer.register_forward_hook(count)

    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            hook(name, layer)
    with torch.no_grad():
        network.eval()(torch.zeros(1, *shape))
    return counts


@pytest.fixture(scope="module")
def search() -> SupernetSpace:
    return shufflenet_v2()


@pytest.fixture(scope="module")
def final() -> SupernetSpace:
    return shufflenet_v2(variant="final")


@pytest.fixture(scope="module")
def costs(search: SupernetSpace) -> tuple[int, list[list[int]]]:
    """Multiply-adds outside of the blocks, and for each block those of its four candidates."""
    blocks: list[list[int]] = [[] for _ in search.decisions]
    rest = 0
    for code in range(4):
        counts = multiply_adds(search.build(from_codes(search, [code] * 20)), search.input_shape)
        for place, name in enumerate(search.decisions):
            blocks[place].append(sum(value for path, value in counts.items() if path.startswith(f"{name}.")))
        rest = sum(value for path, value in counts.items() if not path.startswith("stage"))
    return rest, blocks


def test_the_supernet_has_as_many_parameters_as_published(search: SupernetSpace) -> None:
    assert search.size == 4**20
    assert sum(parameter.numel() for parameter in search.build_supernet().parameters()) == 8_388_176


@pytest.mark.parametrize(
    ("codes", "flops", "parameters"),
    [(OFFICIAL, 322_918_720, 3_558_464), (MMRAZOR, 317_023_040, 3_353_104)],
    ids=["official", "mmrazor"],
)
def test_published_block_search(
    final: SupernetSpace, costs: tuple[int, list[list[int]]], codes: list[int], flops: int, parameters: int
) -> None:
    network = final.build(from_codes(final, codes))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert sum(multiply_adds(network, final.input_shape).values()) == flops
    # The same from the per-block costs of the search variant: costs add up, and BN's weights cost nothing.
    rest, blocks = costs
    assert rest + sum(block[code] for block, code in zip(blocks, codes, strict=True)) == flops


def test_published_channel_search() -> None:
    space = shufflenet_v2(variant="final", channel_scales=SCALED)
    network = space.build(from_codes(space, CHANNEL))
    assert sum(multiply_adds(network, space.input_shape).values()) == 327_857_920
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_432_579


def test_another_library_counts_the_same(final: SupernetSpace) -> None:
    fvcore = pytest.importorskip("fvcore.nn")
    analysis = fvcore.FlopCountAnalysis(final.build(from_codes(final, OFFICIAL)), torch.zeros(1, *final.input_shape))
    analysis.unsupported_ops_warnings(False).tracer_warnings("none")
    counted = analysis.by_operator()
    assert counted["conv"] + counted["linear"] == 322_918_720


def test_the_distribution_of_flops_over_uniform_paths(costs: tuple[int, list[list[int]]]) -> None:
    rest, blocks = costs
    # Published in M with two decimals.
    assert round((rest + sum(map(min, blocks))) / 1e6, 2) == 270.36
    assert round((rest + sum(map(max, blocks))) / 1e6, 2) == 398.61
    assert round((rest + sum(map(statistics.mean, blocks))) / 1e6, 2) == 327.17
    assert round(sum(map(statistics.pvariance, blocks)) ** 0.5 / 1e6, 2) == 11.83


def test_how_many_architectures_are_under_330m(costs: tuple[int, list[list[int]]]) -> None:
    rest, blocks = costs
    # All 4^10 sums of each half; for each sum of the first, count those of the second that still fit.
    first, second = (
        numpy.array([sum(combination) for combination in itertools.product(*half)])
        for half in (blocks[:10], blocks[10:])
    )
    second.sort()
    assert numpy.searchsorted(second, 330_000_000 - rest - first, side="right").sum() == 647_824_128_008
