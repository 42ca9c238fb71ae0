"""Latency, measured in ONNX Runtime."""
