"""Spaces written as PyTorch modules that contain choices."""
