"""The base of tasks whose loss and metrics come from this package: `SupervisedTask`."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation.task import Batch, Direction, Predictor, Task, TaskReport
from automl_nas.evaluation.tasks.bootstrap import bootstrap_weights
from automl_nas.evaluation.tasks.details import make_details
from automl_nas.evaluation.tasks.losses import Loss
from automl_nas.evaluation.tasks.metrics import Metric

RESAMPLES = 1000
"""The default number of bootstrap resamples of an interval."""


class SupervisedTask(Task):
    """A task with a loss and metrics by name. A subclass provides the data: `batches`, `scored_batches`, sizes.

    Metrics are those of scikit-learn; the ``loss`` of scores has neither label smoothing nor class weights. Intervals
    are Wilson's for proportions of samples and bootstrap percentile intervals over samples for everything
    else.

    Args:
        loss: see `make_loss`.
        metrics: see `make_metrics`.
        ignore_index: the class number of targets that do not count.
        names: of the classes or labels, for details, each another one; None: their numbers.
        scale: mean and deviation of the targets if training targets are ``(target - mean) / deviation``, each of the
            shape of one target: metrics are then computed from ``output * deviation + mean`` and the targets in their
            own unit. None: training targets are the targets.
        resamples: the number of bootstrap resamples of an interval; 0: metrics that need them have no interval.
        preprocessing: how inputs were computed from raw data, as plain data for the details; None: nothing.
    """

    @abstractmethod
    def __init__(
        self,
        loss: Loss,
        metrics: Mapping[str, Metric],
        *,
        ignore_index: int | None = None,
        names: Sequence[str] | None = None,
        scale: tuple[Tensor, Tensor] | None = None,
        resamples: int = RESAMPLES,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> None:
        if resamples < 0:
            raise ConfigurationError(f"resamples must be at least 0, not {resamples}", path="task.resamples")
        if names is not None:
            _check_names(names)
        self._resamples, self._preprocessing = resamples, preprocessing
        self._loss, self._metrics, self._scale = loss, dict(metrics), scale
        self._ignore_index, self._names = ignore_index, names

    @abstractmethod
    def scored_batches(self, split: str) -> Iterator[Batch]:
        """Yield the samples of a split in a fixed order and without augmentation; batches may differ in size.

        Targets are in their own unit, see ``scale``.

        Raises:
            DataError: the split does not exist.
        """

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the classes or labels; None if they have none."""
        return None if self._names is None else tuple(self._names)

    def preprocessing(self) -> Mapping[str, Any] | None:
        """Return how inputs are computed from raw data; see `Task.preprocessing`."""
        return None if self._preprocessing is None else dict(self._preprocessing)

    def outputs(self) -> Mapping[str, Any] | None:
        """Return what the outputs of a network mean; see `Task.outputs`. None for a loss of the user's own."""
        if self._loss.kind == "other":
            return None
        return {"kind": self._loss.kind, "logits": self._loss.kind != "numbers", **self._target_scale()}

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """The metrics and their directions; ``loss`` is the mean training loss without smoothing and weights."""
        return {name: metric.direction for name, metric in self._metrics.items()}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the training loss, the mean over the batch."""
        return self._loss.training(outputs, targets)

    def check_outputs(self, outputs: Tensor, targets: Tensor) -> None:
        """See `Task.check_outputs`: loss and metrics check shapes and types, and the metrics run on the batch."""
        self._loss.check(outputs, targets)
        outputs = outputs.float().cpu()
        for name, metric in self._metrics.items():
            metric.check(outputs, targets)
            collected = metric.collect(False)
            try:
                collected.add(outputs, targets)
                collected.value()
            except DataError:
                raise
            except Exception as error:
                raise DataError(
                    f"the metric '{name}' fails for outputs of shape {tuple(outputs.shape)} and targets of shape "
                    f"{tuple(targets.shape)}: {error}"
                ) from error

    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        """Return the metrics of a network over a split.

        Raises:
            DataError: the split does not exist.
        """
        collected = {name: metric.collect(False) for name, metric in self._metrics.items()}
        for inputs, targets in self.scored_batches(split):
            outputs = self._predicted(model, inputs)
            for each in collected.values():
                each.add(outputs, targets)
        return {name: each.value() for name, each in collected.items()}

    def report(self, model: Predictor, split: str) -> TaskReport:
        """Return the metrics of a network over a split with intervals, details and warnings.

        The details of classes are recall, support and confusion matrix; those of labels precision, recall, support and
        a confusion matrix each; those of numbers the RMSE of each output, and ``target_scale`` if a network's outputs
        must be scaled by it.

        Raises:
            DataError: the split does not exist.
        """
        collected = {name: metric.collect(True) for name, metric in self._metrics.items()}
        details = make_details(self._loss.kind, self._ignore_index, self._names)
        for inputs, targets in self.scored_batches(split):
            outputs = self._predicted(model, inputs)
            details.add(outputs, targets)
            for each in collected.values():
                each.add(outputs, targets)
        values = {name: each.value() for name, each in collected.items()}
        intervals = {}
        if all(map(math.isfinite, values.values())):
            size = self.size(split)
            for name, each in collected.items():
                interval = each.interval(bootstrap_weights(size, self._resamples))
                if interval is not None:
                    intervals[name] = interval
        described, warnings = details.summary()
        described |= self._target_scale()
        if (preprocessing := self.preprocessing()) is not None:
            described["preprocessing"] = preprocessing
        return TaskReport(values, intervals, described, tuple(warnings))

    def _target_scale(self) -> dict[str, Any]:
        if self._scale is None:
            return {}
        mean, deviation = (value.tolist() for value in self._scale)
        return {"target_scale": {"mean": mean, "deviation": deviation}}

    def _predicted(self, model: Predictor, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            outputs = model(inputs)
        return outputs if self._scale is None else outputs * self._scale[1] + self._scale[0]


def _check_names(names: Sequence[str]) -> None:
    """Raise ConfigurationError if two classes have one name, which would not say which of them is predicted."""
    numbers: dict[str, int] = {}
    for number, name in enumerate(map(str, names)):
        if name in numbers:
            raise ConfigurationError(
                f"the classes {numbers[name]} and {number} are both called '{name}'; give each class a name of its own",
                path="task.class_names",
            )
        numbers[name] = number
