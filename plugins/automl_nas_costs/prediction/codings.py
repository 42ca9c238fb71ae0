"""What of an architecture a device runs: as it is written, or without what a compiler removes."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, TypeAlias, final

from automl_nas.space import Architecture, Decision, SearchSpace, Subset, Value

CodingName: TypeAlias = Literal["raw", "used", "live"]
"""``raw``: every option runs. ``live``: a decision that does not matter, as `SearchSpace.canonical` tells, costs what
its first option costs. ``used``: so does only one that does not matter whatever the decisions before it are, whose
result nobody reads: compilers remove unread results, few of them notice that an input is all zeros."""

CODINGS: tuple[CodingName, ...] = ("raw", "used", "live")

_KEPT = 1 << 16


@final
class Reduced:
    """Architectures with the decisions that do not matter set to their first option.

    Whether one matters is asked of `SearchSpace.canonical`: a decision is moot if every option leads to the same
    representative. It takes one call for each option, and is remembered.

    Args:
        space: whose decisions they are, in the order in which data flows through the network.
        coding: see `CodingName`.
    """

    def __init__(self, space: SearchSpace, coding: CodingName) -> None:
        self._space, self._coding = space, coding
        self._known: dict[Architecture, Architecture] = {}
        # Settings of what comes before a decision: all first options, all second ones, and so on.
        choices = [decision for decision in space.decisions.values() if not isinstance(decision, Subset)]
        self._settings = range(max((len(decision.options) for decision in choices), default=1))

    def __call__(self, architecture: Architecture) -> Architecture:
        """Return the reduced architecture; the same one where everything matters."""
        if self._coding == "raw":
            return architecture
        found = self._known.get(architecture)
        if found is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            found = self._known[architecture] = self._reduce(architecture)
        return found

    def _reduce(self, architecture: Architecture) -> Architecture:
        canonical = self._space.canonical(architecture)
        changes: dict[str, Value] = {}
        earlier: list[str] = []
        for name, decision in self._space.decisions.items():
            if isinstance(decision, Subset):
                value, kept = architecture[name], canonical[name]
                assert isinstance(value, tuple) and isinstance(kept, tuple)
                alive = tuple(option for option in value if option in kept)
                if len(alive) >= decision.min:
                    changes[name] = alive
            elif len(decision.options) > 1 and self._moot(architecture, name, decision, earlier):
                changes[name] = decision.options[0]
            earlier.append(name)
        return architecture.replaced(changes) if changes else architecture

    def _moot(self, architecture: Architecture, name: str, decision: Decision, earlier: list[str]) -> bool:
        def same(here: Architecture) -> bool:
            wanted = self._space.canonical(here)
            return all(self._space.canonical(here.replaced({name: option})) == wanted for option in decision.options)

        if not same(architecture):
            return False
        return self._coding == "live" or all(same(self._before(architecture, earlier, k)) for k in self._settings)

    def _before(self, architecture: Architecture, earlier: list[str], setting: int) -> Architecture:
        values: dict[str, Value] = {}
        for name in earlier:
            decision = self._space.decisions[name]
            if not isinstance(decision, Subset):
                values[name] = decision.options[min(setting, len(decision.options) - 1)]
        return architecture.replaced(values) if values else architecture


@lru_cache(maxsize=4)
def reducers(space: SearchSpace) -> dict[CodingName, Reduced]:
    """Return coding -> what makes architectures of it; what was found out about a space is kept for the next caller."""
    return {coding: Reduced(space, coding) for coding in CODINGS}
