"""Checks of the settings that several spaces have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from automl_nas.errors import SpaceError
from automl_nas.space import Scalar

T = TypeVar("T")


def check_positive(**numbers: int) -> None:
    """Check that numbers are at least 1.

    Raises:
        SpaceError: one is not; names the setting.
    """
    for name, value in numbers.items():
        if value < 1:
            raise SpaceError(f"{name} must be at least 1, not {value}")


def check_probability(**numbers: float) -> None:
    """Check that numbers are probabilities below 1.

    Raises:
        SpaceError: one is not; names the setting.
    """
    for name, value in numbers.items():
        if not 0 <= value < 1:
            raise SpaceError(f"{name} must be at least 0 and below 1, not {value}")


def check_options(**settings: Sequence[object]) -> None:
    """Check that there are options, that numbers are increasing and above 0, and that no other option is there twice.

    Raises:
        SpaceError: a setting has no options, wrong ones, or the same one twice; names it.
    """
    for name, options in settings.items():
        if not options or len(set(options)) != len(options):
            raise SpaceError(f"{name} needs different options, not {list(options)}")
        numbers = [option for option in options if isinstance(option, int | float)]
        if numbers and (numbers != sorted(numbers) or numbers[0] <= 0):
            raise SpaceError(f"{name} must be numbers above 0 in increasing order, not {list(options)}")


def check_depth(name: str, depth: Sequence[int], least: int = 1) -> None:
    """Check the smallest and the largest depth.

    Raises:
        SpaceError: they are not two numbers in order.
    """
    if len(depth) != 2 or not least <= depth[0] <= depth[1]:
        raise SpaceError(
            f"{name} must be the smallest and the largest number of layers, at least {least}, not {list(depth)}"
        )


def one_or_all(options: Sequence[T]) -> T | Sequence[T]:
    """Return the options, or the one option itself, which is not searched."""
    return options[0] if len(options) == 1 else options


def one_or_each(options: Mapping[Scalar, int]) -> int | Mapping[Scalar, int]:
    """Return the options, or the number of the one option, which is not searched."""
    return next(iter(options.values())) if len(options) == 1 else options
