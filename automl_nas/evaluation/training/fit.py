"""The training loop (`Fit`), and the metrics of a trained network (`score`)."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError, DataError, DivergedError, PluginError
from automl_nas.evaluation.plain_number import plain_number
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Batch, Predictor, Task, TaskReport
from automl_nas.evaluation.training.auxiliary_heads import Outputs, training_form, training_loss
from automl_nas.evaluation.training.batch_norm import full_batches, recalibrate as recalibrate
from automl_nas.evaluation.training.compilation import compiled
from automl_nas.evaluation.training.distillation import Distillation, check_teacher, distillation_loss
from automl_nas.evaluation.training.mixing import check_mixing, mix
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.evaluation.training.schedule import learning_rate as learning_rate
from automl_nas.evaluation.training.weight_states import BestEpoch, WeightAverage, WeightMean
from automl_nas.streams import stream, stream_seed

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
        distillation: a teacher on the runtime's device; None: no teacher.
        in_place: whether the later passes of an iteration learn the outputs of its first pass instead of the targets
            (in-place distillation: Yu & Huang 2019, arXiv 1903.05134, section 3.3): their loss is `distillation_loss`
            at temperature 1, and its gradient does not reach the first pass.
        backend: the backend of `torch.compile` with which the network is compiled in training; ``network`` itself,
            which is scored and saved, stays as it is. None: nothing is compiled.
        averages: name -> average of the weights, updated after each step and part of the state. Unlike that of
            `Recipe.average`, they do not replace the weights at the end.

    Raises:
        ConfigurationError: the split has fewer samples than one step needs, ``passes`` is not positive, early stopping
            has no held-out split or a network that cannot be scored, or ``in_place`` is set with a single pass or with
            a teacher.
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
        distillation: Distillation | None = None,
        in_place: bool = False,
        backend: str | None = None,
        averages: Mapping[str, WeightAverage | WeightMean] | None = None,
    ) -> None:
        if passes < 1:
            raise ConfigurationError(f"passes must be at least 1, not {passes}", path="passes")
        if in_place and (passes == 1 or distillation is not None):
            reason = "several passes in each iteration" if passes == 1 else "no other teacher"
            raise ConfigurationError(f"the first pass is the teacher of the others only with {reason}", path="in_place")
        self.network, self.task, self.runtime, self.recipe = network, task, runtime, recipe
        self.iteration = 0
        self._distillation, self._in_place = distillation, in_place
        self._seed, self._split, self._forward, self._passes = seed, split, forward, passes
        self._data_seed = stream_seed(seed, "data")
        self._purpose = f"step/{runtime.rank}" if runtime.rank else "step"
        self._per_epoch = check_fit(task, recipe, split)
        if recipe.patience is not None and forward is not _call:
            raise ConfigurationError("a supernet without a path cannot be scored after each epoch", path="patience")
        self.iterations = recipe.epochs * self._per_epoch
        with runtime.seeded(seed, "auxiliary"):
            self._trained = runtime.place(training_form(network))
        self._parallel = runtime.parallel(self._trained)
        if backend is not None:
            self._parallel = compiled(self._parallel, backend)
        self._optimizer = make_optimizer(self._trained, recipe)
        self._batches: Iterator[Batch] | None = None
        self._average = None if recipe.average is None else WeightAverage(recipe.average)
        self._best = None if recipe.patience is None else BestEpoch(recipe.patience)
        self._averages = dict(averages or {})
        self._scaler = torch.amp.GradScaler(runtime.device.type) if runtime.precision == "float16" else None

    @property
    def done(self) -> bool:
        """Whether all iterations are finished, or early stopping ended the training."""
        return self.iteration >= self.iterations or (self._best is not None and self._best.stopped)

    @property
    def iterations_per_epoch(self) -> int:
        """The number of iterations of an epoch."""
        return self._per_epoch

    @property
    def left_of_epoch(self) -> int:
        """The number of iterations to the end of the epoch of the next iteration; at least 1."""
        return self._per_epoch - self.iteration % self._per_epoch

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
            for _ in range(iterations):
                if self.done:
                    break
                batches = [self._next_batch(number) for number in range(self.recipe.accumulate)]
                losses.append(self._iterate(batches))
                examples += sum(len(inputs) for inputs, _ in batches)
                self.iteration += 1
                if self.iteration % self._per_epoch == 0 and self._best is not None:
                    if not bool(torch.isfinite(losses[-1])):
                        break
                    self._judge_epoch(self._best)
                if self.done:
                    self._keep_weights()
        # Losses are read once: reading each of them would make the CPU wait for the accelerator at every iteration.
        values = torch.stack(losses) if losses else torch.full((1,), math.nan)
        self.runtime.reduce([values])
        self.runtime.synchronise(self._trained)
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
        examples *= self.runtime.world_size
        return Progress(len(losses), values.mean().item(), rate, examples, time.perf_counter() - begun)

    def state_dict(self) -> dict[str, Any]:
        """Return iteration, weights and the optimiser's state; the tensors are not copied."""
        state: dict[str, Any] = {
            "iteration": self.iteration,
            "network": self._trained.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        for name, part in self._parts().items():
            state[name] = part.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from `state_dict`; network, recipe and data must be the same."""
        self._trained.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.iteration = state["iteration"]
        self._batches = None

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the network the averaged weights (`Recipe.average`) for a while, such as to score it."""
        if self._average is None or self.done:
            yield
            return
        weights = {name: tensor.clone() for name, tensor in self._trained.state_dict().items()}
        self._average.load_into(self._trained)
        try:
            yield
        finally:
            self._trained.load_state_dict(weights)

    def _parts(self) -> dict[str, Any]:
        """Return the parts that only some recipes have, by their names in the state."""
        parts = {"average": self._average, "best": self._best, "scaler": self._scaler, **self._averages}
        return {name: part for name, part in parts.items() if part is not None}

    def _judge_epoch(self, best: BestEpoch) -> None:
        metric, direction = next(iter(self.task.metrics.items()))
        self.runtime.synchronise(self._trained)
        with self.averaged():
            value = score(self.network, self.task, self.runtime, "search")[metric]
            best.judge(value if direction == "maximize" else -value, self._trained)
        self._trained.train()

    def _keep_weights(self) -> None:
        """Replace the weights at the end of the training by those of the best epoch, or by the averaged ones."""
        if self._best is not None:
            self._best.load_into(self._trained)
        elif self._average is not None:
            self._average.load_into(self._trained)

    def _next_batch(self, number: int) -> Batch:
        """Return a batch of the present iteration, by its number in the iteration."""
        epoch, start = divmod(self.iteration, self._per_epoch)
        start = start * self.recipe.accumulate + number
        if self._batches is None or start == 0:
            task = self.runtime.resident(self.task)
            self._batches = self.runtime.batches(task, self._split, epoch, self._data_seed, start)
        batch = next(self._batches, None)
        if batch is None:
            raise DataError(
                f"epoch {epoch} of the split '{self._split}' ended after {start} batches, but the task's "
                f"batches_per_epoch is {self._per_epoch}"
            )
        return batch

    def _iterate(self, batches: Sequence[Batch]) -> Tensor:
        runtime, optimizer = self.runtime, self._optimizer
        rate = learning_rate(self.recipe, self.iteration, self._per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        runtime.reseed(self._seed, self._purpose, self.iteration)
        # None instead of 0: weight decay and momentum must not change parameters that the loss does not depend on.
        optimizer.zero_grad(set_to_none=True)
        losses = [loss for number, batch in enumerate(batches) for loss in self._backward(batch, number)]
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._trained.parameters(), self.recipe.clip_norm)
        if self._scaler is None:
            optimizer.step()
        else:  # a step whose gradients are not finite is left out, and the scale is lowered
            self._scaler.step(optimizer)
            self._scaler.update()
        averages = [each for each in (self._average, *self._averages.values()) if each is not None]
        if averages:
            runtime.synchronise(self._trained)
        for average in averages:
            average.update(self._trained)
        return losses[0] if len(losses) == 1 else torch.stack(losses).mean()

    def _backward(self, batch: Batch, number: int) -> Iterator[Tensor]:
        """Add the gradients of a batch of the present iteration; yield the loss of each pass."""
        runtime, recipe = self.runtime, self.recipe
        x, y = (runtime.tensor(tensor) for tensor in batch)
        share = 1.0
        if recipe.mixup or recipe.cutmix:
            check_mixing(recipe, x, y, "")
            x, share = mix(x, recipe, stream(self._seed, "mix", self.iteration * recipe.accumulate + number))
        distillation, taught = self._distillation, None
        if distillation is not None:
            with runtime.autocast():
                taught = distillation.outputs(x)
        for turn in range(self._passes):
            with runtime.autocast():
                # All batches of an iteration have the same count: they are parts of one large batch.
                outputs = self._forward(self._parallel, x, self.iteration * self._passes + turn)
                plain = outputs if isinstance(outputs, Tensor) else outputs[0]
                if self._in_place and taught is not None:
                    loss = distillation_loss(plain, taught, temperature=1.0)
                else:
                    loss = self._task_loss(outputs, y, share)
                    if distillation is not None and taught is not None:
                        loss = distillation.loss(loss, plain, taught)
                    elif self._in_place:
                        check_teacher(plain, plain, "in_place")
                        taught = plain.detach()
            part = loss if recipe.accumulate == 1 else loss / recipe.accumulate
            (part if self._scaler is None else self._scaler.scale(part)).backward()  # type: ignore[no-untyped-call]
            yield loss.detach()

    def _task_loss(self, outputs: Outputs, targets: Tensor, share: float) -> Tensor:
        """Return the loss of a batch, of whose inputs this share is their own and the rest that of their partners."""
        loss = training_loss(self.task, outputs, targets, self.recipe.auxiliary)
        if share < 1:
            partners = training_loss(self.task, outputs, targets.roll(1, 0), self.recipe.auxiliary)
            loss = share * loss + (1 - share) * partners
        return loss


def check_fit(task: Task, recipe: Recipe, split: str, path: str = "") -> int:
    """Check that a recipe fits the split that a network is to be trained on; return the iterations of an epoch.

    Args:
        task: the task.
        recipe: the recipe.
        split: the split to train on.
        path: of the recipe in the configuration.

    Raises:
        ConfigurationError: the split has fewer samples than one step needs, or early stopping has no held-out split.
    """
    batches = full_batches(task, split)
    prefix = f"{path}." if path else ""
    if batches < recipe.accumulate:
        raise ConfigurationError(
            f"an epoch has {batches} batches, fewer than one step of the optimiser needs ({recipe.accumulate})",
            path=f"{prefix}accumulate",
        )
    if recipe.patience is not None and split != "train":
        raise ConfigurationError(
            f"early stopping scores the network on the split 'search', which is a part of '{split}'; train on 'train'",
            path=f"{prefix}patience",
        )
    return batches // recipe.accumulate


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
        PluginError: the task returns no mapping, or a metric is not a number.
    """
    return score_outputs(runtime.predictor(network), task, runtime, split)


def score_outputs(predict: Predictor, task: Task, runtime: Runtime, split: str) -> dict[str, float]:
    """Return the task's metrics of the outputs that a function returns for the inputs of a split.

    Raises:
        PluginError: the task returns no mapping, or a metric is not a number.
    """
    metrics = _plain_metrics(task, split, runtime.resident(task).score(predict, split))
    return runtime.ranks.agree(metrics)  # devices may round differently, and all ranks must decide alike


def report(network: nn.Module, task: Task, runtime: Runtime, split: str) -> TaskReport:
    """Return the task's report of a network over a split; the network is in evaluation mode afterwards.

    Raises:
        PluginError: a metric or an end of an interval is not a number, or the details are not JSON.
    """
    report = runtime.resident(task).report(runtime.predictor(network), split)
    owner = f"the task {type(task).__name__}"
    if not isinstance(report, TaskReport):
        raise PluginError(f"{owner} returned a {type(report).__name__} from report, not a TaskReport")
    try:
        intervals = {name: (float(low), float(high)) for name, (low, high) in report.intervals.items()}
        details = json.loads(json.dumps(dict(report.details)), parse_constant=lambda _: None)  # NaN and infinity
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"{owner}: the intervals of a report must be pairs of numbers and its details JSON: {error}"
        ) from None
    metrics = _plain_metrics(task, split, report.metrics)
    return TaskReport(metrics, intervals, details, tuple(map(str, report.warnings)))


def _plain_metrics(task: Task, split: str, values: object) -> dict[str, float]:
    if not isinstance(values, Mapping):
        raise PluginError(
            f"the task {type(task).__name__} scored the split '{split}' as {values!r:.300}, a {type(values).__name__}; "
            "score must return {metric: number}"
        )
    metrics: dict[str, float] = {}
    for name, value in values.items():
        try:
            metrics[name] = plain_number(value)
        except TypeError as error:
            raise PluginError(
                f"the task {type(task).__name__} scored the metric '{name}' of the split '{split}' as {error}"
            ) from None
    return metrics
