"""Regression: predict the progress of diabetes from ten measurements (scikit-learn's 442 patients)."""

from sklearn.datasets import load_diabetes
from torch import nn

import automl_nas

x, y = load_diabetes(return_X_y=True, scaled=True)
task = automl_nas.TensorTask(x * 20, y[:, None], loss="mse", standardize_targets=True, batch_size=32)


def network() -> nn.Module:
    activation = automl_nas.OneOf([nn.ReLU(), nn.Tanh(), nn.GELU()], name="activation")
    hidden = automl_nas.OneOf([nn.Identity(), nn.Sequential(nn.Linear(32, 32), nn.ReLU())], name="hidden")
    return nn.Sequential(nn.Linear(10, 32), activation, hidden, nn.Linear(32, 1))


space = automl_nas.ModuleSpace(network, input_shape=(10,))
if __name__ == "__main__":
    print(automl_nas.search("examples/tasks/search.yaml", task=task, space=space, out="runs/regression"))
