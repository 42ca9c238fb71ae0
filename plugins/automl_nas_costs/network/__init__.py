"""What one network costs: a model of torchvision, an importable module, an ONNX file."""
