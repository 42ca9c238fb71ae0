"""A small space with a supernet, a task, and doubles of what a run supplies."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from torch import Tensor, nn

from automl_nas.evaluation.artifacts import Artifacts
from automl_nas.evaluation.runtime import Runtime
from automl_nas.space.modules.choice import OneOf
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.testing.services import SimulatedServices
from automl_nas.testing.toys import ToyTask


class MemoryArtifacts(Artifacts):
    """Weights in a dict; counts how often they were saved."""

    def __init__(self, **stored: Mapping[str, Tensor]) -> None:
        self.stored = {name: dict(tensors) for name, tensors in stored.items()}
        self.saved = 0

    def save(self, tensors: Mapping[str, Tensor], *, name: str = "weights") -> None:
        self.saved += 1
        self.stored[name] = {key: value.clone() for key, value in tensors.items()}

    def load(self, reference: str) -> dict[str, Tensor]:
        return dict(self.stored[reference])


def _block() -> OneOf:
    return OneOf(
        {
            f"conv{k}": nn.Sequential(nn.Conv2d(4, 4, k, padding=k // 2, bias=False), nn.BatchNorm2d(4), nn.ReLU())
            for k in (1, 3, 5)
        }
    )


def _network() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(4, 3))
    return nn.Sequential(stem, _block(), _block(), head)


def make_space() -> ModuleSpace:
    return ModuleSpace(_network, input_shape=(1, 4, 4))


def make_weights() -> dict[str, Tensor]:
    """Return weights of the space's supernet, and statistics of batch normalisation that fit no candidate."""
    runtime = Runtime(device="cpu")
    with runtime.seeded(3, "weights"):
        state = {name: value.clone() for name, value in make_space().build_supernet().state_dict().items()}
    for name, value in state.items():
        if name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            value += 2
    return state


@pytest.fixture
def space() -> ModuleSpace:
    return make_space()


@pytest.fixture
def task() -> ToyTask:
    return ToyTask(train=80)  # 5 batches of 16


@pytest.fixture
def runtime() -> Runtime:
    return Runtime(device="cpu")


@pytest.fixture
def services() -> SimulatedServices:
    def judge(number: int, proposal: Proposal) -> Trial:
        raise AssertionError("training a supernet evaluates nothing")

    return SimulatedServices(judge)


@pytest.fixture
def artifacts() -> Callable[..., MemoryArtifacts]:
    return MemoryArtifacts


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return make_weights()
