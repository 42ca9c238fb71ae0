"""The recipe of a training: the settings of `Fit`."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Literal

from automl_nas.errors import ConfigurationError, did_you_mean

_CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "decay": ("weights", "all"),
    "schedule": ("linear", "cosine", "step", "one_cycle", "constant"),
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
        schedule: ``linear`` to 0 (SPOS), ``cosine`` to 0, ``step`` (multiplied by ``step_factor`` after each of
            ``step_epochs``), ``one_cycle`` (rises from 1/25 of the learning rate and falls to 4e-6 of it, both as a
            cosine: `torch.optim.lr_scheduler.OneCycleLR`), or ``constant``; set at each iteration.
        warmup_epochs: number of epochs in which the learning rate first rises linearly from 0; may be a fraction. With
            ``one_cycle``, the number of epochs in which it rises; 0: 0.3 of all epochs.
        step_epochs: numbers of epochs, counted from the beginning of the training, after which the ``step`` schedule
            lowers the learning rate.
        step_factor: factor of the ``step`` schedule.
        restart_epochs: length of the first cycle of a ``cosine`` schedule with restarts (SGDR: Loshchilov and Hutter
            2017, arXiv 1608.03983); None: no restarts. The last cycle must end with the training, since results are
            poor if a training ends at a high learning rate.
        restart_factor: length of each further cycle, relative to the one before it.
        clip_norm: largest norm of the whole gradient; None: no clipping.
        auxiliary: weight of the losses of auxiliary outputs, if the network has any in training; 0: they are ignored.
        accumulate: number of batches whose mean gradient makes one step of the optimiser, as one batch of that size
            does in a network without batch normalisation. Batches at the end of an epoch that do not fill a step are
            left out.
        average: decay of the exponential moving average of the weights and of the statistics of batch normalisation,
            below 1, such as 0.999; the average replaces them at the end of the training. None: no average.
        mixup: alpha of mixup (Zhang et al. 2018), such as 0.2; 0: no mixup.
        cutmix: alpha of cutmix (Yun et al. 2019), such as 1.0; 0: no cutmix. With both, each batch is mixed in one of
            the two ways, with equal probability.
        patience: number of epochs without an improvement of the first metric on the held-out split after which the
            training ends; the weights of the best epoch are kept. None: all epochs, and the weights of the last one.

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
    schedule: Literal["linear", "cosine", "step", "one_cycle", "constant"] = "linear"
    warmup_epochs: float = 0.0
    step_epochs: tuple[float, ...] = ()
    step_factor: float = 0.1
    restart_epochs: int | None = None
    restart_factor: int = 1
    clip_norm: float | None = None
    auxiliary: float = 0.4
    accumulate: int = 1
    average: float | None = None
    mixup: float = 0.0
    cutmix: float = 0.0
    patience: int | None = None

    def __post_init__(self) -> None:
        for name, options in _CHOICES.items():
            value = getattr(self, name)
            if value not in options:
                raise ConfigurationError(f"unknown {name} {value!r}{did_you_mean(str(value), options)}", path=name)
        for name, low in (
            ("epochs", 1),
            ("weight_decay", 0),
            ("warmup_epochs", 0),
            ("auxiliary", 0),
            ("accumulate", 1),
            ("mixup", 0),
            ("cutmix", 0),
            ("patience", 1),
        ):
            value = getattr(self, name)
            if value is None:
                continue
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
        if self.average is not None and not 0 < self.average < 1:
            raise ConfigurationError(f"must be above 0 and below 1, not {self.average}", path="average")
        self._check_steps()
        self._check_restarts()

    def refuse(self, owner: str, *names: str) -> None:
        """Check that settings which a component cannot carry out have their defaults.

        Args:
            owner: the component, for the message.
            names: the settings.

        Raises:
            ConfigurationError: one of them has another value; its path is ``train.<name>``.
        """
        defaults = {field.name: field.default for field in fields(self)}
        for name in names:
            if getattr(self, name) != defaults[name]:
                raise ConfigurationError(f"{owner} does not support this setting; leave it out", path=f"train.{name}")

    def shortened(self, share: float) -> Recipe:
        """Return the recipe with at most a share of its epochs, at least one, and its schedule shortened alike.

        Warm-up and steps keep their place in the training. With restarts the cycles become shorter, or fewer, so that
        the last one still ends with the training.

        Args:
            share: above 0, at most 1.
        """
        if self.restart_epochs is not None:
            return self._shortened_cycles(share * self.epochs)
        epochs = max(1, _whole(share * self.epochs))
        ratio = epochs / self.epochs
        if ratio == 1:
            return self
        return replace(
            self,
            epochs=epochs,
            warmup_epochs=round(self.warmup_epochs * ratio, 6),
            step_epochs=tuple(round(epoch * ratio, 6) for epoch in self.step_epochs),
        )

    def _shortened_cycles(self, most: float) -> Recipe:
        """Return the recipe with cycles of at most ``most`` epochs in all, but at least one epoch."""
        if _whole(most) >= self.epochs:
            return self
        first, factor = self.restart_epochs, self.restart_factor
        assert first is not None
        sums = [1]  # epochs of the first 1, 2, ... cycles, in units of the first one
        while self.warmup_epochs + sums[-1] * first < self.epochs:
            sums.append(sums[-1] * factor + 1)
        for total in reversed(sums):
            for length in range(min(first, _whole(most / total)), 0, -1):
                # The warm-up is whole epochs, as it is here: the cycles are, and all of them end with the training.
                warmup = int(self.warmup_epochs * length * total / (sums[-1] * first))
                if (epochs := warmup + length * total) <= _whole(most):
                    return replace(self, epochs=epochs, restart_epochs=length, warmup_epochs=float(warmup))
        return replace(self, epochs=1, restart_epochs=1, warmup_epochs=0.0)

    def _check_steps(self) -> None:
        if not 0 < self.step_factor < 1:
            raise ConfigurationError(f"must be above 0 and below 1, not {self.step_factor}", path="step_factor")
        if (self.schedule == "step") != bool(self.step_epochs):
            raise ConfigurationError(
                "a step schedule needs the epochs after which it lowers the learning rate, such as [30, 60]"
                if self.schedule == "step"
                else f"only a step schedule has steps, and schedule is {self.schedule}",
                path="step_epochs",
            )
        ends = (self.warmup_epochs, *self.step_epochs, self.epochs)
        if self.step_epochs and not all(earlier < later for earlier, later in pairwise(ends)):
            raise ConfigurationError(
                f"must rise, begin after the warm-up ({self.warmup_epochs}) and end before the last epoch "
                f"({self.epochs}), not {list(self.step_epochs)}",
                path="step_epochs",
            )

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


def _whole(epochs: float) -> int:
    """Return a number rounded down, unless it is below a whole number by a rounding error only."""
    return math.floor(epochs * (1 + 1e-9))
