"""ONNX, checked in ONNX Runtime."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.export import Dim

from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation import Delivery, Exporter
from automl_nas_export.staging import put_in_place, staging
from automl_nas_export.verify import TRACE_BATCH, check_same, check_tolerance, probe, untraceable

MODEL = "model.onnx"
DATA = "model.onnx.data"

SMALL = 1024
"""Tensors of fewer bytes always stay inside: shapes are among them, which the checker has to read."""

OLDEST_OPSET = 18
"""What torch's exporter writes by itself; older ones need a conversion that does not know every operator."""


class OnnxExporter(Exporter):
    """Write ``model.onnx`` for any batch size from 1 on; input ``input``, output ``output``.

    The architecture and the description stand in the file's metadata, as JSON under ``architecture`` and
    ``description``.

    Args:
        opset: version of the ONNX operators. The default, 18 (December 2022), is what torch's exporter writes natively
            and what every runtime of the last years reads.
        tolerance: how far an output of ONNX Runtime may be off, as a fraction of the largest output. ONNX Runtime sums
            in another order and folds batch normalisation into convolutions: a ShuffleNetV2 of 20 blocks for ImageNet
            shows 4e-7 in float32, networks that amplify rounding (small variances) some ten times more. Wrong
            padding, a wrong weight or a lost layer show as 1e-2 and more. The default, 1e-4, lies well between.
        inline_limit: bytes of weights up to which they stay inside ``model.onnx``; above, they go to
            ``model.onnx.data`` beside it. No ONNX file may exceed 2 GiB.

    Raises:
        ConfigurationError: an opset that cannot be written, or a tolerance or limit out of range.
    """

    def __init__(self, *, opset: int = OLDEST_OPSET, tolerance: float = 1e-4, inline_limit: int = 1 << 30) -> None:
        newest = onnx.defs.onnx_opset_version()
        if not OLDEST_OPSET <= opset <= newest:
            raise ConfigurationError(
                f"opset {opset} cannot be written; the installed onnx knows {OLDEST_OPSET} to {newest}",
                path="opset",
            )
        if not 0 <= inline_limit < 1 << 31:
            raise ConfigurationError(
                f"inline_limit is a number of bytes from 0 to below 2 GiB, not {inline_limit}", path="inline_limit"
            )
        self._opset, self._inline_limit = opset, inline_limit
        self._tolerance = check_tolerance(tolerance, "tolerance")

    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        """Write the model, check it with ``onnx.checker`` and compare it with the network in ONNX Runtime.

        Args:
            delivery: the network and what belongs to it.
            folder: an existing folder.

        Raises:
            RunFailedError: the network cannot be traced, the checker refuses the file, or it computes something else.
        """
        network = delivery.network
        model = convert(network, probe(network, delivery.input_shape, TRACE_BATCH), self._opset)
        onnx.helper.set_model_props(
            model,
            {
                "architecture": json.dumps(delivery.architecture.to_dict()),
                "description": json.dumps(dict(delivery.description)),
            },
        )
        weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
        apart = weights > self._inline_limit
        with staging(folder) as stage:
            onnx.save(model, stage / MODEL, save_as_external_data=apart, location=DATA, size_threshold=SMALL)
            _check(stage / MODEL, delivery, self._tolerance)
            # The data first: where a model is, its weights are.
            staged = [stage / name for name in (DATA, MODEL) if (stage / name).exists()]
            return [put_in_place(file, folder) for file in staged][::-1]


def convert(network: nn.Module, example: Tensor, opset: int) -> onnx.ModelProto:
    """Return the network as an ONNX model whose first input dimension is free.

    Raises:
        RunFailedError: the network cannot be traced or has an operation without a counterpart.
    """
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # torch copies its own tree specifications, which its own deprecation then complains about.
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)`", category=FutureWarning)
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=["input"],
                output_names=["output"],
                dynamic_shapes=({0: Dim("batch", min=1)},),
                opset_version=opset,
            )
    except Exception as error:
        raise untraceable("torch.onnx", error) from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    _forget_source(model)
    return model


def _forget_source(model: onnx.ModelProto) -> None:
    # The exporter notes stack traces with the places of files on this machine at every node and value.
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del item.metadata_props[:]
    for function in model.functions:
        for item in (function, *function.node, *function.value_info):
            del item.metadata_props[:]


def _check(file: Path, delivery: Delivery, tolerance: float) -> None:
    try:
        onnx.checker.check_model(file, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise RunFailedError(f"onnx.checker refuses {MODEL}: {error}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> list[Tensor]:
        return [torch.from_numpy(output) for output in session.run(None, {"input": x.numpy()})]

    check_same(MODEL, delivery.network, run, delivery.input_shape, tolerance)
