"""The two kinds of training iterations: one moves the weights, one moves lambda."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError, DataError, DivergedError
from automl_nas.evaluation import Batch, Recipe, Runtime, Task, full_batches, learning_rate, make_optimizer
from automl_nas.space import Selection, Supernet
from automl_nas.streams import stream_seed
from automl_nas_dso.optimiser import APGNAG, Nonnegative
from automl_nas_dso.strategy_gates import Gates

Split: TypeAlias = Literal["search", "train", "train+search"]


@dataclass(frozen=True)
class Schedule:
    """When what is trained, and on which images.

    Attributes:
        train: how the weights are trained; its epochs are those of both phases.
        pretrain_epochs: the first of them, in which lambda stays 1.
        weight_steps: steps of the weights for each step of lambda, in the rest.
        weight_split: images for the weights.
        lambda_split: images for lambda.
        lambda_learning_rate: None: that of the weights, at each moment.
        lambda_momentum: of lambda.
        nonnegative: see `APGNAG`.
        clip: gradients are cut off at so much in either direction, element by element; None: not at all.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    train: Recipe
    pretrain_epochs: int
    weight_steps: int
    weight_split: Split
    lambda_split: Split
    lambda_learning_rate: float | None
    lambda_momentum: float
    nonnegative: Nonnegative
    clip: float | None

    def __post_init__(self) -> None:
        if not 0 <= self.pretrain_epochs < self.train.epochs:
            raise ConfigurationError(
                f"{self.pretrain_epochs} epochs of weights alone leave nothing of {self.train.epochs} (train.epochs) "
                "for lambda",
                path="pretrain_epochs",
            )
        if self.weight_steps < 1:
            raise ConfigurationError(f"must be at least 1, not {self.weight_steps}", path="weight_steps")
        if self.lambda_learning_rate is not None and not self.lambda_learning_rate > 0:
            raise ConfigurationError(f"must be positive, not {self.lambda_learning_rate}", path="lambda_learning_rate")
        if not 0 <= self.lambda_momentum < 1:
            raise ConfigurationError(
                f"must be at least 0 and below 1, not {self.lambda_momentum}", path="lambda_momentum"
            )
        if self.clip is not None and not self.clip > 0:
            raise ConfigurationError(f"must be positive, not {self.clip}", path="clip")

    def rates(self, per_epoch: int) -> list[float]:
        """Return the learning rate of lambda at each of its steps.

        Args:
            per_epoch: iterations of an epoch.

        Raises:
            ConfigurationError: lambda has no step.
        """
        first, last = self.pretrain_epochs * per_epoch, self.train.epochs * per_epoch
        own, every = self.lambda_learning_rate, self.weight_steps
        found = [
            learning_rate(self.train, iteration, per_epoch) if own is None else own
            for iteration in range(first + every - 1, last, every)
        ]
        if not found:
            raise ConfigurationError(
                f"{every} steps of the weights for each of lambda leave lambda none in {last - first} iterations",
                path="weight_steps",
            )
        return found


@final
class Alternation:
    """Trains a supernet and the lambda of its edges in turn: iterations of the weights, and after some one of lambda.

    Args:
        supernet: placed on the runtime's device; trained in place.
        gates: lambda; trained in place.
        task: data and loss.
        runtime: where it runs.
        schedule: when what is trained.
        seed: of batches and dropout.

    Attributes:
        iteration: steps of the weights so far.
        lambda_steps: steps of lambda so far.
        per_epoch: iterations of an epoch.
        iterations: in all.
        penalised: the optimiser of lambda.
        lambda_rate: the learning rate of lambda that belongs to the last step of the weights.

    Raises:
        ConfigurationError: a split holds no full batch.
    """

    def __init__(
        self, supernet: Supernet, gates: Gates, task: Task, runtime: Runtime, schedule: Schedule, *, seed: int
    ) -> None:
        self._supernet, self._gates, self._task, self._runtime = supernet, gates, task, runtime
        self._schedule, self._seed = schedule, seed
        rates = schedule.rates(full_batches(task, schedule.weight_split))
        self._suffix = f"/{runtime.rank}" if runtime.rank else ""
        self.per_epoch = full_batches(task, schedule.weight_split)
        self.iterations = schedule.train.epochs * self.per_epoch
        self._pretrain = schedule.pretrain_epochs * self.per_epoch
        self.iteration = self.lambda_steps = 0
        self._weights = _Batches(task, schedule.weight_split, stream_seed(seed, "data"))
        # A stream of its own: with one split for both, the two kinds of steps still see different batches.
        self._search = _Batches(task, schedule.lambda_split, stream_seed(seed, "lambda/data"))
        self._parallel = runtime.parallel(supernet)
        self._optimizer = make_optimizer(supernet, schedule.train)
        self._parameters = list(supernet.parameters())
        self.penalised = APGNAG(
            [gates.values],
            rates[0],
            momentum=schedule.lambda_momentum,
            nonnegative=schedule.nonnegative,
        )
        self.lambda_rate = rates[0]
        self._losses: list[tuple[str, int, Tensor]] = []

    @property
    def searching(self) -> bool:
        """Whether the next iteration belongs to phase 2, in which lambda is trained too."""
        return self.iteration >= self._pretrain

    @property
    def rate(self) -> float:
        """The learning rate of the weights at the next iteration."""
        return learning_rate(self._schedule.train, min(self.iteration, self.iterations - 1), self.per_epoch)

    def advance_weights(self) -> bool:
        """Make one step of the weights; return whether a step of lambda is due."""
        runtime, schedule = self._runtime, self._schedule
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate
        runtime.reseed(self._seed, f"step{self._suffix}", self.iteration)
        inputs, targets = self._weights.take(self.iteration)
        # None, not zero: what took no part must be moved neither by weight decay nor by momentum.
        self._optimizer.zero_grad(set_to_none=True)
        # In phase 1 lambda is 1: the bare edges are the same, for less.
        weights = self._gates.values.detach() if self.searching else None
        loss = self._loss(self._parallel, inputs, targets, self._gates.selection(weights))
        loss.backward()  # type: ignore[no-untyped-call]
        if schedule.clip is not None:
            torch.nn.utils.clip_grad_value_(self._parameters, schedule.clip)
        if schedule.train.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, schedule.train.clip_norm)
        self._optimizer.step()
        self._losses.append(("loss", self.iteration, loss.detach()))
        due = self.searching and (self.iteration - self._pretrain) % schedule.weight_steps == schedule.weight_steps - 1
        self.lambda_rate = schedule.lambda_learning_rate or self.rate
        self.iteration += 1
        return due

    def advance_lambda(self) -> None:
        """Make one step of lambda, with the penalty that `penalised` holds."""
        runtime, values = self._runtime, self._gates.values
        runtime.reseed(self._seed, f"lambda{self._suffix}", self.lambda_steps)
        inputs, targets = self._search.take(self.lambda_steps)
        loss = self._loss(self._supernet, inputs, targets, self._gates.selection(values))
        # Only what leads to lambda is computed, no gradients of weights; 0 for edges that do not reach the loss.
        gradient = torch.autograd.grad(loss, values, materialize_grads=True)[0]
        runtime.reduce([gradient])
        if self._schedule.clip is not None:
            gradient.clamp_(-self._schedule.clip, self._schedule.clip)
        values.grad = gradient
        self.penalised.param_groups[0]["lr"] = self.lambda_rate
        self.penalised.step()
        values.grad = None
        self._losses.append(("lambda_loss", self.lambda_steps, loss.detach()))
        self.lambda_steps += 1

    def _loss(self, network: torch.nn.Module, inputs: Tensor, targets: Tensor, selection: Selection) -> Tensor:
        runtime = self._runtime
        x, y = runtime.tensor(runtime.shard(inputs)), runtime.tensor(runtime.shard(targets))
        with runtime.autocast():
            return self._task.loss(network(x, selection), y)

    def losses(self) -> dict[str, float]:
        """Return the mean loss of the steps since the last call, of the weights and of lambda.

        Raises:
            DivergedError: one was NaN or infinite, or lambda is NaN.
        """
        found: dict[str, float] = {}
        for kind in ("loss", "lambda_loss"):
            steps = [(number, loss) for name, number, loss in self._losses if name == kind]
            if not steps:
                continue
            # Read back once: a look at every loss would stop an accelerator at every step.
            values = torch.stack([loss for _, loss in steps]).float()
            self._runtime.reduce([values])
            values = values.double().cpu()
            if not bool(values.isfinite().all()):
                place = int((~values.isfinite()).nonzero()[0])
                what = "iteration" if kind == "loss" else "step of lambda"
                raise DivergedError(
                    f"the {'' if kind == 'loss' else 'lambda '}loss became {values[place].item()} at {what} "
                    f"{steps[place][0]} (epoch {(self.iteration - 1) // self.per_epoch}, learning rate "
                    f"{self.rate:.3g}); lower train.learning_rate, add train.warmup_epochs, or set clip"
                )
            found[kind] = values.mean().item()
        self._losses = []
        if lost := self._gates.nan_edges():
            target, source = lost[0]
            raise DivergedError(
                f"lambda became NaN in epoch {(self.iteration - 1) // self.per_epoch} on {len(lost)} edges, the first "
                f"from '{source}' to '{target}'; lower train.learning_rate or lambda_learning_rate"
            )
        return found

    def restrict(self) -> None:
        """Remove from the supernet what the gates have removed; the optimiser's state goes on for what is left."""
        self._supernet.restrict(self._gates.kept)  # type: ignore[arg-type]
        state = self._optimizer.state
        self._optimizer = make_optimizer(self._supernet, self._schedule.train)
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in state:
                    self._optimizer.state[parameter] = state[parameter]
        self._parameters = list(self._supernet.parameters())
        self._parallel = self._runtime.parallel(self._supernet)

    def state_dict(self) -> dict[str, Any]:
        """Return everything but which edges were removed; the tensors are the live ones, not copies."""
        return {
            "iteration": self.iteration,
            "lambda_steps": self.lambda_steps,
            "network": self._supernet.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "lambda": self._gates.values.detach(),
            "lambda_optimizer": self.penalised.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned, with a supernet that was restricted to the same edges."""
        self._supernet.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            self._gates.values.copy_(state["lambda"])
        self.penalised.load_state_dict(state["lambda_optimizer"])
        self.iteration, self.lambda_steps = state["iteration"], state["lambda_steps"]
        self._weights.rewind()
        self._search.rewind()


@final
class _Batches:
    """The batches of a split, epoch after epoch, by number: splits of different sizes each have their own epochs."""

    def __init__(self, task: Task, split: str, seed: int) -> None:
        self._task, self._split, self._seed = task, split, seed
        self._per_epoch = full_batches(task, split)
        self._iterator: Iterator[Batch] | None = None

    def take(self, number: int) -> Batch:
        """Return a batch; numbers must follow each other, but for the first after `rewind`."""
        epoch, start = divmod(number, self._per_epoch)
        if self._iterator is None or start == 0:
            self._iterator = iter(self._task.batches(self._split, epoch, self._seed, start))
        batch = next(self._iterator, None)
        if batch is None:
            raise DataError(
                f"epoch {epoch} of the split '{self._split}' ended after {start} batches, but the task promised "
                f"{self._per_epoch} (batches_per_epoch)"
            )
        return batch

    def rewind(self) -> None:
        """Forget the position."""
        self._iterator = None
