"""Exporting quantised networks as ONNX."""
