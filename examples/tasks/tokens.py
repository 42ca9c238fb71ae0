"""Sequences of integer tokens: which of three patterns a sequence of 16 tokens contains."""

import numpy as np
from torch import nn

import automl_nas

rng = np.random.default_rng(0)
x, y = rng.integers(0, 20, (1500, 16)), rng.integers(0, 3, 1500)
places = rng.integers(0, 13, (1500, 1)) + np.arange(3)
x[np.arange(1500)[:, None], places] = np.array([[3, 1, 4], [1, 5, 9], [2, 6, 5]])[y]
task = automl_nas.TensorTask(x, y, metrics=["accuracy", "macro_f1"])


def network() -> nn.Module:
    # Convolutions over tokens, each with all 16 numbers of its embedding, and their maximum (Kim, EMNLP 2014).
    kernel = automl_nas.OneOf([nn.Conv2d(1, 32, (k, 16), padding=(k // 2, 0)) for k in (1, 3, 5)], name="kernel")
    embedded = nn.Sequential(nn.Embedding(20, 16), nn.Unflatten(1, (1, 16)))
    return nn.Sequential(embedded, kernel, nn.ReLU(), nn.MaxPool2d((16, 1)), nn.Flatten(), nn.Linear(32, 3))


space = automl_nas.ModuleSpace(network, input_shape=(16,))
if __name__ == "__main__":
    print(automl_nas.search("examples/tasks/search.yaml", task=task, space=space, out="runs/tokens"))
