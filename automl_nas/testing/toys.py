"""Toys for tests: a space, a cost, an evaluator and a task that are so small that results can be computed by hand.

Importing this module does not import torch, which is only needed for networks and data.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

from automl_nas.errors import DataError, EvaluationError, did_you_mean
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request
from automl_nas.evaluation.task import SPLITS, Batch, Direction, Predictor, Task
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Choice, Decision
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream, stream_seed

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


class ToySpace(SearchSpace):
    """A few blocks, each a residual convolution with a choice of kernel size.

    Decisions ``d0``, ``d1``, ... are `Choice` of ``0 .. options - 1``; option i is a kernel of ``2 i + 1`` pixels.

    Args:
        blocks: the number of decisions.
        options: the number of options of each decision.
        width: the number of channels of every block.
        num_classes: the number of outputs.
        input_shape: the shape of one input.
    """

    def __init__(
        self,
        *,
        blocks: int = 4,
        options: int = 3,
        width: int = 4,
        num_classes: int = 3,
        input_shape: tuple[int, ...] = (1, 4, 4),
    ) -> None:
        self._decisions: dict[str, Decision] = {f"d{block}": Choice(tuple(range(options))) for block in range(blocks)}
        self._input_shape = tuple(input_shape)
        self._width, self._num_classes = width, num_classes

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """``d0``, ``d1``, ...: the kernel size of each block."""
        return self._decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input without the batch."""
        return self._input_shape

    def build(self, architecture: Architecture) -> nn.Module:
        """Return a small convolutional network; see `SearchSpace.build`."""
        from torch import nn

        values = self.validate(architecture)
        layers: list[nn.Module] = [nn.Conv2d(self._input_shape[0], self._width, 1, bias=False)]
        for name in self._decisions:
            kernel = 2 * int(str(values[name])) + 1
            layers += [
                nn.Conv2d(self._width, self._width, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(self._width),
                nn.ReLU(),
            ]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self._width, self._num_classes)]
        return nn.Sequential(*layers)


class ToyCost(CostModel):
    """The sum of all numbers of an architecture's code (`Decision.encode`): an additive cost for every space.

    In a `ToySpace` the cost of an option is its number, so that costs are from 0 to ``blocks * (options - 1)``.

    Args:
        space: the search space.
    """

    metric: ClassVar[str] = "toy_cost"
    unit: ClassVar[str] = "units"
    integral: ClassVar[bool] = True

    def __init__(self, space: SearchSpace) -> None:
        self._decisions = dict(space.decisions)

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return decision name -> sum of the numbers of its code."""
        return {name: float(sum(d.encode(architecture[name]))) for name, d in self._decisions.items()}


def toy_metric(architecture: Architecture, space: SearchSpace) -> float:
    """Return an accuracy in (0, 1]: ``1 / (1 + sum_j (1 + j / 10) (c_j - t_j)^2)``.

    c_j is the j-th number of the architecture's code and t_j = (2 j + 1) mod 3 its target (at most the last option).
    The accuracy is 1 only at `toy_optimum`; because of the weights few architectures have equal accuracies.
    """
    squares = 0.0
    for index, (name, decision) in enumerate(space.decisions.items()):
        for code in decision.encode(architecture[name]):
            squares += (1 + index / 10) * (code - _target(index, decision)) ** 2
    return 1.0 / (1.0 + squares)


def _target(index: int, decision: Decision) -> int:
    largest = decision.size - 1 if decision.width == 1 else 1
    return min((2 * index + 1) % 3, largest)


def toy_optimum(space: SearchSpace) -> Architecture:
    """Return the only architecture with a `toy_metric` of 1, in a space of Choice, Ordinal and unbounded Subset."""
    return space.validate(
        {name: d.decode([_target(index, d)] * d.width) for index, (name, d) in enumerate(space.decisions.items())}
    )


class ToyEvaluator(Evaluator):
    """Returns `toy_metric` as ``accuracy``, without torch and data.

    Args:
        space: the search space.
        noise: standard deviation of a Gaussian noise that is added to the metric, from the request's seed.
        pause: seconds of sleep in each evaluation.
        failing: decision -> option; an architecture with one of these options raises EvaluationError.
    """

    def __init__(
        self, space: SearchSpace, *, noise: float = 0.0, pause: float = 0.0, failing: dict[str, int] | None = None
    ) -> None:
        self._space, self._noise, self._pause, self._failing = space, noise, pause, dict(failing or {})

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield the metric of each request, in order."""
        for request in requests:
            if self._pause:
                time.sleep(self._pause)
            for name, option in self._failing.items():
                if request.architecture[name] == option:
                    raise EvaluationError(f"ToyEvaluator fails for {name} = {option}")
            value = toy_metric(request.architecture, self._space)
            if self._noise:
                value += stream(request.seed, "noise").gauss(0.0, self._noise)
            yield Outcome(request.number, {"accuracy": value})

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        """Return ``accuracy``."""
        return frozenset({"accuracy"})


class ToyTask(Task):
    """Classification of Gaussian blobs: each class has a random image, each sample is this image plus noise.

    Augmentation adds a brightness of at most 0.1 to a sample.

    Args:
        num_classes: the number of blobs.
        input_shape: the shape of one image.
        train: the number of samples of the split ``train``.
        search: the number of samples of the split ``search``.
        test: the number of samples of the split ``test``.
        batch_size: the number of samples of a training batch.
        noise: standard deviation of the noise; the pixels of a class's image have standard deviation 1.
        data_seed: the seed of the images.
    """

    def __init__(
        self,
        *,
        num_classes: int = 3,
        input_shape: tuple[int, ...] = (1, 4, 4),
        train: int = 96,
        search: int = 48,
        test: int = 48,
        batch_size: int = 16,
        noise: float = 1.0,
        data_seed: int = 0,
    ) -> None:
        self._num_classes, self._input_shape = num_classes, tuple(input_shape)
        self._sizes = {"train": train, "search": search, "test": test, "train+search": train + search}
        self._batch_size, self._noise, self._data_seed = batch_size, noise, data_seed
        self._data: dict[str, tuple[Tensor, Tensor]] = {}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one image."""
        return self._input_shape

    @property
    def num_classes(self) -> int:
        """The number of blobs."""
        return self._num_classes

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """``accuracy`` in [0, 1] and the mean cross entropy ``loss``."""
        return {"accuracy": "maximize", "loss": "minimize"}

    def size(self, split: str) -> int:
        """Return the number of samples of a split."""
        if split not in self._sizes:
            raise DataError(f"unknown split '{split}'{did_you_mean(split, SPLITS)}")
        return self._sizes[split]

    def batches_per_epoch(self, split: str) -> int:
        """Return the number of full batches of a split."""
        return self.size(split) // self._batch_size

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield shuffled, augmented batches; see `Task.batches`."""
        images, labels = self._split(split)
        order = list(range(self.size(split)))
        stream(seed, "shuffle", epoch).shuffle(order)
        for batch in range(start, self.batches_per_epoch(split)):
            indices = order[batch * self._batch_size : (batch + 1) * self._batch_size]
            shift = [stream(seed, f"augment/{epoch}", index).uniform(-0.1, 0.1) for index in indices]
            brightness = images.new_tensor(shift).view(-1, *[1] * len(self._input_shape))
            yield images[indices] + brightness, labels[indices]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy."""
        from torch.nn import functional as F

        return F.cross_entropy(outputs, targets)

    def check_outputs(self, outputs: Tensor, targets: Tensor) -> None:
        """Refuse outputs that are not one score for each blob."""
        from automl_nas.evaluation.tasks.outputs import check_class_outputs

        check_class_outputs(outputs, targets, self._num_classes)

    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        """Return accuracy and loss over a split."""
        from torch.nn import functional as F

        images, labels = self._split(split)
        outputs = model(images)
        correct = (outputs.argmax(1) == labels).sum().item()
        return {"accuracy": correct / len(labels), "loss": F.cross_entropy(outputs, labels).item()}

    def _split(self, split: str) -> tuple[Tensor, Tensor]:
        import torch

        size = self.size(split)
        if split == "train+search":
            parts = [self._split("train"), self._split("search")]
            return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
        if split not in self._data:
            classes, shape = self._num_classes, self._input_shape
            centres = torch.randn(classes, *shape, generator=self._generator("centres"), dtype=torch.float32)
            labels = torch.arange(size) % self._num_classes
            noise = torch.randn(size, *shape, generator=self._generator(split), dtype=torch.float32)
            self._data[split] = centres[labels] + self._noise * noise, labels
        return self._data[split]

    def _generator(self, purpose: str) -> Generator:
        import torch

        return torch.Generator().manual_seed(stream_seed(self._data_seed, f"toy/{purpose}"))
