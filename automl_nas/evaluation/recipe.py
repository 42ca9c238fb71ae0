"""How to train: the settings of `Fit`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from automl_nas.errors import ConfigurationError


@dataclass(frozen=True)
class Recipe:
    """How to train a network. The defaults are those of SPOS (section 4) but for the length and the learning rate.

    Attributes:
        epochs: passes over the split.
        optimizer: ``sgd`` or ``adamw``.
        learning_rate: at the start (after the warm-up).
        momentum: of SGD.
        nesterov: Nesterov's form of momentum.
        weight_decay: L2 penalty.
        decay: ``weights``: only parameters with more than one dimension; ``all``: biases and BN too.
        schedule: ``linear`` to 0 (SPOS), ``cosine`` to 0, or ``constant``; set at each iteration.
        warmup_epochs: the learning rate rises linearly from 0 over so many epochs first; may be a fraction.
        clip_norm: largest norm of the whole gradient; None: no clipping.
    """

    epochs: int = 60
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 4e-5
    decay: Literal["weights", "all"] = "weights"
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_epochs: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("momentum", 0), ("weight_decay", 0), ("warmup_epochs", 0)):
            if getattr(self, name) < low:
                raise ConfigurationError(f"{name} must be at least {low}, not {getattr(self, name)}", path=name)
        if not 0 < self.learning_rate < float("inf"):
            raise ConfigurationError(f"learning_rate must be positive, not {self.learning_rate}", path="learning_rate")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ConfigurationError(f"clip_norm must be positive, not {self.clip_norm}", path="clip_norm")
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ConfigurationError(
                f"a warm-up of {self.warmup_epochs} epochs leaves nothing of {self.epochs}", path="warmup_epochs"
            )
