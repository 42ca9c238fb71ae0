"""Sequences of integer tokens: which of three patterns a sequence of 16 tokens contains."""

from pathlib import Path

import numpy as np
from torch import nn

import automl_nas

rng = np.random.default_rng(0)
x, y = rng.integers(0, 20, (1500, 16)), rng.integers(0, 3, 1500)
patterns = np.array([[3, 1, 4], [1, 5, 9], [2, 6, 5]])
for row, start in enumerate(rng.integers(0, 13, len(x))):
    x[row, start : start + 3] = patterns[y[row]]
task = automl_nas.TensorTask(x, y, metrics=["accuracy", "macro_f1"])


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.mix = automl_nas.OneOf([nn.Conv1d(16, 32, size, padding="same") for size in (1, 3, 5)], name="kernel")
        self.classify = nn.Linear(32, 3)

    def forward(self, tokens):
        return self.classify(self.mix(self.embed(tokens).movedim(2, 1)).relu().amax(2))


space = automl_nas.ModuleSpace(Network, input_shape=(16,))


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
    result = main(Path("runs/tokens"))
    print(result.architecture, dict(result.metrics))
