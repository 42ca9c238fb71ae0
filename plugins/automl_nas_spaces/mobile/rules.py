"""Numbers of channels: rounding to multiples of 8, and widths that follow from other widths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

from automl_nas.errors import SpaceError

WidthRule: TypeAlias = Callable[[int], int]
"""Number of channels -> another number of channels."""


def divisible8(channels: float) -> int:
    """Return the nearest multiple of 8, at least 8, and not below 0.9 times the number (as MobileNet's code rounds)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


@final
@dataclass(frozen=True)
class Multiplied:
    """A width times a width multiplier, in multiples of 8.

    Raises:
        SpaceError: the multiplier is not above 0.
    """

    width_multiplier: float

    def __post_init__(self) -> None:
        if not self.width_multiplier > 0:
            raise SpaceError(f"width_multiplier must be above 0, not {self.width_multiplier}")

    def __call__(self, channels: float) -> int:
        """Return the number of channels."""
        return divisible8(channels * self.width_multiplier)

    def last(self, channels: int) -> int:
        """Return the number of channels of the last convolution, which a multiplier below 1 does not reduce."""
        return divisible8(channels * max(1.0, self.width_multiplier))


@final
@dataclass(frozen=True)
class Expanded:
    """The hidden width of a block: its input channels times the expansion, in multiples of 8."""

    expansion: float

    def __call__(self, channels: int) -> int:
        """Return the hidden width."""
        return divisible8(round(channels * self.expansion))


@final
@dataclass(frozen=True)
class Squeezed:
    """The width in the middle of squeeze-and-excitation: a quarter of the hidden width, in multiples of 8."""

    def __call__(self, channels: int) -> int:
        """Return the width."""
        return divisible8(channels // 4)
