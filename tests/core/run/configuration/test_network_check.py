"""Before a run begins, a network takes a real batch and the task judges what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Batch, Direction, Predictor, Task
from automl_nas.run.configuration.network_check import check_network
from automl_nas.space import Architecture, Choice, SearchSpace
from automl_nas.testing.toys import ToyTask


class Networks(SearchSpace):
    """A space of one network, which a function makes."""

    def __init__(self, make: Callable[[], nn.Module], input_shape: tuple[int, ...] = (3, 16, 16)) -> None:
        self._make, self._input_shape = make, input_shape

    @property
    def decisions(self) -> Mapping[str, Choice]:
        return {"only": Choice((0, 1))}

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._input_shape

    def build(self, architecture: Architecture) -> nn.Module:
        return self._make()


class OwnTask(Task):
    """What a user writes: no num_classes, nothing but a loss of torch. Targets are made by a function."""

    def __init__(
        self, loss: Callable[[Tensor, Tensor], Tensor], targets: Tensor, shape: tuple[int, ...] = (3, 16, 16)
    ) -> None:
        self._function, self._targets, self._shape = loss, targets, shape

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def metrics(self) -> Mapping[str, Direction]:
        return {"loss": "minimize"}

    def size(self, split: str) -> int:
        return len(self._targets)

    def batches_per_epoch(self, split: str) -> int:
        return 1

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        yield self._inputs(), self._targets

    def _inputs(self) -> Tensor:
        return torch.randn(len(self._targets), *self._shape, generator=torch.Generator().manual_seed(0))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._function(outputs, targets)

    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        return {"loss": float(self._function(model(self._inputs()), self._targets))}


class Tokens(OwnTask):
    def _inputs(self) -> Tensor:
        return torch.arange(len(self._targets) * self._shape[0]).reshape(-1, *self._shape) % 11


LABELS = torch.arange(8) % 3
MASKS = torch.zeros(8, 16, 16, dtype=torch.int64)
CLASSES = OwnTask(F.cross_entropy, LABELS)
DENSE = OwnTask(F.cross_entropy, MASKS)
NUMBERS = OwnTask(F.mse_loss, torch.randn(8, generator=torch.Generator().manual_seed(1)))
BLOBS = ToyTask(num_classes=3, input_shape=(3, 16, 16))


class Returns(nn.Module):
    """A classifier whose outputs a function changes."""

    def __init__(self, change: Callable[[Tensor], object], outputs: int = 3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(768, outputs))
        self.change = change

    def forward(self, x: Tensor) -> object:
        return self.change(self.body(x))


def classifier(outputs: int = 3) -> nn.Module:
    return Returns(lambda y: y, outputs)


def dense() -> nn.Module:
    return nn.Conv2d(3, 3, 1)


@pytest.mark.parametrize(
    ("make", "task"),
    [
        (classifier, CLASSES),
        (classifier, BLOBS),
        (dense, DENSE),
        (lambda: Returns(lambda y: y.squeeze(1), 1), NUMBERS),
        (lambda: classifier(2), OwnTask(F.mse_loss, torch.zeros(8, 2))),
        (
            lambda: nn.Sequential(nn.Embedding(11, 4), nn.Flatten(), nn.Linear(20, 3)),
            Tokens(F.cross_entropy, LABELS, (5,)),
        ),
    ],
    ids=["classes", "task with num_classes", "segmentation", "regression", "two numbers", "tokens"],
)
@pytest.mark.parametrize("states_its_shape", [True, False])
def test_networks_that_fit_are_accepted(make: Callable[[], nn.Module], task: Task, states_its_shape: bool) -> None:
    before = torch.get_rng_state()
    check_network(Networks(make, task.input_shape if states_its_shape else ()), task, "space")
    assert torch.equal(before, torch.get_rng_state())


def lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


def wrong_channels() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(5, 4, 1)), nn.Flatten(), nn.Linear(1024, 3))


def undefined(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets) * float("nan")


@pytest.mark.parametrize(
    ("make", "task", "message"),
    [
        (lambda: Returns(lambda y: (y, y)), CLASSES, r"^space: .* returns a tuple in evaluation mode"),
        (lambda: Returns(lambda y: {"logits": y}), CLASSES, "returns a dict in training mode"),
        (lambda: Returns(lambda y: None), CLASSES, "returns a NoneType in training mode.*from forward"),
        (lambda: Returns(lambda y: [y]), CLASSES, "returns a list"),
        (lambda: classifier(2), CLASSES, r"loss fails for outputs of shape \(4, 2\) and targets of shape \(4,\)"),
        (lambda: classifier(5), BLOBS, "have 5 outputs, and the task has 3 classes; set the space's num_classes"),
        (lambda: classifier(2), BLOBS, "have 2 outputs, and the task has 3 classes"),
        (dense, CLASSES, r"outputs of shape \(4, 3, 16, 16\) and targets of shape \(4,\)"),
        (dense, BLOBS, r"outputs have the shape \(4, 3, 16, 16\).* needs outputs of shape \(batch, 3\); reduce"),
        (classifier, DENSE, r"outputs of shape \(4, 3\) and targets of shape \(4, 16, 16\)"),
        (lambda: classifier().double(), CLASSES, r"'body.1.weight' .* is float64.*remove"),
        (lazy, CLASSES, r"'1' \(LazyLinear\) is lazy.*without 'Lazy'"),
        (wrong_channels, CLASSES, r"fails in training mode .*\(4, 3, 16, 16\).* '1.0' \(Conv2d\) raises: Given"),
        (lambda: classifier(1), NUMBERS, r"would broadcast outputs of shape \(4, 1\) and targets of shape \(4,\)"),
        (classifier, OwnTask(undefined, LABELS), r"loss .* is nan for a network with fresh weights in training mode"),
        (lambda: Returns(lambda y: y * torch.inf), CLASSES, "since the network's outputs are not finite"),
        (lambda: Returns(lambda y: y.detach()), CLASSES, r"does not depend on the network's parameters.*remove detach"),
        (classifier, OwnTask(lambda y, t: F.cross_entropy(y, t, reduction="none"), LABELS), r"the shape \(4,\)"),
        (classifier, OwnTask(lambda y, t: 0.5, LABELS), "returned a float; it must be a tensor"),  # type: ignore[arg-type, return-value]
        (classifier, Tokens(F.cross_entropy, LABELS, (768,)), r"'body.1' \(Linear\) raises.*nn.Embedding"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make: Callable[[], nn.Module], task: Task, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_network(Networks(make, task.input_shape), task, "space")


class WithHeads(nn.Module):
    """Returns auxiliary outputs in training mode only, as torchvision's GoogLeNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.body = classifier()

    def forward(self, x: Tensor) -> Any:
        y = self.body(x)
        return (y, y) if self.training else y


def test_auxiliary_outputs_in_training_are_no_error() -> None:
    check_network(Networks(WithHeads), CLASSES, "space")


def test_a_task_with_a_wrong_input_shape_is_refused() -> None:
    task = OwnTask(F.cross_entropy, LABELS)
    space = Networks(classifier, (1, 16, 16))
    with pytest.raises(ConfigurationError, match=r"takes inputs of shape \(1, 16, 16\).*\(3, 16, 16\)"):
        check_network(space, task, "final.space")
