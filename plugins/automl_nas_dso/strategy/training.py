"""The training of a search: steps of the weights and steps of lambda in turn, and the weights they leave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from automl_nas.errors import DivergedError
from automl_nas.evaluation import NumberedBatches, Runtime, batch_norms, learning_rate, make_optimizer
from automl_nas.space import Dag, Selection, Supernet, SupernetSpace
from automl_nas.streams import stream_seed
from automl_nas_dso.gamma.sensitivity_pruner import SensitivityPruner
from automl_nas_dso.optimiser import APGNAG
from automl_nas_dso.strategy.setup import SearchSetup


@final
class Alternation:
    """Trains a supernet and the lambda of its edges in turn: ``weight_steps`` steps of the weights, then one of lambda.

    In phase 1 (the first ``pretrain_epochs``) only the weights are trained and lambda stays 1.

    Args:
        supernet: placed on the runtime's device; trained in place.
        setup: the settings; its ``gates`` (lambda) are trained in place.
        seed: of batches and dropout.

    Attributes:
        iteration: steps of the weights so far.
        lambda_steps: steps of lambda so far.
        per_epoch: iterations in an epoch.
        iterations: the number of steps of the weights in both phases.
        penalised: the optimiser of lambda.
        pruner: what ranks edges by sensitivity; None: they are ranked by size.
        lambda_rate: the learning rate of lambda at the last step of the weights.
    """

    def __init__(self, supernet: Supernet, setup: SearchSetup, *, seed: int) -> None:
        self._supernet, self._setup, self._seed = supernet, setup, seed
        self._gates, self._task, self._runtime = setup.gates, setup.task, setup.runtime
        self._suffix = f"/{setup.runtime.rank}" if setup.runtime.rank else ""
        self.per_epoch = setup.per_epoch
        self.iterations = setup.train.epochs * self.per_epoch
        self._pretrain = setup.pretrain_epochs * self.per_epoch
        self.iteration = self.lambda_steps = 0
        self._weights = NumberedBatches(setup.task, setup.weight_split, stream_seed(seed, "data"), setup.runtime)
        # A separate stream: if both kinds of steps use the same split, they still see different batches.
        lambda_seed = stream_seed(seed, "lambda/data")
        self._search = NumberedBatches(setup.task, setup.lambda_split, lambda_seed, setup.runtime)
        self._parallel = setup.runtime.parallel(supernet)
        self._optimizer = make_optimizer(supernet, setup.train)
        self._parameters = list(supernet.parameters())
        self.penalised = APGNAG(
            [setup.gates.values], setup.rates[0], momentum=setup.lambda_momentum, nonnegative=setup.nonnegative
        )
        self._penalties = torch.zeros_like(setup.gates.values)
        self.pruner = SensitivityPruner(len(setup.gates.edges)) if setup.ranking == "sensitivity" else None
        self.lambda_rate = setup.rates[0]
        self._losses: list[tuple[str, int, Tensor]] = []

    @property
    def searching(self) -> bool:
        """Whether the next iteration is in phase 2, in which lambda is also trained."""
        return self.iteration >= self._pretrain

    @property
    def rate(self) -> float:
        """The learning rate of the weights at the next iteration."""
        return learning_rate(self._setup.train, min(self.iteration, self.iterations - 1), self.per_epoch)

    def penalise(self, penalties: Tensor) -> None:
        """Set gamma of each edge, shape and device of lambda, from the next step of lambda on."""
        self._penalties = penalties
        if self._setup.ratio is None:  # a ratio sets other thresholds at each step
            self.penalised.set_gamma(self._gates.values, self._penalties)

    def advance_weights(self) -> bool:
        """Make one step of the weights; return whether a step of lambda is due."""
        runtime, setup = self._runtime, self._setup
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate
        runtime.reseed(self._seed, f"step{self._suffix}", self.iteration)
        inputs, targets = self._weights.take(self.iteration)
        # None, not zero: neither weight decay nor momentum may move a parameter that the selection does not use.
        self._optimizer.zero_grad(set_to_none=True)
        # In phase 1 lambda is 1: edges without weights compute the same and cost less.
        weights = self._gates.values.detach() if self.searching else None
        loss = self._loss(self._parallel, inputs, targets, self._gates.selection(weights))
        loss.backward()  # type: ignore[no-untyped-call]
        if setup.clip is not None:
            torch.nn.utils.clip_grad_value_(self._parameters, setup.clip)
        if setup.train.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, setup.train.clip_norm)
        self._optimizer.step()
        self._losses.append(("loss", self.iteration, loss.detach()))
        due = self.searching and (self.iteration - self._pretrain) % setup.weight_steps == setup.weight_steps - 1
        self.lambda_rate = setup.lambda_learning_rate or self.rate
        self.iteration += 1
        return due

    def advance_lambda(self) -> None:
        """Make one step of lambda with the penalties of the last call of `penalise`."""
        runtime, values = self._runtime, self._gates.values
        runtime.reseed(self._seed, f"lambda{self._suffix}", self.lambda_steps)
        inputs, targets = self._search.take(self.lambda_steps)
        loss = self._loss(self._supernet, inputs, targets, self._gates.selection(values))
        # Gradients of lambda only, none of the weights; 0 for edges that the loss does not depend on.
        gradient = torch.autograd.grad(loss, values, materialize_grads=True)[0]
        runtime.reduce([gradient])
        if self._setup.clip is not None:
            gradient.clamp_(-self._setup.clip, self._setup.clip)
        if self.pruner is not None:
            self.pruner.observe(gradient)
        if self._setup.lambda_weight_decay:
            gradient.add_(values.detach(), alpha=self._setup.lambda_weight_decay)
        if self._setup.ratio is not None:
            thresholds, pull = self._setup.ratio.terms(values, self._penalties)
            self.penalised.set_gamma(values, thresholds)
            gradient.add_(pull)
        values.grad = gradient
        self.penalised.param_groups[0]["lr"] = self.lambda_rate
        self.penalised.step()
        values.grad = None
        if self._setup.node_norm is not None:
            self.penalised.scale(values, self._setup.node_norm.factors(self.penalised.iterate(values)))
        self._losses.append(("lambda_loss", self.lambda_steps, loss.detach()))
        self.lambda_steps += 1

    def _loss(self, network: torch.nn.Module, inputs: Tensor, targets: Tensor, selection: Selection) -> Tensor:
        runtime = self._runtime
        x, y = runtime.tensor(inputs), runtime.tensor(targets)
        with runtime.autocast():
            return self._task.loss(network(x, selection), y)

    def losses(self) -> dict[str, float]:
        """Return the mean loss of the steps since the last call, of the weights and of lambda.

        Raises:
            DivergedError: one was NaN or infinite, or lambda is NaN.
        """
        self._runtime.synchronise(self._supernet)
        means: dict[str, float] = {}
        for kind in ("loss", "lambda_loss"):
            steps = [(number, loss) for name, number, loss in self._losses if name == kind]
            if not steps:
                continue
            # Read from the device once: reading each loss would synchronise with the device at every step.
            values = torch.stack([loss for _, loss in steps]).float()
            self._runtime.reduce([values])
            values = values.double().cpu()
            if not bool(values.isfinite().all()):
                first = int((~values.isfinite()).nonzero()[0])
                unit = "iteration" if kind == "loss" else "step of lambda"
                raise DivergedError(
                    f"the {'' if kind == 'loss' else 'lambda '}loss became {values[first].item()} at {unit} "
                    f"{steps[first][0]} (epoch {(self.iteration - 1) // self.per_epoch}, learning rate "
                    f"{self.rate:.3g}); lower train.learning_rate, add train.warmup_epochs, or set clip"
                )
            means[kind] = values.mean().item()
        self._losses = []
        if nan_edges := self._gates.nan_edges():
            target, source = nan_edges[0]
            raise DivergedError(
                f"lambda became NaN in epoch {(self.iteration - 1) // self.per_epoch} on {len(nan_edges)} edges, the "
                f"first from '{source}' to '{target}'; lower train.learning_rate or lambda_learning_rate"
            )
        return means

    def restrict(self) -> None:
        """Remove the gates' removed edges from the supernet; the other weights keep their optimiser state."""
        self._supernet.restrict(self._gates.present_sources)  # type: ignore[arg-type]
        state = self._optimizer.state
        self._optimizer = make_optimizer(self._supernet, self._setup.train)
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in state:
                    self._optimizer.state[parameter] = state[parameter]
        self._parameters = list(self._supernet.parameters())
        self._parallel = self._runtime.parallel(self._supernet)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of weights, lambda and optimisers, without copying tensors; not which edges were removed."""
        return {
            "iteration": self.iteration,
            "lambda_steps": self.lambda_steps,
            "network": self._supernet.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "lambda": self._gates.values.detach(),
            "lambda_optimizer": self.penalised.state_dict(),
            "penalties": self._penalties,
            "pruner": None if self.pruner is None else self.pruner.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; the supernet must have been restricted to the same edges before."""
        self._supernet.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        with torch.no_grad():
            self._gates.values.copy_(state["lambda"])
        self.penalised.load_state_dict(state["lambda_optimizer"])
        self._penalties = state["penalties"].to(self._gates.values)
        if self.pruner is not None:
            self.pruner.load_state_dict(state["pruner"])
        self.iteration, self.lambda_steps = state["iteration"], state["lambda_steps"]
        self._weights.rewind()
        self._search.rewind()


def fresh_supernet(space: SupernetSpace, runtime: Runtime, seed: int) -> Supernet:
    """Return the complete supernet with fresh weights, a function of the seed."""
    with runtime.seeded(seed, "init"):
        return space.build_supernet()


def fix_scales(supernet: nn.Module) -> None:
    """Freeze the scales of batch normalisation in nodes of graphs with searched edges: they would absorb lambda."""
    for dag in [module for module in supernet.modules() if isinstance(module, Dag) and module.decisions()]:
        for norm in batch_norms(dag.nodes):
            if norm.affine:
                norm.weight.requires_grad_(False)


def whole_weights(supernet: Supernet, space: SupernetSpace, runtime: Runtime, seed: int) -> dict[str, Tensor]:
    """Return the weights of a supernet from which edges may have been removed, with the names of a complete supernet.

    A stage that inherits the weights builds a complete supernet. Removed parts get their initial weights.
    """
    trained: dict[str, Tensor] = supernet.state_dict()
    return {**fresh_supernet(space, runtime, seed).state_dict(), **trained}
