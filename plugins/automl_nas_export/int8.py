"""Static quantisation of an ONNX model to int8 by onnxruntime.quantization, and what it changes."""

from __future__ import annotations

import errno
import math
import os
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.evaluation import Conversion, ConversionValue, Delivery
from automl_nas_export.verify import CHECK_BATCHES, brief, probe

INT8 = "model.int8.onnx"
SAMPLES = 256
"""The default number of training inputs from which the ranges of activations are measured."""

_BATCH = 32
_SECONDS, _ROUNDS = 2.0, (20, 500)
"""How long latencies are measured, and the smallest and largest number of rounds."""


@dataclass(frozen=True)
class Deployed:
    """How the inputs and outputs of a file differ from those of the network.

    Attributes:
        inputs: inputs of the network -> inputs of the file.
        outputs: outputs of the file -> outputs of the network.
    """

    inputs: Callable[[Tensor], Tensor] = lambda inputs: inputs
    outputs: Callable[[Tensor], Tensor] = lambda outputs: outputs


def check_settings(int8: bool, samples: int) -> None:
    """Raise an error if the settings do not fit each other.

    Raises:
        ConfigurationError: the number of samples is below 1, or is set although nothing is quantised.
    """
    if samples < 1:
        raise ConfigurationError(f"int8_samples must be at least 1, not {samples}", path="int8_samples")
    if samples != SAMPLES and not int8:
        raise ConfigurationError("int8_samples needs int8: true", path="int8_samples")


def write_int8(delivery: Delivery, folder: Path, samples: int, deployed: Deployed | None = None) -> Path:
    """Write ``model.int8.onnx`` beside ``model.onnx``, check that it runs, and record what changed.

    Weights are int8 for each output channel, with 7 bits of their range: processors without instructions for int8 add
    two products in 16 bits, which overflow with 8 (see "Quantize ONNX models" of ONNX Runtime). Activations are uint8;
    their ranges are the smallest and largest values for training inputs.

    Args:
        delivery: of the network. Its ``conversions`` receive sizes, and outside of a rehearsal latencies and the
            metrics on the test split; its ``notes`` receive a warning if the main metric leaves its interval.
        folder: with ``model.onnx``.
        samples: the number of training inputs.
        deployed: how inputs and outputs of ``model.onnx`` differ from the network's; None: they do not.

    Raises:
        RunFailedError: there are no training inputs, the network is not float32, or no operator can be quantised.
    """
    deployed = deployed or Deployed()
    source, target = folder / "model.onnx", folder / INT8
    if delivery.calibration is None:
        raise RunFailedError(
            "int8: true needs inputs of the training data, to measure the ranges of activations, and the task is not "
            "available; leave it out"
        )
    types = {tensor.dtype for tensor in delivery.network.state_dict().values() if tensor.is_floating_point()}
    if types - {torch.float32}:
        raise RunFailedError(f"int8: true needs a float32 network; this one has {', '.join(sorted(map(str, types)))}")
    if any(initializer.external_data for initializer in onnx.load(source, load_external_data=False).graph.initializer):
        raise RunFailedError("int8: true needs the weights inside model.onnx; raise inline_limit, or leave it out")
    inputs = deployed.inputs(_like_network(delivery, delivery.calibration(samples)))
    _quantize(source, target, inputs)
    _check(delivery, source, target, deployed)
    delivery.conversions.append(_compare(delivery, source, target, len(inputs), deployed))
    return target


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Yields inputs in batches."""

    def __init__(self, inputs: Tensor) -> None:
        self._batches = iter(torch.split(inputs, _BATCH))

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"input": batch.numpy()}


def _quantize(source: Path, target: Path, inputs: Tensor) -> None:
    prepared = target.with_suffix(".prepared")
    try:
        # Folds batch normalisation into convolutions: otherwise it would stay in float32.
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
        quantize_static(
            prepared,
            target,
            _Reader(inputs),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_in_float(model),
        )
    except OSError:
        raise
    except Exception as error:
        if shutil.disk_usage(target.parent).free < source.stat().st_size:
            # ONNX Runtime writes a part of a file then, and fails to read it.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error
        raise RunFailedError(f"onnxruntime.quantization cannot quantise the network: {brief(error)}") from error
    finally:
        prepared.unlink(missing_ok=True)
    written = onnx.load(target)
    if not any(node.op_type == "DequantizeLinear" for node in written.graph.node):
        target.unlink()
        raise RunFailedError("int8: true: no operator of the network can be computed with int8; leave it out")
    # The metadata of the original, in place of marks of the tools.
    del written.metadata_props[:]
    original = onnx.load(source, load_external_data=False)
    onnx.helper.set_model_props(written, {item.key: item.value for item in original.metadata_props})
    onnx.save(written, target)


def _in_float(model: onnx.ModelProto) -> list[str]:
    """Return the nodes that stay in float32: arithmetic directly on inputs (normalisation), and final probabilities."""
    nodes: list[str] = []
    name = model.graph.input[0].name
    while True:
        consumers = [node for node in model.graph.node if name in node.input]
        if len(consumers) != 1 or consumers[0].op_type not in ("Mul", "Add", "Sub", "Div"):
            break
        nodes.append(consumers[0].name)
        name = consumers[0].output[0]
    outputs = {output.name for output in model.graph.output}
    ends = [node for node in model.graph.node if outputs & set(node.output)]
    return nodes + [node.name for node in ends if node.op_type in ("Softmax", "Sigmoid")]


def session_of(file: Path) -> onnxruntime.InferenceSession:
    """Return a model in ONNX Runtime on the CPU, with as many threads as torch uses."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # exceptions name errors; the log would repeat them on the terminal
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _like_network(delivery: Delivery, inputs: Tensor) -> Tensor:
    """Return inputs of the type that the network computes with."""
    example = probe(delivery.network, delivery.input_shape, 1, delivery.samples)
    return inputs.to(example.dtype)


def _check(delivery: Delivery, source: Path, target: Path, deployed: Deployed) -> None:
    """Raise an error if the quantised model is invalid or does not run at several batch sizes."""
    onnx.checker.check_model(target, full_check=True)
    one, other = session_of(source), session_of(target)
    for batch in CHECK_BATCHES:
        x = deployed.inputs(probe(delivery.network, delivery.input_shape, batch, delivery.samples)).numpy()
        try:
            outputs = [torch.from_numpy(output) for output in other.run(None, {"input": x})]
        except Exception as error:
            raise RunFailedError(f"{target.name} cannot be run at batch size {batch}: {brief(error)}") from error
        for reference, output in zip(one.run(None, {"input": x}), outputs, strict=True):
            if tuple(output.shape) != reference.shape or not bool(torch.isfinite(output).all()):
                raise RunFailedError(f"{target.name}: an output has another shape, or is not finite")


def _compare(delivery: Delivery, source: Path, target: Path, count: int, deployed: Deployed) -> Conversion:
    sizes = [file.stat().st_size for file in (source, target)]
    values = [ConversionValue("size", "bytes", float(sizes[0]), float(sizes[1]))]
    method = f"static int8 quantisation by onnxruntime.quantization, calibrated on {count} training inputs"
    if not delivery.rehearsal:
        sessions = [session_of(file) for file in (source, target)]
        x = deployed.inputs(probe(delivery.network, delivery.input_shape, 1, delivery.samples)).numpy()
        times, rounds = _latencies(sessions, x)
        values.append(ConversionValue("latency", "ms", times[0], times[1]))
        method += (
            f"; latency: median of {rounds} interleaved runs of one input in ONNX Runtime {onnxruntime.__version__}, "
            f"threads: {torch.get_num_threads()}"
        )
        values += _metrics(delivery, sessions, target.name, deployed)
    return Conversion(target.name, source.name, method, tuple(values))


def _latencies(sessions: Sequence[onnxruntime.InferenceSession], x: Any) -> tuple[list[float], int]:
    """Return the median latency of each model in ms, and the number of rounds; every second round is reversed."""
    times: list[list[float]] = [[] for _ in sessions]
    least, most = _ROUNDS
    end = time.perf_counter() + _SECONDS
    rounds = 0
    while rounds < least or (rounds < most and time.perf_counter() < end):
        for position in range(len(sessions)) if rounds % 2 else reversed(range(len(sessions))):
            begun = time.perf_counter()
            sessions[position].run(None, {"input": x})
            times[position].append((time.perf_counter() - begun) * 1000)
        rounds += 1
    return [statistics.median(each) for each in times], rounds


def _metrics(
    delivery: Delivery, sessions: Sequence[onnxruntime.InferenceSession], name: str, deployed: Deployed
) -> list[ConversionValue]:
    """Return the metrics of both models on the test split; note it if the first one leaves its interval."""
    if delivery.judge is None:
        return []

    def predictor(session: onnxruntime.InferenceSession) -> Callable[[Tensor], Tensor]:
        def predict(inputs: Tensor) -> Tensor:
            x = deployed.inputs(_like_network(delivery, inputs.detach().cpu()))
            return deployed.outputs(torch.from_numpy(session.run(None, {"input": x.numpy()})[0]))

        return predict

    before, after = (delivery.judge(predictor(session)) for session in sessions)
    values = [
        ConversionValue(
            metric, "", value, after.metrics[metric], before.intervals.get(metric), after.intervals.get(metric)
        )
        for metric, value in before.metrics.items()
        if math.isfinite(value) and math.isfinite(after.metrics[metric])  # a metric may not be defined for the samples
    ]
    main = values[0] if values else None
    if main is not None and main.before_interval is not None:
        low, high = main.before_interval
        if not low <= main.after <= high:
            delivery.notes.append(
                f"{name}: {main.name} on the test split is {main.after:.4g} with int8 and {main.before:.4g} (95 % "
                f"interval {low:.4g} to {high:.4g}) without"
            )
    return values
