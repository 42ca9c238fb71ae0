"""Stratified splits: each class has the same share in every split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation.sampling import Indices, permutation


def held_out_counts(sizes: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Return the number of samples of each class to hold out, in total ``ceil(fraction * total)`` (largest remainders).

    Every class gets the integer part of its exact share; the classes with the largest remainders get one more each,
    ties in the order of the classes. The fraction is taken as the decimal number that is written, so 0.1 of 30 is 3.

    Args:
        sizes: number of samples of each class, shape ``(classes,)``.
        fraction: the share to hold out.

    Returns:
        Numbers of samples, int64, shape ``(classes,)``.
    """
    total = int(sizes.sum())
    held_out_total = math.ceil(Fraction(str(fraction)) * total)
    shares = [Fraction(held_out_total * int(size), total) for size in sizes]
    counts = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda k: (counts[k] - shares[k], k))
    for k in by_remainder[: held_out_total - sum(counts)]:
        counts[k] += 1
    return np.array(counts, dtype=np.int64)


def hold_out(
    labels: NDArray[np.int64],
    fraction: float,
    *,
    setting: str,
    seed: int,
    what: str,
    names: Sequence[str] | None = None,
) -> tuple[Indices, Indices]:
    """Return the indices of (remaining, held-out) samples, each ascending, with the shares of `held_out_counts`.

    Args:
        labels: class numbers of at least 0, shape ``(samples,)``; they may have gaps.
        fraction: the share to hold out, between 0 and 1.
        setting: the name of the setting of the fraction, for messages.
        seed: of the sampling.
        what: the split that is held out; each split has its own stream.
        names: of the classes, for messages; None: their numbers.

    Raises:
        ConfigurationError: the fraction is not between 0 and 1.
        DataError: a class is too small to have samples on both sides.
    """
    if not 0 < fraction < 1:
        raise ConfigurationError(f"{setting} must be between 0 and 1, not {fraction}", path=f"task.{setting}")
    # Only the numbers that occur: labels may be dates or identifiers, of which a table of all would fill the memory.
    classes, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    counts = held_out_counts(sizes, fraction)
    small = np.flatnonzero((counts == 0) | (counts == sizes)).tolist()
    for at in small[:1]:
        k, held, size = int(classes[at]), int(counts[at]), int(sizes[at])
        if classes[-1] == 0:
            raise DataError(
                f"{size} samples are too few for the split '{what}': {setting} = {fraction} takes {held} of them and "
                f"leaves {size - held}"
            )
        raise DataError(
            f"class {_name(k, names)} has {size} sample{'s' * (size != 1)}, too few for the split '{what}': {setting} "
            f"= {fraction} takes {held} of them and leaves {size - held}; change {setting} or give the class more "
            f"samples{_others(classes[small[1:]], sizes[small[1:]], names)}"
        )
    grouped = np.split(np.argsort(inverse, kind="stable"), np.cumsum(sizes)[:-1])
    chosen = [
        members[permutation(seed, f"split/{what}", k, len(members))[:count]]
        for k, count, members in zip(classes.tolist(), counts.tolist(), grouped, strict=True)
    ]
    held_out = np.sort(np.concatenate(chosen)).astype(np.int64)
    return np.setdiff1d(np.arange(len(labels), dtype=np.int64), held_out), held_out


def _name(number: int, names: Sequence[str] | None) -> str:
    return str(number) if names is None else f"'{names[number]}'"


def _others(numbers: NDArray[np.int64], sizes: NDArray[np.int64], names: Sequence[str] | None) -> str:
    """Return the end of the message if more than one class is too small."""
    if not len(numbers):
        return ""
    pairs = zip(numbers[:10].tolist(), sizes[:10].tolist(), strict=True)
    shown = ", ".join(f"{_name(k, names)} ({size})" for k, size in pairs)
    return f"; the same holds for the classes {shown}{', ...' * (len(numbers) > 10)}: {len(numbers) + 1} classes in all"
