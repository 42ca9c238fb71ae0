"""`replace` against networks whose submodules are exchanged by hand."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import (
    KEEP,
    Dag,
    ElasticBatchNorm2d,
    ElasticConv2d,
    ModuleSpace,
    OneOf,
    Repeat,
    enumerate_all,
    replace,
)
from automl_nas.torchvision_import import import_torchvision

CONVOLUTIONS = "layer*.*.conv[12]"


def resnet(blocks: int = 1) -> nn.Module:
    module = import_torchvision("torchvision.models.resnet")
    network: nn.Module = module.ResNet(module.BasicBlock, [blocks] * 4, num_classes=3)
    return network


def wide(conv: nn.Module) -> nn.Module:
    assert isinstance(conv, nn.Conv2d)
    return nn.Conv2d(conv.in_channels, conv.out_channels, 5, conv.stride, 2, bias=False)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = x + self.act(self.conv(x))
        return outputs


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 1)
        self.blocks = nn.ModuleList([Block(4), Block(4)])
        self.named = nn.ModuleDict({"last": nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())})
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        outputs: Tensor = self.head(self.named["last"](x).mean((2, 3)))
        return outputs


def replaced() -> nn.Module:
    """Places in a ModuleList, a Sequential and a ModuleDict."""
    return replace(
        Net(),
        {
            "blocks.*.conv": {"3x3": KEEP, "1x1": lambda conv: nn.Conv2d(4, 4, 1)},
            "**.act": [KEEP, nn.GELU()],
            "named.last.0": [KEEP, nn.Conv2d(4, 4, 3, padding=1)],
            "named.last.1": lambda relu: Repeat(lambda position: nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()), 1, 2),
        },
        tied={"**.act": "activation"},
    )


def test_the_decisions_are_the_places() -> None:
    space = ModuleSpace(replaced, input_shape=(1, 4, 4))
    assert {name: decision.options for name, decision in space.decisions.items()} == {
        "blocks.0.conv": ("3x3", "1x1"),
        "activation": (0, 1),
        "blocks.1.conv": ("3x3", "1x1"),
        "named.last.0": (0, 1),
        "named.last.1": (1, 2),
    }
    assert space.weighable == {*space.decisions} - {"named.last.1"}


@pytest.mark.slow
def test_convolutions_of_a_resnet_18_against_an_exchange_by_hand() -> None:
    """The kept options have the weights of the network, which is not changed."""
    torch.manual_seed(0)
    original = resnet(2).eval()
    before = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    space = ModuleSpace(partial(replace, original, {CONVOLUTIONS: {"3x3": KEEP, "5x5": wide}}), input_shape=(3, 32, 32))
    assert len(space.decisions) == 16
    supernet, x = space.build_supernet().eval(), torch.randn(2, 3, 32, 32)
    plain = dict.fromkeys(space.decisions, "3x3")
    assert torch.equal(supernet(x, plain), original(x))
    for seed in range(2):
        chosen = space.sample(random.Random(seed))
        expected = resnet(2).eval()
        expected.load_state_dict(before)
        for name, option in chosen.items():
            if option == "5x5":
                block, attribute = name.rsplit(".", 1)
                conv = supernet.network.get_submodule(f"{name}.5x5")
                setattr(expected.get_submodule(block), attribute, conv)
        assert torch.equal(supernet(x, chosen), expected(x))
        extracted = supernet.extract(chosen)
        assert torch.equal(extracted(x), expected(x))
        assert repr(extracted) == repr(expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.state_dict().items())


def test_activations_of_a_resnet_are_one_tied_decision() -> None:
    torch.manual_seed(0)
    original = resnet().eval()
    make = partial(
        replace, original, {"**.relu": {"relu": KEEP, "silu": nn.SiLU(inplace=True)}}, tied={"**.relu": "activation"}
    )
    space = ModuleSpace(make, input_shape=(3, 32, 32))
    assert list(space.decisions) == ["activation"]
    assert space.weighable == {"activation"}
    supernet, x = space.build_supernet().eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(supernet(x, {"activation": "relu"}), original(x))
    expected = resnet().eval()
    expected.load_state_dict(original.state_dict())
    for path, module in list(expected.named_modules()):
        if isinstance(module, nn.ReLU):
            expected.get_submodule(path.rpartition(".")[0]).relu = nn.SiLU()
    assert torch.equal(supernet(x, {"activation": "silu"}), expected(x))


def test_weights_of_module_options_are_drawn_for_each_place() -> None:
    option = nn.Conv2d(4, 4, 3, padding=1)
    network = replace(Net(), {"blocks.*.conv": [option, KEEP]})
    first, second = (network.get_submodule(f"blocks.{number}.conv.0").weight for number in (0, 1))
    assert isinstance(first, Tensor)
    assert isinstance(second, Tensor)
    assert not torch.equal(first, second)
    assert not torch.equal(first, option.weight)


def test_a_function_of_several_options_gets_a_copy_and_may_put_it_into_its_module() -> None:
    def wrapped(conv: nn.Module) -> nn.Module:
        return nn.Sequential(conv, nn.Dropout(0.5))

    torch.manual_seed(0)
    original = Net()
    network = replace(original, {"stem": {"plain": KEEP, "dropout": wrapped}})
    plain, copied = network.get_submodule("stem.plain"), network.get_submodule("stem.dropout.0")
    assert plain is not copied
    assert torch.equal(plain.weight, copied.weight)  # type: ignore[arg-type]
    assert torch.equal(plain.weight, original.stem.weight)  # type: ignore[arg-type]


def test_tied_weights_stay_tied() -> None:
    original = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    original[2].weight = original[0].weight
    network = replace(original, {"2": {"tied": KEEP, "none": nn.Identity()}})
    assert network.get_submodule("2.tied").weight is network.get_submodule("0").weight
    single = replace(original, {"2": lambda linear: nn.Sequential(linear, nn.GELU())})
    assert single.get_submodule("2.0").weight is single.get_submodule("0").weight


def test_type_and_mode_follow_the_network() -> None:
    network = replace(Net().double().eval(), {"stem": [KEEP, nn.Conv2d(1, 4, 3, padding=1)], "**.act": [nn.Dropout()]})
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float64}
    assert not any(module.training for module in network.modules())


def test_a_trained_network_without_data_on_meta() -> None:
    """Decisions that can be weighted are found on tensors without data, beside which no others may be."""
    space = ModuleSpace(partial(replace, Net(), {"stem": [KEEP, nn.Conv2d(1, 4, 3, padding=1)]}), input_shape=(1, 4, 4))
    with torch.device("meta"):
        assert all(tensor.is_meta for tensor in space.build(space.validate({"stem": 1})).parameters())
    assert space.weighable == {"stem"}


def dag_of(block: nn.Module) -> nn.Module:
    """A cell in which the trained block is a node."""
    return Dag(
        nodes={"a": block, "b": nn.Conv2d(4, 4, 1)},
        edges={"a": ["input"], "b": ["input", "a"], "output": ["a", "b"]},
        name="cell",
        required=["output"],
    )


def test_a_cell_takes_the_place_of_a_block() -> None:
    torch.manual_seed(0)
    original = Net().eval()
    space = ModuleSpace(partial(replace, original, {"blocks.1": dag_of}), input_shape=(1, 4, 4))
    supernet, x = space.build_supernet().eval(), torch.randn(2, 1, 4, 4)
    selection = space.validate({"cell.a": ["input"], "cell.b": [], "cell.output": ["a"]})
    assert torch.equal(supernet(x, selection), original(x))
    assert torch.equal(supernet.extract(selection)(x), original(x))


def elastic_resnet() -> nn.Module:
    """Widths inside each block, and one kind of activation."""

    def narrowed(block: nn.Module) -> nn.Module:
        first, second = block.conv1, block.conv2
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.Conv2d)
        widths = (first.out_channels // 2, first.out_channels)
        block.conv1 = ElasticConv2d(first.in_channels, widths, 3, first.stride, 1, bias=False)  # type: ignore[arg-type]
        block.bn1 = ElasticBatchNorm2d(first.out_channels)
        block.conv2 = ElasticConv2d(second.in_channels, second.out_channels, 3, padding=1, bias=False)
        return replace(block, {"relu": {"relu": KEEP, "gelu": nn.GELU()}}, tied={"relu": "activation"})

    return replace(resnet(), {"layer*.*": narrowed})


def test_widths_and_choices_in_one_network() -> None:
    """Parameters: 9 * width * (in + out) + 2 * width less in each narrow block; extraction is exact."""
    space = ModuleSpace(elastic_resnet, input_shape=(3, 32, 32))
    assert len(space.decisions) == 5
    largest = space.build(space.validate({name: each.options[-1] for name, each in space.decisions.items()}))
    count = sum(parameter.numel() for parameter in resnet().parameters())
    assert sum(parameter.numel() for parameter in largest.parameters()) == count
    chosen = space.sample(random.Random(1))
    inputs = 64
    for name, width in chosen.items():
        if name == "activation":
            continue
        outputs = 64 * 2 ** (int(name[5]) - 1)
        count -= (outputs - int(str(width))) * (9 * (inputs + outputs) + 2)
        inputs = outputs
    supernet, x = space.build_supernet().eval(), torch.randn(2, 3, 32, 32)
    extracted = supernet.extract(chosen)
    assert sum(parameter.numel() for parameter in extracted.parameters()) == count
    assert torch.equal(extracted(x), supernet(x, chosen))


def test_choices_in_options_of_choices() -> None:
    def make() -> nn.Module:
        inner = replace(Block(4), {"act": [KEEP, nn.GELU()]})
        return replace(Net(), {"blocks.1": {"block": lambda _: inner, "skip": nn.Identity()}})

    space = ModuleSpace(make, input_shape=(1, 4, 4))
    assert list(space.decisions) == ["blocks.1", "blocks.1.block.act"]
    assert len({space.canonical(each) for each in enumerate_all(space.decisions)}) == 3


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("stem", 1),
        ("[sh]*", 2),
        ("blocks.*", 2),
        ("blocks.[1-9]", 1),
        ("**.conv", 2),
        ("**.stem", 1),
        ("named.**.1", 1),
        ("named.last.?", 2),
        ("b*.*.[!a]*", 2),
    ],
)
def test_patterns(pattern: str, count: int) -> None:
    network = replace(Net(), {pattern: [KEEP]})
    assert sum(isinstance(module, OneOf) for module in network.modules()) == count


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.first = nn.Sequential(nn.Linear(2, 2), self.act)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.act(self.first(x)))


def fails(_: nn.Module) -> nn.Module:
    raise AttributeError("no in_features\nof all")


ITSELF = nn.ReLU()


@pytest.mark.parametrize(
    ("network", "places", "message"),
    [
        (Net(), {"block.0.conv": [KEEP]}, "'block.0.conv' matches no submodule; did you mean 'blocks.0.conv'"),
        (Net(), {"blocks.*.norm": [KEEP]}, "'blocks.0' matches its beginning 'blocks.*' and has the submodules act, c"),
        (Net(), {"stem.conv": [KEEP]}, "'stem' matches its beginning 'stem' and has no submodules"),
        (Net(), {"blocks.conv": [KEEP]}, "'blocks' matches its beginning 'blocks' and has the submodules 0, 1"),
        (Net(), {"stam": [KEEP]}, "did you mean 'stem'"),
        (Net(), {"": [KEEP]}, "the network itself"),
        (Net(), {"blocks.*": [KEEP], "**.conv": [KEEP]}, r"'blocks.0.conv' .* is inside 'blocks.0'"),
        (Net(), {"**": [KEEP]}, "is inside"),
        (Net(), {"stem": [KEEP], "st*": [KEEP]}, "'stem' matches two patterns, 'stem' and 'st[*]'"),
        (Shared(), {"**.act": [KEEP]}, "'act' .* is used at 'first.1', too"),
        (Shared(), {"first.1": [KEEP]}, "'first.1' .* is used at 'act', too"),
        (Net(), {"stem": []}, "at least one option"),
        (Net(), {"stem": [KEEP, KEEP]}, "KEEP twice"),
        (Net(), {"stem": [nn.ReLU]}, "the option 0 of the replacement of 'stem' .* is the class ReLU"),
        (Net(), {"stem": nn.ReLU}, "the replacement of 'stem' .* is the class ReLU"),
        (Net(), {"stem": [None]}, "the option 0 of the replacement of 'stem'.*nn.Identity"),
        (Net(), {"stem": ["3x3"]}, "'3x3', a str"),
        (Net(), {"stem": [lambda: nn.ReLU()]}, "cannot be made: the function raises TypeError.*the Conv2d that it rep"),
        (Net(), {"stem": {"a": fails}}, "option 'a' .* AttributeError: no in_features; it"),
        (Net(), {"stem": lambda _: 3}, "what the function returns for the replacement of 'stem' .* is 3"),
        (Net(), {"stem": [lambda _: ITSELF, lambda _: ITSELF]}, "another option returned before"),
        (Net(), {"stem": [nn.ParameterList([torch.zeros(1)])]}, "no reset_parameters|no forward"),
        (Net(), {"blocks": [KEEP]}, "the option 0 of the replacement of 'blocks' .* ModuleList"),
        (Net, {"stem": [KEEP]}, "is the class Net"),
    ],
)
def test_bad_arguments(network: Any, places: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        replace(network, places)


def test_tied_is_for_options() -> None:
    with pytest.raises(SpaceError, match="pattern 'act', which places does not have"):
        replace(Net(), {"**.act": [KEEP]}, tied={"act": "a"})
    with pytest.raises(SpaceError, match=r"OneOf\(\.\.\., name='a'\)"):
        replace(Net(), {"**.act": lambda _: nn.GELU()}, tied={"**.act": "a"})


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (lambda: nn.Conv2d(4, 6, 1), r"'blocks\.0' \(Block\) raises"),
        (lambda: nn.Linear(3, 4), r"'blocks\.0\.conv' \(Linear\) raises"),
    ],
)
def test_an_option_of_another_shape_is_named(option: Callable[[], nn.Module], message: str) -> None:
    """The largest network has the last option of each place."""
    with pytest.raises(SpaceError, match=f"the largest network does not run .* {message}"):
        ModuleSpace(
            lambda: replace(Net(), {"blocks.*.conv": {"right": KEEP, "wrong": option()}}), input_shape=(1, 4, 4)
        )


def test_options_that_change_their_input_are_not_weighted() -> None:
    def make() -> nn.Module:
        options = {"sequence": nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1)), "gelu": nn.GELU()}
        return nn.Sequential(nn.Conv2d(1, 4, 1), OneOf(options, name="choice"))

    space = ModuleSpace(make, input_shape=(1, 4, 4))
    assert space.weighable == frozenset()
    supernet, x = space.build_supernet(), torch.randn(2, 1, 4, 4)
    with pytest.raises(SpaceError, match="Sequential, changes its input in place"):
        supernet(x, {"choice": torch.ones(2)})
    assert supernet(x, {"choice": "sequence"}).shape == (2, 4, 4, 4)
