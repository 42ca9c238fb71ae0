"""The precision of a block: the bits of its weights and of its activations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from automl_nas.errors import SpaceError

FLOAT = 32
"""The number of bits that stands for float32: not quantised."""

MOST_BITS = 8
"""The largest number of bits of a quantiser."""

PAIRS = ((1, 2), (2, 2), (1, 4), (2, 4), (3, 4), (4, 4))
"""The pairs (weight bits, activation bits) of SPOS (arXiv 1904.00420, section 4)."""

_NAME = re.compile(r"W([0-9]+)A([0-9]+)")


@dataclass(frozen=True, order=True)
class Precision:
    """The bits of weights and activations, 1 to 8 each, or 32 for float32.

    Raises:
        SpaceError: a number of bits that the quantisers do not have.
    """

    weights: int
    activations: int

    def __post_init__(self) -> None:
        for what, bits in (("weights", self.weights), ("activations", self.activations)):
            if bits != FLOAT and not 1 <= bits <= MOST_BITS:
                raise SpaceError(
                    f"{what} cannot have {bits} bits; the quantisers have 1 to {MOST_BITS} bits, and {FLOAT} means "
                    "float32"
                )

    def __str__(self) -> str:
        return f"W{self.weights}A{self.activations}"

    @property
    def quantizes(self) -> bool:
        """Whether anything has fewer bits than float32."""
        return min(self.weights, self.activations) < FLOAT

    @classmethod
    def parse(cls, name: str) -> Precision:
        """Return the precision of a name such as ``W2A4``.

        Raises:
            SpaceError: the name has another form, or names bits that the quantisers do not have.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise SpaceError(f"a precision is written like W2A4 (bits of weights, bits of activations), not {name!r}")
        return cls(int(match[1]), int(match[2]))


def precisions(pairs: Sequence[tuple[int, int]]) -> tuple[Precision, ...]:
    """Return pairs of bits as precisions.

    Raises:
        SpaceError: there are no pairs, one occurs twice, or bits that the quantisers do not have.
    """
    options = tuple(Precision(*pair) for pair in pairs)
    if not options:
        raise SpaceError("precisions needs at least one pair (weight bits, activation bits)")
    if len(set(options)) != len(options):
        twice = next(str(each) for each in options if options.count(each) > 1)
        raise SpaceError(f"precisions must be different, but {twice} occurs twice")
    return options
