"""The training batches of a split by their number, across epochs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import final

from automl_nas.errors import DataError
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Batch, Task
from automl_nas.evaluation.training.batch_norm import full_batches


@final
class NumberedBatches:
    """The batches of a split by number, for strategies that train on two splits in turn.

    Each split counts its own epochs, so splits may differ in size.

    Args:
        task: the task.
        split: the split.
        seed: of shuffling and augmentation.
        runtime: under torchrun, each rank receives its part of each batch; None: whole batches.

    Raises:
        ConfigurationError: the split contains no full batch.

    Attributes:
        per_epoch: the number of batches of an epoch.
    """

    def __init__(self, task: Task, split: str, seed: int, runtime: Runtime | None = None) -> None:
        self._task, self._split, self._seed, self._runtime = task, split, seed, runtime
        self.per_epoch = full_batches(task, split)
        self._iterator: Iterator[Batch] | None = None

    def take(self, number: int) -> Batch:
        """Return batch ``number``; numbers must be consecutive, except for the first one after `rewind`.

        Raises:
            DataError: the task yields fewer batches than it promised.
        """
        epoch, start = divmod(number, self.per_epoch)
        if self._iterator is None or start == 0:
            self._iterator = self._batches(epoch, start)
        batch = next(self._iterator, None)
        if batch is None:
            raise DataError(
                f"epoch {epoch} of the split '{self._split}' ended after {start} batches, but the task promised "
                f"{self.per_epoch} (batches_per_epoch)"
            )
        return batch

    def again(self, number: int) -> Batch:
        """Return any batch, whole on every rank, without an effect on what `take` returns next."""
        epoch, start = divmod(number, self.per_epoch)
        return next(iter(self._task.batches(self._split, epoch, self._seed, start)))

    def rewind(self) -> None:
        """Let the next `take` start at any number."""
        self._iterator = None

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        if self._runtime is None:
            return iter(self._task.batches(self._split, epoch, self._seed, start))
        return self._runtime.batches(self._task, self._split, epoch, self._seed, start)
