"""The space of once-for-all against figures of its own code, and networks of torchvision as members."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import pytest
import torch
from plugins.spaces.mobile import TOY, counted, equal_outputs, supernet_parameters

from automl_nas.errors import SpaceError
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.space import ModuleSpace, SupernetSpace, enumerate_all
from automl_nas.testing.supernets import SupernetContract
from automl_nas.torchvision_import import import_torchvision
from automl_nas_costs.models import Flops, Params
from automl_nas_spaces.mobile.members import TORCHVISION, from_torchvision, torchvision_architecture
from automl_nas_spaces.mobile.mobilenet_v3 import mobilenet_v3
from automl_nas_spaces.mobile.outline import from_lists

SMALL: dict[str, Any] = {
    **TOY,
    "kernels": (3, 5),
    "expansions": (2, 3),
    "depths": (1, 2),
    "min_depth": 1,
    "widths": (8, 16),
    "strides": (1, 2),
    "activations": ("relu", "hardswish"),
    "squeeze": (False, True),
    "last_channels": (16, 24),
}


class TestMobileNetV3Contract(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return mobilenet_v3(**SMALL)

    def weighable(self, space: SupernetSpace) -> Collection[str]:
        assert not space.weighable
        return space.weighable


# Networks of mit-han-lab/once-for-all, run with its own code: kernels, expansions, depths; parameters and multiply-adds
# at width 1.0 for images of 224 and 192, then at 1.2 for 224.
ROWS: dict[str, tuple[Any, Any, Any, tuple[int, int, int], tuple[int, int]]] = {
    "largest": (7, 6, 4, (7_664_760, 566_170_656, 417_292_160), (10_701_632, 843_101_040)),
    "smallest": (3, 3, 2, (3_410_792, 121_278_672, 89_841_344), (4_602_456, 193_078_200)),
    "A": (5, 4, 3, (4_551_792, 250_746_944, 185_097_984), (6_245_312, 385_659_168)),
    "B": (3, 6, 4, (7_299_960, 433_141_536, 319_556_480), (10_258_112, 671_781_360)),
    "C": (7, 3, 2, (3_493_352, 151_290_192, 111_890_624), (4_703_256, 232_450_680)),
    "D": (3, 4, [2, 2, 3, 4, 4], (5_073_624, 227_751_360, 168_280_832), (7_014_792, 352_384_160)),
    "E": (
        [(3, 5, 7)[i % 3] for i in range(20)],
        [(3, 4, 6)[i % 3] for i in range(20)],
        [2, 3, 4, 3, 2],
        (4_782_920, 254_114_624, 187_617_024),
        (6_569_128, 380_279_136),
    ),
}


def repeated(value: int | Sequence[int], count: int) -> Sequence[int]:
    return [value] * count if isinstance(value, int) else value


@pytest.fixture(scope="module")
def spaces() -> dict[float, SupernetSpace]:
    return {width: mobilenet_v3(width_multiplier=width) for width in (1.0, 1.2)}


@pytest.mark.parametrize("row", ROWS)
def test_published_networks(row: str, spaces: dict[float, SupernetSpace]) -> None:
    kernels, expansions, depths, small, wide = ROWS[row]
    lists = repeated(kernels, 20), repeated(expansions, 20), repeated(depths, 5)
    with torch.device("meta"):
        networks = {width: space.build(from_lists(space, *lists)) for width, space in spaces.items()}
    assert counted(networks[1.0], 224) == small[:2]
    assert counted(networks[1.0], 192) == (small[0], small[2])
    assert counted(networks[1.2], 224) == wide


def test_published_supernets(spaces: dict[float, SupernetSpace]) -> None:
    assert supernet_parameters(spaces[1.0]) == 7_678_880
    assert supernet_parameters(spaces[1.2]) == 10_715_752
    # 25 * 25 + 9 * 9 numbers of the matrices of each of 20 blocks.
    assert supernet_parameters(mobilenet_v3(kernel_transformation=False)) == 7_678_880 - 20 * 706


def test_the_number_of_networks(spaces: dict[float, SupernetSpace]) -> None:
    """A stage has 81 + 729 + 6561 networks; those of a small stage are counted one by one."""
    assert spaces[1.0].size == 3**5 * 9**20
    assert sum(9**depth for depth in (2, 3, 4)) ** 5 == 21_758_655_492_572_485_851
    space = mobilenet_v3(**{**SMALL, "depths": (1, 3)})
    networks = {space.canonical(each) for each in enumerate_all(space.decisions)}
    assert (space.size, len(networks)) == (3 * 4**4, 4 * sum(4**depth for depth in (1, 2, 3)))


def test_counts_of_cost_models(spaces: dict[float, SupernetSpace]) -> None:
    space = spaces[1.0]
    architecture = from_lists(space, [7] * 20, [6] * 20, [4] * 5)
    assert Params(space).estimate(architecture) == 7_664_760
    assert Flops(space).estimate(architecture) == 566_170_656
    toy = mobilenet_v3(**{**SMALL, "expansions": (2,)})
    costs = TabulatedCost(Flops(toy), toy)
    assert not costs.additive  # the kernel of a block costs nothing where the depth leaves the block out
    extremes = costs.extremes()
    assert extremes.exact
    assert dict(extremes.largest) == {name: decision.options[-1] for name, decision in toy.decisions.items()}


@pytest.mark.parametrize(
    ("name", "oracle"),
    [("mobilenet_v3_large", (5_483_032, 216_589_760)), ("mobilenet_v3_small", (2_542_856, 56_510_400))],
)
def test_networks_of_torchvision_are_members(name: str, oracle: tuple[int, int]) -> None:
    space = mobilenet_v3(**TORCHVISION[name].settings)
    architecture = torchvision_architecture(space, name)
    with torch.device("meta"):
        assert counted(space.build(architecture), 224) == oracle
    equal_outputs(space, architecture, getattr(import_torchvision("torchvision.models"), name)(), 64)


def test_weights_of_another_network_are_refused() -> None:
    with torch.device("meta"):
        space = mobilenet_v3()
        network = space.build(space.validate({n: d.options[0] for n, d in space.decisions.items()}))
        state = network.state_dict()
        with pytest.raises(SpaceError, match=r"has \d+ tensors, and torchvision's model 1"):
            from_torchvision(network, {"classifier.bias": state["classifier.bias"]})
        other = mobilenet_v3(num_classes=3)
        with pytest.raises(SpaceError, match=r"classifier\.weight has the shape \(3, 1280\)"):
            from_torchvision(other.build(space.validate({n: d.options[0] for n, d in space.decisions.items()})), state)
    with pytest.raises(SpaceError, match="did you mean 'mobilenet_v3_large'"):
        torchvision_architecture(space, "mobilenet_v3_larg")


def test_sizes_of_search_and_final_have_the_same_architectures() -> None:
    search = mobilenet_v3(num_classes=10, input_shape=(1, 28, 28), width_multiplier=0.5, stem_stride=1)
    assert dict(search.decisions) == dict(mobilenet_v3(width_multiplier=1.2).decisions)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input_shape": (3, 8, 8)}, r"8x8 are too small for 5 strides of 2: they can be halved 3 times"),
        ({"input_shape": (224, 224)}, "channels, height, width"),
        ({"depths": (4, 4)}, "their lengths are: depths 2, widths 5"),
        ({"kernels": (3, 4)}, "odd, so that sizes are kept, not 4"),
        ({"kernels": (5, 3)}, "kernels must be increasing"),
        ({"expansions": ()}, "expansions must be increasing"),
        ({"expansions": (0.5, 3)}, "from 1 on"),
        ({"strides": (2, 2, 3, 1, 2)}, "1 or 2, not 3"),
        ({"min_depth": 0}, "at least one block"),
        ({"width_multiplier": 0}, "above 0"),
        ({"dropout": 1}, "below 1, not 1"),
        ({"num_classes": 0}, "num_classes"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        mobilenet_v3(**settings)


def test_lists_that_do_not_fit_are_refused() -> None:
    space = mobilenet_v3(**SMALL)
    with pytest.raises(SpaceError, match="3 decisions about a kernel, not 2"):
        from_lists(space, [3, 3], [2, 2, 2], [1])
    with pytest.raises(SpaceError, match="7"):
        from_lists(space, [3, 3, 7], [2, 2, 2], [1])


def test_a_supernet_starts_with_the_centre_of_kernels() -> None:
    """A network with kernels of 3 has the outputs of one of 5 whose outer weights are zero, before any training."""
    space = mobilenet_v3(**{**SMALL, "squeeze": (True, True)})
    supernet = space.build_supernet().eval()
    largest = {name: decision.options[-1] for name, decision in space.decisions.items()}
    small = {**largest, **{name: 3 for name in largest if name.endswith(".kernel")}}
    x = torch.randn(2, 3, 12, 12)
    expected = supernet(x, small)
    for name, parameter in supernet.named_parameters():
        if parameter.shape[-2:] == (5, 5):
            mask = torch.zeros(5, 5)
            mask[1:4, 1:4] = 1
            parameter.data.mul_(mask)
        assert not name.endswith("matrix_5to3") or math.isclose(float(parameter.detach().trace()), 9)
    # Products with zeros are added.
    torch.testing.assert_close(supernet(x, largest), expected, rtol=1e-4, atol=1e-5)


def test_extracted_layers_have_the_widths_that_a_pass_finds() -> None:
    """A `ModuleSpace` of the same module finds them by running the network on tensors without data."""
    with torch.device("meta"):
        space = mobilenet_v3(**SMALL)
        supernet = space.build_supernet()
        found = ModuleSpace(lambda: supernet.get_submodule("network"), input_shape=(3, 12, 12)).build_supernet()
    for position in (0, -1):
        selection = {name: decision.options[position] for name, decision in space.decisions.items()}
        one, other = supernet.extract(selection), found.extract(selection)
        shapes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (one, other)]
        assert shapes[0] == shapes[1]
