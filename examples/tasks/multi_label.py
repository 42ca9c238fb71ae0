"""Multi-label classification: which properties the digit in an image has (scikit-learn's digits)."""

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

import automl_nas

digits = load_digits()
properties = {"even": [0, 2, 4, 6, 8], "prime": [2, 3, 5, 7], "loop": [0, 6, 8, 9]}
y = np.stack([np.isin(digits.target, members) for members in properties.values()], axis=1)
task = automl_nas.TensorTask(digits.images[:, None] / 16, y, loss="binary_cross_entropy", class_names=[*properties])


def network() -> nn.Module:
    kernels = automl_nas.OneOf([nn.Conv2d(16, 16, size, padding="same") for size in (1, 3, 5)], name="kernel")
    body = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), kernels, nn.ReLU())
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 3))


space = automl_nas.ModuleSpace(network, input_shape=(1, 8, 8))
if __name__ == "__main__":
    print(automl_nas.search("examples/tasks/search.yaml", task=task, space=space, out="runs/multi_label"))
