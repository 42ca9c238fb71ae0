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

# One stream for all evaluations of all runs: what a supernet says of an architecture depends on nothing else.
_SEED = 0


def _check(*, recalibration_images: int, cache_megabytes: float) -> None:
    for name, value in (("recalibration_images", recalibration_images), ("cache_megabytes", cache_megabytes)):
        if not value >= 0:
            raise ConfigurationError(f"{name} must be at least 0, not {value}", path=name)


class InheritedWeights(Evaluator):
    """Score candidates with inherited weights (SPOS, section 3.4).

    A candidate is extracted from the supernet, its batch normalisation is recalibrated on training images, and it is
    scored on a split. The metrics are a function of (weights, architecture, fidelity): all candidates see the same
    images in the same order, and the request's seed plays no part, since another draw of images would make equal
    architectures differ and unequal ones incomparable. The fidelity is the number of recalibration images.

    Args:
        space: its supernet takes the weights.
        task: gives training images and the score.
        runtime: where it runs.
        artifacts: gives the weights.
        weights: whose: a stage of this run, or ``RUN:stage`` of another.
        recalibration_images: training images for the statistics of batch normalisation, in whole batches; 0: the
            supernet's own running statistics, which belong to no single path. (The paper takes 20,000 of ImageNet.)
        split: what candidates are scored on; held out of training.
        cache_megabytes: how much of the recalibration images may stay on the device between candidates, so that they
            are read and augmented once; the rest is read again for every candidate.

    Raises:
        ConfigurationError: the weights do not exist, or do not fit the space's supernet; a setting is out of range.
    """

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
        self._room = cache_megabytes * 1e6
        self._cache: list[Tensor] = []
        with runtime.seeded(_SEED, "init"):
            self._supernet = space.build_supernet()
        try:
            self._supernet.load_state_dict(artifacts.load(weights))
        except RuntimeError as error:
            detail = str(error).splitlines()[-1].strip()
            raise ConfigurationError(
                f"the weights '{weights}' do not fit the supernet ({detail}); use the space of their training",
                path="weights",
            ) from None
        runtime.place(self._supernet)

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return what checks the numbers; the weights may be those of a stage that has not begun."""
        return _check

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield the outcomes in order, one at a time; metrics that are not finite make a trial FAILED."""
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
        bad = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if bad:
            error = ", ".join(f"{name} is {value}" for name, value in bad.items())
            return Outcome(request.number, state=State.FAILED, error=error, seconds=seconds, info=info)
        return Outcome(request.number, metrics, seconds=seconds, info=info)

    def _inputs(self, images: int) -> Iterator[Tensor]:
        """Yield the recalibration batches on the device, those that fit the cache from there."""
        seen = position = 0
        while seen < images and position < len(self._cache):
            yield self._cache[position]
            seen, position = seen + len(self._cache[position]), position + 1
        if seen >= images:
            return
        for inputs in recalibration_inputs(self._task, images=images, seed=_SEED, split="train", start=position):
            batch = self._runtime.tensor(inputs)
            size = batch.numel() * batch.element_size()
            # Batches are of one size: where one does not fit none does any more, and the cache stays a prefix.
            if size <= self._room:
                self._room -= size
                self._cache.append(batch)
            yield batch
