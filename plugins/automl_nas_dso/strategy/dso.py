"""DSO-NAS: train the fully connected network once, with a penalty that removes edges."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from automl_nas.evaluation import Artifacts, InitialWeights, Recipe, Runtime, Shortened, Task, shortened_training
from automl_nas.space import Architecture, SearchSpace, SupernetSpace
from automl_nas.strategy import Phase, Problem, Proposal, Services, Strategy
from automl_nas.streams import stream
from automl_nas_dso.gamma.edge_factors import FactorSchedule, MacReference
from automl_nas_dso.gamma.penalty_shape import PenaltyShape
from automl_nas_dso.gamma.penalty_travel import penalty_travel
from automl_nas_dso.gamma.sensitivity_pruner import SensitivityPruner
from automl_nas_dso.optimiser import Nonnegative, alive
from automl_nas_dso.strategy.progress import LiveHistory, advice, warn_if_missed
from automl_nas_dso.strategy.setup import CheckedSetup, Ranking, SearchSetup, Split
from automl_nas_dso.strategy.training import Alternation, fix_scales, fresh_supernet, whole_weights

_LEAST_SHARE = 0.04
"""The smallest share of the edges that is expected to be left without a target; see `DSO.expected`."""


class DSO(Strategy):
    """Direct sparse optimisation (Zhang, Huang, Wang 2018, arXiv 1811.01567).

    Every edge of the fully connected network has a scale lambda, initially 1, that multiplies its tensor. Phase 1
    trains the weights alone. In phase 2 steps of the weights and steps of lambda alternate, each on its own images.
    Lambda is trained by accelerated proximal gradient (`APGNAG`) on the loss plus ``gamma * ||lambda||_1``, so it
    becomes exactly 0 on an edge that reduces the loss by less than its penalty. The edges with lambda other than 0 at
    the end are the architecture. The stage proposes it as its one trial, with lambda in its ``info``. The network is
    then retrained without lambda, by ``final``.

    The artifacts are ``weights`` (of the complete supernet; parts that were removed during the search have fresh
    weights) and ``lambda`` (decision -> tensor with one number for each option).

    Args:
        space: its decisions are subsets, the edges. An `EdgeSpace` (``dso``) also knows their costs.
        task: its split ``search`` is used for lambda: hold out half of the training images, as the paper does.
        runtime: where the training runs.
        artifacts: the weights and lambda are saved in it.
        problem: contains the cost model for ``adaptive_latency``.
        seed: of weights and batches.
        train: the recipe for the weights, over both phases (defaults: the paper's for CIFAR-10).
        pretrain_epochs: the epochs of phase 1; a part of ``train.epochs``.
        weight_steps: steps of the weights for each step of lambda (paper: 1; ImageNet: 4).
        weight_split: the split on which the weights are trained.
        lambda_split: the split on which lambda is trained; its size may differ from the other one's.
        lambda_learning_rate: a constant learning rate of lambda; null: the current learning rate of the weights.
        lambda_momentum: the momentum of lambda.
        gamma: the penalty. ``auto``: a penalty travel of 2, that is, an edge that the loss does not depend on could
            move twice the distance from 1 to 0 (the penalty travel k is about
            ``lr * gamma * steps / (1 - momentum)``). 0 removes no edge.
        gamma_schedule: the penalty of an edge relative to gamma. ``constant``: 1; ``adaptive_flops``: the live share
            of its block's FLOPs; ``adaptive_mac``: the memory access cost of the operation it leads to, relative to
            ``mac_reference``; ``adaptive_latency``: 0.5 to 1, by the latency that its removal would save.
        gamma_every: steps of lambda after which the penalties are computed again (with ``sparsity`` at least 50 times
            in the search).
        mac_reference: what ``adaptive_mac`` divides by: the largest memory access cost of the edge's ``block``, the
            largest of the ``network`` (paper), or the ``total`` of the fully connected network.
        latency: the name of the problem's cost that ``adaptive_latency`` uses. A measured cost is measured once.
        sparsity: a target instead of gamma. ``{flops: 0.4}``: a controller sets gamma so that 40 % of the blocks'
            FLOPs remain; the other measures are ``memory_access`` and ``edges``.
        penalty: ``l1`` (paper): gamma times the L1 norm; ``hoyer``: gamma times the Hoyer ratio of the edges into each
            node, which does not change when all of them shrink together; see `HoyerRatio`.
        ranking: which edges a sparsity target removes. ``size``: those that its penalty moves to 0; ``sensitivity``:
            those whose removal changes the loss least to first order, without a penalty; see `SensitivityPruner`.
        lambda_weight_decay: weight decay of lambda (paper: none).
        keep_norm: whether the lambda of the edges into each node keep their Euclidean norm (paper: no), so that they
            only shrink in relation to each other; see `NodeNorm`.
        nonnegative: whether lambda may become negative. ``none``: it may; ``prox`` and ``clamp``: it stays at 0 or
            above (exactly, or as in the authors' code).
        clip: largest absolute value of each element of the gradients of weights and lambda (authors' code); null:
            gradients are not clipped.
        fix_scale: whether the scales of batch normalisation inside the nodes of graphs are not trained, since they
            would absorb lambda.
        prune_epochs: number of epochs of phase 2 after which dead edges and operations are permanently removed,
            repeatedly, so that they cost nothing afterwards (authors' code); null: dead edges may become alive again
            until the end.
        iterations_per_step: iterations between two points at which a checkpoint can be written or the run
            interrupted; a step should take well under a minute.
        initial_weights: weights that the supernet begins with instead of fresh ones; null: fresh weights.

    Raises:
        ConfigurationError: a setting is outside its range, too small to remove anything, or does not fit the space.
        RunFailedError: all edges died; the message contains the number of live edges after each epoch.
        DivergedError: the loss or lambda became NaN or infinite.
    """

    space_type: ClassVar[type[SearchSpace]] = SupernetSpace  # type: ignore[type-abstract]

    def __init__(
        self,
        space: SupernetSpace,
        task: Task,
        runtime: Runtime,
        artifacts: Artifacts,
        problem: Problem,
        *,
        seed: int,
        train: Recipe = Recipe(  # noqa: B008 - frozen
            epochs=240, learning_rate=0.1, schedule="constant", momentum=0.9, nesterov=True, weight_decay=1e-4
        ),
        pretrain_epochs: int = 120,
        weight_steps: int = 1,
        weight_split: Split = "train",
        lambda_split: Split = "search",
        lambda_learning_rate: float | None = None,
        lambda_momentum: float = 0.9,
        gamma: float | Literal["auto"] = "auto",
        gamma_schedule: FactorSchedule = "constant",
        gamma_every: int = 10,
        mac_reference: MacReference = "block",
        latency: str = "latency_ms",
        sparsity: dict[str, float] | None = None,
        penalty: PenaltyShape = "l1",
        ranking: Ranking = "size",
        lambda_weight_decay: float = 0.0,
        keep_norm: bool = False,
        nonnegative: Nonnegative = "prox",
        clip: float | None = 2.0,
        fix_scale: bool = True,
        prune_epochs: int | None = 10,
        iterations_per_step: int = 20,
        initial_weights: InitialWeights | None = None,
    ) -> None:
        setup = SearchSetup(
            space,
            task,
            runtime,
            problem,
            train=train,
            pretrain_epochs=pretrain_epochs,
            weight_steps=weight_steps,
            weight_split=weight_split,
            lambda_split=lambda_split,
            lambda_learning_rate=lambda_learning_rate,
            lambda_momentum=lambda_momentum,
            gamma=gamma,
            gamma_schedule=gamma_schedule,
            gamma_every=gamma_every,
            mac_reference=mac_reference,
            latency=latency,
            sparsity=sparsity,
            penalty=penalty,
            ranking=ranking,
            lambda_weight_decay=lambda_weight_decay,
            keep_norm=keep_norm,
            nonnegative=nonnegative,
            clip=clip,
            prune_epochs=prune_epochs,
            iterations_per_step=iterations_per_step,
        )
        self._setup, self._artifacts, self._seed = setup, artifacts, seed
        self._gates, self._structure, self._controller = setup.gates, setup.structure, setup.controller
        self._gamma = setup.first_gamma
        self._gamma_every = min(gamma_every, self._controller.interval if self._controller else gamma_every)
        supernet = fresh_supernet(space, runtime, seed)
        if initial_weights is not None:
            initial_weights.load_into(supernet)
        self._supernet = runtime.place(supernet)
        if fix_scale:
            fix_scales(self._supernet)
        self._training = Alternation(self._supernet, setup, seed=seed)
        self._history = LiveHistory(self._structure.total)
        self._proposed = False

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the class that checks all settings; it builds a network for initial weights only."""
        return CheckedSetup

    @classmethod
    def phases(cls, settings: Mapping[str, Any]) -> Sequence[Phase]:
        """Return the two phases: without and with training of lambda."""
        pretraining = settings["pretrain_epochs"] / settings["train"]["epochs"]
        second = Phase(1 - pretraining, {"pretrain_epochs": 0})
        return (Phase(pretraining), second) if pretraining > 0 else (second,)

    @classmethod
    def shortened(cls, settings: Mapping[str, Any], share: float) -> Shortened:
        """Return settings with fewer epochs in both phases; see `Strategy.shortened`.

        A given gamma is raised so that the penalty travel stays the same, which is about proportional to gamma and the
        number of steps of lambda.
        """
        shortened = shortened_training(settings, share, phases=["pretrain_epochs"], epochs=["prune_epochs"])
        if settings["gamma"] == "auto":
            return shortened

        def searched(values: Mapping[str, Any]) -> int:
            return int(values["train"]["epochs"] - values["pretrain_epochs"])

        factor = searched(settings) / searched({**settings, **shortened.settings})
        return Shortened(shortened.share, {**shortened.settings, "gamma": settings["gamma"] * factor})

    def expected(self, seed: int) -> Architecture | None:
        """Return an architecture with the share of edges or costs of the target, or else with what gamma is to leave.

        With the penalty travel k, 1 / k^2 of the edges, and at least 4 %: searches on CIFAR-10 left 24 % with k = 2 and
        4 % with k = 5 (docs/results/sparsity.md), and none were measured with a larger k.
        """
        controller = self._controller
        if controller is None:
            # Where k is below 1, no edge that the loss does not depend on reaches 0.
            measure, limit = "edges", max(_LEAST_SHARE, max(1.0, self._travel()) ** -2)
        else:
            measure, limit = controller.measure, controller.share
        order = list(range(len(self._gates.edges)))
        stream(seed, "expected").shuffle(order)

        def without(count: int) -> Architecture:
            living = torch.ones(len(order), dtype=torch.bool)
            living[order[:count]] = False
            return self._live(living)

        def meets(count: int) -> bool:
            return self._structure.count(without(count)).shares[measure] <= limit

        count = bisect_left(range(len(order)), True, key=meets)
        while count and self._structure.count(without(count)).empty:
            count -= 1
        return without(count)

    def _travel(self) -> float:
        momentum = self._training.penalised.param_groups[0]["momentum"]
        return penalty_travel(self._gamma * self._setup.factors.largest, self._setup.rates, momentum)

    @property
    def done(self) -> bool:
        """Whether the architecture has been proposed."""
        return self._proposed

    @property
    def planned(self) -> int | None:
        """One trial."""
        return 1

    def step(self, services: Services) -> None:
        """Train for a fixed number of iterations; the last step saves the artifacts and proposes the architecture."""
        training = self._training
        if training.iteration == training.iterations:
            self._finish(services)
            return
        if training.lambda_steps == 0:
            # Not in the constructor: measuring a latency takes seconds, and the state of a resumed run contains it.
            self._penalise()
        self._supernet.train()
        with self._setup.runtime.seeded(self._seed, "training", training.iteration):
            for _ in range(min(self._setup.iterations_per_step, training.iterations - training.iteration)):
                if training.advance_weights():
                    training.advance_lambda()
                    if training.lambda_steps % self._gamma_every == 0:
                        self._penalise()
                if training.iteration % training.per_epoch == 0:
                    self._end_epoch(services)
        services.log({**training.losses(), "learning_rate": training.rate}, step=training.iteration)
        services.progress(training.iteration, training.iterations, "iterations")

    def _sizes(self) -> Tensor:
        """Return ``|lambda|`` of each edge after the last proximal step, 0 for dead edges; on the CPU."""
        values = self._training.penalised.iterate(self._gates.values)
        return torch.where(alive(values), values.abs(), 0.0).cpu()

    def _live(self, living: Tensor) -> Architecture:
        """Return the architecture of living edges and of those that a decision requires."""
        mask = (living & self._gates.present) | self._gates.protected(self._sizes())
        return self._structure.live(self._gates.sources_where(mask))

    def _living(self) -> Tensor:
        """Return which edges are alive; all that have not been removed, if lambda has no penalty."""
        if self._controller is not None and (self._controller.reached or self._training.pruner is not None):
            return self._gates.present
        return self._sizes() > 0

    def _penalise(self) -> None:
        """Set the penalty of every edge, or remove the edges to which the loss is least sensitive."""
        if self._training.pruner is not None:
            self._prune_by_sensitivity(self._training.pruner)
            return
        sizes = self._sizes()
        factors = self._setup.factors(self._live(sizes > 0)).clone()
        # No penalty on the largest option of a decision that requires one: this option remains.
        factors[self._gates.protected(sizes)] = 0.0
        controller, training = self._controller, self._training
        if controller and not controller.reached and training.lambda_steps:
            self._gamma = controller.update(
                sizes,
                factors,
                gamma=self._gamma,
                rate=training.lambda_rate,
                step=training.lambda_steps,
                share=lambda living: self._structure.count(self._live(living)).shares[controller.measure],
            )
            self._prune(controller.lasting)
        training.penalise(self._gamma * factors.to(self._gates.values))

    def _prune_by_sensitivity(self, pruner: SensitivityPruner) -> None:
        controller, training = self._controller, self._training
        assert controller is not None  # a sensitivity needs a target

        def share(living: Tensor) -> float:
            return self._structure.count(self._live(living)).shares[controller.measure]

        self._gamma = 0.0
        if controller.reached or training.lambda_steps == 0:
            return
        values = training.penalised.iterate(self._gates.values)
        limit = controller.plan(training.lambda_steps)
        self._prune(pruner.survivors(values, self._gates.present, share, limit))
        controller.reached = share(self._gates.present) <= controller.share

    def _end_epoch(self, services: Services) -> None:
        training = self._training
        epoch = training.iteration // training.per_epoch
        searched = epoch - self._setup.pretrain_epochs
        if searched < 1:
            return
        metrics = self._history.record(
            self._structure.count(self._live(self._living())),
            epoch,
            gamma=self._gamma,
            advice=advice(self._gamma, self._travel(), self._controller),
        )
        services.log(metrics, step=training.iteration)
        prune_epochs = self._setup.prune_epochs
        if prune_epochs is not None and searched % prune_epochs == 0:
            self._prune(self._living())

    def _prune(self, living: Tensor) -> None:
        """Permanently remove the edges that are not alive, and the operations that die with them."""
        live = self._gates.mask(self._live(living))
        dead = self._gates.present & ~live
        if not bool(dead.any()):
            return
        self._gates.remove(dead)
        self._training.penalised.forget(self._gates.values, dead.to(self._gates.values.device))
        self._training.restrict()

    def _finish(self, services: Services) -> None:
        live = self._live(self._living())
        shares = self._structure.count(live)
        warn_if_missed(shares, self._controller)
        values = self._training.penalised.iterate(self._gates.values).cpu()
        setup = self._setup
        self._artifacts.save(whole_weights(self._supernet, setup.space, setup.runtime, self._seed))
        self._artifacts.save(self._gates.split(values), name="lambda")
        scales = self._gates.named(values, self._gates.mask(live))
        info = {"lambda": scales, "live_edges": shares.edges, "edges": self._structure.total}
        services.evaluate([Proposal(live, info=info)])
        self._proposed = True

    def state_dict(self) -> dict[str, Any]:
        """Return the state of training, controller and history, and which edges have not been removed."""
        return {
            "training": self._training.state_dict(),
            "present": self._gates.present,
            "gamma": self._gamma,
            "controller": None if self._controller is None else self._controller.state_dict(),
            "history": self._history.state_dict(),
            "factors": self._setup.factors.state_dict(),
            "proposed": self._proposed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned: first remove the removed edges, then load the rest; bit-equal."""
        removed = ~state["present"].cpu()
        if bool(removed.any()):
            self._gates.remove(removed)
            self._training.restrict()
        self._training.load_state_dict(state["training"])
        self._gamma, self._proposed = state["gamma"], state["proposed"]
        self._history.load_state_dict(state["history"])
        self._setup.factors.load_state_dict(state["factors"])
        if self._controller:
            self._controller.load_state_dict(state["controller"])
