"""Combinations of options that a space excludes: `Exclusions`."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias, final

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space.architecture import Architecture, Scalar, Value
from automl_nas.space.decisions import Decision, Subset

Combination: TypeAlias = Mapping[str, tuple[Scalar, ...]]

DRAWS = 10_000
"""Number of draws after which no architecture is found to be allowed."""


@final
class Exclusions:
    """Combinations of options that exclude each other.

    An architecture is excluded if it has, for each decision of a combination, one of the options that the combination
    names; a `Subset` has the options that it contains.

    Args:
        decisions: of the space.
        combinations: decision name -> option, or a list of options, for two or more decisions each.

    Attributes:
        combinations: decision name -> options, for each combination.

    Raises:
        SpaceError: a combination names fewer than two decisions, or a decision or option that the space does not have;
            or no architecture is found that is not excluded.
    """

    def __init__(self, decisions: Mapping[str, Decision], combinations: Iterable[Mapping[str, object]]) -> None:
        self._decisions = decisions
        self.combinations: tuple[Combination, ...] = tuple(
            _checked(decisions, combination, position) for position, combination in enumerate(combinations)
        )
        if self.combinations and self.nearest(_first_options(decisions)) is None:
            self.sample(random.Random(0))  # raises the error

    def __bool__(self) -> bool:
        """Whether a combination is excluded."""
        return bool(self.combinations)

    @property
    def names(self) -> frozenset[str]:
        """The decisions that the combinations name."""
        return frozenset(name for combination in self.combinations for name in combination)

    def matched(self, architecture: Architecture) -> list[Combination]:
        """Return the excluded combinations that an architecture has."""
        return [combination for combination in self.combinations if _has(architecture, combination)]

    def allows(self, architecture: Architecture) -> bool:
        """Whether an architecture has none of the excluded combinations."""
        return not any(_has(architecture, combination) for combination in self.combinations)

    def nearest(self, architecture: Architecture) -> Architecture | None:
        """Return the architecture itself if it is allowed, or an allowed one near it.

        Single decisions of the excluded combinations are changed while that reduces the number of combinations that the
        architecture has: the last decision of a combination first, to a neighbouring value if one helps.

        Returns:
            The architecture; None if single changes do not lead to an allowed one.
        """
        while matched := self.matched(architecture):
            better = (
                changed for changed in self._changes(architecture, matched[0]) if self._excess(changed) < len(matched)
            )
            following = next(better, None)
            if following is None:
                return None
            architecture = following
        return architecture

    def sample(self, rng: random.Random) -> Architecture:
        """Draw uniformly among the allowed architectures, by rejection.

        Raises:
            SpaceError: none of `DRAWS` draws is allowed.
        """
        for _ in range(DRAWS):
            drawn = Architecture._of_decisions(
                {name: decision.sample(rng) for name, decision in self._decisions.items()}, self._decisions
            )
            if self.allows(drawn):
                return drawn
        raise SpaceError(f"each of {DRAWS:,} random architectures has an excluded combination of options; exclude less")

    def describe(self) -> list[dict[str, list[Scalar]]]:
        """Return the combinations as JSON values."""
        return [{name: list(options) for name, options in combination.items()} for combination in self.combinations]

    def _excess(self, architecture: Architecture) -> int:
        return len(self.matched(architecture))

    def _changes(self, architecture: Architecture, combination: Combination) -> Iterator[Architecture]:
        names = list(combination)
        for name in reversed(names):
            decision = self._decisions[name]
            for value in decision.neighbours(architecture[name]):
                yield architecture.replace({name: value})
        for name in reversed(names):
            decision = self._decisions[name]
            if not isinstance(decision, Subset):
                for option in decision.options:
                    yield architecture.replace({name: option})


def describe_combination(combination: Combination, word: str = "or") -> str:
    """Return a combination in words, such as ``'wide' of 'stem' and 8 or 16 of 'head'``; ``word`` joins options."""
    return " and ".join(f"{f' {word} '.join(map(repr, options))} of '{name}'" for name, options in combination.items())


def _checked(decisions: Mapping[str, Decision], combination: object, position: int) -> Combination:
    where = f"excluded combination {position}"
    if not isinstance(combination, Mapping):
        raise SpaceError(f"{where} must map names of decisions to options, but is {combination!r}")
    if len(combination) < 2:
        raise SpaceError(
            f"{where} names {len(combination)} decisions, and a combination has at least two; remove an option that is "
            "never allowed from its decision"
        )
    checked: dict[str, tuple[Scalar, ...]] = {}
    for name, named in combination.items():
        if name not in decisions:
            raise SpaceError(f"{where}: the space has no decision '{name}'{did_you_mean(str(name), decisions)}")
        decision = decisions[name]
        options = list(named) if isinstance(named, list | tuple) else [named]
        if not options:
            raise SpaceError(f"{where} names no option of '{name}'")
        try:
            positions = {decision.position(option) for option in options}
        except SpaceError as error:
            raise SpaceError(f"{where}, decision '{name}': {error}") from None
        checked[name] = tuple(decision.options[index] for index in sorted(positions))
    return checked


def _has(architecture: Architecture, combination: Combination) -> bool:
    return all(_takes(architecture[name], options) for name, options in combination.items())


def _takes(value: Value, options: tuple[Scalar, ...]) -> bool:
    taken = value if isinstance(value, tuple) else (value,)
    # 1, 1.0 and True are equal in Python but are different options.
    return any(type(item) is type(option) and item == option for item in taken for option in options)


def _first_options(decisions: Mapping[str, Decision]) -> Architecture:
    return Architecture(
        {
            name: decision.options[: decision.min] if isinstance(decision, Subset) else decision.options[0]
            for name, decision in decisions.items()
        }
    )
