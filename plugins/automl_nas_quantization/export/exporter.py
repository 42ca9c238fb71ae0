"""The exporter `onnx_quantized`."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation import Conversion, ConversionValue, Delivery, Exporter
from automl_nas.streams import stream_seed
from automl_nas_quantization.export.graph import Quantizers, layers_of, traced

FILE = "model.quantized.onnx"
OLDEST_OPSET = 18
"""What torch's exporter writes by itself."""

_SIZES = (1, 3)


@final
class QuantizedOnnxExporter(Exporter):
    """Write ``model.quantized.onnx``, the network with its quantisers as operators of ONNX, for any batch size.

    Weights are stored as integers before ``DequantizeLinear``, in the smallest type of the opset that holds them; where
    no type does, as float32 values on their grid. Inputs of layers pass ``QuantizeLinear`` and ``DequantizeLinear``,
    after a ``Clip`` where the type has more values than the grid.

    The file is run in ONNX Runtime: the output of each quantiser must be equal to that of the network's quantiser for
    the same input, to the last bit. Outputs of the whole network differ by rounding, which quantisers amplify where it
    moves a value across a half; so the predicted classes of both are compared on the test split.

    Args:
        opset: version of the ONNX operators: 21 (2024) has int4 and uint4, 25 also int2 and uint2; older ones store 8
            bits.
        agreement: smallest share of inputs of the test split for which ONNX Runtime must predict the class that the
            network predicts. Not tested for networks with other outputs than one number for each class.

    Raises:
        ConfigurationError: an opset that cannot be written, or an agreement that is not a share.
    """

    def __init__(self, *, opset: int = 21, agreement: float = 0.995) -> None:
        newest = onnx.defs.onnx_opset_version()
        if not OLDEST_OPSET <= opset <= newest:
            raise ConfigurationError(
                f"opset {opset} cannot be written; the installed onnx can write {OLDEST_OPSET} to {newest}",
                path="opset",
            )
        if not 0 <= agreement <= 1:
            raise ConfigurationError(f"must be a share from 0 to 1, not {agreement}", path="agreement")
        self._opset, self._agreement = opset, agreement

    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        """Write the file, after it was compared with the network; see `QuantizedOnnxExporter`.

        Raises:
            RunFailedError: the network is not float32, torch cannot convert it, the installed ONNX Runtime cannot run
                the file, a quantiser differs, or classes agree too rarely.
        """
        network = delivery.network
        types = {tensor.dtype for tensor in network.parameters()} - {torch.float32}
        if types:
            raise RunFailedError(f"onnx_quantized needs a float32 network; this one has {', '.join(map(str, types))}")
        model = traced(network, _inputs(delivery, 2), self._opset)
        quantizers = Quantizers(model, network, self._opset)
        onnx.helper.set_model_props(
            model,
            {
                "architecture": json.dumps(delivery.architecture.to_dict()),
                "description": json.dumps(dict(delivery.description)),
            },
        )
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise RunFailedError(f"onnx.checker refuses {FILE}: {error}") from error
        _check_quantizers(model, network, quantizers, delivery)
        content = model.SerializeToString()
        session = _session(content, optimize=True)
        for size in _SIZES:
            x = _inputs(delivery, size)
            with torch.no_grad():
                expected = network(x)
            output = session.run(None, {"input": x.numpy()})[0]
            if output.shape != tuple(expected.shape):
                raise RunFailedError(f"{FILE}: outputs of shape {output.shape} instead of {tuple(expected.shape)}")
        values, method = self._compare(delivery, session)
        before = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
        path = folder / FILE
        _write(path, content)
        if quantizers.types:
            stored = ", ".join(f"{count} {name}" for name, count in sorted(Counter(quantizers.types.values()).items()))
            size_value = ConversionValue("size", "bytes", float(before), float(len(content)))
            delivery.conversions.append(
                Conversion(FILE, "the network", f"weights of layers stored as {stored}{method}", (size_value, *values))
            )
        else:
            delivery.notes.append(f"{FILE}: no layer of the network is quantised")
        return [path]

    def adds_nothing(self, network: nn.Module) -> str | None:
        """See `Exporter.adds_nothing`: without quantised layers the file would be that of the format ``onnx``."""
        return None if layers_of(network) else "no layer of the network is quantised"

    def _compare(self, delivery: Delivery, session: onnxruntime.InferenceSession) -> tuple[list[ConversionValue], str]:
        """Return the metrics of the network and of the file on the test split, and their agreement in words.

        Raises:
            RunFailedError: they agree too rarely.
        """
        if delivery.judge is None or delivery.rehearsal:
            return [], ""
        counts: Counter[bool] = Counter()

        def predict(inputs: Tensor) -> Tensor:
            x = inputs.detach().cpu()
            outputs = torch.from_numpy(session.run(None, {"input": x.numpy()})[0])
            with torch.no_grad():
                reference = delivery.network(x)
            if outputs.dim() == 2 and outputs.shape[1] > 1:
                same = outputs.argmax(1) == reference.argmax(1)
                counts.update(same.tolist())
            return outputs

        def original(inputs: Tensor) -> Tensor:
            with torch.no_grad():
                outputs: Tensor = delivery.network(inputs.detach().cpu())
            return outputs

        after, before = delivery.judge(predict), delivery.judge(original)
        total = counts.total()
        if total and counts[True] < self._agreement * total:
            raise RunFailedError(
                f"{FILE}: ONNX Runtime predicts the class of the network for {counts[True]:,} of {total:,} test inputs "
                f"({counts[True] / total:.2%}), fewer than agreement: {self._agreement} asks for"
            )
        values = [
            ConversionValue(name, "", value, after.metrics[name], before.intervals.get(name), after.intervals.get(name))
            for name, value in before.metrics.items()
        ]
        method = f"; equal predicted classes for {counts[True]:,} of {total:,} test inputs" if total else ""
        return values, f"{method}, in ONNX Runtime {onnxruntime.__version__}"


def _write(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it."""
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as folder:
        file = Path(folder) / path.name
        with file.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        file.replace(path)


def _inputs(delivery: Delivery, batch: int) -> Tensor:
    """Return inputs for tracing and comparing: samples of the task, or normal numbers."""
    if delivery.samples is not None:
        return delivery.samples[torch.arange(batch) % len(delivery.samples)]
    generator = torch.Generator().manual_seed(stream_seed(0, "onnx_quantized", batch))
    return torch.randn(batch, *delivery.input_shape, generator=generator)


def _session(content: bytes, *, optimize: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # exceptions name errors; the log would repeat them on the terminal
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise RunFailedError(
            f"ONNX Runtime {onnxruntime.__version__} cannot run {FILE}: {reason}; set a lower opset"
        ) from error


def _check_quantizers(model: onnx.ModelProto, network: nn.Module, quantizers: Quantizers, delivery: Delivery) -> None:
    """Compare each quantiser in ONNX Runtime with that of the network, for the same input.

    Raises:
        RunFailedError: a value differs; names the layer.
    """
    if not quantizers.sites:
        return
    layers = layers_of(network)
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    present = {output.name for output in model.graph.output} | {value.name for value in model.graph.input}
    constants = {each.name for each in model.graph.initializer}
    names = {name for site in quantizers.sites for name in (site.result, *(() if site.weight else (site.source,)))}
    for name in sorted(names - present - constants):
        probed.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = _session(probed.SerializeToString(), optimize=False)
    x = _inputs(delivery, 8)
    outputs = session.run(None, {"input": x.numpy()})
    values: dict[str, Any] = dict(zip([output.name for output in session.get_outputs()], outputs, strict=True))
    values["input"] = x.numpy()
    values |= {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer if each.name in names}
    for site in quantizers.sites:
        layer: Any = layers[site.path]
        with torch.no_grad():
            if site.weight:
                expected = layer.quantized_weight(layer.layer.weight)
            else:
                expected = layer.quantized_input(torch.from_numpy(values[site.source]))
        output = torch.from_numpy(values[site.result].copy())
        if not torch.equal(output, expected):
            what = "weights" if site.weight else "inputs"
            most = (output - expected).abs().max().item()
            raise RunFailedError(
                f"{FILE}: quantised {what} of the layer '{site.path}' differ from those of the network by {most:.4g}"
            )
