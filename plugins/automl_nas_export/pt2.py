"""The exporter `pt2`: a torch.export program, which runs with nothing but torch installed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.export import ExportedProgram

from automl_nas.errors import RunFailedError
from automl_nas.evaluation import Delivery
from automl_nas_export.traced_exporter import Run, TracedExporter
from automl_nas_export.tracing import module_of
from automl_nas_export.verify import flat

TORCH = frozenset({"aten", "prim", "prims", "quantized"})
"""The namespaces of the operators that torch itself has."""


@final
class Pt2Exporter(TracedExporter[ExportedProgram]):
    """Write ``model.pt2``, a ``torch.export`` program for any batch size from 1 on.

    ``torch.export.load("model.pt2").module()(x)`` runs it where this package is not installed.

    Args:
        tolerance: by how much an output of the program may differ, as a fraction of the largest output. The program
            runs the same kernels as the network, so nearly always the difference is 0; the default, 1e-5, leaves room
            for a convolution that picks another algorithm for another memory layout (some 100 roundings of float32's
            6e-8) and is a hundredth of the difference that a wrong operation makes.
        dynamic_size: whether the program accepts images of any height and width, where the network does.

    Raises:
        ConfigurationError: the tolerance is negative.
    """

    file: ClassVar[str] = "model.pt2"

    def __init__(self, *, tolerance: float = 1e-5, dynamic_size: bool = False) -> None:
        super().__init__(tolerance, dynamic_size=dynamic_size)

    def _convert(self, program: ExportedProgram) -> ExportedProgram:
        for node in program.graph.nodes:
            if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace not in TORCH:
                operator = str(node.target.overloadpacket)
                raise RunFailedError(
                    f"the operator {operator} ({module_of(program, operator)}) is not one of torch, so {self.file} "
                    "could not be run with torch alone; write it with operators of torch, or use the format "
                    "'safetensors', which holds the weights alone"
                )
        return program

    def _write(self, program: ExportedProgram, delivery: Delivery, stage: Path) -> list[Path]:
        # Written to memory first: torch's archive writer ends the process when the disk is full.
        content = io.BytesIO()
        torch.export.save(program, content)
        (stage / self.file).write_bytes(content.getbuffer())
        return [stage / self.file]

    def _load(self, path: Path) -> Run:
        module = torch.export.load(path).module()

        def run(x: Tensor) -> list[Tensor]:
            with torch.no_grad():
                return [tensor for _, tensor in flat(module(x))]

        return run
