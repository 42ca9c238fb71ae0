"""What the formats share that hold a program traced from the network: `TracedExporter`."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeAlias, TypeVar, final

import torch
from torch import Tensor, nn
from torch.export import Dim

from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation import Delivery, Exporter
from automl_nas_export.staging import put_in_place, staging
from automl_nas_export.verify import brief, check_same, probe

TRACE_BATCH = 2
"""The batch size at which networks are traced: tracers treat 0 and 1 as constants."""

FREE_BATCH = ({0: Dim("batch", min=1)},)
"""The dynamic shapes of the one input: the batch may be any number from 1 on."""

ProgramT = TypeVar("ProgramT")

Run: TypeAlias = Callable[[Tensor], Sequence[Tensor]]
"""Computes the outputs of an exported program, flat."""


class TracedExporter(Exporter, Generic[ProgramT]):
    """Trace a network, write the program, read it back and compare its outputs with the network's.

    Args:
        tolerance: by how much an output may differ, as a fraction of the largest output.

    Attributes:
        file: name of the file that holds the program.
        tracer: what traces, for messages.

    Raises:
        ConfigurationError: the tolerance is negative or not a finite number.
    """

    file: ClassVar[str]
    tracer: ClassVar[str]

    def __init__(self, tolerance: float) -> None:
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise ConfigurationError(
                f"tolerance is a fraction of the largest output, >= 0, not {tolerance!r}", path="tolerance"
            )
        self._tolerance = tolerance

    @final
    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        """Write the program, read it back and compare it with the network; see `TracedExporter`.

        Args:
            delivery: the network, its architecture and its description.
            folder: an existing folder.

        Returns:
            The file of the program, and the file of its weights if they are in a second one.

        Raises:
            RunFailedError: the network cannot be traced, the file is invalid, or the program computes other values.
        """
        network, shape, samples = delivery.network, delivery.input_shape, delivery.samples
        example = probe(network, shape, TRACE_BATCH, samples)
        try:
            with torch.no_grad():
                program = self._trace(copy.deepcopy(network), example)  # tracers may change modules
        except Exception as error:
            raise RunFailedError(
                f"{self.tracer} cannot trace the network ({brief(error)}); its forward must not branch on the values "
                "of tensors. The format 'safetensors' can hold its weights"
            ) from error
        with staging(folder) as stage:
            files = self._write(program, delivery, stage)
            check_same(self.file, network, self._load(stage / self.file), shape, self._tolerance, samples)
            return put_in_place(files, folder)

    @abstractmethod
    def _trace(self, network: nn.Module, example: Tensor) -> ProgramT:
        """Return the network as a program that takes any batch size; every exception means that it cannot be traced."""

    @abstractmethod
    def _write(self, program: ProgramT, delivery: Delivery, stage: Path) -> list[Path]:
        """Write the program into the folder ``stage``; return its files, `file` first."""

    @abstractmethod
    def _load(self, path: Path) -> Run:
        """Read a written program back.

        Raises:
            RunFailedError: the file is invalid.
        """
