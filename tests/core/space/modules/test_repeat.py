"""`Repeat` against loops over its modules."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ModuleSpace,
    OneOf,
    Ordinal,
    Repeat,
    enumerate_all,
)


def block(position: int) -> nn.Module:
    choice = OneOf({"k1": nn.Conv2d(4, 4, 1), "k3": nn.Conv2d(4, 4, 3, padding=1)}, name=f"kernel{position}")
    return nn.Sequential(choice, nn.BatchNorm2d(4), nn.ReLU())


def network() -> nn.Module:
    stem = nn.Conv2d(2, 4, 3, padding=1)
    return nn.Sequential(stem, Repeat(block, 1, 3, name="depth"), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_a_depth_runs_the_first_modules() -> None:
    space = ModuleSpace(network, input_shape=(2, 5, 5))
    assert space.decisions["depth"] == Ordinal((1, 2, 3))
    supernet, x = space.build_supernet().train(), torch.randn(3, 2, 5, 5)
    stem, repeat, *rest = supernet.network.children()
    for depth in (1, 2, 3):
        selection = {"depth": depth, "kernel0": "k1", "kernel1": "k3", "kernel2": "k3"}
        hidden = stem(x)
        for position, each in list(enumerate(repeat.children()))[:depth]:
            choice, norm, relu = each.children()
            hidden = relu(norm(choice.get_submodule(str(selection[f"kernel{position}"]))(hidden)))
        for each in rest:
            hidden = each(hidden)
        assert torch.equal(supernet(x, selection), hidden)
        extracted = supernet.extract(selection)
        assert [*dict(extracted.named_children())["1"]._modules] == [str(position) for position in range(depth)]


def test_equal_networks_have_one_canonical_architecture() -> None:
    """The kernels of two blocks count, the third's does not, and so on: 2 + 4 + 8 networks of 24 assignments."""
    space = ModuleSpace(network, input_shape=(2, 5, 5))
    assert space.size == 24
    assert len({space.canonical(each) for each in enumerate_all(space.decisions)}) == 14


def test_restrict_removes_modules_and_keeps_the_others() -> None:
    supernet = ModuleSpace(network, input_shape=(2, 5, 5)).build_supernet().eval()
    x = torch.randn(1, 2, 5, 5)
    selection = {"depth": 2, "kernel0": "k3", "kernel1": "k1"}
    output, before = supernet(x, selection | {"kernel2": "k1"}), dict(supernet.named_parameters())
    supernet.restrict({"depth": [1, 2]})
    assert supernet.decisions["depth"] == Ordinal((1, 2))
    after = dict(supernet.named_parameters())
    assert all(before[name] is parameter for name, parameter in after.items())
    assert len(before) - len(after) == 6
    assert torch.equal(supernet(x, selection | {"kernel2": "k1"}), output)


def test_one_module_is_copied_with_weights_of_its_own() -> None:
    repeat = Repeat(nn.Conv2d(2, 2, 1), 0, 3)
    first, second, third = (each.weight for each in repeat.children())
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    space = ModuleSpace(lambda: nn.Sequential(Repeat(nn.Linear(3, 3), 0, 2, name="depth")), input_shape=(3,))
    x = torch.randn(2, 3)
    supernet = space.build_supernet()
    assert torch.equal(supernet(x, {"depth": 0}), x)
    assert list(supernet.extract({"depth": 0}).parameters()) == []


def test_a_single_depth_is_no_decision() -> None:
    def fixed() -> nn.Module:
        return nn.Sequential(Repeat(block, 2, 2), nn.Flatten())

    space = ModuleSpace(fixed, input_shape=(4, 2, 2))
    assert list(space.decisions) == ["kernel0", "kernel1"]
    assert space.canonical(space.validate({"kernel0": "k3", "kernel1": "k3"}))["kernel1"] == "k3"


class Residual(nn.Module):
    """A bottleneck of searched width beside a choice of its activation."""

    def __init__(self, position: int) -> None:
        super().__init__()
        self.reduce = ElasticConv2d(8, [2, 4], 1, name=f"hidden{position}")
        self.norm = ElasticBatchNorm2d(4)
        self.activation = OneOf({"relu": nn.ReLU(), "gelu": nn.GELU()}, name="activation")
        self.restore = ElasticConv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.restore(self.activation(self.norm(self.reduce(x))))
        return x + hidden


def mixed() -> nn.Module:
    blocks = Repeat(lambda position: Residual(position), 1, 2, name="depth")
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))


def test_depth_width_and_choice_in_one_network() -> None:
    """Parameters of each network from the shapes: a block has 8h + h (reduce), 2h (norm) and 8h + 8 (restore)."""
    space = ModuleSpace(mixed, input_shape=(1, 4, 4))
    for each in enumerate_all(space.decisions):
        hidden = [int(str(each[f"hidden{position}"])) for position in range(int(str(each["depth"])))]
        count = sum(parameter.numel() for parameter in space.build(each).parameters())
        assert count == 80 + sum(19 * width + 8 for width in hidden) + 18
    assert space.weighable == {"activation"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Repeat(nn.ReLU(), 2, 1), "minimum <= maximum"),
        (lambda: Repeat(nn.ReLU(), 0, 0), "maximum of at least 1"),
        (lambda: Repeat(nn.ReLU(), 1), r"needs the largest depth"),
        (lambda: Repeat([nn.ReLU()], 1, 2), "has 1 modules, but its largest depth is 2"),
        (lambda: Repeat([nn.ReLU()], 1.5), "whole numbers, not 1.5"),  # type: ignore[arg-type]
        (lambda: Repeat(lambda position: None, 1, 2), "must be a module, not None"),  # type: ignore[arg-type, return-value]
        (lambda: Repeat(nn.ReLU, 1, 2), "make a module of it"),  # type: ignore[arg-type]
        (lambda: Repeat(nn.ParameterList([torch.zeros(1)]), 1, 2), "no forward|no reset_parameters"),
    ],
)
def test_bad_arguments(make: Callable[[], Repeat], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make()


def test_a_depth_takes_no_weights() -> None:
    supernet = ModuleSpace(mixed, input_shape=(1, 4, 4)).build_supernet()
    selection = {"hidden0": 2, "hidden1": 2, "activation": "relu", "depth": torch.ones(2)}
    with pytest.raises(SpaceError, match="the depth '1' takes values only"):
        supernet(torch.zeros(1, 1, 4, 4), selection)
