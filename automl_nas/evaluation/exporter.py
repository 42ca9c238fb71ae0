"""Writing the delivered network in a format: `Exporter` and `Delivery`."""

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
    """The delivered network with its description.

    Attributes:
        network: trained, on the CPU, in evaluation mode; its modules are plain PyTorch, not classes of this framework.
        architecture: of the network.
        input_shape: of one input, without the batch.
        description: plain data: configuration of space and task, costs, test metrics, version of the framework.
    """

    network: nn.Module
    architecture: Architecture
    input_shape: tuple[int, ...]
    description: Mapping[str, object] = field(default_factory=dict)


class Exporter(ABC):
    """Writes a network in one format. Settings are keyword-only in the constructor.

    An exporter is also constructed once while the configuration is checked, so that an invalid setting is reported
    before the search. So the constructor must be cheap and must not write files.
    """

    @abstractmethod
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        """Write the files into a folder that exists, check them by reading them back, and return their paths.

        Write each file under a temporary name and rename it, so that a crash leaves no incomplete file under its name.

        Args:
            delivery: the network.
            folder: to write to.

        Raises:
            RunFailedError: the format cannot represent the network, or the file that was read back computes other
                outputs; the message says by how much they differ.
        """
