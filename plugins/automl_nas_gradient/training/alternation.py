"""Steps of the weights and of alpha: in turn on different images (bilevel), or together on the same (joint)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import torch
from torch import Tensor, nn

from automl_nas.errors import DivergedError
from automl_nas.evaluation import Batch, NumberedBatches, Recipe, Runtime, Task, learning_rate, make_optimizer
from automl_nas.space import Selection, Supernet
from automl_nas.streams import stream_seed
from automl_nas_gradient.estimators import Draw, Estimator
from automl_nas_gradient.training.cost_term import CostInLoss
from automl_nas_gradient.training.settings import AlphaRecipe
from automl_nas_gradient.training.unrolled import Hessian, unrolled_gradient

Optimisation: TypeAlias = Literal["bilevel", "joint"]


@dataclass(frozen=True)
class Plan:
    """What the training does.

    Attributes:
        train: the recipe of the weights.
        alpha: the recipe of alpha.
        optimisation: ``bilevel``: alpha is trained on its own images; ``joint``: on the images of the weights, in the
            same pass.
        pretrain_epochs: epochs in which alpha is not trained.
        weight_steps: steps of the weights for each step of alpha.
        weight_split: the images of the weights.
        alpha_split: the images of alpha.
        alpha_first: whether a step of alpha comes before the step of the weights or after it.
        second_order: how the second-order term is computed; None: first order.
        cost: the cost in the loss of alpha; None: it has none.
        temperature: returns the temperature of an epoch, counted from 0.
    """

    train: Recipe
    alpha: AlphaRecipe
    optimisation: Optimisation
    pretrain_epochs: int
    weight_steps: int
    weight_split: str
    alpha_split: str
    alpha_first: bool
    second_order: Hessian | None
    cost: CostInLoss | None
    temperature: Callable[[int], float]


@final
class Alternation:
    """Trains a supernet and alpha.

    Args:
        supernet: on the runtime's device; trained in place.
        estimator: makes selections from alpha, which is trained in place.
        plan: what the training does.
        task: data and loss.
        runtime: device, precision and processes.
        seed: of batches, dropout and draws.

    Attributes:
        iteration: steps of the weights so far.
        alpha_steps: steps of alpha so far.
        per_epoch: iterations of an epoch.
        iterations: the number of steps of the weights.
    """

    def __init__(
        self, supernet: Supernet, estimator: Estimator, plan: Plan, task: Task, runtime: Runtime, *, seed: int
    ) -> None:
        self._supernet, self._estimator, self._plan = supernet, estimator, plan
        self._task, self._runtime, self._seed = task, runtime, seed
        self._suffix = f"/{runtime.rank}" if runtime.rank else ""
        self._weights = NumberedBatches(task, plan.weight_split, stream_seed(seed, "data"), runtime)
        # A stream of its own: if both kinds of steps use the same split, they still see different batches.
        self._search = NumberedBatches(task, plan.alpha_split, stream_seed(seed, "alpha/data"), runtime)
        self.per_epoch = self._weights.per_epoch
        self.iterations = plan.train.epochs * self.per_epoch
        self._pretrain = plan.pretrain_epochs * self.per_epoch
        self.iteration = self.alpha_steps = 0
        self._parallel = runtime.parallel(supernet)
        self._optimizer = make_optimizer(supernet, plan.train)
        self._parameters = list(supernet.parameters())
        recipe = plan.alpha
        self._alpha_optimizer = torch.optim.Adam(
            [estimator.alpha.values],
            lr=recipe.learning_rate,
            betas=(recipe.beta1, recipe.beta2),
            weight_decay=recipe.weight_decay,
        )
        self._losses: list[tuple[str, int, Tensor]] = []

    @property
    def epoch(self) -> int:
        """The epoch of the next iteration, counted from 0."""
        return self.iteration // self.per_epoch

    @property
    def temperature(self) -> float:
        """The temperature of the next iteration."""
        return self._plan.temperature(min(self.epoch, self._plan.train.epochs - 1))

    @property
    def rate(self) -> float:
        """The learning rate of the weights at the next iteration."""
        return learning_rate(self._plan.train, min(self.iteration, self.iterations - 1), self.per_epoch)

    def advance(self) -> None:
        """Make one step of the weights and, if it is due, one of alpha. Call it inside `Runtime.seeded`."""
        plan = self._plan
        batch = self._weights.take(self.iteration)
        searched = self.iteration - self._pretrain
        place = 0 if plan.alpha_first else plan.weight_steps - 1
        due = searched >= 0 and searched % plan.weight_steps == place
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate
        if due and plan.optimisation == "joint":
            self._step_both(batch)
        else:
            if due and plan.alpha_first:
                self._step_alpha(batch)
            self._step_weights(batch)
            if due and not plan.alpha_first:
                self._step_alpha(batch)
        self.iteration += 1

    def _step_weights(self, batch: Batch) -> None:
        self._runtime.reseed(self._seed, "draw/weights", self.iteration)
        selection = self._estimator.path(self.temperature)
        self._runtime.reseed(self._seed, f"step{self._suffix}", self.iteration)
        # None, not zero: neither weight decay nor momentum may move a parameter that the selection does not use.
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(self._parallel, batch, selection)
        loss.backward()  # type: ignore[no-untyped-call]
        self._apply(loss)

    def _step_alpha(self, train_batch: Batch) -> None:
        values = self._estimator.alpha.values
        batch = self._search.take(self.alpha_steps)
        if self._plan.second_order is None:
            loss = self._alpha_loss(batch)
            gradient = torch.autograd.grad(loss, values, materialize_grads=True)[0]
        else:
            gradient, loss = unrolled_gradient(
                values,
                self._optimizer,
                lambda: self._train_loss(train_batch),
                lambda: self._alpha_loss(batch),
                hessian=self._plan.second_order,
                reduce=self._runtime.reduce,
            )
        self._move_alpha(gradient, loss)

    def _step_both(self, batch: Batch) -> None:
        """Make a step of weights and alpha from one pass (joint optimisation)."""
        values = self._estimator.alpha.values
        draw = self._drawn()
        self._runtime.reseed(self._seed, f"step{self._suffix}", self.iteration)
        self._optimizer.zero_grad(set_to_none=True)
        values.grad = None
        loss = self._with_terms(self._loss(self._parallel, batch, draw.selection), draw)
        loss.backward()  # type: ignore[no-untyped-call]
        gradient = torch.zeros_like(values) if values.grad is None else values.grad
        self._apply(loss)
        self._move_alpha(gradient, loss)

    def _apply(self, loss: Tensor) -> None:
        """Make a step of the weights with the gradients that they have."""
        if self._plan.train.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self._plan.train.clip_norm)
        self._optimizer.step()
        self._losses.append(("loss", self.iteration, loss.detach()))

    def _move_alpha(self, gradient: Tensor, loss: Tensor) -> None:
        values = self._estimator.alpha.values
        self._runtime.reduce([gradient])
        before = values.detach().clone()
        values.grad = gradient
        self._alpha_optimizer.step()
        values.grad = None
        self._estimator.stepped(before)
        self._losses.append(("alpha_loss", self.alpha_steps, loss.detach()))
        self.alpha_steps += 1

    def _drawn(self) -> Draw:
        # Without the rank: all processes draw the same.
        self._runtime.reseed(self._seed, "draw/alpha", self.alpha_steps)
        return self._estimator.draw(self.temperature)

    def _alpha_loss(self, batch: Batch) -> Tensor:
        """Return the loss of alpha with the present weights."""
        draw = self._drawn()
        self._runtime.reseed(self._seed, f"alpha{self._suffix}", self.alpha_steps)
        return self._with_terms(self._loss(self._supernet, batch, draw.selection), draw)

    def _train_loss(self, batch: Batch) -> Tensor:
        """Return the loss of the weights with the present alpha, with a graph to both."""
        draw = self._drawn()
        self._runtime.reseed(self._seed, f"step{self._suffix}", self.iteration)
        return self._loss(self._supernet, batch, draw.selection)

    def _with_terms(self, loss: Tensor, draw: Draw) -> Tensor:
        """Return a loss with cost, entropy, and the penalty of the estimator."""
        if self._plan.cost is not None:
            loss = self._plan.cost(loss, draw.weights)
        if self._plan.alpha.entropy:
            loss = loss + self._plan.alpha.entropy * self._estimator.alpha.entropy()
        penalty = self._estimator.penalty()
        return loss if penalty is None else loss + penalty

    def _loss(self, network: nn.Module, batch: Batch, selection: Selection) -> Tensor:
        runtime = self._runtime
        x, y = (runtime.tensor(tensor) for tensor in batch)
        with runtime.autocast():
            return self._task.loss(network(x, selection), y)

    def mean_loss(self) -> Tensor:
        """Return the loss on the last batch of alpha with the probabilities as weights, with a graph to alpha."""
        batch = self._search.again(max(self.alpha_steps - 1, 0))
        alpha = self._estimator.alpha
        # Without the rank, as the batch is the whole one: all processes must see the same.
        self._runtime.reseed(self._seed, "observed", self.alpha_steps)
        return self._loss(self._supernet, batch, alpha.selection(alpha.probabilities()))

    def losses(self) -> dict[str, float]:
        """Return the mean loss of the steps since the last call, of the weights and of alpha.

        Raises:
            DivergedError: one was NaN or infinite, or alpha is not finite.
        """
        self._runtime.synchronise(self._supernet)
        means: dict[str, float] = {}
        for kind in ("loss", "alpha_loss"):
            steps = [(number, loss) for name, number, loss in self._losses if name == kind]
            if not steps:
                continue
            # Read from the device once: reading each loss would synchronise with the device at every step.
            values = torch.stack([loss for _, loss in steps]).float()
            self._runtime.reduce([values])
            values = values.double().cpu()
            if not bool(values.isfinite().all()):
                first = int((~values.isfinite()).nonzero()[0])
                unit = "iteration" if kind == "loss" else "step of alpha"
                # The cause may be either of the two.
                other = " or alpha.learning_rate" if self._estimator.alpha.not_finite() else ""
                raise DivergedError(
                    f"the {'' if kind == 'loss' else 'alpha '}loss became {values[first].item()} at {unit} "
                    f"{steps[first][0]} (epoch {(self.iteration - 1) // self.per_epoch}, learning rate "
                    f"{self.rate:.3g}); lower train.learning_rate{other}, or set train.clip_norm"
                )
            means[kind] = values.mean().item()
        self._losses = []
        if names := self._estimator.alpha.not_finite():
            raise DivergedError(
                f"alpha became NaN or infinite in epoch {(self.iteration - 1) // self.per_epoch} in {len(names)} "
                f"decisions, the first one '{names[0]}'; lower alpha.learning_rate, or raise the last temperature"
            )
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return the state of weights, alpha and optimisers, without copying tensors."""
        return {
            "iteration": self.iteration,
            "alpha_steps": self.alpha_steps,
            "network": self._supernet.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "alpha": self._estimator.alpha.values.detach(),
            "alpha_optimizer": self._alpha_optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; the continuation is bit-equal."""
        self._supernet.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            self._estimator.alpha.values.copy_(state["alpha"])
        self._alpha_optimizer.load_state_dict(state["alpha_optimizer"])
        self.iteration, self.alpha_steps = state["iteration"], state["alpha_steps"]
        self._weights.rewind()
        self._search.rewind()
