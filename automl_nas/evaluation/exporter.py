"""Handing over a found network: `Exporter`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from automl_nas.space.architecture import Architecture

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Delivery:
    """A trained network and what belongs to it.

    Attributes:
        network: on the CPU, in evaluation mode, with no class of this framework inside.
        architecture: what was found.
        input_shape: the shape of one input without the batch.
        description: JSON: the configuration of its space, metrics, costs, versions.
    """

    network: nn.Module
    architecture: Architecture
    input_shape: tuple[int, ...]
    description: Mapping[str, object] = field(default_factory=dict)


class Exporter(ABC):
    """Writes a network in one format. Settings are keyword-only in the constructor.

    One is constructed when the configuration is checked, and dropped: nobody is to learn after the search that a
    setting of a format is wrong. So constructing costs nothing and leaves nothing behind.
    """

    @abstractmethod
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        """Write the files into a folder that exists, check them by reading them back, and return their paths.

        Files are put in place whole (written beside, then renamed), so a crash leaves no half file under a final name.

        Raises:
            RunFailedError: what was read back does not compute the same; the message says by how much.
        """
