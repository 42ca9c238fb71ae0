"""The settings of `TaskContract`, and what its clauses look at: `TaskUses`."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from automl_nas.evaluation.task import SPLITS, Batch, Task
from automl_nas.testing.contract import Contract, require
from automl_nas.testing.handed import digest

if TYPE_CHECKING:
    from torch import Tensor

BASIC = ("train", "search", "test")

_UNIT = (0.0, 1.0)
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("accuracy", "top1", "top5", "balanced_accuracy", "macro_f1", "f1", "precision", "recall"), _UNIT),
    **dict.fromkeys(("mean_iou", "iou", "dice", "auc", "roc_auc", "mean_average_precision"), _UNIT),
    "r2": (-math.inf, 1.0),
    **dict.fromkeys(("loss", "mse", "mae", "rmse", "cross_entropy"), (0.0, math.inf)),
}
"""The ranges of metrics with well-known names."""


class TaskUses(Contract):
    """The settings of `TaskContract`.

    Attributes:
        shared: the number of samples of one basic split that may also be in another, because the data set contains
            duplicates.
        output_shape: the shape of a network's output for one sample; None: ``(num_classes,)``. Set it for regression
            (``(k,)``) and for dense targets (``(classes, height, width)``).
        ignored: the class number of targets that do not count; None: all count.
        integers: whether inputs are int64, such as tokens; False: they are float32.
        ranges: metric -> smallest and largest value, of metrics that are not in `RANGES`.
    """

    shared: ClassVar[int] = 0
    output_shape: ClassVar[tuple[int, ...] | None] = None
    ignored: ClassVar[int | None] = None
    integers: ClassVar[bool] = False
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {}
    other_threads: ClassVar[bool] = False

    @abstractmethod
    def make_task(self) -> Task:
        """Return a new task; all instances have the same settings."""

    def equivalents(self) -> Iterable[Task]:
        """Return tasks that must yield the same samples in the same order (default: an empty tuple).

        Return the task with other numbers of loader workers and with other batch sizes, if it has such settings.
        """
        return ()

    def use(self, store: Path) -> Mapping[str, Any]:
        """Read batches of every split, and score a network."""
        task = self.make_task()
        predictor = self._predictor(task)
        next(task.batches("train", 0, 5), None)  # and leave the iterator: nothing may go on running
        return {
            "fingerprint": task.fingerprint(),
            "input shape": list(task.input_shape),
            "sizes": [task.size(split) for split in SPLITS],
            "batches": {
                split: _digests(islice(task.batches(split, 1, 5), task.batches_per_epoch(split) + 1))
                for split in SPLITS
            },
            "scores": [dict(task.score(predictor, split)) for split in BASIC],
            "scored inputs": [digest(self._scored_inputs(task, split)) for split in BASIC],
        }

    def _output_shape(self, task: Task) -> tuple[int, ...]:
        if self.output_shape is not None:
            return self.output_shape
        require(task.num_classes is not None, "set output_shape of the contract class")
        assert task.num_classes is not None
        return (task.num_classes,)

    def _predictor(self, task: Task) -> Callable[[Tensor], Tensor]:
        """Return a fixed linear network, which is deterministic and has no state."""
        shape, size = self._output_shape(task), math.prod(task.input_shape)
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(size, math.prod(shape), generator=generator, dtype=torch.float32) / math.sqrt(size)
        return lambda inputs: (inputs.flatten(1).float() @ weight).reshape(len(inputs), *shape)

    def _scored_inputs(self, task: Task, split: str) -> Tensor:
        """Return the inputs with which `score` calls a network, in order."""
        seen: list[Tensor] = []
        inner = self._predictor(task)

        def recorder(inputs: Tensor) -> Tensor:
            seen.append(inputs.clone())
            return inner(inputs)

        task.score(recorder, split)
        require(seen, f"score does not call the network for the split {split}")
        return torch.cat(seen)


def _digests(batches: Iterable[Batch]) -> list[list[str]]:
    return [[digest(inputs), digest(targets)] for inputs, targets in batches]
