"""The one training loop (`Fit`), scoring, and recalibration of batch normalisation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from automl_nas.errors import ConfigurationError, DivergedError
from automl_nas.evaluation.recipe import Recipe
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Batch, Task
from automl_nas.streams import stream_seed

Forward = Callable[[nn.Module, Tensor, int], Tensor]
"""``forward(network, inputs, iteration) -> outputs``; a supernet strategy puts its selection in here."""


def _plain(network: nn.Module, inputs: Tensor, iteration: int) -> Tensor:
    outputs: Tensor = network(inputs)
    return outputs


@dataclass(frozen=True)
class Progress:
    """What `Fit.advance` did.

    Attributes:
        iterations: how many iterations it ran.
        loss: their mean training loss; NaN when there were none.
        learning_rate: at the last of them.
        examples: samples seen.
        seconds: wall clock.
    """

    iterations: int
    loss: float
    learning_rate: float
    examples: int
    seconds: float


class Fit:
    """Train a network on a split of a task: resumable at any iteration, bit for bit.

    Args:
        network: already placed on the runtime's device; it is trained in place.
        task: data and loss.
        runtime: where it runs.
        recipe: optimiser, schedule and length.
        seed: of the streams for shuffling, augmentation and dropout.
        split: what to train on.
        forward: how the network is called; default ``network(inputs)``.

    Raises:
        ConfigurationError: the split holds no full batch.
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
        forward: Forward = _plain,
    ) -> None:
        self.network, self.task, self.runtime, self.recipe = network, task, runtime, recipe
        self.iteration = 0
        self._seed, self._split, self._forward = seed, split, forward
        self._data_seed = stream_seed(seed, "data")
        self._per_epoch = task.batches_per_epoch(split)
        if self._per_epoch == 0:
            raise ConfigurationError(
                f"the split '{split}' ({task.size(split)} samples) holds no full batch; use a smaller batch size",
                path="task.batch_size",
            )
        self.iterations = recipe.epochs * self._per_epoch
        self._parallel = runtime.parallel(network)
        self._optimizer = make_optimizer(network, recipe)
        self._batches: Iterator[Batch] | None = None

    @property
    def done(self) -> bool:
        """Whether all epochs are over."""
        return self.iteration >= self.iterations

    @property
    def epoch(self) -> int:
        """The epoch of the next iteration, counted from 0."""
        return self.iteration // self._per_epoch

    def advance(self, iterations: int) -> Progress:
        """Train for at most so many iterations (fewer at the end).

        Raises:
            DivergedError: the loss became NaN or infinite; the message names the iteration.
        """
        begun = time.perf_counter()
        first = self.iteration
        examples = 0
        losses = []
        self.network.train()
        for _ in range(min(iterations, self.iterations - self.iteration)):
            inputs, targets = self._next_batch()
            losses.append(self._iterate(inputs, targets))
            examples += len(inputs)
            self.iteration += 1
        values = torch.stack(losses).double().cpu() if losses else torch.full((1,), math.nan)
        rate = learning_rate(self.recipe, max(self.iteration - 1, 0), self._per_epoch)
        if losses and not bool(torch.isfinite(values).all()):
            where = first + int((~torch.isfinite(values)).nonzero()[0])
            raise DivergedError(
                f"the training loss became {values[where - first].item()} at iteration {where} (epoch {where // self._per_epoch}, "
                f"learning rate {rate:.3g}); lower learning_rate, add warmup_epochs or set clip_norm"
            )
        return Progress(len(losses), values.mean().item(), rate, examples, time.perf_counter() - begun)

    def state_dict(self) -> dict[str, Any]:
        """Return iteration, weights and the optimiser's state."""
        return {
            "iteration": self.iteration,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned, with the same network, recipe and data."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.iteration = state["iteration"]
        self._batches = None

    def _next_batch(self) -> Batch:
        epoch, start = divmod(self.iteration, self._per_epoch)
        if self._batches is None or start == 0:
            self._batches = self.task.batches(self._split, epoch, self._data_seed, start)
        return next(self._batches)

    def _iterate(self, inputs: Tensor, targets: Tensor) -> Tensor:
        runtime, optimizer = self.runtime, self._optimizer
        rate = learning_rate(self.recipe, self.iteration, self._per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with runtime.seeded(self._seed, f"step/{runtime.rank}" if runtime.rank else "step", self.iteration):
            with runtime.autocast():
                outputs = self._forward(self._parallel, runtime.tensor(runtime.shard(inputs)), self.iteration)
                loss = self.task.loss(outputs, runtime.tensor(runtime.shard(targets)))
            # None, not zero: what took no part must be moved neither by weight decay nor by momentum.
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if self.recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
            optimizer.step()
        return loss.detach()


def learning_rate(recipe: Recipe, iteration: int, per_epoch: int) -> float:
    """Return the learning rate of an iteration: linear warm-up, then the schedule over what is left."""
    warmup = round(recipe.warmup_epochs * per_epoch)
    if iteration < warmup:
        return recipe.learning_rate * (iteration + 1) / (warmup + 1)
    passed = (iteration - warmup) / (recipe.epochs * per_epoch - warmup)
    if recipe.schedule == "linear":
        return recipe.learning_rate * (1 - passed)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * passed))
    return recipe.learning_rate


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser; weight decay reaches parameters of more than one dimension, or all."""
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


def recalibrate(
    network: nn.Module, task: Task, runtime: Runtime, *, images: int, seed: int, split: str = "train"
) -> None:
    """Recompute the statistics of every batch normalisation from training images, in place.

    The running mean becomes the cumulative mean of the batch means, the running variance that of the unbiased batch
    variances (momentum None in torch): a true mean, not an exponential average (SPOS, section 3.4). Whole batches are
    used: the smallest number that holds ``images``, over as many epochs as it takes. 0 leaves the network as it is.
    The batches depend on the seed alone, so all candidates see the same ones. The training flag is restored.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if images <= 0 or not norms:
        return
    modes = {module: module.training for module in network.modules()}
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    seen = epoch = 0
    with torch.no_grad(), runtime.autocast():
        while seen < images:
            for inputs, _ in task.batches(split, epoch, stream_seed(seed, "recalibrate")):
                network(runtime.tensor(inputs))
                seen += len(inputs)
                if seen >= images:
                    break
            epoch += 1
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, mode in modes.items():
        module.training = mode


def score(network: nn.Module, task: Task, runtime: Runtime, split: str) -> dict[str, float]:
    """Return the task's metrics of a network over a split; the network is left in evaluation mode."""
    return dict(task.score(runtime.predictor(network), split))
