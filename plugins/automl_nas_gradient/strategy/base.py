"""The base class of strategies with architecture parameters."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from automl_nas.evaluation import Artifacts, Shortened, shortened_training
from automl_nas.space import SearchSpace, SupernetSpace
from automl_nas.strategy import Phase, Proposal, Services, Strategy
from automl_nas_gradient.collapse import CollapseObserver, DominantEigenvalue, SkipShare, Stop, largest_eigenvalue
from automl_nas_gradient.deriving import Derived
from automl_nas_gradient.estimators import Estimator
from automl_nas_gradient.strategy.setup import GradientSetup
from automl_nas_gradient.training.alternation import Alternation

_LOG = logging.getLogger(__name__)


class GradientStrategy(Strategy):
    """A one-shot search that trains the weights of a supernet and architecture parameters alpha.

    At the end it saves the artifacts ``weights`` (of the supernet) and ``alpha`` (decision -> tensor with one number
    for each option), and proposes the derived network as its one trial. Abstract: a subclass has the constructor with
    the settings, and makes the estimator.

    Args:
        setup: the checked settings.
        estimator: makes selections from alpha.
        artifacts: weights and alpha are saved in it.
        seed: of weights, alpha, batches and draws.
    """

    space_type: ClassVar[type[SearchSpace]] = SupernetSpace  # type: ignore[type-abstract]

    def __init__(self, setup: GradientSetup, estimator: Estimator, artifacts: Artifacts, seed: int) -> None:
        runtime = setup.runtime
        self._setup, self._estimator, self._artifacts, self._seed = setup, estimator, artifacts, seed
        with runtime.seeded(seed, "alpha"):
            estimator.alpha.initialise(setup.alpha.initial_std)
        with runtime.seeded(seed, "init"):
            self._supernet = runtime.place(setup.space.build_supernet())
        self._training = Alternation(self._supernet, estimator, setup.plan, setup.task, runtime, seed=seed)
        self._observers = self._make_observers()
        self._alphas: list[Tensor] = []
        self._history: list[dict[str, Any]] = []
        self._stop: Stop | None = None
        self._proposed = False

    @classmethod
    def phases(cls, settings: Mapping[str, Any]) -> Sequence[Phase]:
        """Return the two phases: without and with training of alpha."""
        pretraining = settings["pretrain_epochs"] / settings["train"]["epochs"]
        second = Phase(1 - pretraining, {"pretrain_epochs": 0})
        return (Phase(pretraining), second) if pretraining > 0 else (second,)

    @classmethod
    def shortened(cls, settings: Mapping[str, Any], share: float) -> Shortened:
        """Return settings with fewer epochs in both phases; see `Strategy.shortened`."""
        return shortened_training(settings, share, phases=["pretrain_epochs"])

    @property
    def done(self) -> bool:
        """Whether the network has been proposed."""
        return self._proposed

    @property
    def planned(self) -> int | None:
        """One trial."""
        return 1

    def step(self, services: Services) -> None:
        """Train for a fixed number of iterations; the last step saves the artifacts and proposes the network."""
        training = self._training
        if self._stop is not None or training.iteration == training.iterations:
            self._finish(services)
            return
        self._supernet.train()
        with self._setup.runtime.seeded(self._seed, "training", training.iteration):
            for _ in range(min(self._setup.iterations_per_step, training.iterations - training.iteration)):
                training.advance()
                if training.iteration % training.per_epoch == 0:
                    self._end_epoch(services)
                    if self._stop is not None:
                        break
        services.log({**training.losses(), "learning_rate": training.rate}, step=training.iteration)
        services.progress(training.iteration, training.iterations, "iterations")

    def _make_observers(self) -> list[CollapseObserver]:
        settings = self._setup.collapse
        observers: list[CollapseObserver] = [SkipShare(settings, self._setup.active)]
        if settings.eigenvalue_every is not None:
            observers.append(
                DominantEigenvalue(self._eigenvalue, settings.eigenvalue_every, settings.stop_eigenvalue_ratio)
            )
        return observers

    def _eigenvalue(self) -> float:
        alpha = self._estimator.alpha
        loss = self._training.mean_loss()
        return largest_eigenvalue(loss, alpha.values, alpha.mask, self._setup.alpha.weight_decay)

    def _end_epoch(self, services: Services) -> None:
        training, alpha = self._training, self._estimator.alpha
        epoch = training.iteration // training.per_epoch
        searched = epoch - self._setup.pretrain_epochs
        if searched < 1 or alpha.not_finite():
            return  # a NaN is reported with the losses of the step
        self._alphas.append(alpha.values.detach().cpu().clone())
        derived = self._derived()[0]
        values = dict(derived.architecture)
        if not self._history or self._history[-1]["architecture"] != values:
            self._history.append({"epoch": epoch, "architecture": values})
        metrics = {"entropy": float(alpha.entropy().detach()), "temperature": self._setup.temperature_of(epoch - 1)}
        for observer in self._observers:
            value, stop = observer.observe(searched, derived.architecture)
            if value is not None:
                metrics[observer.name] = value
            if stop is not None and self._stop is None:
                self._stop = stop
                _LOG.warning(
                    "the search ends after epoch %d of %d: %s; the network of epoch %d is derived",
                    epoch,
                    self._setup.train.epochs,
                    stop.reason,
                    stop.epoch + self._setup.pretrain_epochs,
                )
        services.log(metrics, step=training.iteration)

    def _derived(self) -> list[Derived]:
        """Return the most probable networks that meet all limits, for the present alpha."""
        with torch.no_grad():
            scores = self._estimator.scores()
        return self._setup.deriver(scores)

    def _finish(self, services: Services) -> None:
        self._artifacts.save(self._supernet.state_dict())
        alpha = self._estimator.alpha
        if self._stop is not None:
            before = self._alphas[max(self._stop.epoch, 1) - 1]
            with torch.no_grad():
                alpha.values.copy_(before)
        self._artifacts.save(alpha.split(alpha.values.cpu()), name="alpha")
        derived = self._derived()
        if not derived[0].exact:
            _LOG.warning("the derived network is not certain to be the most probable one: the search was cut short")
        info: dict[str, Any] = {
            "log_probability": derived[0].log_probability,
            "exact": derived[0].exact,
            "history": self._history,
        }
        if len(derived) > 1:
            info["top"] = [
                {"architecture": dict(each.architecture), "log_probability": each.log_probability} for each in derived
            ]
        if self._stop is not None:
            info["stopped"] = {"epoch": self._stop.epoch + self._setup.pretrain_epochs, "reason": self._stop.reason}
        services.evaluate([Proposal(derived[0].architecture, info=info)])
        self._proposed = True

    def state_dict(self) -> dict[str, Any]:
        """Return the state of training, observers and history."""
        return {
            "training": self._training.state_dict(),
            "observers": {observer.name: observer.state_dict() for observer in self._observers},
            "alphas": self._alphas,
            "history": self._history,
            "stop": None if self._stop is None else {"epoch": self._stop.epoch, "reason": self._stop.reason},
            "proposed": self._proposed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; the continuation is bit-equal."""
        self._training.load_state_dict(state["training"])
        for observer in self._observers:
            observer.load_state_dict(state["observers"][observer.name])
        self._alphas = [each.cpu() for each in state["alphas"]]
        self._history = [dict(each) for each in state["history"]]
        stop = state["stop"]
        self._stop = None if stop is None else Stop(stop["epoch"], stop["reason"])
        self._proposed = state["proposed"]
