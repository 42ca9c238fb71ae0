"""A torch.export program: runs with nothing but torch installed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from automl_nas.evaluation import Delivery, Exporter
from automl_nas_export.staging import put_in_place, staging
from automl_nas_export.verify import TRACE_BATCH, check_same, check_tolerance, flat, probe, untraceable

PROGRAM = "model.pt2"


class Pt2Exporter(Exporter):
    """Write ``model.pt2``, a ``torch.export`` program for any batch size from 1 on.

    ``torch.export.load("model.pt2").module()(x)`` runs it where this package is not installed.

    Args:
        tolerance: how far an output of the program may be off, as a fraction of the largest output. The program runs
            the same kernels as the network, so nearly always the difference is 0; the default, 1e-5, leaves room for
            a convolution that picks another algorithm for another memory layout (some 100 roundings of float32's
            6e-8) and is a hundredth of what a wrong operation shows.

    Raises:
        ConfigurationError: the tolerance is negative.
    """

    def __init__(self, *, tolerance: float = 1e-5) -> None:
        self._tolerance = check_tolerance(tolerance, "tolerance")

    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        """Write the program, load it again and compare it with the network.

        Args:
            delivery: the network and what belongs to it.
            folder: an existing folder.

        Raises:
            RunFailedError: the network cannot be traced, or the program computes something else.
        """
        network = delivery.network
        program = trace(network, probe(network, delivery.input_shape, TRACE_BATCH))
        with staging(folder) as stage:
            with warnings.catch_warnings():
                # Said of parameters that are slices of one tensor: harmless on the CPU, and compared below.
                warnings.filterwarnings("ignore", message="No complete tensor found in the group", category=UserWarning)
                # By way of memory: torch's archive writer ends the process when the disk is full.
                content = io.BytesIO()
                torch.export.save(program, content)
            (stage / PROGRAM).write_bytes(content.getbuffer())
            loaded = torch.export.load(stage / PROGRAM).module()

            def run(x: Tensor) -> list[Tensor]:
                with torch.no_grad():
                    return [tensor for _, tensor in flat(loaded(x))]

            check_same(PROGRAM, network, run, delivery.input_shape, self._tolerance)
            return [put_in_place(stage / PROGRAM, folder)]


def trace(network: nn.Module, example: Tensor) -> ExportedProgram:
    """Return the network as a program whose first input dimension is free.

    Neither the example nor the places of source files on this machine are kept in it.

    Raises:
        RunFailedError: the network cannot be traced.
    """
    try:
        with torch.no_grad():
            program = torch.export.export(network, (example,), dynamic_shapes=({0: Dim("batch", min=1)},))
    except Exception as error:
        raise untraceable("torch.export", error) from error
    program.example_inputs = None
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    return program
