"""Layers of torch that store sizes or divide channels: narrower networks equal networks made anew of their sizes."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl_nas_elastic import ElasticSpace


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], embedding: int = 16, hidden: int = 16, middle: int = 16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, embedding)
        self.rnn = kind(embedding, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.middle, self.fc = nn.Linear(2 * hidden, middle), nn.Linear(middle, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.middle(self.rnn(self.embedding(x))[0][:, -1])))


class Encoder(nn.Module):
    def __init__(self, heads: int = 4, first: int = 16, second: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8 * heads)
        layers = [nn.TransformerEncoderLayer(8 * heads, heads, each, batch_first=True) for each in (first, second)]
        self.layers, self.fc = nn.ModuleList(layers[:depth]), nn.Linear(8 * heads, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)
        for layer in self.layers:
            x = layer(x)
        return self.fc(x.mean(1))


class Normalised(nn.Module):
    def __init__(self, groups: int = 4, width: int = 4, up: int = 16) -> None:
        super().__init__()
        self.conv, self.group = nn.Conv2d(3, groups * width, 3, padding=1), nn.GroupNorm(groups, groups * width)
        self.up, self.instance = nn.ConvTranspose2d(groups * width, up, 2, 2), nn.InstanceNorm2d(up, affine=True)
        self.last = nn.Conv2d(up, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.instance(self.up(torch.relu(self.group(self.conv(x))))))
        return self.last(x).mean((2, 3))


def signal(first: int = 16, kernel: int = 7, second: int = 16, dilated: int = 5) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, first, kernel, padding=kernel // 2),
        nn.BatchNorm1d(first),
        nn.PReLU(first),
        nn.Conv1d(first, second, dilated, padding=dilated - 1, dilation=2),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(second, 3),
    )


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers(kind: type[nn.RNNBase]) -> None:
    names = ["embedding.width", "rnn.width", "middle.width"]
    compare(Recurrent(kind), lambda *sizes: Recurrent(kind, *sizes), names, tokens())


def test_weights_of_a_recurrent_layer_are_those_that_it_computes_with() -> None:
    space = ElasticSpace(Recurrent(nn.LSTM), input_shape=(6,))
    for network in (space.build(space.largest), space.build(space.largest.replace({"rnn.width": 8}))):
        weights = network.rnn._flat_weights
        assert all(one is other for one, other in zip(weights, network.rnn.parameters(), strict=True))


def test_torch_s_transformer_layers() -> None:
    names = ["embedding.heads", "layers.0.linear1.width", "layers.1.linear1.width", "layers.depth"]
    compare(Encoder(), Encoder, names, tokens())


def test_normalisation_by_group_and_by_sample() -> None:
    compare(Normalised(), Normalised, ["conv.groups", "conv.width", "up.width"], torch.randn(2, 3, 8, 8))


def test_one_dimensional_convolutions() -> None:
    compare(signal(), signal, ["0.width", "0.kernel", "3.width", "3.kernel"], torch.randn(2, 2, 32))


def tokens() -> Tensor:
    return torch.randint(0, 10, (3, 6), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def compare(network: nn.Module, make: Any, names: list[str], x: Tensor) -> None:
    """Check the names of the decisions, and random networks against ``make`` with the values of ``names``."""
    space = ElasticSpace(network, input_shape=x.shape[1:])
    assert set(space.decisions) == set(names)
    supernet = space.build_supernet().eval()
    assert torch.equal(supernet(x, space.largest), network.eval()(x))
    for number in range(8):
        chosen = space.sample(random.Random(number))
        narrow, plain = supernet.extract(chosen), make(*(chosen[name] for name in names)).eval()
        assert torch.equal(narrow(x), supernet(x, chosen))
        plain.load_state_dict(narrow.state_dict())
        assert torch.equal(plain(x), narrow(x))
        # As many operations as a network of these sizes: every stored size follows.
        assert repr(plain) == repr(narrow)


class Caching(nn.Module):
    """Keeps what it computed from its weights, as layers with tables of positions do in evaluation mode."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, width), nn.Linear(width, 3)
        self.scales = nn.Parameter(torch.arange(1.0, 2 * width + 1).reshape(2, width))
        self.cache: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if "scale" not in self.cache:
            self.cache["scale"] = self.scales[torch.tensor([1, 0], device=x.device)].sum(0)
        return self.last(self.first(x) * self.cache["scale"])


def test_caches_of_a_module_are_not_those_of_a_narrower_one() -> None:
    compare(Caching(), Caching, ["first.width"], torch.randn(2, 4))


class Tied(nn.Module):
    """The embedding is also the output layer, so its entries are outputs."""

    def __init__(self, width: int = 16, middle: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, width)
        self.one, self.two = nn.Linear(width, middle), nn.Linear(middle, width)
        self.head = nn.Linear(width, 10, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.two(torch.relu(self.one(self.embedding(x)))).mean(1))


def test_weights_that_two_modules_share_stay_shared() -> None:
    compare(Tied(), Tied, ["embedding.width", "one.width"], tokens())
    space = ElasticSpace(Tied(), input_shape=(6,))
    for network in (space.build(space.largest.replace({"embedding.width": 8})), space.build(space.largest)):
        assert network.head.weight is network.embedding.weight
    with torch.no_grad():
        supernet = space.build_supernet()
        view, _ = supernet._narrowing.view(supernet.network, supernet._planner.plan({**space.largest, "one.width": 8}))
    assert view.head.weight is supernet.network.embedding.weight
