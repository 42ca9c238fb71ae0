"""DSO-NAS: train the fully connected network once, with a penalty that cuts its edges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from automl_nas.evaluation import Artifacts, Recipe, Runtime, Task
from automl_nas.space import Architecture, SearchSpace, SupernetSpace
from automl_nas.strategy import Problem, Proposal, Services, Strategy
from automl_nas_dso.gamma import Schedule as GammaSchedule
from automl_nas_dso.gamma import strength
from automl_nas_dso.optimiser import Nonnegative, alive
from automl_nas_dso.strategy_report import History, advice, judge
from automl_nas_dso.strategy_setup import set_up
from automl_nas_dso.strategy_training import Alternation, Split
from automl_nas_dso.strategy_weights import fix_scales, fresh_supernet, whole_weights


class DSO(Strategy):
    """Direct sparse optimisation (Zhang, Huang, Wang 2018, arXiv 1811.01567).

    Every edge of the fully connected network has a scale lambda, 1 at first, that multiplies what it carries. Phase 1
    trains the weights alone. In phase 2 steps of the weights and steps of lambda alternate, on images of their own:
    lambda by accelerated proximal gradient (`APGNAG`) on the loss plus ``gamma * ||lambda||_1``, so that it becomes
    exactly 0 where an edge is not worth its penalty. The zeros at the end are the architecture, which the stage
    proposes as its one trial, with lambda in its ``info``. It is to be retrained, by ``final``, without lambda.

    The artifacts are ``weights`` (of the whole supernet; what was removed on the way has fresh weights) and ``lambda``
    (decision -> one number for each of its options).

    Args:
        space: its decisions are subsets: the edges. An `EdgeSpace` (``dso``) also says what they cost.
        task: its split ``search`` is for lambda: hold out half of the training images, as the paper does.
        runtime: where it runs.
        artifacts: takes weights and lambda.
        problem: has the cost model for ``adaptive_latency``.
        seed: of weights and batches.
        train: how to train the weights, over both phases (defaults: CIFAR-10, paper).
        pretrain_epochs: phase 1, of ``train.epochs``.
        weight_steps: steps of the weights for each step of lambda (paper: 1; ImageNet: 4).
        weight_split: for the weights.
        lambda_split: for lambda; it may be smaller or larger.
        lambda_learning_rate: constant; null: that of the weights, at each moment.
        lambda_momentum: its momentum.
        gamma: the penalty; ``auto``: an edge that nothing needs could travel twice the way from 1 to 0
            (k, about ``lr * gamma * steps / (1 - momentum)``, is 2). 0 removes nothing.
        gamma_schedule: the penalty of an edge, relative to gamma: ``constant``; ``adaptive_flops``: the share of its
            block's FLOPs that is alive; ``adaptive_mac``: the memory access cost of the operation it leads to,
            relative to the largest; ``adaptive_latency``: half to whole, by the latency its removal saves.
        gamma_every: the penalty is set anew after so many steps of lambda (for a target 50 times at least).
        mac_reference: whether the largest memory access cost is that of the ``block`` or of the ``network``.
        latency: the cost of the problem that ``adaptive_latency`` uses; one that is measured is measured once.
        sparsity: a target instead of a gamma: ``{flops: 0.4}`` lets a controller set gamma so that 40 % of the blocks'
            FLOPs are left; also ``memory_access`` and ``edges``.
        nonnegative: whether lambda may be negative: ``none``; ``prox`` and ``clamp`` keep it at 0 or above (exactly,
            or as the authors' code does).
        clip: gradients of weights and lambda are cut off at so much in either direction, element by element (code);
            null: not at all.
        fix_scale: whether the scales of batch normalisation inside the nodes of graphs stay as they are, since they
            would absorb lambda.
        prune_epochs: after so many epochs of phase 2, again and again, dead edges and operations are removed for good
            and cost nothing any more (code); null: dead edges may revive until the end.
        iterations_per_step: how many iterations pass between safe points; a step should take well under a minute.

    Raises:
        ConfigurationError: a setting is out of its range or too small to remove anything, or does not suit the space.
        RunFailedError: everything died; says when, and how many edges lived before.
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
        gamma_schedule: GammaSchedule = "constant",
        gamma_every: int = 10,
        mac_reference: Literal["block", "network"] = "block",
        latency: str = "latency_ms",
        sparsity: dict[str, float] | None = None,
        nonnegative: Nonnegative = "prox",
        clip: float | None = 2.0,
        fix_scale: bool = True,
        prune_epochs: int | None = 10,
        iterations_per_step: int = 20,
    ) -> None:
        setup = set_up(
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
            nonnegative=nonnegative,
            clip=clip,
            prune_epochs=prune_epochs,
            iterations_per_step=iterations_per_step,
        )
        self._space, self._runtime, self._artifacts, self._seed = space, runtime, artifacts, seed
        self._gates, self._anatomy, self._factors = setup.gates, setup.anatomy, setup.factors
        self._rates, self._controller, self._gamma = setup.rates, setup.controller, setup.gamma
        self._supernet = runtime.place(fresh_supernet(space, runtime, seed))
        if fix_scale:
            fix_scales(self._supernet)
        self._training = Alternation(self._supernet, self._gates, task, runtime, setup.schedule, seed=seed)
        self._prune_epochs = prune_epochs
        self._gamma_every = min(gamma_every, self._controller.interval if self._controller else gamma_every)
        self._pretrain_epochs, self._iterations_per_step = pretrain_epochs, iterations_per_step
        self._history = History(self._anatomy.total)
        self._proposed = False

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return what makes all but the networks."""
        return set_up

    @property
    def done(self) -> bool:
        """Whether the architecture is proposed."""
        return self._proposed

    @property
    def planned(self) -> int | None:
        """One trial."""
        return 1

    def step(self, services: Services) -> None:
        """Train for a fixed number of iterations; the last step saves and proposes."""
        training = self._training
        if training.iteration == training.iterations:
            self._finish(services)
            return
        if training.lambda_steps == 0:
            self._penalise()  # not in the constructor: to measure a latency takes seconds, and a resumed run has it
        self._supernet.train()
        with self._runtime.seeded(self._seed, "training", training.iteration):
            for _ in range(min(self._iterations_per_step, training.iterations - training.iteration)):
                if training.advance_weights():
                    training.advance_lambda()
                    if training.lambda_steps % self._gamma_every == 0:
                        self._penalise()
                if training.iteration % training.per_epoch == 0:
                    self._end_epoch(services)
        services.log({**training.losses(), "learning_rate": training.rate}, step=training.iteration)
        services.progress(training.iteration, training.iterations, "iterations")

    def _sizes(self) -> Tensor:
        """Return how large each lambda is, 0 for dead ones: those of the last proximal step."""
        values = self._training.penalised.iterate(self._gates.values)
        return torch.where(alive(values), values.abs(), 0.0).cpu()

    def _live(self, living: Tensor) -> Architecture:
        """Return the architecture of living edges, and of those that must stay."""
        chosen = (living & self._gates.present) | self._gates.protected(self._sizes())
        return self._anatomy.live(self._gates.chosen(chosen))

    def _living(self) -> Tensor:
        """Return which edges are alive; once a target is reached, all that are left."""
        if self._controller is not None and self._controller.reached:
            return self._gates.present
        return self._sizes() > 0

    def _penalise(self) -> None:
        """Set the penalty of every edge."""
        sizes = self._sizes()
        factors = self._factors(self._live(sizes > 0)).clone()
        # Without a penalty a decision that must keep an option keeps its largest.
        factors[self._gates.protected(sizes)] = 0.0
        controller, training = self._controller, self._training
        if controller and not controller.reached and training.lambda_steps:
            self._gamma = controller.update(
                sizes,
                factors,
                gamma=self._gamma,
                rate=training.lambda_rate,
                step=training.lambda_steps,
                share=lambda living: self._anatomy.life(self._live(living)).shares[controller.measure],
            )
            self._prune(controller.lasting)
        training.penalised.set_gamma(self._gates.values, self._gamma * factors.to(self._gates.values))

    def _end_epoch(self, services: Services) -> None:
        training = self._training
        epoch = training.iteration // training.per_epoch
        searched = epoch - self._pretrain_epochs
        if searched < 1:
            return
        k = strength(self._gamma, self._rates, training.penalised.param_groups[0]["momentum"])
        told = advice(self._gamma, k, self._controller)
        services.log(
            self._history.record(self._anatomy.life(self._live(self._living())), epoch, gamma=self._gamma, advice=told),
            step=training.iteration,
        )
        if self._prune_epochs is not None and searched % self._prune_epochs == 0:
            self._prune(self._living())

    def _prune(self, living: Tensor) -> None:
        """Remove for good what is dead."""
        live = self._gates.mask(self._live(living))
        dead = self._gates.present & ~live
        if not bool(dead.any()):
            return
        self._gates.remove(dead)
        self._training.penalised.forget(self._gates.values, dead.to(self._gates.values.device))
        self._training.restrict()

    def _finish(self, services: Services) -> None:
        live = self._live(self._living())
        life = self._anatomy.life(live)
        judge(life, self._controller)
        values = self._training.penalised.iterate(self._gates.values).cpu()
        self._artifacts.save(whole_weights(self._supernet, self._space, self._runtime, self._seed))
        self._artifacts.save(self._gates.split(values), name="lambda")
        scales = self._gates.named(values, self._gates.mask(live))
        info = {"lambda": scales, "live_edges": life.edges, "edges": self._anatomy.total}
        services.evaluate([Proposal(live, info=info)])
        self._proposed = True

    def state_dict(self) -> dict[str, Any]:
        """Return the state of training, controller and history, and the edges that are left."""
        return {
            "training": self._training.state_dict(),
            "present": self._gates.present,
            "gamma": self._gamma,
            "controller": None if self._controller is None else self._controller.state_dict(),
            "history": self._history.state_dict(),
            "factors": self._factors.state_dict(),
            "proposed": self._proposed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue, bit for bit: first what was removed is removed, then the rest is loaded."""
        removed = ~state["present"].cpu()
        if bool(removed.any()):
            self._gates.remove(removed)
            self._training.restrict()
        self._training.load_state_dict(state["training"])
        self._gamma, self._proposed = state["gamma"], state["proposed"]
        self._history.load_state_dict(state["history"])
        self._factors.load_state_dict(state["factors"])
        if self._controller:
            self._controller.load_state_dict(state["controller"])
