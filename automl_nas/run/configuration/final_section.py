"""The settings of the final stage."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.training.initial_weights import InitialWeights
from automl_nas.evaluation.training.recipe import Recipe

LARGEST = "largest"
"""The teacher that the final stage trains itself."""

BUILT = "built"
"""The largest network as a teacher, with the weights that the space builds it with."""

OF_SPACE = (LARGEST, BUILT)
"""The teachers that are networks of the space."""


@dataclass(frozen=True)
class DistillSettings:
    """From whom the networks of the final stage learn besides the targets.

    Attributes:
        teacher: ``largest``: the largest network of the space, whatever the limits, which is trained first by the same
            recipe; ``built``: the same network with the weights that the space builds it with, for spaces of a trained
            model such as ``from_model``; or the directory of a run, whose delivered network is the teacher; or
            ``package.module:function``, a function without arguments that returns a network.
        weights: safetensors file with the weights of the network of such a function; null: it has its weights.
        weight: share of the teacher in the loss, ``(1 - weight) * loss + weight * T^2 * KL(teacher || network)``.
        temperature: T, by which logits are divided.
    """

    teacher: str = LARGEST
    weights: str | None = None
    weight: float = 0.5
    temperature: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ConfigurationError(f"must be above 0 and at most 1, not {self.weight}", path="weight")
        if not 0 < self.temperature < math.inf:
            raise ConfigurationError(f"must be positive, not {self.temperature}", path="temperature")
        if self.weights is not None and ":" not in self.teacher:
            raise ConfigurationError("only a teacher that a function returns takes weights from a file", path="weights")


@dataclass(frozen=True)
class FinalSettings:
    """How the best networks are retrained, compared and delivered.

    Attributes:
        choose: ``best``: one network of the ``top_k`` best trials is delivered; ``pareto``: for a problem with several
            objectives, networks of the Pareto front are delivered, each with its weights and files.
        top_k: with ``choose: best``, number of best trials whose networks are retrained; the network that is best on
            the search split is delivered.
        networks: with ``choose: pareto``, maximum number of networks. Of a larger front, the best one in each objective
            is taken, then again and again the one that is farthest from those taken so far.
        weights: ``scratch``: retrain from fresh weights; ``inherited``: fine-tune from the weights of the supernet.
        initial_weights: weights that networks begin with instead of fresh ones; null: fresh weights. Needs ``weights:
            scratch``.
        distill: the teacher that networks learn from, besides the targets; null: no teacher.
        train: the recipe of retraining.
        compile: the backend of `torch.compile` with which networks are compiled in training, such as ``inductor``; the
            plain network is scored, saved and exported. Its numbers may differ in rounding from those of a network that
            was trained without. null: networks are not compiled.
        data: images to retrain on. ``train+search``: all but the test images; then no images are left to choose a
            network by, so ``top_k`` must be 1. None: ``train+search`` for top_k 1, else ``train``.
        baselines: networks retrained with the same recipe, for comparison: ``largest`` (the most expensive feasible
            network), ``random`` (a random feasible network), ``equal`` (a random network with the same cost as the
            best one). ``random`` and ``equal`` may be named several times.
        equal_within: maximum difference in cost between an ``equal`` network and the best one, relative to the latter.
            The cost is the first that has a limit, else the first of the problem.
        seeds: number of times each network is retrained, with different seeds.
        measure: maximum number of best trials that are measured to find ``top_k`` within the limits; used if a limit is
            on a measured cost, such as a latency.
        verify: whether the saved weights are loaded into a fresh network and compared with the trained network.
        rehearse: whether networks with fresh weights are exported in every format before the run, so that a format that
            cannot hold them is an error before the training.
        validate_every: number of epochs between two points of the curves of retraining in ``metrics.jsonl``: the
            mean training loss of the epoch and, with ``data: train``, the metrics on the held-out images. Each point
            costs one pass over these images; the training is the same without. None: no such points.
        iterations_per_step: number of training iterations in one step of the run.
    """

    choose: Literal["best", "pareto"] = "best"
    top_k: int = 1
    networks: int = 5
    weights: Literal["scratch", "inherited"] = "scratch"
    initial_weights: InitialWeights | None = None
    distill: DistillSettings | None = None
    train: Recipe = field(default_factory=lambda: Recipe(epochs=25))
    compile: str | None = None
    data: Literal["train+search", "train"] | None = None
    baselines: list[Literal["largest", "random", "equal"]] = field(default_factory=list)
    equal_within: float = 0.02
    seeds: int = 1
    measure: int = 20
    verify: bool = True
    rehearse: bool = True
    validate_every: int | None = None
    iterations_per_step: int = 50

    def __post_init__(self) -> None:
        for name in ("top_k", "networks", "seeds", "measure", "iterations_per_step"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {getattr(self, name)}", path=name)
        if self.validate_every is not None and self.validate_every < 1:
            raise ConfigurationError(f"must be at least 1, not {self.validate_every}", path="validate_every")
        if not 0 < self.equal_within < 1:
            raise ConfigurationError(f"must be between 0 and 1, not {self.equal_within}", path="equal_within")
        if self.top_k > 1 and self.choose == "pareto":
            raise ConfigurationError(
                "with choose: pareto all retrained networks are delivered, and networks limits their number; leave "
                "top_k out",
                path="top_k",
            )
        if self.top_k > 1 and self.data == "train+search":
            raise ConfigurationError(
                f"top_k is {self.top_k}, and choosing among retrained networks needs images that they were not trained "
                "on; set data: train",
                path="data",
            )
        if self.initial_weights is not None and self.weights != "scratch":
            raise ConfigurationError(
                f"weights is {self.weights}, which are other weights to begin with; use one of both",
                path="initial_weights",
            )
        if self.train.patience is not None and self.split != "train":
            raise ConfigurationError(
                "early stopping needs images that the network is not trained on; set final.data: train",
                path="train.patience",
            )

    @property
    def retrained(self) -> int:
        """The largest number of networks of the search that are retrained."""
        return self.networks if self.choose == "pareto" else self.top_k

    @property
    def split(self) -> str:
        """The split to retrain on."""
        return training_split(self.data, self.top_k)


def training_split(data: str | None, top_k: int) -> str:
    """Return the split that the final stage retrains on; see `FinalSettings`."""
    return data or ("train+search" if top_k == 1 else "train")
