"""Evaluating candidates by training each from scratch."""

from __future__ import annotations

import io
import logging
import math
import pickle
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from automl_nas.errors import ConfigurationError, DivergedError, Pruned, RunFailedError
from automl_nas.evaluation import (
    Evaluator,
    Fit,
    InitialWeights,
    Outcome,
    Recipe,
    Request,
    Runtime,
    Shortened,
    State,
    Task,
    check_initial_weights,
    score,
    shortened_training,
)
from automl_nas.run import write_whole
from automl_nas.space import SearchSpace
from automl_nas.strategy import Problem

_LOG = logging.getLogger(__name__)
_CHECKPOINT = "training.pt"


class TrainFromScratch(Evaluator):
    """Train each candidate with fresh weights and score it.

    The fidelity is the number of epochs of a complete schedule: the first 10 of 20 epochs differ from a training of 10
    epochs, because the learning rate ends at its final value in both. Weights, batches and dropout are functions of the
    request's seed. The first objective is reported every ``report_epochs``, or the first metric of the task if the
    objective is not one of its metrics; a candidate that is pruned keeps its last metrics. If the request has a
    scratch folder, the training is checkpointed in it; after a crash it continues bit-equally.

    Args:
        space: builds the candidates.
        task: batches, loss and score.
        runtime: where the training runs.
        problem: its first objective is reported; None: the first metric of the task is.
        train: the recipe; a request's fidelity replaces its ``epochs``.
        data: the split to train on.
        split: the split to score on.
        report_epochs: epochs between two reports.
        checkpoint_seconds: smallest time between two checkpoints in the scratch folder.
        iterations_per_chunk: iterations between two checks of the time since the last checkpoint; has no influence on
            results.
        initial_weights: weights that candidates begin with instead of fresh ones; null: fresh weights.
        together: whether, under torchrun, all ranks train each candidate together (data-parallel). False: candidates
            are spread over the ranks, which needs no communication; a stage with few candidates at a time is faster
            together.

    Raises:
        ConfigurationError: a setting is outside its range, candidates would be scored on images they train on, or the
            initial weights do not fit the networks.
    """

    def __init__(
        self,
        space: SearchSpace,
        task: Task,
        runtime: Runtime,
        problem: Problem | None = None,
        *,
        train: Recipe = Recipe(epochs=10),  # noqa: B008 - frozen
        data: Literal["train", "train+search"] = "train",
        split: Literal["search", "train"] = "search",
        report_epochs: int = 1,
        checkpoint_seconds: float = 30.0,
        iterations_per_chunk: int = 20,
        initial_weights: InitialWeights | None = None,
        together: bool = False,
    ) -> None:
        for name, value in (("report_epochs", report_epochs), ("iterations_per_chunk", iterations_per_chunk)):
            if value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}", path=name)
        if not checkpoint_seconds >= 0:
            raise ConfigurationError(
                f"checkpoint_seconds must be at least 0, not {checkpoint_seconds}", path="checkpoint_seconds"
            )
        if split == "search" and data == "train+search":
            raise ConfigurationError(
                "a candidate cannot be scored on the split 'search' if it is trained on it; set data: train",
                path="data",
            )
        train.refuse("the evaluator 'train'", "patience")
        self._space, self._task, self._runtime, self._recipe = space, task, runtime, train
        self._data, self._split = data, split
        self._report_epochs, self._seconds, self._chunk = report_epochs, checkpoint_seconds, iterations_per_chunk
        self._initial_weights = initial_weights
        if initial_weights is not None:
            with runtime.seeded(0, "initial weights"):
                check_initial_weights(space, initial_weights)
        measured = () if problem is None else (name for name in problem.objectives if name in task.metrics)
        self._reported = next(iter(measured), next(iter(task.metrics)))

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the class itself: its constructor trains nothing."""
        return cls

    @classmethod
    def check_fidelity(cls, settings: Mapping[str, Any], fidelity: float) -> None:
        """Check that the recipe can have this number of epochs; see `Evaluator.check_fidelity`."""
        _with_epochs(Recipe(**settings["train"]), fidelity)

    @classmethod
    def data_parallel(cls, settings: Mapping[str, Any]) -> bool:
        """Return the setting ``together``; see `Evaluator.data_parallel`."""
        return bool(settings["together"])

    @classmethod
    def shortened(cls, settings: Mapping[str, Any], share: float) -> Shortened:
        """Return settings with fewer epochs; see `Evaluator.shortened`."""
        return shortened_training(settings, share)

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield the outcomes in order, one at a time; a trial with a loss or metric that is not finite is FAILED."""
        for request in requests:
            begun = time.perf_counter()
            outcome = self._train(request)
            yield replace(outcome, seconds=time.perf_counter() - begun)

    def _train(self, request: Request) -> Outcome:
        recipe = self._recipe_for(request)
        with self._runtime.seeded(request.seed, "init"):
            network = self._space.build(request.architecture)
        if self._initial_weights is not None:
            self._initial_weights.load_into(network)
        self._runtime.place(network)
        fit = Fit(network, self._task, self._runtime, recipe, seed=request.seed, split=self._data)
        scratch = _Scratch(request, recipe, self._seconds, writes=self._runtime.rank == 0)
        # Reports from before a crash are made again: their receiver may have crashed, too.
        reports: list[dict[str, float]] = scratch.load(fit)
        per_report = fit.iterations // recipe.epochs * self._report_epochs
        info: dict[str, object] = {"epochs": recipe.epochs}
        try:
            for number, metrics in enumerate(reports):
                self._report(request, min((number + 1) * self._report_epochs, recipe.epochs), metrics)
            while not fit.done:
                end = min((len(reports) + 1) * per_report, fit.iterations)
                fit.advance(min(self._chunk, end - fit.iteration))
                if fit.iteration == end:
                    with self._runtime.seeded(request.seed, "evaluation"), fit.averaged():
                        reports.append(score(network, self._task, self._runtime, self._split))
                    self._report(request, fit.epoch, reports[-1])
                scratch.save(fit, reports)
        except Pruned:
            return Outcome(request.number, reports[-1], State.PRUNED, info={"epochs": fit.epoch})
        except DivergedError as error:
            return Outcome(request.number, state=State.FAILED, error=str(error), info=info)
        return Outcome(request.number, reports[-1], info=info)

    def _report(self, request: Request, epoch: int, metrics: dict[str, float]) -> None:
        not_finite = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
        if not_finite:
            raise DivergedError(f"after {epoch} epochs {', '.join(not_finite)}; lower learning_rate or set clip_norm")
        request.report(epoch, metrics[self._reported])

    def _recipe_for(self, request: Request) -> Recipe:
        return self._recipe if request.fidelity is None else _with_epochs(self._recipe, request.fidelity)


def _with_epochs(recipe: Recipe, epochs: float) -> Recipe:
    if epochs < 1 or epochs != int(epochs):
        raise ConfigurationError(f"a fidelity must be a whole number of epochs, at least 1, not {epochs:g}")
    try:
        return replace(recipe, epochs=int(epochs))
    except ConfigurationError as error:
        raise ConfigurationError(f"train: {error.message}") from error


class _Scratch:
    """The checkpoint of one evaluation, written atomically; only the same request with the same recipe loads it."""

    def __init__(self, request: Request, recipe: Recipe, seconds: float, *, writes: bool) -> None:
        self._writes = writes  # of several ranks that train together, one does
        self._path: Path | None = request.scratch and request.scratch / _CHECKPOINT
        self._seconds, self._saved = seconds, time.monotonic()
        self._identity = repr((request.architecture.key, request.seed, recipe))

    def load(self, fit: Fit) -> list[dict[str, float]]:
        """Load the checkpoint, if there is one, into a training and return the reports made before it."""
        if self._path is None or not self._path.exists():
            return []
        try:
            state: dict[str, Any] = torch.load(self._path, map_location=fit.runtime.device, weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            _LOG.warning("%s cannot be read (%s); training starts again", self._path, error)
            return []
        if state["identity"] != self._identity:
            return []
        fit.load_state_dict(state["fit"])
        reports: list[dict[str, float]] = state["reports"]
        return reports

    def save(self, fit: Fit, reports: list[dict[str, float]]) -> None:
        """Write a checkpoint if the last one is old enough; an error is logged and does not end the trial."""
        if not self._writes or self._path is None or time.monotonic() - self._saved < self._seconds:
            return
        content = io.BytesIO()
        torch.save({"identity": self._identity, "fit": fit.state_dict(), "reports": reports}, content)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)  # the folder is created when it is first needed
            write_whole(self._path, lambda file: file.write(content.getbuffer()))
        except (OSError, RunFailedError) as error:
            _LOG.warning("%s; the training goes on without this checkpoint", error)
        self._saved = time.monotonic()
