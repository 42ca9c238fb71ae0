"""Tasks of images: folders of image files, npz files, scikit-learn's digits."""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_tasks(register: Register) -> None:
    """Register ``digits``, ``npz``, ``image_folder`` and ``torchvision``."""
    register("digits", "automl_nas_vision.digits:Digits", summary="scikit-learn's 1,797 handwritten digits, 8 x 8")
    register("npz", "automl_nas_vision.npz:Npz", summary="images and labels from a NumPy .npz file")
    register(
        "torchvision",
        "automl_nas_vision.torchvision_task:TorchvisionTask",
        summary="data sets of torchvision by name: CIFAR10, FashionMNIST, SVHN, Flowers102, ...",
    )
    register(
        "image_folder",
        "automl_nas_vision.image_folder:ImageFolder",
        summary="image files in class folders or listed in a CSV file",
    )
