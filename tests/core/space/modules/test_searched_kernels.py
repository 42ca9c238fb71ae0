"""Searched kernels, widths by a rule, and squeeze-and-excitation, against loops over numbers and torchvision."""

from __future__ import annotations

import copy
from collections.abc import Collection
from functools import partial
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError
from automl_nas.space import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticSqueezeExcitation,
    ModuleSpace,
    Ordinal,
    SupernetSpace,
)
from automl_nas.testing.supernets import SupernetContract
from automl_nas.torchvision_import import import_torchvision


def third(channels: int) -> int:
    return max(1, channels // 3)


def double(channels: int) -> int:
    return 2 * channels


def network(transformation: bool = True) -> nn.Module:
    """A block with everything: expansion by a rule, a searched depthwise kernel, squeeze-and-excitation."""
    return nn.Sequential(
        ElasticConv2d(3, (4, 6), 3, padding=1, name="width"),
        ElasticConv2d(6, {1: lambda n: n, 2: double}, 1, bias=False, name="expansion"),
        ElasticBatchNorm2d(12),
        ElasticConv2d(12, 12, 7, 2, 3, 1, 12, False, "depthwise", (3, 5, 7), transformation),
        ElasticSqueezeExcitation(12, third),
        ElasticConv2d(12, 5, 5, padding="same", name="last", kernels=(1, 5)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class TestSearchedKernelsContract(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return ModuleSpace(partial(network, True), input_shape=(3, 9, 9))

    def weighable(self, space: SupernetSpace) -> Collection[str]:
        assert not space.weighable
        return space.weighable


def test_decisions() -> None:
    space = ModuleSpace(network, input_shape=(3, 9, 9))
    assert dict(space.decisions) == {
        "width": Ordinal((4, 6)),
        "expansion": Ordinal((1, 2)),
        "depthwise.kernel": Ordinal((3, 5, 7)),
        "last.kernel": Ordinal((1, 5)),
    }
    values = {"width": 4, "expansion": 1, "depthwise.kernel": 3}
    with pytest.raises(SpaceError, match=r"kernel '5\.kernel' takes values only"):
        space.build_supernet()(torch.ones(1, 3, 9, 9), {**values, "last.kernel": torch.ones(2)})


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_a_kernel_is_the_chained_matrices_times_the_centre(kernel: int) -> None:
    space = ModuleSpace(network, input_shape=(3, 9, 9))
    supernet = space.build_supernet().double()
    layer = supernet.get_submodule("network.3")
    assert isinstance(layer, ElasticConv2d)
    assert sum(p.numel() for p in layer.parameters()) == 12 * 49 + 706  # 25 * 25 + 9 * 9 numbers of matrices
    matrices = dict(layer.transformation.named_parameters())  # type: ignore[union-attr]
    for matrix in matrices.values():
        assert torch.equal(matrix, torch.eye(len(matrix)).double())
        nn.init.normal_(matrix)
    architecture = {"width": 4, "expansion": 2, "depthwise.kernel": kernel, "last.kernel": 5}
    extracted = supernet.extract(architecture).get_submodule("3")
    assert type(extracted) is nn.Conv2d
    assert (extracted.kernel_size, extracted.padding, extracted.groups) == ((kernel,) * 2, (kernel // 2,) * 2, 8)
    for channel in range(8):
        values = layer.weight[channel, 0].detach().numpy()
        for side in (5, 3):
            if side >= kernel:
                inner = values[1:-1, 1:-1].reshape(-1)
                matrix = matrices[f"matrix_{side + 2}to{side}"].detach().numpy()
                values = numpy.array([sum(row * inner) for row in matrix]).reshape(side, side)
        # Sums of at most 25 products of numbers near 1, in double precision.
        numpy.testing.assert_allclose(extracted.weight[channel, 0].detach().numpy(), values, rtol=1e-12, atol=1e-12)


def test_without_matrices_and_at_first_a_kernel_is_the_centre() -> None:
    x = torch.randn(2, 3, 9, 9)
    plain = ModuleSpace(partial(network, False), input_shape=(3, 9, 9)).build_supernet().eval()
    trained = ModuleSpace(network, input_shape=(3, 9, 9)).build_supernet().eval()
    trained.load_state_dict(plain.state_dict(), strict=False)
    for kernel in (3, 5):
        selection = {"width": 6, "expansion": 2, "depthwise.kernel": kernel, "last.kernel": 1}
        cut = copy.deepcopy(plain)
        inside = slice((7 - kernel) // 2, (7 + kernel) // 2)
        padded = torch.zeros(12, 1, 7, 7)
        padded[..., inside, inside] = plain.get_parameter("network.3.weight")[..., inside, inside].detach()
        cut.get_parameter("network.3.weight").data = padded
        expected = cut(x, {**selection, "depthwise.kernel": 7})
        for supernet in (plain, trained):
            # Zeros around the centre change the order of sums of 49 numbers at most.
            torch.testing.assert_close(supernet(x, selection), expected, rtol=1e-4, atol=1e-5)


def test_a_built_network_has_fresh_kernels_of_its_size() -> None:
    space = ModuleSpace(network, input_shape=(3, 9, 9))
    layer = space.build(
        space.validate({"width": 6, "expansion": 2, "depthwise.kernel": 3, "last.kernel": 1})
    ).get_submodule("3")
    assert isinstance(layer, nn.Conv2d)
    # torch draws uniformly in +- 1 / sqrt(fan in): 1/3 for 3x3, 1/7 for the centre of 7x7.
    assert 1 / 7 < float(layer.weight.abs().max().detach()) <= 1 / 3


def test_squeeze_and_excitation_is_that_of_torchvision() -> None:
    x = torch.randn(2, 8, 5, 5)
    mine = ElasticSqueezeExcitation(12, third, nn.SiLU(), nn.Sigmoid())
    theirs = import_torchvision("torchvision.ops").SqueezeExcitation(8, 2, nn.SiLU, nn.Sigmoid)
    for one, other, rows, columns in ((theirs.fc1, mine.reduce, 2, 8), (theirs.fc2, mine.expand, 8, 2)):
        one.weight.data = other.weight.data[:rows, :columns].clone()
        one.bias.data = other.bias.data[:rows].clone()  # type: ignore[union-attr]
    assert torch.equal(mine(x), theirs(x))


def test_a_rule_follows_the_input_alone() -> None:
    layers = partial(lambda: nn.Sequential(ElasticConv2d(1, (2, 3), 1, name="width"), ElasticConv2d(3, double, 1)))
    space = ModuleSpace(layers, input_shape=(1, 2, 2))
    assert list(space.decisions) == ["width"]
    supernet, x = space.build_supernet(), torch.randn(2, 1, 2, 2)
    first, second = supernet.get_submodule("network.0"), supernet.get_submodule("network.1")
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    hidden = F.conv2d(x, first.weight[:2], first.bias[:2])  # type: ignore[index]
    expected = F.conv2d(hidden, second.weight[:4, :2], second.bias[:4])  # type: ignore[index]
    assert torch.equal(supernet(x, {"width": 2}), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernels": (5, 3), "kernel_size": 5}, "increasing"),
        ({"kernels": (3, 5), "kernel_size": 7}, r"largest of its kernels \[3, 5\], not \(7, 7\)"),
        ({"kernels": (2, 5), "kernel_size": 5, "padding": 2}, "odd kernels only"),
        ({"kernels": (3, 5), "kernel_size": 5}, "use padding=2"),
        ({"kernels": (3, 5), "kernel_size": 5, "padding": "valid"}, "'valid'.*use padding=2"),
        ({"kernels": (3, 5), "kernel_size": 5, "padding": 1, "dilation": 2}, "use padding=4"),
        ({"kernel_size": 5, "kernel_transformation": True}, "needs kernels"),
        ({"kernel_size": 1, "out_channels": lambda n: 0}, "at least 1, not 0"),
        ({"kernel_size": 1, "out_channels": lambda n: n, "groups": 4}, "groups=4"),
        ({"kernel_size": 1, "out_channels": (4,), "groups": 4}, "groups=4"),
        ({"kernel_size": 1, "out_channels": ()}, "needs at least one output width"),
    ],
)
def test_invalid_kernels_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        ElasticConv2d(**{"in_channels": 4, "out_channels": 4, **settings})


def test_a_rule_that_decreases_and_an_empty_middle_are_refused() -> None:
    layer = ElasticConv2d(4, lambda n: 8 - n, 1)
    with pytest.raises(SpaceError, match="at most 4 outputs, but its rule returns 6 for 2 inputs"):
        layer(torch.ones(1, 2, 1, 1))
    with pytest.raises(SpaceError, match="an ElasticConv2d has no output: the rule of 2 inputs is 0"):
        ElasticConv2d(4, lambda n: n // 4, 1)(torch.ones(1, 2, 1, 1))
    with pytest.raises(SpaceError, match="at least one channel in its middle, not 0"):
        ElasticSqueezeExcitation(4, 0)


def test_restrict_narrows_the_kernels() -> None:
    supernet = ModuleSpace(network, input_shape=(3, 9, 9)).build_supernet().eval()
    selection = {"width": 6, "expansion": 2, "depthwise.kernel": 3, "last.kernel": 1}
    x = torch.randn(2, 3, 9, 9)
    before = supernet(x, selection)
    supernet.restrict({"depthwise.kernel": [3, 5]})
    assert supernet.decisions["depthwise.kernel"] == Ordinal((3, 5))
    assert torch.equal(supernet(x, selection), before)
