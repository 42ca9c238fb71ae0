"""The settings of the last stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.training.recipe import Recipe


@dataclass(frozen=True)
class FinalSettings:
    """What happens to the best networks.

    Attributes:
        top_k: how many of the best trials are retrained; the one that is best on the search split is delivered.
        weights: ``scratch``: retrained from fresh weights; ``inherited``: fine-tuned from the supernet's.
        train: how to retrain.
        data: what to retrain on. ``train+search`` uses every image but the test images, and leaves nothing to choose
            by, so it needs ``top_k: 1``; None: ``train+search`` for top_k 1, else ``train``.
        baselines: networks retrained in the same way, for comparison: ``largest`` (the dearest feasible network),
            ``random`` (a feasible network drawn at random), ``equal`` (one drawn at random of the cost of the found
            one). ``random`` and ``equal`` may be named several times.
        equal_within: how much the cost of an ``equal`` network may differ, relative to that of the found one. It is the
            cost that is limited, or the first one.
        seeds: how many times each network is retrained, from different seeds.
        measure: where a limit is on a measured cost (a latency): how many of the best trials are measured at most, to
            find ``top_k`` that keep it.
        verify: whether the saved weights are read back into a fresh network and compared with the trained one.
        iterations_per_step: how many training iterations make one step of the run.
    """

    top_k: int = 1
    weights: Literal["scratch", "inherited"] = "scratch"
    train: Recipe = field(default_factory=lambda: Recipe(epochs=25))
    data: Literal["train+search", "train"] | None = None
    baselines: list[Literal["largest", "random", "equal"]] = field(default_factory=list)
    equal_within: float = 0.02
    seeds: int = 1
    measure: int = 20
    verify: bool = True
    iterations_per_step: int = 50

    def __post_init__(self) -> None:
        for name in ("top_k", "seeds", "measure", "iterations_per_step"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {getattr(self, name)}", path=name)
        if not 0 < self.equal_within < 1:
            raise ConfigurationError(f"must be between 0 and 1, not {self.equal_within}", path="equal_within")
        if self.top_k > 1 and self.data == "train+search":
            raise ConfigurationError(
                f"top_k is {self.top_k}, and choosing among retrained networks needs images they were not trained on: "
                "set data: train",
                path="data",
            )

    @property
    def split(self) -> str:
        """The split to retrain on."""
        return self.data or ("train+search" if self.top_k == 1 else "train")
