"""Image classification tasks: scikit-learn's digits, and images in an npz file."""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_tasks(register: Register) -> None:
    """Register ``digits`` and ``npz``."""
    register("digits", "automl_nas_vision.digits:Digits", summary="scikit-learn's 1,797 handwritten digits, 8 x 8")
    register("npz", "automl_nas_vision.npz:Npz", summary="images and labels from a NumPy .npz file")
