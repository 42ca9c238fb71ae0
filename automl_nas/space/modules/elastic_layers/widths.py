"""The output width of an elastic layer: fixed, or a decision; a number of channels, or one that follows the input's."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, final

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Scalar
from automl_nas.space.decisions import Decision, Ordinal, plain_options
from automl_nas.space.modules.choice import ResolvedChoice

WidthRule: TypeAlias = Callable[[int], int]
"""Number of input channels -> number of output channels; it must not decrease."""

Width: TypeAlias = "float | WidthRule"
"""A width, a multiple of the input's width, or a function of it."""

WidthOptions: TypeAlias = "Width | Sequence[Width] | Mapping[Scalar, Width]"


@final
class OutputWidth:
    """The output width of a layer and the decision about it.

    Args:
        options: a number or function: no decision; an increasing sequence of numbers: an `Ordinal` of these; option ->
            number or function: an `Ordinal` of the options.
        owner: the class of the layer with its article, for the messages of errors.
        largest_input: the layer's largest input width, if widths may be functions of the input's width; None: they are
            numbers.
        times_input: numbers are multiples of the input's width, and not widths.

    Raises:
        SpaceError: there is no number, a width is not a whole number, or one is below 1.

    Attributes:
        largest: the largest output width.
    """

    def __init__(
        self, options: WidthOptions, owner: str, largest_input: int | None = None, *, times_input: bool = False
    ) -> None:
        self._multiples, self._owner = times_input, owner
        self._widths: dict[Scalar | None, Width]
        self._decision: Ordinal | None = None
        if isinstance(options, Iterable):
            names = plain_options(options, owner)
            widths = list(options.values() if isinstance(options, Mapping) else options)
            if not names:
                raise SpaceError(f"{owner} needs at least one output width")
            self._decision = Ordinal(names)
            self._widths = dict(zip(names, widths, strict=True))
        else:
            self._widths = {None: options}
        for option, width in self._widths.items():
            if largest_input is None or not callable(width):
                self._widths[option] = _multiple(width, owner) if times_input else _whole(width, owner)
        largest = [self._of(width, largest_input or 0) for width in self._widths.values()]
        if min(largest) < 1:
            raise SpaceError(f"the output widths of {owner} must be at least 1, not {min(largest)}")
        self.largest = max(largest)

    def decisions(self) -> Mapping[str, Decision]:
        """Return the decision, if there is one."""
        return {} if self._decision is None else {"": self._decision}

    def selected(self, choices: Mapping[str, ResolvedChoice], path: str) -> Width:
        """Return what a selection holds: a width, a multiple, or a function.

        Raises:
            SpaceError: the width is weighted.
        """
        if self._decision is None:
            return self._widths[None]
        choice = choices[""]
        if choice.weights is not None:
            raise SpaceError(
                f"the width '{path}' takes values only, since outputs of different widths cannot be weighted "
                "(ModuleSpace.weighable contains the decisions that can)"
            )
        return self._widths[choice.options[0]]

    @property
    def fixed(self) -> Width | None:
        """The width, multiple or function, if there is no decision."""
        return self._widths[None] if self._decision is None else None

    def of(self, width: Width, inputs: int = 0) -> int:
        """Return the output width that a selected one has for an input of a width.

        Raises:
            SpaceError: it is below 1.
        """
        outputs = self._of(width, inputs)
        if outputs < 1:
            what = f"the rule of {inputs} inputs" if callable(width) else f"{width} times an input width of {inputs}"
            raise SpaceError(f"{self._owner} has no output: {what} is {outputs}")
        return outputs

    def _of(self, width: Width, inputs: int) -> int:
        if callable(width):
            return width(inputs)
        return int(inputs * width) if self._multiples else int(width)

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove options from the decision."""
        if self._decision is not None:
            self._decision = Ordinal(live[""])


def _whole(number: object, owner: str) -> int:
    try:
        return operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        raise SpaceError(f"the output widths of {owner} are whole numbers, not {number!r}") from None


def _multiple(number: object, owner: str) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number < float("inf"):
        raise SpaceError(f"the multiples of {owner} are numbers above 0, not {number!r}")
    return number
