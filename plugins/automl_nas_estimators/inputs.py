"""What the inputs of an estimator are, by their shape and type, and how networks take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError, did_you_mean

Kind: TypeAlias = Literal["table", "image", "signal", "tokens"]
"""What inputs are."""

CHANNELS = (1, 3, 4)
"""The numbers of channels by which the order of the axes of images is recognised."""


@dataclass(frozen=True)
class InputForm:
    """The form of the inputs of an estimator.

    Attributes:
        kind: what they are.
        shape: of one input as the user passes it.
        channels_last: whether the channels of images are the last axis.
    """

    kind: Kind
    shape: tuple[int, ...]
    channels_last: bool = False

    @classmethod
    def of(cls, x: NDArray[Any], kind: str) -> InputForm:
        """Return the form of inputs.

        Two axes are a table: a row for each sample. Three axes are signals, ``(samples, channels, length)``, or grey
        images if they are uint8 or square. Four axes are images with the channels first or last. Tokens have two axes,
        like a table, so they are not recognised.

        Args:
            x: the inputs, an array of numbers.
            kind: ``table``, ``image``, ``signal``, ``tokens`` or ``auto``.

        Raises:
            ConfigurationError: the kind is unknown.
            DataError: inputs of this kind cannot have this shape or type.
        """
        kinds = get_args(Kind)
        if kind not in ("auto", *kinds):
            raise ConfigurationError(f"unknown data={kind!r}{did_you_mean(str(kind), ('auto', *kinds))}")
        if not 2 <= x.ndim <= 4:
            raise DataError(f"X has {x.ndim} axes; tables and tokens have 2, signals and grey images 3, images 4")
        chosen = _guess(x) if kind == "auto" else kind
        axes = {"table": (2,), "tokens": (2,), "signal": (3,), "image": (3, 4)}[chosen]
        if x.ndim not in axes:
            raise DataError(f"X has the shape {x.shape}, but data={chosen!r} needs {' or '.join(map(str, axes))} axes")
        if chosen == "tokens":
            _check_tokens(x)
        last = chosen == "image" and x.ndim == 4 and x.shape[1] not in CHANNELS and x.shape[3] in CHANNELS
        form: Kind = chosen  # type: ignore[assignment]
        return cls(form, tuple(x.shape[1:]), last)

    def arrange(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return inputs as networks take them, before they are normalised.

        Returns:
            A table ``(samples, features)``, signals ``(samples, channels, length)`` or images ``(samples, channels,
            height, width)`` of their own type, or tokens of int64 ``(samples, length)``.

        Raises:
            DataError: the shape is another one than in `fit`, or tokens are no whole numbers of at least 0.
        """
        if x.shape[1:] != self.shape:
            raise DataError(f"an input has the shape {x.shape[1:]}, and had the shape {self.shape} in fit")
        if self.kind == "tokens":
            _check_tokens(x)
            return x.astype(np.int64)
        if self.kind == "image":
            x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2) if self.channels_last else x
        return x

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        if self.kind == "table":
            return f"X is a table of {shape} features (for sequences of tokens pass data='tokens')"
        noun = {"image": "images", "signal": "signals", "tokens": "sequences of tokens"}[self.kind]
        axes = " (channels last)" if self.channels_last else ""
        return f"X is taken as {noun} of {shape}{axes} (data={self.kind!r})"


def as_pixels(x: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return images as uint8 if that changes no value; None otherwise."""
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind not in "biuf" or x.min() < 0 or x.max() > 255:
        return None
    pixels = x.astype(np.uint8)
    return pixels if np.array_equal(pixels, x) else None


def _guess(x: NDArray[Any]) -> str:
    if x.ndim == 2:
        return "table"
    return "image" if x.ndim == 4 or x.dtype == np.uint8 or x.shape[1] == x.shape[2] else "signal"


def _check_tokens(x: NDArray[Any]) -> None:
    whole = x.dtype.kind in "iu" or (x.dtype.kind == "f" and bool((x == np.trunc(x)).all()))
    if not whole or (x.size and x.min() < 0):
        raise DataError("tokens must be whole numbers of at least 0")
