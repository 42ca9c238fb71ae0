"""Is an architecture one of the space? Fast for architectures that were made from the space's own decisions."""

from __future__ import annotations

from typing import final

from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.space import SearchSpace


@final
class Membership:
    """`SearchSpace.validate`, but the very same architecture comes back at once if its values *are* options.

    Sampling, mutation and crossover hand on the objects that decisions hold, so comparing identities is enough for
    what a strategy proposes; anything else (an equal value read from a file, a subset) takes the long way. For a space
    of 20 decisions that is 3 instead of 30 microseconds a trial.

    Args:
        space: what is searched.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        # Kept, for an identity means something only while its object lives.
        self._decisions: dict[str, Decision] = dict(space.decisions)
        self._allowed = frozenset(
            (name, id(option))
            for name, decision in self._decisions.items()
            if not isinstance(decision, Subset)
            for option in decision.options
        )

    def validate(self, architecture: Architecture) -> Architecture:
        """Return the architecture with every value in its normal form: itself, if that is how it is.

        Raises:
            SpaceError: it is not of this space.
        """
        if len(architecture) == len(self._decisions) and self._allowed.issuperset(
            zip(architecture.keys(), map(id, architecture.values()), strict=True)
        ):
            return architecture
        validated = self._space.validate(architecture)
        return architecture if validated == architecture else validated
