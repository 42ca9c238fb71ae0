"""The recipe of a training: the settings of `Fit`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from automl_nas.errors import ConfigurationError, did_you_mean

_CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "decay": ("weights", "all"),
    "schedule": ("linear", "cosine", "constant"),
}


@dataclass(frozen=True)
class Recipe:
    """Optimiser, schedule and length of a training.

    The defaults are those of SPOS (section 4), except for the length and the learning rate.

    Attributes:
        epochs: number of passes over the split.
        optimizer: ``sgd`` or ``adamw``.
        learning_rate: learning rate at the start, after the warm-up.
        momentum: momentum of SGD; below 1.
        nesterov: whether to use Nesterov's form of momentum; needs a momentum above 0.
        weight_decay: L2 penalty (SGD), or decoupled weight decay (AdamW).
        decay: ``weights``: only parameters with more than one dimension decay; ``all``: also biases and BN.
        schedule: ``linear`` to 0 (SPOS), ``cosine`` to 0, or ``constant``; set at each iteration.
        warmup_epochs: number of epochs in which the learning rate first rises linearly from 0; may be a fraction.
        restart_epochs: length of the first cycle of a ``cosine`` schedule with restarts (SGDR: Loshchilov and Hutter
            2017, arXiv 1608.03983); None: no restarts. The last cycle must end with the training, since results are
            poor if a training ends at a high learning rate.
        restart_factor: length of each further cycle, relative to the one before it.
        clip_norm: largest norm of the whole gradient; None: no clipping.
        auxiliary: weight of the losses of auxiliary outputs, if the network has any in training; 0: they are ignored.

    Raises:
        ConfigurationError: a value is out of its range.
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
    restart_epochs: int | None = None
    restart_factor: int = 1
    clip_norm: float | None = None
    auxiliary: float = 0.4

    def __post_init__(self) -> None:
        for name, options in _CHOICES.items():
            value = getattr(self, name)
            if value not in options:
                raise ConfigurationError(f"unknown {name} {value!r}{did_you_mean(str(value), options)}", path=name)
        for name, low in (("epochs", 1), ("weight_decay", 0), ("warmup_epochs", 0), ("auxiliary", 0)):
            value = getattr(self, name)
            # In this form the condition is also False for NaN.
            if not low <= value < math.inf:
                raise ConfigurationError(f"{name} must be finite and at least {low}, not {value}", path=name)
        if not 0 <= self.momentum < 1:
            raise ConfigurationError(f"momentum must be at least 0 and below 1, not {self.momentum}", path="momentum")
        if self.nesterov and self.momentum == 0:
            raise ConfigurationError("nesterov needs a momentum above 0", path="nesterov")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigurationError(f"learning_rate must be positive, not {self.learning_rate}", path="learning_rate")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ConfigurationError(f"clip_norm must be positive, not {self.clip_norm}", path="clip_norm")
        if self.warmup_epochs >= self.epochs:
            raise ConfigurationError(
                f"warmup_epochs ({self.warmup_epochs}) must be smaller than epochs ({self.epochs})",
                path="warmup_epochs",
            )
        self._check_restarts()

    def _check_restarts(self) -> None:
        if self.restart_factor < 1:
            raise ConfigurationError(f"must be at least 1, not {self.restart_factor}", path="restart_factor")
        if self.restart_epochs is None:
            if self.restart_factor != 1:
                raise ConfigurationError("restart_factor needs restart_epochs; set both", path="restart_factor")
            return
        if self.restart_epochs < 1:
            raise ConfigurationError(f"must be at least 1, not {self.restart_epochs}", path="restart_epochs")
        if self.schedule != "cosine":
            raise ConfigurationError(
                f"only a cosine schedule has restarts, and schedule is {self.schedule}", path="restart_epochs"
            )
        end, length, ends = self.warmup_epochs, self.restart_epochs, []
        while end < self.epochs:
            end, length = end + length, length * self.restart_factor
            ends.append(end)
        if end != self.epochs:
            possible = " or ".join(f"{each:g}" for each in ends[-2:])
            raise ConfigurationError(
                f"the training would end inside a cycle, at a high learning rate, after {self.epochs} epochs; with "
                f"restart_epochs {self.restart_epochs} and restart_factor {self.restart_factor} cycles end after "
                f"{possible}",
                path="epochs",
            )
