"""Spaces from models: contracts, couplings, equality with the model and with narrower models made anew, bad input."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
import torch
from plugins.elastic.networks import Block, Branches, Branching, Literal, SmallResNet, SmallTransformer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.space import Architecture, OneOf, SupernetSpace
from automl_nas.testing.supernets import SupernetContract
from automl_nas_elastic import ElasticSpace
from automl_nas_elastic.space import from_model

IMAGES, TOKENS = (3, 8, 8), (6,)
RESNET: dict[str, Any] = {"model": "plugins.elastic.networks:SmallResNet", "input_shape": IMAGES, "granularity": 4}


class TestFreshContract(SupernetContract):
    samples = 2

    def make_space(self) -> SupernetSpace:
        return from_model(**RESNET, widths=(0.5, 1.0), weights="fresh", seed=0)


class TestOwnContract(SupernetContract):
    """With the model's own weights; every network is the same for every seed."""

    samples = 2

    def make_space(self) -> SupernetSpace:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return ElasticSpace(Branches(), input_shape=IMAGES, granularity=4, widths=(0.5, 1.0))

    def test_a_network_is_a_function_of_the_seed(self) -> None:
        space = self.make_space()
        architecture = self.architectures(space)[0]
        first, second = space.build(architecture).state_dict(), space.build(architecture).state_dict()
        assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def resnet() -> tuple[SmallResNet, ElasticSpace]:
    torch.manual_seed(0)
    network = SmallResNet()
    return network, ElasticSpace(network, input_shape=IMAGES, granularity=4)


@pytest.fixture(scope="module")
def transformer() -> tuple[SmallTransformer, ElasticSpace]:
    torch.manual_seed(0)
    network = SmallTransformer()
    return network, ElasticSpace(network, input_shape=TOKENS, granularity=8)


def images(count: int = 4) -> Tensor:
    return torch.randn(count, *IMAGES, generator=torch.Generator().manual_seed(0))


def flops(network: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(x)
    return int(counter.get_total_flops())


def test_options_of_a_residual_network(resnet: tuple[SmallResNet, ElasticSpace]) -> None:
    _, space = resnet
    found = {name: decision.options for name, decision in space.decisions.items()}
    assert found == {
        "stem.width": (4, 8),  # of the stem, both blocks and the depthwise convolution
        "stem.kernel": (3, 5),
        "blocks.depth": (1, 2),
        "blocks.0.conv1.width": (4, 8),
        "blocks.1.conv1.width": (4, 8, 12, 16),
        "head.width": (4, 8, 12, 16),
    }


def test_the_largest_network_is_the_model_bit_for_bit(resnet: tuple[SmallResNet, ElasticSpace]) -> None:
    network, space = resnet
    x = images()
    for mode in (False, True):
        expected = network.train(mode)(x)
        torch.testing.assert_close(space.build(space.largest).train(mode)(x), expected, rtol=0, atol=0)
        torch.testing.assert_close(space.build_supernet().train(mode)(x, space.largest), expected, rtol=0, atol=0)


def test_a_network_equals_one_made_anew_of_its_sizes(resnet: tuple[SmallResNet, ElasticSpace]) -> None:
    _, space = resnet
    for number in range(20):
        chosen = space.sample(random.Random(number))
        network = space.build(chosen)
        hidden = [chosen["blocks.0.conv1.width"], chosen["blocks.1.conv1.width"]][: int(chosen["blocks.depth"])]
        plain = SmallResNet(chosen["stem.width"], tuple(hidden), chosen["head.width"], chosen["stem.kernel"])
        plain.load_state_dict(network.state_dict())
        assert repr(plain) == repr(network)
        assert flops(plain, images()) == flops(network, images())
        assert torch.equal(plain.eval()(images()), network.eval()(images()))


def test_heads_widths_and_depth_of_a_transformer(transformer: tuple[SmallTransformer, ElasticSpace]) -> None:
    network, space = transformer
    found = {name: decision.options for name, decision in space.decisions.items()}
    assert found == {
        "embedding.heads": (1, 2, 3, 4),  # the code of the attention ties them to the embedding
        "layers.depth": (1, 2),
        "layers.0.mlp.0.width": (8, 16, 24, 32),
        "layers.1.mlp.0.width": (8, 16),
    }
    x = torch.randint(0, 10, (4, 6), generator=torch.Generator().manual_seed(0))
    assert torch.equal(space.build(space.largest).eval()(x), network.eval()(x))
    supernet = space.build_supernet().eval()
    for number in range(20):
        chosen = space.sample(random.Random(number))
        narrow, heads, depth = supernet.extract(chosen), int(chosen["embedding.heads"]), int(chosen["layers.depth"])
        assert torch.equal(narrow(x), supernet(x, chosen))
        hidden = [chosen[f"layers.{layer}.mlp.0.width"] for layer in range(depth)]
        plain = SmallTransformer(8 * heads, heads, tuple(hidden)).eval()
        plain.load_state_dict(narrow.state_dict())
        assert torch.equal(plain(x), narrow(x))
        assert flops(plain, x) == flops(narrow, x)


def test_concatenation_groups_gates_and_shared_modules() -> None:
    network = Branches()
    space = ElasticSpace(network, input_shape=IMAGES, granularity=4)
    assert {name: decision.options for name, decision in space.decisions.items()} == {
        "one.width": (4, 8),
        "two.width": (4, 8, 12, 16),
        "enter.groups": (1, 2, 3, 4),
        "enter.width": (1, 2, 3, 4),  # of each group, before and
        "grouped.width": (1, 2, 3, 4),  # after the grouped convolution
        "squeeze.width": (4, 8),
        "gated.width": (4, 8, 12, 16),  # of both halves, and of the layer that is used twice
    }
    supernet = space.build_supernet().eval()
    assert torch.equal(supernet(images(), space.largest), network.eval()(images()))
    for number in range(20):
        chosen = space.sample(random.Random(number))
        narrow = supernet.extract(chosen)
        assert torch.equal(narrow(images()), supernet(images(), chosen))
        assert narrow.grouped.groups == chosen["enter.groups"]
        if chosen["enter.width"] == chosen["grouped.width"] and chosen["squeeze.width"] == 8:
            sizes = (chosen["one.width"], chosen["two.width"], chosen["enter.groups"], chosen["enter.width"])
            plain = Branches(*sizes, chosen["gated.width"]).eval()
            plain.load_state_dict(narrow.state_dict())
            assert torch.equal(plain(images()), narrow(images()))
            assert flops(plain, images()) == flops(narrow, images())


def test_important_channels_stay() -> None:
    network = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        network[0].weight.copy_(torch.arange(16.0)[:, None].expand(16, 4))
        network[3].weight.fill_(1)
        network[1].weight.copy_(torch.arange(16.0).flip(0))
    smallest = Architecture({"0.width": 4})
    settings: dict[str, Any] = {"input_shape": (4,), "granularity": 4}
    by_weights = ElasticSpace(network, **settings).build(smallest)
    assert by_weights[0].weight[:, 0].tolist() == [12, 13, 14, 15]
    by_scale = ElasticSpace(network, **settings, importance="bn_scale").build(smallest)
    assert by_scale[0].weight[:, 0].tolist() == [0, 1, 2, 3]
    # The sum over a channel of weight times gradient, squared: only channel 5 and 6 have any.
    gradients = {"0.weight": torch.zeros(16, 4)}
    gradients["0.weight"][5:7, 0] = torch.tensor([1.0, -1.0])
    by_taylor = ElasticSpace(network, **settings, importance="taylor", gradients=gradients).build(smallest)
    assert by_taylor[0].weight[:, 0].tolist() == [0, 1, 5, 6]


def test_statistics_of_a_slice_reach_the_supernet(resnet: tuple[SmallResNet, ElasticSpace]) -> None:
    _, space = resnet
    supernet = space.build_supernet()
    before = supernet.network.blocks[1].bn1.running_mean.clone()
    supernet(images(), Architecture({**space.largest, "blocks.1.conv1.width": 4}))
    changed = supernet.network.blocks[1].bn1.running_mean != before
    assert int(changed.sum()) == 4


def test_what_a_branch_that_reads_values_touches_is_fixed() -> None:
    space = ElasticSpace(Branching(), input_shape=(4,))
    assert list(space.decisions) == ["first.width"]
    (reason,) = {each.reason for each in space.fixed if each.where.startswith("inner")}
    assert "'gate' (Gate) reads values of a tensor (networks.py, line " in reason


def test_a_reshape_by_a_literal_fixes_what_it_reshapes() -> None:
    space = ElasticSpace(Literal(), input_shape=(4,))
    assert list(space.decisions) == ["first.width"]
    assert any(each.where.startswith("second") and "does not follow" in each.reason for each in space.fixed)


def test_include_and_exclude(resnet: tuple[SmallResNet, ElasticSpace]) -> None:
    network, _ = resnet
    settings: dict[str, Any] = {"input_shape": IMAGES, "granularity": 4}
    space = ElasticSpace(network, **settings, include=["blocks.*"], exclude=["*.depth"])
    assert list(space.decisions) == ["blocks.0.conv1.width", "blocks.1.conv1.width"]
    with pytest.raises(SpaceError, match="do include and exclude leave a decision"):
        ElasticSpace(network, **settings, include=["nothing"])


def test_a_space_can_be_sent_to_another_process(resnet: tuple[SmallResNet, ElasticSpace]) -> None:
    _, space = resnet
    other = pickle.loads(pickle.dumps(space))  # noqa: S301 - our own bytes
    chosen = space.sample(random.Random(1))
    assert other.decisions == space.decisions
    one, two = space.build(chosen).state_dict(), other.build(chosen).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(
    ("network", "shape", "text"),
    [
        (Block(8, 8), (3, 8, 8), "does not run on an input of shape"),
        (nn.Sequential(nn.Flatten(), nn.LSTM(4, 4)), (4,), "returns a tuple in evaluation mode"),
        (nn.Linear(4, 3), (4,), "nothing can vary in Linear"),
    ],
)
def test_bad_models(network: nn.Module, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(SpaceError, match=text):
        ElasticSpace(network, input_shape=shape)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"model": "resnet81"}, "did you mean"),
        ({"model": "timm/none"}, "timm"),
        ({"model": "plugins.elastic.networks:Nothing"}, "cannot import"),
        ({"model": "plugins.elastic.networks:images"}, "cannot import"),
        ({"arguments": {"deep": 3}}, "cannot be made: TypeError"),
        ({"widths": (0.5, 1.5)}, "widths"),
        ({"granularity": 0}, "granularity"),
    ],
)
def test_bad_settings(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        from_model(**{**RESNET, "seed": 0, **settings})


def test_a_network_with_choices_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"OneOf at '1'.*choose first"):
        ElasticSpace(nn.Sequential(nn.Conv2d(3, 8, 1), OneOf([nn.ReLU(), nn.GELU()])), input_shape=IMAGES)
