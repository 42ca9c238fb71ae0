"""What the formats share that hold a program traced from the network: `TracedExporter`."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeAlias, TypeVar, final

import torch
from torch import Tensor
from torch.export import ExportedProgram

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Delivery, Exporter
from automl_nas_export.quiet import quiet_tracing
from automl_nas_export.staging import put_in_place, staging
from automl_nas_export.tracing import trace
from automl_nas_export.verify import CHECK_BATCHES, TRACE_BATCH, check_same, run_network

ProgramT = TypeVar("ProgramT")

Run: TypeAlias = Callable[[Tensor], Sequence[Tensor]]
"""Computes the outputs of an exported program, flat."""


class TracedExporter(Exporter, Generic[ProgramT]):
    """Trace a network, write the program, read it back and compare its outputs with the network's.

    Args:
        tolerance: by how much an output may differ, as a fraction of the largest output.

    Attributes:
        file: name of the file that holds the program.

    Raises:
        ConfigurationError: the tolerance is negative or not a finite number.
    """

    file: ClassVar[str]

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
            RunFailedError: the network cannot be traced, the format lacks an operator, the file is invalid, or the
                program computes other values.
        """
        network, shape, samples = delivery.network, delivery.input_shape, delivery.samples
        with quiet_tracing(), staging(folder) as stage:
            for batch in CHECK_BATCHES:  # before the trace, so that no fault of the network is taken for one of it
                run_network(network, shape, batch, samples)
            example, _ = run_network(network, shape, TRACE_BATCH, samples)
            with torch.no_grad():
                program = self._convert(trace(copy.deepcopy(network), example))  # tracers may change modules
            files = self._write(program, delivery, stage)
            check_same(self.file, network, self._load(stage / self.file), shape, self._tolerance, samples)
            return put_in_place(files, folder)

    @abstractmethod
    def _convert(self, program: ExportedProgram) -> ProgramT:
        """Return the traced program as a program of this format.

        Raises:
            RunFailedError: the format lacks an operator of the program.
        """

    @abstractmethod
    def _write(self, program: ProgramT, delivery: Delivery, stage: Path) -> list[Path]:
        """Write the program into the folder ``stage``; return its files, `file` first."""

    @abstractmethod
    def _load(self, path: Path) -> Run:
        """Read a written program back.

        Raises:
            RunFailedError: the file is invalid.
        """
