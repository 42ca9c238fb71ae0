"""The output width of an elastic layer: fixed, or a decision; in channels, or in multiples of the input's width."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, final

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Scalar
from automl_nas.space.decisions import Decision, Ordinal, plain_options
from automl_nas.space.modules.choice import ResolvedChoice

WidthOptions: TypeAlias = "float | Sequence[float] | Mapping[Scalar, float]"


@final
class OutputWidth:
    """The output width of a layer and the decision about it.

    Args:
        options: a number: no decision; an increasing sequence of numbers: an `Ordinal` of these; option -> number: an
            `Ordinal` of the options.
        owner: the class of the layer with its article, for the messages of errors.
        largest_input: the layer's largest input width, if the numbers are multiples of the input's width; None: they
            are widths.

    Raises:
        SpaceError: there is no number, a width is not a whole number, or one is below 1.

    Attributes:
        largest: the largest output width.
    """

    def __init__(self, options: WidthOptions, owner: str, largest_input: int | None = None) -> None:
        self._multiples = largest_input is not None
        self._numbers: dict[Scalar | None, float]
        self._decision: Ordinal | None = None
        if isinstance(options, Iterable):
            names = plain_options(options, owner)
            numbers = list(options.values() if isinstance(options, Mapping) else options)
            if not names:
                raise SpaceError(f"{owner} needs at least one output width")
            self._decision = Ordinal(names)
            self._numbers = dict(zip(names, numbers, strict=True))
        else:
            self._numbers = {None: options}
        for option, number in self._numbers.items():
            self._numbers[option] = _multiple(number, owner) if self._multiples else _whole(number, owner)
        widths = [self._width(number, largest_input or 0) for number in self._numbers.values()]
        if min(widths) < 1:
            raise SpaceError(f"the output widths of {owner} must be at least 1, not {min(widths)}")
        self.largest = max(widths)

    def decisions(self) -> Mapping[str, Decision]:
        """Return the decision, if there is one."""
        return {} if self._decision is None else {"": self._decision}

    def number(self, choices: Mapping[str, ResolvedChoice], path: str) -> float:
        """Return the number that a selection holds: a width or a multiple.

        Raises:
            SpaceError: the width is weighted.
        """
        if self._decision is None:
            return self._numbers[None]
        choice = choices[""]
        if choice.weights is not None:
            raise SpaceError(
                f"the width '{path}' takes values only, since outputs of different widths cannot be weighted "
                "(ModuleSpace.weighable contains the decisions that can)"
            )
        return self._numbers[choice.options[0]]

    @property
    def fixed(self) -> float | None:
        """The number, if there is no decision."""
        return self._numbers[None] if self._decision is None else None

    def of(self, number: float, inputs: int) -> int:
        """Return the output width for a number and an input of a width.

        Raises:
            SpaceError: the multiple of this input's width is below 1.
        """
        width = self._width(number, inputs)
        if width < 1:
            raise SpaceError(f"{number} times an input width of {inputs} is below 1")
        return width

    def _width(self, number: float, inputs: int) -> int:
        return int(inputs * number) if self._multiples else int(number)

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
