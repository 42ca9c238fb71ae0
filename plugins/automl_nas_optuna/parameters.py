"""Decisions as Optuna's distributions, and architectures as parameters."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, final

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Ordinal, SearchSpace, Subset, decode, encode


class _Shared(BaseDistribution):
    """A distribution that is never changed: its copies are itself.

    Samplers copy and compare the distributions of all parameters for each trial, which takes about as long as the
    random sampler takes in all.
    """

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __eq__(self, other: object) -> Any:
        return self is other or super().__eq__(other)

    __hash__ = BaseDistribution.__hash__


@final
class _Options(_Shared, CategoricalDistribution):
    """A categorical over 0, 1, ..."""


@final
class _Places(_Shared, IntDistribution):
    """An integer from 0."""


@final
class Parameters:
    """The parameters of a space: their values are the numbers of an architecture's code (`operators.encode`).

    A `Choice` becomes a categorical over the numbers of its options, an `Ordinal` an integer (so that samplers know
    which values are near), a `Subset` one binary categorical for each option. Numbers, not the options themselves:
    1, 1.0 and True are one option to Optuna and three to us.

    Args:
        space: what is searched.

    Attributes:
        distributions: parameter name -> distribution, in the order of the code.
        ordered: whether any is an integer.

    Raises:
        SpaceError: two parameters would have one name.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._decisions = space.decisions
        self.distributions: dict[str, BaseDistribution] = {}
        # (first place in the code, one behind the last, min, max) of subsets with limits on their size.
        self._limits: list[tuple[int, int, int, int]] = []
        place = 0
        for name, decision in self._decisions.items():
            made: dict[str, BaseDistribution]
            if isinstance(decision, Subset):
                made = {subset_parameter(name, option): _Options((0, 1)) for option in decision.options}
                if decision.min > 0 or decision.largest < decision.width:
                    self._limits.append((place, place + decision.width, decision.min, decision.largest))
            elif isinstance(decision, Ordinal):
                made = {name: _Places(0, decision.size - 1)}
            else:
                made = {name: _Options(tuple(range(decision.size)))}
            if taken := made.keys() & self.distributions.keys():
                raise SpaceError(f"the decision '{name}' needs a parameter '{min(taken)}', and there is one already")
            self.distributions.update(made)
            place += decision.width
        self.ordered = any(isinstance(item, _Places) for item in self.distributions.values())
        self._names = tuple(self.distributions)

    def code(self, values: Mapping[str, object]) -> list[int]:
        """Return the code that parameters stand for."""
        return [int(values[name]) for name in self._names]  # type: ignore[call-overload]

    def values(self, code: Sequence[int]) -> dict[str, int]:
        """Invert `code`."""
        return dict(zip(self._names, code, strict=True))

    def architecture(self, code: Sequence[int]) -> Architecture:
        """Return the architecture of a code."""
        return decode(code, self._decisions)

    def encode(self, architecture: Architecture) -> list[int]:
        """Return the code of an architecture of the space, in its normal form."""
        return list(encode(architecture, self._decisions))

    def fits(self, code: Sequence[int]) -> bool:
        """Whether every subset takes an allowed number of options."""
        return all(low <= sum(code[begin:end]) <= high for begin, end, low, high in self._limits)

    def mended(self, code: Sequence[int], rng: random.Random) -> list[int]:
        """Return the code with options added to, or taken from, subsets of a size that is not allowed.

        As few as possible, drawn uniformly.
        """
        mended = list(code)
        for begin, end, low, high in self._limits:
            count = sum(mended[begin:end])
            if low <= count <= high:
                continue
            bit = int(count < low)
            places = [place for place in range(begin, end) if mended[place] != bit]
            for place in rng.sample(places, low - count if bit else count - high):
                mended[place] = bit
        return mended

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)


def subset_parameter(decision: str, option: object) -> str:
    """Return the name of the parameter that says whether a subset takes an option."""
    return f"{decision}[{json.dumps(option)}]"
