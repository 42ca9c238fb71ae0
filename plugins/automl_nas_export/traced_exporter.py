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
from torch.export import ExportedProgram

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Delivery, Exporter
from automl_nas_export.quiet import quiet_tracing
from automl_nas_export.sizes import free_shapes
from automl_nas_export.staging import put_in_place, staging
from automl_nas_export.tracing import few_collections, trace
from automl_nas_export.verify import CHECK_BATCHES, TRACE_BATCH, check_same, run_network

ProgramT = TypeVar("ProgramT")

Run: TypeAlias = Callable[[Tensor], Sequence[Tensor]]
"""Computes the outputs of an exported program, flat."""


class _Traced:
    """A traced network.

    Args:
        network: the original.
        program: traced from it.
    """

    def __init__(self, network: nn.Module, program: ExportedProgram) -> None:
        self._text, self.program = repr(network), program
        # Copies: the network may get other weights later.
        self._state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def equals(self, network: nn.Module) -> bool:
        """Return whether a network has the same modules and weights. What it computes is compared later."""
        state = network.state_dict()
        return (
            repr(network) == self._text
            and state.keys() == self._state.keys()
            and all(torch.equal(tensor, self._state[name]) for name, tensor in state.items())
        )


class TracedExporter(Exporter, Generic[ProgramT]):
    """Trace a network, write the program, read it back and compare its outputs with the network's.

    Args:
        tolerance: by how much an output may differ, as a fraction of the largest output.
        dynamic_size: whether the program accepts any height and width, and not only those of the training.

    Attributes:
        file: name of the file that holds the program.

    Raises:
        ConfigurationError: the tolerance is negative or not a finite number.
    """

    file: ClassVar[str]

    def __init__(self, tolerance: float, *, dynamic_size: bool = False) -> None:
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise ConfigurationError(
                f"tolerance is a fraction of the largest output, >= 0, not {tolerance!r}", path="tolerance"
            )
        self._tolerance, self._dynamic_size = tolerance, dynamic_size

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
                program computes other values; or the size is to be dynamic, and the network accepts one size only.
        """
        network, shape, samples = delivery.network, delivery.input_shape, delivery.samples
        with few_collections(), quiet_tracing(), staging(folder) as stage:
            for batch in CHECK_BATCHES:  # before the trace, so that no fault of the network is taken for one of it
                run_network(network, shape, batch, samples)
            shapes = free_shapes(network, shape, samples) if self._dynamic_size else [shape]
            example, _ = run_network(network, shapes[1 if self._dynamic_size else 0], TRACE_BATCH, samples)
            with torch.no_grad():
                program = self._convert(self._traced(delivery, example))
            files = self._write(program, delivery, stage)
            loaded = self._load(stage / self.file)
            for each in shapes:
                check_same(self.file, network, loaded, each, self._tolerance, samples, each != shape)
            return put_in_place([*files, *self._variants(delivery, stage)], folder)

    def _traced(self, delivery: Delivery, example: Tensor) -> ExportedProgram:
        """Return the traced network; another format may have traced an equal one before."""
        key = f"export/traced{'/free size' if self._dynamic_size else ''}"
        earlier: _Traced | None = delivery.shared.get(key)
        if earlier is None or not earlier.equals(delivery.network):
            # A copy: tracers may change modules.
            program = trace(copy.deepcopy(delivery.network), example, free_size=self._dynamic_size)
            earlier = delivery.shared[key] = _Traced(delivery.network, program)
        return earlier.program

    def _variants(self, delivery: Delivery, stage: Path) -> list[Path]:
        """Write files that are made from the checked program, into the same folder; return them (default: none)."""
        return []

    @abstractmethod
    def _convert(self, program: ExportedProgram) -> ProgramT:
        """Return the traced program, which other formats use too, as a program of this format.

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
