"""Options that share weights: against indexing element by element, and against separate networks."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, ElasticConv2d, ModuleSpace, ModuleSupernet, OneOf, SupernetSpace
from automl_nas.testing import SupernetContract

SHAPE = (4, 7, 7)


class Block(nn.Module):
    """A MobileNetV2 block with biases and affine batch normalisation: every kind of parameter that blocks have."""

    def __init__(self, kernel: int, expansion: int, groups: int | None = None) -> None:
        super().__init__()
        mid = 4 * expansion
        self.widen = nn.Conv2d(4, mid, 1)
        self.norm = nn.BatchNorm2d(mid)
        self.spatial = nn.Conv2d(mid, mid, kernel, padding=kernel // 2, groups=groups or mid)
        self.narrow = nn.Conv2d(mid, 4, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.narrow(self.spatial(F.relu(self.norm(self.widen(x)))))
        return x + hidden


def pooled() -> nn.Module:
    """Another structure than a block's, with weights."""
    return nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Conv2d(4, 4, 1))


def options() -> dict[str, nn.Module]:
    return {"skip": nn.Identity(), "k3_e2": Block(3, 2), "pool": pooled(), "k5_e3": Block(5, 3), "k1_e3": Block(1, 3)}


def head() -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]


def network(shared: bool = True) -> nn.Module:
    first, second = (OneOf(options(), name=name, shared=shared) for name in ("first", "second"))
    return nn.Sequential(nn.Conv2d(4, 4, 1), first, second, *head())


def space_of(factory: Callable[[], nn.Module] = network) -> ModuleSpace:
    return ModuleSpace(factory, input_shape=SHAPE)


def one(*modules: nn.Module, **settings: Any) -> OneOf:
    return OneOf(dict(zip("abcd", modules, strict=False)), name="one", shared=True, **settings)


class TestContract(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return space_of()


def part(large: Tensor, shape: torch.Size, kernel: bool) -> Tensor:
    """Return the first channels and the centre of kernels, element by element."""
    result = torch.empty(shape)
    for place in itertools.product(*map(range, shape)):
        source = tuple(
            index + (large.shape[axis] - shape[axis]) // 2 if kernel and axis > 1 else index
            for axis, index in enumerate(place)
        )
        result[place] = large[source]
    return result


@pytest.mark.parametrize(
    ("small", "large", "shape"),
    [
        (nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(3, 5, 7, padding=3), (3, 6, 6)),
        (nn.Conv2d(3, 2, (1, 3), padding=(0, 1)), nn.Conv2d(3, 2, (5, 3), padding=(2, 1)), (3, 6, 6)),
        (nn.Conv2d(3, 5, 2), nn.Conv2d(3, 5, 4, padding=1), (3, 6, 6)),
        (nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 5, groups=4, padding=1), (4, 6, 6)),
        (nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 5, groups=2, padding=1), (4, 6, 6)),
        (nn.Conv2d(3, 3, 3, dilation=2, padding=2, bias=False), nn.Conv2d(3, 3, 3, padding=1, bias=False), (3, 6, 6)),
        (nn.Conv2d(3, 2, 3, padding=1, padding_mode="circular"), nn.Conv2d(3, 4, 5, stride=2), (3, 6, 6)),
        (nn.ConvTranspose2d(3, 2, 3), nn.ConvTranspose2d(3, 4, 5), (3, 4, 4)),
        (nn.Conv1d(3, 2, 3), nn.Conv1d(3, 4, 9), (3, 12)),
        (nn.Linear(4, 3), nn.Linear(4, 9), (4,)),
        (nn.PReLU(1), nn.PReLU(3), (3, 6, 6)),
    ],
)
def test_parts_are_first_channels_and_centres_of_kernels(small: nn.Module, large: nn.Module, shape: Any) -> None:
    alone, whole = copy.deepcopy(small), dict(large.named_parameters())
    with torch.no_grad():
        for name, parameter in alone.named_parameters():
            kernel = isinstance(small, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d)
            parameter.copy_(part(whole[name], parameter.shape, kernel))
    # Of options of equal size the first one keeps its weights.
    choice = OneOf({"large": copy.deepcopy(large), "small": copy.deepcopy(small)}, name="one", shared=True)
    assert choice.weight_owners == {"small": "large"}
    supernet = ModuleSupernet(nn.Sequential(choice), lambda choices: {})
    x = torch.randn(2, *shape)
    assert torch.equal(supernet(x, {"one": "small"}), alone(x))
    assert torch.equal(supernet(x, {"one": "large"}), large(x))
    assert torch.equal(supernet.extract({"one": "small"})(x), alone(x))


def test_gradients_of_a_shared_weight_are_the_sum_over_both_options() -> None:
    supernet, x = space_of().build_supernet().eval().double(), torch.randn(2, *SHAPE).double()
    names = {"k3_e2": (8, slice(1, 4)), "k1_e3": (12, slice(2, 3)), "k5_e3": (12, slice(0, 5))}
    first: Any = supernet.network.get_submodule("1.k5_e3")
    gradients = {"widen": torch.zeros_like(first.widen.weight), "spatial": torch.zeros_like(first.spatial.weight)}
    for option, (mid, centre) in names.items():
        selection = {"first": option, "second": "skip"}
        alone: Any = supernet.extract(selection)
        alone(x).square().sum().backward()
        block = alone.get_submodule("1")
        gradients["widen"][:mid] += block.widen.weight.grad
        gradients["spatial"][:mid, :, centre, centre] += block.spatial.weight.grad
        supernet(x, selection).square().sum().backward()
    # Sums of three terms in double precision.
    torch.testing.assert_close(first.widen.weight.grad, gradients["widen"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(first.spatial.weight.grad, gradients["spatial"], rtol=1e-12, atol=1e-12)
    assert supernet.network.get_submodule("2.k5_e3").widen.weight.grad is None  # type: ignore[union-attr]


def test_normalisation_is_separate() -> None:
    supernet, x = space_of().build_supernet().train(), torch.randn(2, *SHAPE) + 3
    supernet(x, {"first": "k3_e2", "second": "skip"}).sum().backward()
    small, large = (supernet.network.get_submodule(f"1.{name}.norm") for name in ("k3_e2", "k5_e3"))
    assert small.running_mean.abs().sum() > 0 == large.running_mean.abs().sum()
    assert small.weight.grad is not None and large.weight.grad is None


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_an_extracted_network_is_a_plain_one_with_weights_of_its_own(memory_format: Any) -> None:
    space = space_of()
    supernet = space.build_supernet().to(memory_format=memory_format)
    x = torch.randn(2, *SHAPE).to(memory_format=memory_format)
    storages = {parameter.untyped_storage().data_ptr() for parameter in supernet.parameters()}
    for architecture in map(Architecture, ({"first": a, "second": b} for a in options() for b in ("k3_e2", "pool"))):
        with torch.no_grad():
            extracted, built = supernet.extract(architecture), space.build(architecture)
        assert torch.equal(extracted(x), supernet(x, architecture))
        assert list(extracted.state_dict()) == list(built.state_dict())
        assert [p.shape for p in extracted.parameters()] == [p.shape for p in built.parameters()]
        assert [type(module) for module in extracted.modules()] == [type(module) for module in built.modules()]
        assert all(p.requires_grad and p.is_leaf for p in extracted.parameters())
        assert all(p.untyped_storage().data_ptr() not in storages for p in extracted.parameters())


def test_networks_that_are_built_are_those_without_sharing() -> None:
    spaces = [space_of(), space_of(lambda: network(shared=False))]
    architecture = Architecture({"first": "k3_e2", "second": "k5_e3"})
    for device in ("cpu", "meta"):
        built = []
        for space in spaces:
            torch.manual_seed(0)
            with torch.device(device):
                built.append(space.build(architecture).state_dict())
        assert list(built[0]) == list(built[1])
        if device == "cpu":
            assert all(torch.equal(tensor, built[1][name]) for name, tensor in built[0].items())


def test_each_shared_weight_is_in_the_state_dict_once() -> None:
    separate = space_of(lambda: network(shared=False)).build_supernet()
    supernet = space_of().build_supernet()
    lacking = {f"network.{place}.{name}.{layer}" for place in (1, 2) for name in ("k3_e2", "k1_e3") for layer in (
        "widen.weight", "widen.bias", "spatial.weight", "spatial.bias", "narrow.weight")}  # fmt: skip
    assert separate.state_dict().keys() - supernet.state_dict().keys() == lacking
    assert supernet.state_dict().keys() < separate.state_dict().keys()
    parameters = list(supernet.parameters())
    assert len({id(each) for each in parameters}) == len(parameters) == len(list(separate.parameters())) - len(lacking)
    x, selection = torch.randn(2, *SHAPE), {"first": "k3_e2", "second": "k1_e3"}
    other = space_of().build_supernet()
    assert not torch.equal(other(x, selection), supernet(x, selection))
    other.load_state_dict(load(save(supernet.state_dict())))
    assert torch.equal(other.eval()(x, selection), supernet.eval()(x, selection))


def test_weighted_options_share_too() -> None:
    supernet, x = space_of().build_supernet().eval(), torch.randn(2, *SHAPE)
    weights = torch.tensor([0.1, 0.2, 0.3, 0.25, 0.15], requires_grad=True)
    selection = {"first": weights, "second": "skip"}
    torch.testing.assert_close(supernet.extract(selection)(x), supernet(x, selection))
    hidden = supernet.network.get_submodule("0")(x)
    expected = sum(
        weight * supernet.extract({"first": name, "second": "skip"}).get_submodule("1")(hidden)
        for name, weight in zip(options(), weights, strict=True)
    )
    for module in list(supernet.network.children())[3:]:
        expected = module(expected)
    torch.testing.assert_close(supernet(x, selection), expected)


def test_restrict_keeps_weights_that_a_live_option_uses() -> None:
    supernet, x = space_of().build_supernet().eval(), torch.randn(2, *SHAPE)
    selection = {"first": "k3_e2", "second": "k5_e3"}
    before = supernet(x, selection)
    supernet.restrict({"first": ["skip", "k3_e2"]})
    assert torch.equal(supernet(x, selection), before)
    assert torch.equal(supernet.extract(selection)(x), before)
    names = {name.split(".")[2] for name in supernet.state_dict() if name.startswith("network.1.")}
    assert names == {"k3_e2", "k5_e3"}
    with pytest.raises(SpaceError, match="'k5_e3'"):
        supernet(x, {**selection, "first": "k5_e3"})
    supernet.restrict({"first": ["skip"]})
    assert not [name for name in supernet.state_dict() if name.startswith("network.1.")]


def pickled(supernet: Any) -> Any:
    return pickle.loads(pickle.dumps(supernet))  # noqa: S301


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
def test_copies_share_within_themselves(copied: Callable[[Any], Any]) -> None:
    supernet = ModuleSpace(network, input_shape=SHAPE).build_supernet().eval()
    twin = copied(supernet)
    x, selection = torch.randn(2, *SHAPE), {"first": "k3_e2", "second": "skip"}
    before = supernet(x, selection)
    assert torch.equal(twin(x, selection), before)
    with torch.no_grad():
        twin.network.get_submodule("1.k5_e3").widen.weight.zero_()
    assert not torch.equal(twin(x, selection), before)
    assert torch.equal(supernet(x, selection), before)


def test_which_option_uses_whose_weights() -> None:
    assert OneOf(options(), shared=True).weight_owners == {"k3_e2": "k5_e3", "k1_e3": "k5_e3"}
    assert OneOf(options()).weight_owners == {}
    # Neither of the two larger ones contains the other; the smallest is a part of both, and uses the largest.
    three = {"k5_e2": Block(5, 2), "k3_e2": Block(3, 2), "k3_e3": Block(3, 3)}
    assert OneOf(three, shared=True).weight_owners == {"k3_e2": "k5_e2"}
    # The largest one has another structure.
    two = {
        "pool": nn.Sequential(nn.Linear(4, 99), nn.Linear(99, 4)),
        "small": nn.Linear(4, 4),
        "large": nn.Linear(4, 4),
    }
    assert OneOf(two, shared=True).weight_owners == {"large": "small"}


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([nn.Conv2d(4, 4, 3), nn.Linear(4, 4)], "'b' does not fit into 'a': it is a Linear, not a Conv2d"),
        (
            [nn.Conv2d(4, 4, 2), nn.Conv2d(4, 4, 3)],
            r"'weight' of shape \(4, 4, 2, 2\) has no place in the centre .*odd",
        ),
        ([nn.Conv2d(4, 2, 5), nn.Conv2d(4, 3, 3)], r"'b' does not fit into 'a': the parameter 'weight' .* is larger"),
        ([nn.Conv2d(4, 4, 3, bias=False), nn.Conv2d(4, 4, 3)], r"has the parameters \['weight'\], not \['bias', 'wei"),
        (
            [nn.Sequential(nn.Conv2d(4, 4, 3)), nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())],
            "'b' does not fit into 'a': the other one has no module '1'",
        ),
        ([nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU()), nn.Sequential(nn.Conv2d(4, 4, 3))], "it has no module '1'"),
        ([Block(3, 2), nn.Identity()], "'a' is the only one that has weights, apart from normalisation"),
        ([nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)], "none has weights, apart from normalisation"),
        ([nn.LSTM(4, 4), nn.LSTM(4, 8)], "it is a LSTM, whose parameters are several weights in one tensor"),
        ([nn.LazyConv2d(4, 3), nn.LazyConv2d(4, 5)], "the shapes of 'a' are not known before its first call"),
        ([ElasticConv2d(4, (2, 4), 3), ElasticConv2d(4, (2, 4), 5)], "'a' contains a choice; 'b' contains a choice"),
    ],
)
def test_what_cannot_share_is_refused_with_the_reason(modules: list[nn.Module], message: str) -> None:
    with pytest.raises(SpaceError, match=message) as raised:
        one(*modules)
    assert str(raised.value).startswith("the options of the OneOf 'one' cannot share weights: ")
    assert str(raised.value).endswith("or leave out shared=True")


def test_a_module_at_two_places_is_refused() -> None:
    def twice() -> nn.Module:
        small = Block(3, 2)
        return nn.Sequential(one(small, Block(5, 3)), small, *head())

    def tied_weight() -> nn.Module:
        stem = nn.Conv2d(4, 8, 1)
        small = Block(3, 2)
        small.widen.weight = stem.weight
        return nn.Sequential(one(small, Block(5, 3)), stem, nn.Conv2d(8, 4, 1), *head())

    with pytest.raises(SpaceError, match=r"choice '0' shares weights.*its option, a Block, is in the network a second"):
        space_of(twice)
    with pytest.raises(
        SpaceError, match="the parameter 'weight' of its module 'widen' is in the network a second time"
    ):
        space_of(tied_weight)


def test_options_with_choices_inside_stay_separate() -> None:
    def nested() -> nn.Module:
        inner = OneOf({"a": Block(3, 2), "b": Block(5, 2)}, name="inner", shared=True)
        outer = OneOf(
            {"deep": nn.Sequential(inner), "k3": nn.Sequential(Block(3, 1)), "k5": nn.Sequential(Block(5, 1))},
            name="outer",
            shared=True,
        )
        return nn.Sequential(outer, *head())

    supernet, x = space_of(nested).build_supernet().eval(), torch.randn(2, *SHAPE)
    outer = supernet.network.get_submodule("0")
    assert isinstance(outer, OneOf) and outer.weight_owners == {"k3": "k5"}
    for choice, inside in (("deep", "a"), ("deep", "b"), ("k3", "a"), ("k5", "a")):
        selection = {"outer": choice, "inner": inside}
        assert torch.equal(supernet(x, selection), supernet.extract(selection)(x))


def test_separate_returns_a_module_whose_options_have_weights_of_their_own() -> None:
    space = space_of()
    supernet = space.build_supernet()
    separate = supernet.separate()
    assert separate is not supernet.network
    names = {f"network.{name}" for name, _ in separate.named_parameters()}
    assert names == {name for name, _ in space_of(lambda: network(shared=False)).build_supernet().named_parameters()}
    plain = space_of(lambda: network(shared=False)).build_supernet()
    assert plain.separate() is plain.network
