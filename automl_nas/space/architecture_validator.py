"""Is an architecture one of the space? Fast for architectures that were made from the space's own decisions."""

from __future__ import annotations

from typing import final

from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace


@final
class ArchitectureValidator:
    """`SearchSpace.validate`, but what operators made from the space's own decisions comes back at once.

    Sampling, mutation, crossover and neighbours only combine values that decisions gave, and note which; anything else
    (read from a file, made by hand) takes the long way. For a space of 20 decisions that is 0.2 instead of 30
    microseconds a trial.

    Args:
        space: what is searched.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._decisions = space.decisions

    def validate(self, architecture: Architecture) -> Architecture:
        """Return the architecture with every value in its normal form: itself, if that is how it is.

        Raises:
            SpaceError: it is not of this space.
        """
        if architecture._origin is self._decisions:
            return architecture
        validated = self._space.validate(architecture)
        return architecture if validated == architecture else validated
