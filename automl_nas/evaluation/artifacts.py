"""Weights that one stage saves and another stage or run loads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Artifacts(ABC):
    """The artifacts of a run, as strategies and evaluators use them; an artifact is written once."""

    @abstractmethod
    def save(self, tensors: Mapping[str, Tensor], *, name: str = "weights") -> None:
        """Write an artifact of the current stage.

        An artifact cannot be replaced. A replayed step may save it again with the same content.

        Args:
            tensors: a module's ``state_dict()``.
            name: the name of the artifact within the stage.

        Raises:
            RunDirectoryError: an artifact of that name exists and has another content.
        """

    @abstractmethod
    def load(self, reference: str) -> dict[str, Tensor]:
        """Read an artifact.

        Args:
            reference: ``stage`` or ``stage/name`` in this run; ``RUN_DIRECTORY:stage`` in another run, whose space
                must have the same fingerprint.

        Raises:
            ConfigurationError: the artifact does not exist, or belongs to another space.
            DamagedError: the digest of the file does not match.
        """
