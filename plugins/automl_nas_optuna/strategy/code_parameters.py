"""`CodeParameters`: the decisions of a space as Optuna distributions, and architecture codes as parameters."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, final

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Ordinal, SearchSpace, Subset, Value, decode, encode


class _Shared(BaseDistribution):
    """An immutable distribution: its copies are the object itself.

    Samplers copy and compare the distributions of all parameters in each trial. With ordinary distributions that takes
    about as long as everything else that the random sampler does.
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
    """A categorical distribution of 0, 1, ..."""


@final
class _Positions(_Shared, IntDistribution):
    """An integer distribution from 0."""


@final
class CodeParameters:
    """The parameters of a space, whose values are the integers of an architecture's code (`encode`).

    A `Choice` becomes a categorical parameter of the positions of its options, an `Ordinal` an integer parameter (so
    that samplers know which values are near to each other), and a `Subset` one binary categorical parameter for each
    option. Positions are used instead of the options themselves because 1, 1.0 and True are one option to Optuna and
    three options here.

    Args:
        space: the search space.

    Attributes:
        distributions: parameter name -> distribution, in the order of the code.
        ordered: whether any parameter is an integer parameter.

    Raises:
        SpaceError: two parameters have the same name.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._decisions = space.decisions
        self.distributions: dict[str, BaseDistribution] = {}
        # (begin and end of the slice of the code, smallest and largest size) of each subset whose size is limited.
        self._limits: list[tuple[int, int, int, int]] = []
        position = 0
        for name, decision in self._decisions.items():
            distributions: dict[str, BaseDistribution]
            if isinstance(decision, Subset):
                distributions = {subset_parameter(name, option): _Options((0, 1)) for option in decision.options}
                if decision.min > 0 or decision.largest < decision.width:
                    self._limits.append((position, position + decision.width, decision.min, decision.largest))
            elif isinstance(decision, Ordinal):
                distributions = {name: _Positions(0, decision.size - 1)}
            else:
                distributions = {name: _Options(tuple(range(decision.size)))}
            if taken := distributions.keys() & self.distributions.keys():
                raise SpaceError(f"the decision '{name}' needs a parameter '{min(taken)}', and there is one already")
            self.distributions.update(distributions)
            position += decision.width
        self.ordered = any(isinstance(item, _Positions) for item in self.distributions.values())
        self._names = tuple(self.distributions)

    def code(self, values: Mapping[str, object]) -> list[int]:
        """Return the code with these parameter values."""
        return [int(values[name]) for name in self._names]  # type: ignore[call-overload]

    def values(self, code: Sequence[int]) -> dict[str, int]:
        """Return the parameter values of a code."""
        return dict(zip(self._names, code, strict=True))

    def values_of(self, decision: str, value: Value) -> dict[str, int]:
        """Return the parameter values of a valid value of one decision."""
        own = {decision: self._decisions[decision]}
        code = encode(Architecture({decision: value}), own)
        names = [decision]
        if isinstance(own[decision], Subset):
            names = [subset_parameter(decision, option) for option in own[decision].options]
        return dict(zip(names, code, strict=True))

    def architecture(self, code: Sequence[int]) -> Architecture:
        """Return the architecture of a code."""
        return decode(code, self._decisions)

    def encode(self, architecture: Architecture) -> list[int]:
        """Return the code of an architecture of the space."""
        return list(encode(architecture, self._decisions))

    def fits(self, code: Sequence[int]) -> bool:
        """Return whether the size of every subset is allowed."""
        return all(low <= sum(code[begin:end]) <= high for begin, end, low, high in self._limits)

    def repaired(self, code: Sequence[int], rng: random.Random) -> list[int]:
        """Return the code with the sizes of its subsets made allowed.

        Options are added or removed, as few as possible, drawn uniformly.
        """
        repaired = list(code)
        for begin, end, low, high in self._limits:
            count = sum(repaired[begin:end])
            if low <= count <= high:
                continue
            bit = int(count < low)
            positions = [position for position in range(begin, end) if repaired[position] != bit]
            for position in rng.sample(positions, low - count if bit else count - high):
                repaired[position] = bit
        return repaired

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)


def subset_parameter(decision: str, option: object) -> str:
    """Return the name of the binary parameter that determines whether a subset contains an option."""
    return f"{decision}[{json.dumps(option)}]"
