"""The plugin `quantization`: the bits of weights and activations of every block are searched with its architecture."""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_spaces(register: Register) -> None:
    """Register the spaces whose networks are quantised."""
    register(
        "mixed_precision",
        "automl_nas_quantization.space:mixed_precision",
        summary="another space of networks, with weight and activation bits for every block (SPOS, section 3.4)",
    )
    register(
        "mixed_precision_resnet",
        "automl_nas_quantization.resnet:mixed_precision_resnet",
        summary="ResNet-18, ResNet-34 and smaller ones: bits of weights and activations, perhaps a width, per block",
    )


@hookimpl
def register_exporters(register: Register) -> None:
    """Register the exporter of quantised networks."""
    register(
        "onnx_quantized",
        "automl_nas_quantization.export.exporter:QuantizedOnnxExporter",
        summary="ONNX of a network with searched bits: weights of 2, 4 or 8 bits, QuantizeLinear before each layer",
    )


@hookimpl
def register_cost_models(register: Register) -> None:
    """Register the cost model of quantised networks."""
    register(
        "bit_ops",
        "automl_nas_quantization.bit_ops:BitOps",
        summary="Bit operations: multiply-adds times bits of weights times bits of activations, batch 1.",
    )
