"""The plugin `export`: the delivered network as safetensors, as a torch.export program, as ONNX, and as a package.

All of them leave the network as it is, write no pickle of it, and check what they wrote by reading it back.
"""

from __future__ import annotations

from collections.abc import Callable

from automl_nas.plugin import hookimpl


@hookimpl
def register_exporters(register: Callable[..., None]) -> None:
    """Register the exporters."""
    register(
        "safetensors",
        "automl_nas_export.safetensors_format:SafetensorsExporter",
        summary="weights as model.safetensors, the architecture and its metrics as architecture.json",
    )
    register(
        "pt2",
        "automl_nas_export.pt2:Pt2Exporter",
        summary="a torch.export program of any batch size that runs with nothing but torch installed",
    )
    register(
        "onnx",
        "automl_nas_export.onnx_format:OnnxExporter",
        summary="ONNX of any batch size, compared with PyTorch in ONNX Runtime",
    )
    register(
        "package",
        "automl_nas_export.package.exporter:PackageExporter",
        summary="a folder to hand over: all formats, source, preprocessing, model card and infer.py",
    )
