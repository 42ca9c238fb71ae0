"""The space `resnet`: published counts of once-for-all, networks of torchvision, contracts, what is refused."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from plugins.spaces.exports import check_exports
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from automl_nas.errors import SpaceError
from automl_nas.evaluation import InitialWeights
from automl_nas.space import Architecture, ModuleSpace, SearchSpace
from automl_nas.testing import SupernetContract
from automl_nas.torchvision_import import import_torchvision
from automl_nas_costs.models import Flops
from automl_nas_spaces.resnet.members import TORCHVISION, largest
from automl_nas_spaces.resnet.space import from_lists, resnet

TOY: dict[str, Any] = {
    "num_classes": 3,
    "input_shape": (3, 9, 8),
    "multipliers": (0.5, 1.0),
    "ratios": (0.25, 0.5),
    "widths": (8, 16),
    "min_depths": (1, 1),
    "max_depths": (2, 1),
    "strides": (1, 2),
    "stem_width": 8,
    "stem_stride": 1,
    "stem_pool": False,
    "divisor": 1,
}


class TestContract(SupernetContract):
    """Bottlenecks; the stem has the width of the first stage."""

    samples = 2

    def make_space(self) -> SearchSpace:
        return resnet(**TOY)


@cache
def once_for_all() -> ModuleSpace:
    return resnet()


def counted(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return parameters, and multiply-adds as torch's own counter finds them."""
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, *shape, device=device))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2


def on_meta(space: ModuleSpace, architecture: Architecture) -> tuple[int, int]:
    with torch.device("meta"):
        network = space.build(architecture)
    return counted(network, space.input_shape)


@pytest.mark.parametrize(
    ("depths", "ratios", "widths", "params", "flops"),
    [
        ([2] * 5, [0.35] * 18, [2] * 6, 48_105_992, 7_491_643_904),
        ([0] * 5, [0.2] * 18, [0] * 6, 6_539_280, 962_192_128),
        ([1] * 5, [0.25] * 18, [1] * 6, 15_860_768, 2_485_163_840),
        ([0] * 5, [0.25] * 18, [2] * 6, 18_239_496, 2_903_023_616),
        ([2, 0, 1, 2, 0], [0.2, 0.25, 0.35] * 6, [0, 1, 2, 0, 1, 2], 19_297_648, 2_708_306_240),
    ],
    ids=["largest", "smallest", "middle", "shallow", "mixed"],
)
def test_counts_of_the_code_of_once_for_all(
    depths: list[int], ratios: list[float], widths: list[int], params: int, flops: int
) -> None:
    """Random weights in mit-han-lab/once-for-all @f03b267, counted at 224 x 224."""
    space = once_for_all()
    assert on_meta(space, from_lists(space, depths=depths, ratios=ratios, widths=widths)) == (params, flops)


def test_the_supernet_of_once_for_all_has_the_weights_of_the_largest_network() -> None:
    space = once_for_all()
    with torch.device("meta"):
        supernet = space.build_supernet()
    assert sum(parameter.numel() for parameter in supernet.parameters()) == 48_105_992
    assert space.decisions["stem.hidden"].options == (0.65, 1.0)  # 0.65 and 0.8 both give 24 channels
    assert space.weighable == frozenset()
    assert len(space.decisions) == 29


@pytest.mark.parametrize(
    ("name", "params", "flops"),
    [
        ("resnet18", 11_689_512, 1_814_073_344),
        ("resnet34", 21_797_672, 3_663_761_408),
        ("resnet50", 25_557_032, 4_089_184_256),
    ],
)
def test_counts_of_torchvision(name: str, params: int, flops: int) -> None:
    space = resnet(**TORCHVISION[name])
    assert on_meta(space, largest(space)) == (params, flops)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_weights_of_torchvision_give_its_outputs(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    original = getattr(import_torchvision("torchvision.models"), name)(num_classes=7).eval()
    save_file(original.state_dict(), tmp_path / "weights.safetensors")
    weights = InitialWeights(str(tmp_path / "weights.safetensors"))
    space = resnet(**TORCHVISION[name], num_classes=7, input_shape=(3, 64, 64))
    network, supernet = space.build(largest(space)).eval(), space.build_supernet().eval()
    weights.load_into(network)
    weights.load_into(supernet)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(x), original(x))
        assert torch.equal(supernet(x, largest(space)), original(x))


def by_hand(values: Architecture, stem: str) -> int:
    """Return the parameters of a toy network, from the description of its layers."""
    width = {each: int(each * 8) for each in (0.5, 1.0)}
    first, second = (width[float(str(values[f"layer{stage}.width"]))] * stage for stage in (1, 2))
    total = 0
    inputs = 3
    if stem == "deep":
        hidden = width[float(str(values["stem.hidden"]))] // 2
        total += (3 + hidden * int(str(values["stem.depth"]))) * hidden * 9
        total += 2 * hidden * (1 + int(str(values["stem.depth"])))
        inputs = hidden
    total += inputs * first * 9 + 2 * first
    blocks = [("layer1.0", first, first), ("layer1.1", first, first), ("layer2.0", first, second)]
    if values["layer1.depth"] == 1:
        del blocks[1]
    for block, inp, out in blocks:
        hidden = round(out * float(str(values[f"{block}.ratio"])))
        total += inp * hidden + 9 * hidden * hidden + hidden * out + 4 * hidden + 2 * out
        if block == "layer2.0":
            total += inp * out + 2 * out
    return total + 3 * second + 3


@pytest.mark.parametrize("stem", ["deep", "3x3"])
def test_parameters_by_hand_and_extraction(stem: str) -> None:
    space = resnet(**TOY, stem=stem)  # type: ignore[arg-type]
    torch.manual_seed(0)
    supernet, x = space.build_supernet().eval(), torch.randn(2, 3, 9, 8)
    for seed in range(10):
        chosen = space.sample(random.Random(seed))
        network = space.build(chosen)
        assert sum(parameter.numel() for parameter in network.parameters()) == by_hand(chosen, stem)
        assert torch.equal(supernet.extract(chosen)(x), supernet(x, chosen))


def test_a_narrow_layer_uses_the_first_rows_and_columns() -> None:
    space = resnet(**TOY, stem="3x3")
    supernet = space.build_supernet().eval()
    chosen = space.validate({**largest(space), "layer1.width": 0.5, "layer1.0.ratio": 0.5})
    extracted = supernet.extract(chosen)
    for path, rows, columns in (("layer1.0.conv1", 2, 4), ("layer1.0.conv2", 2, 2), ("layer1.0.conv3", 4, 2)):
        expected = supernet.network.get_submodule(path).weight
        assert isinstance(expected, Tensor)
        found = extracted.get_submodule(path).weight
        assert isinstance(found, Tensor)
        assert torch.equal(found, expected[:rows, :columns])


def test_ratios_of_the_same_width_are_one_network() -> None:
    space = resnet(**{**TOY, "ratios": (0.2, 0.25)})
    values = largest(space)
    equal = space.canonical(space.validate({**values, "layer1.width": 0.5}))
    assert equal["layer1.0.ratio"] == 0.2  # round(4 * 0.2) == round(4 * 0.25) == 1
    assert equal["layer2.0.ratio"] == 0.25  # round(16 * 0.2) == 3


def test_the_shortcut_averages_or_strides() -> None:
    averaged, strided = (resnet(**TOY, downsample=kind) for kind in ("average", "strided"))
    found = [
        space.build(largest(space)).get_submodule("layer2.0.downsample").get_submodule("0")
        for space in (averaged, strided)
    ]
    assert isinstance(found[0], nn.AvgPool2d)
    assert found[0].ceil_mode
    assert isinstance(found[1], nn.Conv2d)
    assert found[1].stride == (2, 2)


def test_other_widths_need_a_convolution_in_the_first_shortcut() -> None:
    same, other = resnet(**TOY), resnet(**{**TOY, "stem_width": 4})
    assert "stem.width" not in same.decisions
    assert "stem.width" in other.decisions
    assert "downsample" not in dict(same.build(largest(same)).get_submodule("layer1.0").named_children())
    assert "downsample" in dict(other.build(largest(other)).get_submodule("layer1.0").named_children())


@pytest.mark.slow
@pytest.mark.process
def test_exports(tmp_path: Path) -> None:
    space = resnet(**TOY)
    check_exports(space.build(space.sample(random.Random(0))), space.input_shape, tmp_path)


def test_flops_of_a_supernet_are_counted_for_each_network() -> None:
    """Widths of two stages meet in the first shortcut, so no sum over decisions is exact; the count is."""
    space = resnet(**TOY)
    flops = Flops(space)
    for seed in range(3):
        chosen = space.sample(random.Random(seed))
        assert flops.estimate(chosen) == counted(space.build(chosen), space.input_shape)[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": (8,)}, "one number for each stage"),
        ({"max_depths": (1, 0)}, "more than the 0 of max_depths"),
        ({"min_depths": (0, 1)}, "min_depths must be at least 1"),
        ({"ratios": (0.5, 0.25)}, "ratios must be numbers above 0 in increasing order"),
        ({"multipliers": ()}, "multipliers needs different options"),
        ({"strides": (1, 3)}, "a stride must be 1 or 2"),
        ({"strides": (2, 2), "stem_pool": True, "stem_stride": 2}, "too small to be halved 4 times"),
        ({"num_classes": 0}, "num_classes"),
        ({"dropout": 1.0}, "dropout"),
        ({"multipliers": (1.0,), "ratios": (0.5,), "max_depths": (1, 1), "stem": "3x3"}, "nothing to search"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        resnet(**{**TOY, **settings})


def test_wrong_lists_are_refused() -> None:
    space = once_for_all()
    with pytest.raises(SpaceError, match="18 ratios and 6 widths, not 5, 17 and 6"):
        from_lists(space, depths=[0] * 5, ratios=[0.2] * 17, widths=[0] * 6)
    with pytest.raises(SpaceError, match="ratio"):
        from_lists(space, depths=[0] * 5, ratios=[0.3] * 18, widths=[0] * 6)
