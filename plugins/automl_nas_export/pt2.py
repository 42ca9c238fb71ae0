"""The exporter `pt2`: a torch.export program, which runs with nothing but torch installed."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from automl_nas.evaluation import Delivery
from automl_nas_export.traced_exporter import FREE_BATCH, Run, TracedExporter
from automl_nas_export.verify import flat


@final
class Pt2Exporter(TracedExporter[ExportedProgram]):
    """Write ``model.pt2``, a ``torch.export`` program for any batch size from 1 on.

    ``torch.export.load("model.pt2").module()(x)`` runs it where this package is not installed.

    Args:
        tolerance: by how much an output of the program may differ, as a fraction of the largest output. The program
            runs the same kernels as the network, so nearly always the difference is 0; the default, 1e-5, leaves room
            for a convolution that picks another algorithm for another memory layout (some 100 roundings of float32's
            6e-8) and is a hundredth of the difference that a wrong operation makes.

    Raises:
        ConfigurationError: the tolerance is negative.
    """

    file: ClassVar[str] = "model.pt2"
    tracer: ClassVar[str] = "torch.export"

    def __init__(self, *, tolerance: float = 1e-5) -> None:
        super().__init__(tolerance)

    def _trace(self, network: nn.Module, example: Tensor) -> ExportedProgram:
        return trace(network, example)

    def _write(self, program: ExportedProgram, delivery: Delivery, stage: Path) -> list[Path]:
        with warnings.catch_warnings():
            # torch warns of parameters that are slices of one tensor: harmless on the CPU, and compared afterwards.
            warnings.filterwarnings("ignore", message="No complete tensor found in the group", category=UserWarning)
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


def trace(network: nn.Module, example: Tensor) -> ExportedProgram:
    """Return the network as a program that takes any batch size.

    Neither the example nor the paths of source files on this machine are kept in it.
    """
    program = torch.export.export(network, (example,), dynamic_shapes=FREE_BATCH)
    program.example_inputs = None
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program
