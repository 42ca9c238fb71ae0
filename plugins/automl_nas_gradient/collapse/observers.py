"""What observes a search for collapse, and when it stops the search."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

from automl_nas.errors import ConfigurationError
from automl_nas.space import Architecture, Value


@dataclass(frozen=True)
class CollapseSettings:
    """Observers of collapse, and when they end a search early.

    Attributes:
        skip_options: the options that count as skip connections.
        stop_skip_share: the search ends when more than this share of the derived network's options are skip
            connections, and the network of the epoch before is derived; null: it does not end.
        eigenvalue_every: the number of epochs after which the largest eigenvalue of the Hessian of the validation loss
            in alpha is computed; null: never. It takes tens of gradients of alpha.
        stop_eigenvalue_ratio: the search ends when the smoothed eigenvalue has grown by more than this factor within
            four measurements (R-DARTS: 1.3), and the network of some epochs before is derived; null: it does not end.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    skip_options: tuple[str, ...] = ("skip_connect", "skip", "identity")
    stop_skip_share: float | None = None
    eigenvalue_every: int | None = None
    stop_eigenvalue_ratio: float | None = None

    def __post_init__(self) -> None:
        if self.stop_skip_share is not None and not 0 <= self.stop_skip_share <= 1:
            raise ConfigurationError(f"must be between 0 and 1, not {self.stop_skip_share}", path="stop_skip_share")
        if self.eigenvalue_every is not None and self.eigenvalue_every < 1:
            raise ConfigurationError(f"must be at least 1, not {self.eigenvalue_every}", path="eigenvalue_every")
        if self.stop_eigenvalue_ratio is None:
            return
        if not self.stop_eigenvalue_ratio > 1:
            raise ConfigurationError(f"must be above 1, not {self.stop_eigenvalue_ratio}", path="stop_eigenvalue_ratio")
        if self.eigenvalue_every is None:
            raise ConfigurationError(
                "the eigenvalue is not computed; set eigenvalue_every (R-DARTS: 2)", path="stop_eigenvalue_ratio"
            )


@dataclass(frozen=True)
class Stop:
    """The end of a search before its last epoch.

    Attributes:
        epoch: the number of finished epochs whose alpha the network is derived from.
        reason: a clause for messages.
    """

    epoch: int
    reason: str


class CollapseObserver(ABC):
    """Observes a search after each epoch; it may end it.

    Attributes:
        name: of the number it logs.
    """

    name: ClassVar[str]

    @abstractmethod
    def observe(self, epoch: int, derived: Architecture) -> tuple[float | None, Stop | None]:
        """Return the number of an epoch (None: it has none) and, if the search should end, why.

        Args:
            epoch: the number of finished epochs in which alpha was trained.
            derived: the network that would be derived now.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed search needs (default: nothing)."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned (default: nothing is loaded)."""
        return


@final
class SkipShare(CollapseObserver):
    """The share of skip connections among the options of the derived network (DARTS+: Liang et al. 2019, 1909.06035).

    Decisions that make no difference are not counted.

    Args:
        settings: the options that count, and the share at which the search ends.
        active: returns the decisions of an architecture that make a difference, with their values.
    """

    name = "skip_share"

    def __init__(self, settings: CollapseSettings, active: Callable[[Architecture], Mapping[str, Value]]) -> None:
        self._settings, self._active = settings, active

    def observe(self, epoch: int, derived: Architecture) -> tuple[float | None, Stop | None]:
        """Return the share, and a stop if it is too large."""
        options = [str(value) for value in self._active(derived).values() if not isinstance(value, tuple)]
        if not options:
            return None, None
        share = sum(option in self._settings.skip_options for option in options) / len(options)
        limit = self._settings.stop_skip_share
        if limit is None or share <= limit:
            return share, None
        reason = f"{share:.0%} of the derived network are skip connections, more than {limit:.0%}"
        return share, Stop(max(epoch - 1, 0), reason)
