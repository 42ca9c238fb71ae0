"""The exporter `onnx`, checked in ONNX Runtime."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import ClassVar, final

import onnx
import torch
from torch import Tensor
from torch.export import ExportedProgram

from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation import Delivery
from automl_nas_export.int8 import SAMPLES, check_settings, session_of, write_int8
from automl_nas_export.traced_exporter import Run, TracedExporter
from automl_nas_export.tracing import causes, module_of, no_stack_traces, root_cause
from automl_nas_export.verify import brief

DATA = "model.onnx.data"

SMALL = 1024
"""Tensors of fewer bytes always stay in ``model.onnx``: shapes are among them, which the checker has to read."""

SIZES = ("batch", "channels", "height", "width")
"""The names of the sizes of an input, where they are free."""

OLDEST_OPSET = 18
"""What torch's exporter writes by itself; older ones need a conversion that does not know every operator."""


@final
class OnnxExporter(TracedExporter[onnx.ModelProto]):
    """Write ``model.onnx`` for any batch size from 1 on; input ``input``, output ``output``.

    The file's metadata holds the architecture and the description, as JSON under ``architecture`` and
    ``description``.

    Args:
        opset: version of the ONNX operators. The default, 18 (December 2022), is what torch's exporter writes natively
            and what every runtime of the last years reads.
        tolerance: by how much an output of ONNX Runtime may differ, as a fraction of the largest output. ONNX Runtime
            sums in another order and folds batch normalisation into convolutions: a ShuffleNetV2 of 20 blocks for
            ImageNet differs by 4e-7 in float32, networks that amplify rounding (small variances) by some ten times
            more. Wrong padding, a wrong weight or a missing layer make a difference of 1e-2 and more. The default,
            1e-4, lies well between.
        dynamic_size: whether the model accepts images of any height and width, where the network does.
        int8: whether ``model.int8.onnx`` is written, too: the network with weights and activations of 8 bits, by
            onnxruntime.quantization. Accuracy, size and latency before and after are recorded.
        int8_samples: the number of training inputs from which the ranges of its activations are measured.
        inline_limit: bytes of weights up to which they stay inside ``model.onnx``; above, they are written to
            ``model.onnx.data`` beside it. No ONNX file may exceed 2 GiB.

    Raises:
        ConfigurationError: an opset that cannot be written, or a tolerance or limit out of range.
    """

    file: ClassVar[str] = "model.onnx"

    def __init__(
        self,
        *,
        opset: int = OLDEST_OPSET,
        tolerance: float = 1e-4,
        dynamic_size: bool = False,
        int8: bool = False,
        int8_samples: int = SAMPLES,
        inline_limit: int = 1 << 30,
    ) -> None:
        newest = onnx.defs.onnx_opset_version()
        if not OLDEST_OPSET <= opset <= newest:
            raise ConfigurationError(
                f"opset {opset} cannot be written; the installed onnx can write {OLDEST_OPSET} to {newest}",
                path="opset",
            )
        if not 0 <= inline_limit < 1 << 31:
            raise ConfigurationError(
                f"inline_limit is a number of bytes from 0 to below 2 GiB, not {inline_limit}", path="inline_limit"
            )
        check_settings(int8, int8_samples)
        super().__init__(tolerance, dynamic_size=dynamic_size)
        self._int8_samples = int8_samples if int8 else 0
        self._opset, self._inline_limit = opset, inline_limit

    def _convert(self, program: ExportedProgram) -> onnx.ModelProto:
        if self._dynamic_size:
            _check_pools(program)
        model = convert(program, self._opset)
        _name_sizes(model)
        return model

    def _write(self, program: onnx.ModelProto, delivery: Delivery, stage: Path) -> list[Path]:
        onnx.helper.set_model_props(
            program,
            {
                "architecture": json.dumps(delivery.architecture.to_dict()),
                "description": json.dumps(dict(delivery.description)),
            },
        )
        weights = sum(len(tensor.raw_data) for tensor in program.graph.initializer)
        apart = weights > self._inline_limit
        onnx.save(program, stage / self.file, save_as_external_data=apart, location=DATA, size_threshold=SMALL)
        return [stage / name for name in (self.file, DATA) if (stage / name).exists()]

    def _variants(self, delivery: Delivery, stage: Path) -> list[Path]:
        return [write_int8(delivery, stage, self._int8_samples)] if self._int8_samples else []

    def _load(self, path: Path) -> Run:
        try:
            onnx.checker.check_model(path, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise RunFailedError(f"onnx.checker refuses {self.file}: {error}") from error
        session = session_of(path)

        def run(x: Tensor) -> list[Tensor]:
            return [torch.from_numpy(output) for output in session.run(None, {"input": x.numpy()})]

        return run


def convert(program: ExportedProgram, opset: int) -> onnx.ModelProto:
    """Return a traced network as an ONNX model; its input is called ``input``, its output ``output``.

    Raises:
        RunFailedError: an operator has no translation to ONNX, or not in this opset; names the operator and its module.
    """
    try:
        with no_stack_traces():
            converted = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=["input"],
                output_names=["output"],
                opset_version=opset,
            )
    except Exception as error:
        raise RunFailedError(_reason(error, program)) from error
    assert converted is not None
    model: onnx.ModelProto = converted.model_proto
    written = next(item.version for item in model.opset_import if item.domain == "")
    if written != opset:
        raise RunFailedError(
            f"torch could not convert the model from opset {written} to {opset}; leave out opset, or use a lower one"
        )
    _remove_source_paths(model)
    return model


def _reason(error: BaseException, program: ExportedProgram) -> str:
    """Return why a program cannot be converted."""
    texts = [str(item) for item in causes(error)]
    missing = next(
        filter(None, (re.search(r"No ONNX function found for .*?op='([^']+)'", text) for text in texts)), None
    )
    if missing is None:
        return f"torch.onnx cannot convert the program: {brief(root_cause(error))}"
    operator = missing.group(1)
    place = module_of(program, operator)
    return (
        f"the operator {operator}{f' ({place})' if place else ''} has no translation to ONNX in torch "
        f"{torch.__version__}; use another module in its place, or another format ('pt2' and 'safetensors' can hold "
        "every operator of torch)"
    )


def _check_pools(program: ExportedProgram) -> None:
    """Raise an error if a program pools images of any size to several cells, for which torch writes a wrong model."""
    for node in program.graph.nodes:
        name = str(node.target.overloadpacket) if isinstance(node.target, torch._ops.OpOverload) else ""
        if name.startswith("aten.adaptive_") and any(cells not in (1, None) for cells in node.args[1]):
            cells = " x ".join(map(str, node.args[1]))
            raise RunFailedError(
                f"dynamic_size: true: ONNX has no operator that pools images of any size to {cells} cells "
                f"({module_of(program, name)}); pool to one cell (nn.AdaptiveAvgPool2d(1)), use the format 'pt2', or "
                "leave dynamic_size out"
            )


def _name_sizes(model: onnx.ModelProto) -> None:
    """Give the free sizes of inputs and outputs names that people know, in place of torch's symbols."""
    axes = model.graph.input[0].type.tensor_type.shape.dim
    names = {axis.dim_param: name for axis, name in zip(axes, SIZES, strict=False) if axis.dim_param}
    if not names:
        return
    symbols = re.compile(rf"\b({'|'.join(map(re.escape, names))})\b")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = symbols.sub(lambda match: names[match[0]], axis.dim_param)


def _remove_source_paths(model: onnx.ModelProto) -> None:
    # The exporter writes stack traces with paths of files on this machine at every node and value.
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del item.metadata_props[:]
    for function in model.functions:
        for item in (function, *function.node, *function.value_info):
            del item.metadata_props[:]
