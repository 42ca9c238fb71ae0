"""Auxiliary outputs: their losses, and heads that serve training only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.fit import Fit
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.streams import stream_seed
from automl_nas.testing.toys import ToyTask

SEED = 7


def runtime() -> Runtime:
    return Runtime(device="cpu")


def task() -> ToyTask:
    return ToyTask(input_shape=(3, 6, 6), train=50, batch_size=16)  # 3 full batches


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


class Heads(nn.Module):
    """Two outputs in training, one in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.main, self.side = nn.Conv2d(3, 8, 1), nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.stem(x).mean((2, 3))
        return (self.main(x), self.side(x)) if self.training else self.main(x)


class Plain(nn.Module):
    """A network whose auxiliary head belongs to its training form only."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.main = nn.Conv2d(3, 8, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.main(self.stem(x).mean((2, 3)))
        return outputs

    def training_form(self) -> nn.Module:
        return Around(self)


class Around(nn.Module):
    def __init__(self, network: Plain) -> None:
        super().__init__()
        self.network, self.side = network, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.network.stem(x).mean((2, 3))
        return self.network.main(x), self.side(x)


def plain() -> Plain:
    with runtime().seeded(SEED, "init"):
        return runtime().place(Plain())


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_auxiliary_losses_are_added_with_their_weight(weight: float) -> None:
    with runtime().seeded(SEED, "init"):
        trained, net = (runtime().place(Heads()) for _ in range(2))
    net.load_state_dict(trained.state_dict())
    recipe = Recipe(epochs=1, learning_rate=0.2, schedule="constant", weight_decay=0.0, auxiliary=weight)
    Fit(trained, task(), runtime(), recipe, seed=SEED).advance(3)

    optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
    for inputs, targets in task().batches("train", 0, stream_seed(SEED, "data")):
        main, side = net(inputs.to(memory_format=torch.channels_last))
        optimizer.zero_grad()
        loss = F.cross_entropy(main, targets)
        if weight:
            loss = loss + weight * F.cross_entropy(side, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert same(trained, net)


def test_a_training_form_is_trained_and_resumed_and_its_network_delivered() -> None:
    recipe = Recipe(epochs=2, learning_rate=0.2)
    whole = Fit(plain(), task(), runtime(), recipe, seed=SEED)
    whole.advance(6)
    without = Fit(plain(), task(), runtime(), Recipe(epochs=2, learning_rate=0.2, auxiliary=0.0), seed=SEED)
    without.advance(6)
    assert not same(whole.network, without.network)  # the head's loss reached the stem
    assert set(whole.network.state_dict()) == set(plain().state_dict())

    first = Fit(plain(), task(), runtime(), recipe, seed=SEED)
    first.advance(2)
    assert "side.weight" in first.state_dict()["network"]
    second = Fit(plain(), task(), runtime(), recipe, seed=SEED)
    second.load_state_dict(first.state_dict())
    second.advance(4)
    assert same(whole.network, second.network)
