"""The training loop (`Fit`), and the metrics of a trained network (`score`)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError, DataError, DivergedError, PluginError
from automl_nas.evaluation.plain_number import plain_number
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Batch, Task, TaskReport
from automl_nas.evaluation.training.auxiliary_heads import Outputs, training_form, training_loss
from automl_nas.evaluation.training.batch_norm import full_batches, recalibrate as recalibrate
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.streams import stream_seed

Forward = Callable[[nn.Module, Tensor, int], Outputs]
"""``forward(network, inputs, count) -> outputs``; the function of a supernet strategy adds the selection. ``count`` is
the number of the pass: ``iteration * passes + pass``."""


def _call(network: nn.Module, inputs: Tensor, count: int) -> Outputs:
    outputs: Outputs = network(inputs)
    return outputs


@dataclass(frozen=True)
class Progress:
    """The result of `Fit.advance`.

    Attributes:
        iterations: the number of iterations.
        loss: their mean training loss, over all processes; NaN if there were no iterations.
        learning_rate: the learning rate of the last iteration.
        examples: the number of samples.
        seconds: the duration, wall clock.
    """

    iterations: int
    loss: float
    learning_rate: float
    examples: int
    seconds: float


class Fit:
    """Trains a network on a split of a task. A training that is resumed at any iteration has bit-equal results.

    Args:
        network: a network on the runtime's device, which is trained in place. If it has a training form (with auxiliary
            heads, see `auxiliary_heads`), the training form is trained, and ``network`` is its delivered part.
        task: data and loss.
        runtime: device, precision and processes.
        recipe: optimiser, schedule and length.
        seed: of the streams for shuffling, augmentation and dropout.
        split: the split to train on.
        forward: the call of the network; by default ``network(inputs)``.
        passes: the number of calls in each iteration, on the same batch. Their gradients are added before one step of
            the optimiser (strict fairness: FairNAS, Chu et al. 2019, algorithm 1).

    Raises:
        ConfigurationError: the split has fewer samples than one batch, or ``passes`` is not positive.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        runtime: Runtime,
        recipe: Recipe,
        *,
        seed: int,
        split: str = "train",
        forward: Forward = _call,
        passes: int = 1,
    ) -> None:
        if passes < 1:
            raise ConfigurationError(f"passes must be at least 1, not {passes}", path="passes")
        self.network, self.task, self.runtime, self.recipe = network, task, runtime, recipe
        self.iteration = 0
        self._seed, self._split, self._forward, self._passes = seed, split, forward, passes
        self._data_seed = stream_seed(seed, "data")
        self._purpose = f"step/{runtime.rank}" if runtime.rank else "step"
        self._per_epoch = full_batches(task, split)
        self.iterations = recipe.epochs * self._per_epoch
        with runtime.seeded(seed, "auxiliary"):
            self._trained = runtime.place(training_form(network))
        self._parallel = runtime.parallel(self._trained)
        self._optimizer = make_optimizer(self._trained, recipe)
        self._batches: Iterator[Batch] | None = None

    @property
    def done(self) -> bool:
        """Whether all iterations are finished."""
        return self.iteration >= self.iterations

    @property
    def epoch(self) -> int:
        """The epoch of the next iteration, counted from 0."""
        return self.iteration // self._per_epoch

    def advance(self, iterations: int) -> Progress:
        """Train for a number of iterations, or for fewer at the end of the training.

        Raises:
            DivergedError: the loss became NaN or infinite; the message names the iteration.
        """
        begun = time.perf_counter()
        first = self.iteration
        examples = 0
        losses = []
        self._trained.train()
        with self.runtime.seeded(self._seed, self._purpose, first):
            for _ in range(min(iterations, self.iterations - self.iteration)):
                inputs, targets = self._next_batch()
                losses.append(self._iterate(inputs, targets))
                examples += len(inputs)
                self.iteration += 1
        # Losses are read once: reading each of them would make the CPU wait for the accelerator at every iteration.
        values = torch.stack(losses) if losses else torch.full((1,), math.nan)
        self.runtime.reduce([values])
        values = values.double().cpu()
        if losses and not bool(torch.isfinite(values).all()):
            offset = int((~torch.isfinite(values)).nonzero()[0])
            iteration = first + offset
            raise DivergedError(
                f"the training loss became {values[offset].item()} at iteration {iteration} "
                f"(epoch {iteration // self._per_epoch}, learning rate "
                f"{learning_rate(self.recipe, iteration, self._per_epoch):.3g}); lower learning_rate, add "
                "warmup_epochs or set clip_norm"
            )
        rate = learning_rate(self.recipe, max(self.iteration - 1, 0), self._per_epoch)
        return Progress(len(losses), values.mean().item(), rate, examples, time.perf_counter() - begun)

    def state_dict(self) -> dict[str, Any]:
        """Return iteration, weights and the optimiser's state; the tensors are not copied."""
        return {
            "iteration": self.iteration,
            "network": self._trained.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from `state_dict`; network, recipe and data must be the same."""
        self._trained.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.iteration = state["iteration"]
        self._batches = None

    def _next_batch(self) -> Batch:
        epoch, start = divmod(self.iteration, self._per_epoch)
        if self._batches is None or start == 0:
            self._batches = iter(self.task.batches(self._split, epoch, self._data_seed, start))
        batch = next(self._batches, None)
        if batch is None:
            raise DataError(
                f"epoch {epoch} of the split '{self._split}' ended after {start} batches, but the task's "
                f"batches_per_epoch is {self._per_epoch}"
            )
        return batch

    def _iterate(self, inputs: Tensor, targets: Tensor) -> Tensor:
        runtime, optimizer = self.runtime, self._optimizer
        rate = learning_rate(self.recipe, self.iteration, self._per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        runtime.reseed(self._seed, self._purpose, self.iteration)
        x, y = runtime.tensor(runtime.shard(inputs)), runtime.tensor(runtime.shard(targets))
        # None instead of 0: weight decay and momentum must not change parameters that the loss does not depend on.
        optimizer.zero_grad(set_to_none=True)
        losses = []
        for turn in range(self._passes):
            with runtime.autocast():
                outputs = self._forward(self._parallel, x, self.iteration * self._passes + turn)
                loss = training_loss(self.task, outputs, y, self.recipe.auxiliary)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._trained.parameters(), self.recipe.clip_norm)
        optimizer.step()
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()


def learning_rate(recipe: Recipe, iteration: int, per_epoch: int) -> float:
    """Return the learning rate of an iteration: linear warm-up, then the schedule over the remaining iterations.

    With restarts the schedule applies to each cycle (SGDR: Loshchilov and Hutter 2017, equation 5).
    """
    warmup = round(recipe.warmup_epochs * per_epoch)
    if iteration < warmup:
        return recipe.learning_rate * (iteration + 1) / (warmup + 1)
    start, length = warmup, recipe.epochs * per_epoch - warmup
    if recipe.restart_epochs is not None:
        length = recipe.restart_epochs * per_epoch
        while iteration >= start + length:
            start, length = start + length, length * recipe.restart_factor
    passed = (iteration - start) / length
    if recipe.schedule == "linear":
        return recipe.learning_rate * (1 - passed)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * passed))
    return recipe.learning_rate


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser. Weight decay applies to parameters with more than one dimension, or to all."""
    parameters = list(network.parameters())
    decayed = [p for p in parameters if recipe.decay == "all" or p.dim() > 1]
    rest = [p for p in parameters if not (recipe.decay == "all" or p.dim() > 1)]
    groups = [
        {"params": group, "weight_decay": decay}
        for group, decay in ((decayed, recipe.weight_decay), (rest, 0.0))
        if group
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate)
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)


def score(network: nn.Module, task: Task, runtime: Runtime, split: str) -> dict[str, float]:
    """Return the task's metrics of a network over a split; the network is in evaluation mode afterwards.

    Raises:
        PluginError: a metric is not a number.
    """
    return _plain_metrics(task, split, task.score(runtime.predictor(network), split))


def report(network: nn.Module, task: Task, runtime: Runtime, split: str) -> TaskReport:
    """Return the task's report of a network over a split; the network is in evaluation mode afterwards.

    Raises:
        PluginError: a metric or an end of an interval is not a number, or the details are not JSON.
    """
    report = task.report(runtime.predictor(network), split)
    owner = f"the task {type(task).__name__}"
    if not isinstance(report, TaskReport):
        raise PluginError(f"{owner} returned a {type(report).__name__} from report, not a TaskReport")
    try:
        intervals = {name: (float(low), float(high)) for name, (low, high) in report.intervals.items()}
        details = json.loads(json.dumps(dict(report.details), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"{owner}: the intervals of a report must be pairs of numbers and its details JSON: {error}"
        ) from None
    metrics = _plain_metrics(task, split, report.metrics)
    return TaskReport(metrics, intervals, details, tuple(map(str, report.warnings)))


def _plain_metrics(task: Task, split: str, values: Mapping[str, float]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, value in values.items():
        try:
            metrics[name] = plain_number(value)
        except TypeError as error:
            raise PluginError(
                f"the task {type(task).__name__} scored the metric '{name}' of the split '{split}' as {error}"
            ) from None
    return metrics
