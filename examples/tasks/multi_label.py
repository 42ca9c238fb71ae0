"""Multi-label classification: which properties the digit in an image has (scikit-learn's digits)."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

import automl_nas

digits = load_digits()
properties = [{0, 2, 4, 6, 8}, {2, 3, 5, 7}, {0, 6, 8, 9}]
y = np.stack([np.isin(digits.target, list(members)) for members in properties], axis=1)
task = automl_nas.TensorTask(
    digits.images[:, None] / 16, y, loss="binary_cross_entropy", class_names=["even", "prime", "loop"]
)


def network() -> nn.Module:
    kernels = automl_nas.OneOf([nn.Conv2d(16, 16, size, padding="same") for size in (1, 3, 5)], name="kernel")
    body = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), kernels, nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    return nn.Sequential(body, nn.Flatten(), nn.Linear(64, 3))


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
    result = main(Path("runs/multi_label"))
    print(result.architecture, dict(result.metrics))
