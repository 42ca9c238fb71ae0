"""Small networks that are hard to export."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from automl_nas.evaluation.exporter import Delivery
from automl_nas.space.architecture import Architecture

SHAPE = (4, 6, 6)


class Tied(nn.Module):
    """The same weight twice, under two names, and two slices of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1, bias=False)
        self.second = nn.Conv2d(4, 4, 1, bias=False)
        self.second.weight = self.first.weight
        both = torch.randn(8, 4)
        self.register_buffer("upper", both[:4])
        self.register_buffer("transposed", both[4:].t())

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(torch.relu(self.first(x))).mean((2, 3))
        return x @ self.upper + x @ self.transposed


class Shuffled(nn.Module):
    """Channels split by parity; one half is convolved."""

    def __init__(self) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(2, 2, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(2, affine=False), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        even, odd = torch.unflatten(x, 1, (-1, 2)).unbind(2)
        return torch.cat((even, self.main(odd)), 1)


class Several(nn.Module):
    """Several outputs in a dict and a tuple."""

    def forward(self, x: Tensor) -> dict[str, Tensor | tuple[Tensor, Tensor]]:
        return {"mean": x.mean((2, 3)), "ends": (x.amax((2, 3)), x.amin((2, 3)))}


def traced() -> nn.Module:
    """A graph module, as frozen arithmetic is emitted."""
    return torch.fx.symbolic_trace(nn.Sequential(Shuffled(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "tied": Tied,
    "shuffled": Shuffled,
    "graph_module": traced,
    "several": Several,
}

Deliver = Callable[[str], Delivery]


@pytest.fixture
def deliver() -> Deliver:
    """Return a function that delivers one of the networks above, in evaluation mode."""

    def of(name: str) -> Delivery:
        architecture = Architecture({"block": "a", "edges": ("x", "y")})
        return Delivery(NETWORKS[name]().eval(), architecture, SHAPE, {"accuracy": 0.75})

    return of


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
