"""Ranking candidates with the weights of a trained supernet."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Literal, TypeAlias

from torch import Tensor, nn

from automl_nas.errors import ConfigurationError, DivergedError
from automl_nas.evaluation import (
    Artifacts,
    Evaluator,
    Fit,
    Outcome,
    Predictor,
    Recipe,
    Request,
    Runtime,
    State,
    Task,
    batch_norms,
    full_batches,
    recalibrate_on,
    recalibration_inputs,
    score_outputs,
)
from automl_nas.space import SupernetSpace
from automl_nas_oneshot.part_scores import PartScore, Scored, check_blocks
from automl_nas_oneshot.shared_evaluation import RandomNumbersError, SharedEvaluation
from automl_nas_oneshot.shared_parts import can_be_divided, check_memory

_LOG = logging.getLogger(__name__)
# One seed for all evaluations of all runs: metrics depend on weights, architecture and fidelity only.
_SEED = 0


Fidelity: TypeAlias = Literal["recalibration_images", "scored_images"]
"""What the fidelity of a trial is."""

_MEGABYTES = 512.0
"""Memory for shared work by default."""


def check_settings(
    space: SupernetSpace,
    task: Task,
    runtime: Runtime,
    *,
    recalibration_images: int,
    cache_megabytes: float,
    together: int,
    share_megabytes: float | None,
    finetune_steps: int,
    finetune_rate: float,
    fidelity: Fidelity,
) -> None:
    """Check the numbers, and that the memory for shared work has room for one batch.

    Raises:
        ConfigurationError: a setting is outside its range.
    """
    numbers = (
        ("recalibration_images", recalibration_images, 0),
        ("cache_megabytes", cache_megabytes, 0),
        ("together", together, 1),
        ("share_megabytes", share_megabytes, 0),
        ("finetune_steps", finetune_steps, 0),
    )
    for name, value, least in numbers:
        if value is not None and not value >= least:
            raise ConfigurationError(f"{name} must be at least {least}, not {value}", path=name)
    if not 0 < finetune_rate < math.inf:
        raise ConfigurationError(f"must be positive, not {finetune_rate}", path="finetune_rate")
    if fidelity == "scored_images":
        check_blocks(task)
    if finetune_steps:
        full_batches(task, "train")
    elif share_megabytes and together > 1:
        check_memory(space, task, runtime, share_megabytes)


class SupernetWeights(Evaluator):
    """Score candidates with the weights of a trained supernet (SPOS, section 3.4).

    A candidate is extracted from the supernet, its batch normalisation is recalibrated on training images, and it is
    scored on a split. The metrics are a function of (weights, architecture, fidelity). All candidates use the same
    images in the same order, whatever the request's seed: with other images, equal architectures would get different
    metrics, and different architectures could not be compared. The fidelity is the number of recalibration images, or
    of images that are scored.

    Candidates are compared by ``loss`` unless the configuration names objectives: it orders networks better than
    accuracy does (docs/results/supernets.md).

    Args:
        space: the space whose supernet the weights belong to.
        task: training images and the score.
        runtime: where the evaluation runs.
        artifacts: the weights are loaded from it.
        weights: the artifact: the name of a stage of this run, or ``RUN:stage`` for another run; ``stage/ema`` and
            ``stage/swa`` for the averages that `single_path` keeps beside the weights. null: the weights that the space
            builds its supernet with, for spaces of a trained model such as `from_model`.
        recalibration_images: training images for the statistics of batch normalisation, in whole batches; 0: use the
            supernet's running statistics, which are averages over many paths. (The paper uses 20,000 of ImageNet.)
        split: the split on which candidates are scored; held out of training.
        cache_megabytes: recalibration images up to this size stay on the device between candidates, so that they are
            read and augmented once; the others are read again for every candidate.
        together: the largest number of candidates that are evaluated together, out of those that the strategy proposed
            and that wait (``batch`` and ``ahead`` of the stage). Those with equal first decisions compute their common
            parts once; scores are the same, bit for bit. 1: one by one.
        share_megabytes: memory for candidates that are evaluated together: half for weights, and of the rest half for
            outputs of common parts and half for outputs of candidates. What has no room is computed again. null: 512;
            0: one by one.
        finetune_steps: number of training batches on which the inherited weights of each candidate are trained before
            it is recalibrated and scored; the supernet keeps its weights. All candidates train on the same batches.
            Candidates are then evaluated one by one. 0: no fine-tuning.
        finetune_rate: the learning rate of the fine-tuning, which is constant: SGD with momentum 0.9 and the other
            defaults of `Recipe`.
        fidelity: what the fidelity of a trial is: ``recalibration_images``; or ``scored_images``: a candidate is scored
            on so many random images of the split, the same ones for all, and the values of 32 blocks of them are
            recorded for the strategy `race`.

    Raises:
        ConfigurationError: the weights do not exist or do not fit the space's supernet, a setting is outside its
            range, or the memory for shared work has no room for one batch.
    """

    default_metric = "loss"

    def __init__(
        self,
        space: SupernetSpace,
        task: Task,
        runtime: Runtime,
        artifacts: Artifacts,
        *,
        weights: str | None = "supernet",
        recalibration_images: int = 1024,
        split: Literal["search", "train"] = "search",
        cache_megabytes: float = 512.0,
        together: int = 50,
        share_megabytes: float | None = None,
        finetune_steps: int = 0,
        finetune_rate: float = 0.01,
        fidelity: Fidelity = "recalibration_images",
    ) -> None:
        check_settings(
            space,
            task,
            runtime,
            recalibration_images=recalibration_images,
            cache_megabytes=cache_megabytes,
            together=together,
            share_megabytes=share_megabytes,
            finetune_steps=finetune_steps,
            finetune_rate=finetune_rate,
            fidelity=fidelity,
        )
        self._task, self._runtime, self._split = task, runtime, split
        self._images = recalibration_images
        self._cache_bytes_left = cache_megabytes * 1e6
        self._cache: list[Tensor] = []
        self._batch: int | None = None
        with runtime.seeded(_SEED, "init"):
            self._supernet = space.build_supernet()
        if weights is not None:
            try:
                self._supernet.load_state_dict(artifacts.load(weights))
            except RuntimeError as error:
                detail = str(error).splitlines()[-1].strip()
                raise ConfigurationError(
                    f"the weights '{weights}' do not fit the supernet ({detail}); set the space of their training",
                    path="weights",
                ) from None
        runtime.place(self._supernet)
        limit = (_MEGABYTES if share_megabytes is None else share_megabytes) * 1e6
        self._shared = SharedEvaluation(self._supernet, runtime, limit)
        self._fidelity = fidelity
        self._parts: dict[float, PartScore] = {}
        self._steps, self._rate = finetune_steps, finetune_rate
        self._shares = limit > 0 and not finetune_steps and can_be_divided(self._supernet)
        self.taken_ahead = together if self._shares else 1

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the function that checks the numbers; the stage of the weights may not have started yet."""
        return check_settings

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield the outcomes, one request after the other, or of groups that share work.

        As many requests are taken as are evaluated together. A trial with a metric that is not finite is FAILED. If a
        candidate raises an exception, it is raised when the others of its group have their outcomes.
        """
        waiting = iter(requests)
        while group := list(islice(waiting, self.taken_ahead)):
            failed: list[Request] = []
            for fidelity in dict.fromkeys(request.fidelity for request in group):
                of_fidelity = [request for request in group if request.fidelity == fidelity]
                yield from self._evaluate_group(of_fidelity, failed)
            yield from self._repeat(failed)

    def _evaluate_group(self, requests: Sequence[Request], failed: list[Request]) -> Iterator[Outcome]:
        """Yield the outcomes of requests of one fidelity; append those that must be evaluated alone to ``failed``."""
        while requests:
            if len(requests) == 1 or not self._shares:
                failed.extend(requests)
                return
            begun = time.perf_counter()
            images = self._images_of(requests[0])
            try:
                with self._runtime.seeded(_SEED, "evaluation"):
                    score, samples = self._score_of(requests[0])
                    architectures = [request.architecture for request in requests]
                    scores = self._shared.evaluate(architectures, partial(self._inputs, images), score, samples)
            except RandomNumbersError as error:
                _LOG.warning("candidates are evaluated one by one: %s", error)
                self._shares = False
                continue
            seconds = (time.perf_counter() - begun) / len(scores)
            for request, scored in zip(requests, scores, strict=False):
                if scored is None:
                    failed.append(request)
                else:
                    yield self._outcome(request, scored, images, seconds)
            requests = requests[len(scores) :]

    def _repeat(self, requests: Sequence[Request]) -> Iterator[Outcome]:
        errors = []
        for request in requests:
            try:
                outcome = self._evaluate(request)
            except Exception as error:
                errors.append(error)
                continue
            yield outcome
        if errors:
            raise errors[0]

    def _evaluate(self, request: Request) -> Outcome:
        begun = time.perf_counter()
        images = self._images_of(request)
        with self._runtime.seeded(_SEED, "evaluation"):
            network = self._supernet.extract(request.architecture)
        if self._steps:
            try:
                self._finetune(network)
            except DivergedError as error:
                seconds = time.perf_counter() - begun
                return Outcome(request.number, state=State.FAILED, error=f"fine-tuning: {error}", seconds=seconds)
        with self._runtime.seeded(_SEED, "evaluation"):
            if images > 0 and batch_norms(network):
                recalibrate_on(network, self._runtime, self._inputs(images))
            score, _ = self._score_of(request)
            scored = score(self._runtime.predictor(network))
        return self._outcome(request, scored, images, time.perf_counter() - begun)

    def _finetune(self, network: nn.Module) -> None:
        """Train a network in place for a number of steps.

        Raises:
            DivergedError: the loss is not finite any more.
        """
        epochs = math.ceil(self._steps / full_batches(self._task, "train"))
        recipe = Recipe(epochs=epochs, learning_rate=self._rate, schedule="constant")
        Fit(network, self._task, self._runtime, recipe, seed=_SEED).advance(self._steps)

    def _score_of(self, request: Request) -> tuple[Callable[[Predictor], Scored], int]:
        """Return the score, and the number of images that it needs."""
        if self._fidelity == "scored_images" and request.fidelity is not None:
            part = self._parts.get(request.fidelity)
            if part is None:
                part = PartScore(check_blocks(self._task), self._runtime, self._split, request.fidelity, _SEED)
                self._parts[request.fidelity] = part
            return part, part.samples
        return self._whole, self._task.size(self._split)

    def _whole(self, predict: Predictor) -> Scored:
        return score_outputs(predict, self._task, self._runtime, self._split), {}

    def _outcome(self, request: Request, scored: Scored, images: int, seconds: float) -> Outcome:
        metrics, blocks = scored
        info: dict[str, object] = {"recalibration_images": images}
        if blocks:
            info |= {"scored_images": self._parts[request.fidelity or 0].samples, "blocks": blocks}
        if images > 0:
            info["recalibration_batch"] = self._batch_size()
        if self._steps:
            info["finetune_steps"] = self._steps
        not_finite = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if not_finite:
            error = ", ".join(f"{name} is {value}" for name, value in not_finite.items())
            return Outcome(request.number, state=State.FAILED, error=error, seconds=seconds, info=info)
        return Outcome(request.number, metrics, seconds=seconds, info=info)

    def _batch_size(self) -> int:
        """Return the number of images of a recalibration batch."""
        if self._batch is None:  # no candidate has had statistics
            self._batch = len(next(recalibration_inputs(self._task, images=1, seed=_SEED, split="train")))
        return self._batch

    def _images_of(self, request: Request) -> int:
        if request.fidelity is None or self._fidelity == "scored_images":
            return self._images
        return round(request.fidelity)

    def _inputs(self, images: int) -> Iterator[Tensor]:
        """Yield the recalibration batches on the device, first those in the cache."""
        seen = position = 0
        while seen < images and position < len(self._cache):
            yield self._cache[position]
            seen, position = seen + len(self._cache[position]), position + 1
        if seen >= images:
            return
        for inputs in recalibration_inputs(self._task, images=images, seed=_SEED, split="train", start=position):
            self._batch = len(inputs)
            batch = self._runtime.tensor(inputs)
            size = batch.numel() * batch.element_size()
            # All batches have the same size: if one does not fit, no later one does, so the cache remains a prefix.
            if size <= self._cache_bytes_left:
                self._cache_bytes_left -= size
                self._cache.append(batch)
            yield batch
