"""Ranking candidates with the weights of a trained supernet."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import (
    Artifacts,
    Evaluator,
    Outcome,
    Request,
    Runtime,
    State,
    Task,
    batch_norms,
    recalibrate_on,
    recalibration_inputs,
    score,
)
from automl_nas.space import SupernetSpace

# One seed for all evaluations of all runs: metrics depend on weights, architecture and fidelity only.
_SEED = 0


def _check(*, recalibration_images: int, cache_megabytes: float) -> None:
    for name, value in (("recalibration_images", recalibration_images), ("cache_megabytes", cache_megabytes)):
        if not value >= 0:
            raise ConfigurationError(f"{name} must be at least 0, not {value}", path=name)


class SupernetWeights(Evaluator):
    """Score candidates with the weights of a trained supernet (SPOS, section 3.4).

    A candidate is extracted from the supernet, its batch normalisation is recalibrated on training images, and it is
    scored on a split. The metrics are a function of (weights, architecture, fidelity). All candidates use the same
    images in the same order, whatever the request's seed: with other images, equal architectures would get different
    metrics, and different architectures could not be compared. The fidelity is the number of recalibration images.

    Candidates are compared by ``loss`` unless the configuration names objectives: it orders networks better than
    accuracy does (docs/results.md).

    Args:
        space: the space whose supernet the weights belong to.
        task: training images and the score.
        runtime: where the evaluation runs.
        artifacts: the weights are loaded from it.
        weights: the artifact: the name of a stage of this run, or ``RUN:stage`` for another run.
        recalibration_images: training images for the statistics of batch normalisation, in whole batches; 0: use the
            supernet's running statistics, which are averages over many paths. (The paper uses 20,000 of ImageNet.)
        split: the split on which candidates are scored; held out of training.
        cache_megabytes: recalibration images up to this size stay on the device between candidates, so that they are
            read and augmented once; the others are read again for every candidate.

    Raises:
        ConfigurationError: the weights do not exist or do not fit the space's supernet, or a setting is outside its
            range.
    """

    default_metric = "loss"

    def __init__(
        self,
        space: SupernetSpace,
        task: Task,
        runtime: Runtime,
        artifacts: Artifacts,
        *,
        weights: str = "supernet",
        recalibration_images: int = 1024,
        split: Literal["search", "train"] = "search",
        cache_megabytes: float = 512.0,
    ) -> None:
        _check(recalibration_images=recalibration_images, cache_megabytes=cache_megabytes)
        self._task, self._runtime, self._split = task, runtime, split
        self._images = recalibration_images
        self._cache_bytes_left = cache_megabytes * 1e6
        self._cache: list[Tensor] = []
        with runtime.seeded(_SEED, "init"):
            self._supernet = space.build_supernet()
        try:
            self._supernet.load_state_dict(artifacts.load(weights))
        except RuntimeError as error:
            detail = str(error).splitlines()[-1].strip()
            raise ConfigurationError(
                f"the weights '{weights}' do not fit the supernet ({detail}); set the space of their training",
                path="weights",
            ) from None
        runtime.place(self._supernet)

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the function that checks the numbers; the stage of the weights may not have started yet."""
        return _check

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield the outcomes in order, one at a time; a trial with a metric that is not finite is FAILED."""
        for request in requests:
            yield self._evaluate(request)

    def _evaluate(self, request: Request) -> Outcome:
        begun = time.perf_counter()
        images = self._images if request.fidelity is None else round(request.fidelity)
        with self._runtime.seeded(_SEED, "evaluation"):
            network = self._supernet.extract(request.architecture)
            if images > 0 and batch_norms(network):
                recalibrate_on(network, self._runtime, self._inputs(images))
            metrics = score(network, self._task, self._runtime, self._split)
        seconds = time.perf_counter() - begun
        info: dict[str, object] = {"recalibration_images": images}
        not_finite = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if not_finite:
            error = ", ".join(f"{name} is {value}" for name, value in not_finite.items())
            return Outcome(request.number, state=State.FAILED, error=error, seconds=seconds, info=info)
        return Outcome(request.number, metrics, seconds=seconds, info=info)

    def _inputs(self, images: int) -> Iterator[Tensor]:
        """Yield the recalibration batches on the device, first those in the cache."""
        seen = position = 0
        while seen < images and position < len(self._cache):
            yield self._cache[position]
            seen, position = seen + len(self._cache[position]), position + 1
        if seen >= images:
            return
        for inputs in recalibration_inputs(self._task, images=images, seed=_SEED, split="train", start=position):
            batch = self._runtime.tensor(inputs)
            size = batch.numel() * batch.element_size()
            # All batches have the same size: if one does not fit, no later one does, so the cache remains a prefix.
            if size <= self._cache_bytes_left:
                self._cache_bytes_left -= size
                self._cache.append(batch)
            yield batch
