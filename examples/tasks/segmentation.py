"""Segmentation: the class of every pixel, background or one of ten digits, in noisy images of digits."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

import automl_nas

digits = load_digits()
masks = np.where(digits.images > 6, digits.target[:, None, None] + 1, 0)
noise = np.random.default_rng(0).normal(scale=0.2, size=digits.images.shape)
task = automl_nas.TensorTask((digits.images / 16 + noise)[:, None], masks, metrics=["mean_iou", "accuracy"])


def network() -> nn.Module:
    kernels = [
        automl_nas.OneOf([nn.Conv2d(16, 16, size, padding="same") for size in (3, 5, 7)], name=f"kernel{k}")
        for k in range(2)
    ]
    body = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), kernels[0], nn.ReLU(), kernels[1], nn.ReLU())
    return nn.Sequential(body, nn.Conv2d(16, 11, 1))


space = automl_nas.ModuleSpace(network, input_shape=(1, 8, 8))


def main(out: Path, epochs: int = 30) -> automl_nas.Result:
    """Train the supernet, search, retrain and export."""
    train = {"epochs": epochs, "learning_rate": 0.05}
    return automl_nas.search(
        task=task,
        space=space,
        stages=[
            {"name": "supernet", "strategy": {"name": "single_path", "train": train}},
            {"name": "search", "strategy": "random", "budget": {"trials": 5},
             "evaluator": {"name": "inherited", "weights": "supernet"}},
        ],
        final={"train": train, "export": ["onnx", "safetensors"]},
        out=out,
    )  # fmt: skip


if __name__ == "__main__":
    result = main(Path("runs/segmentation"))
    print(result.architecture, dict(result.metrics))
