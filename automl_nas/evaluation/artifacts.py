"""Trained weights that travel between stages and runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Artifacts(ABC):
    """The write-once artifacts of a run, as a strategy or an evaluator sees them."""

    @abstractmethod
    def save(self, tensors: Mapping[str, Tensor], *, name: str = "weights") -> None:
        """Write an artifact of the present stage (a module's ``state_dict()``), once and for good.

        A replayed step may save again: the digest must be the same.

        Raises:
            RunDirectoryError: an artifact of that name exists and holds something else.
        """

    @abstractmethod
    def load(self, reference: str) -> dict[str, Tensor]:
        """Read an artifact.

        Args:
            reference: ``stage`` or ``stage/name`` of this run, ``RUN_DIRECTORY:stage`` of another one, whose space must
                have the same fingerprint.

        Raises:
            ConfigurationError: there is no such artifact, or it belongs to another space.
            DamagedError: its digest does not match.
        """
