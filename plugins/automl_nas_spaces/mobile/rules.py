"""Numbers of channels: rounding to multiples of 8, and widths that follow from other widths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

WidthRule: TypeAlias = Callable[[int], int]
"""Number of channels -> another number of channels."""


def divisible8(channels: float) -> int:
    """Return the nearest multiple of 8, at least 8, and not below 0.9 times the number (as MobileNet's code rounds)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


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
