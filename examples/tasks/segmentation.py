"""Segmentation: the class of every pixel, background or one of ten digits, in noisy images of digits."""

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

import automl_nas

digits = load_digits()
masks = np.where(digits.images > 6, digits.target[:, None, None] + 1, 0)
images = digits.images / 16 + np.random.default_rng(0).normal(scale=0.2, size=digits.images.shape)
task = automl_nas.TensorTask(images[:, None], masks, metrics=["mean_iou", "accuracy"])


def network() -> nn.Module:
    sizes = [[nn.Conv2d(16, 16, size, padding="same") for size in (3, 5, 7)] for _ in range(2)]
    first, second = (automl_nas.OneOf(options, name=f"kernel{k}") for k, options in enumerate(sizes))
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), first, nn.ReLU(), second, nn.Conv2d(16, 11, 1))


space = automl_nas.ModuleSpace(network, input_shape=(1, 8, 8))
if __name__ == "__main__":
    print(automl_nas.search("examples/tasks/search.yaml", task=task, space=space, out="runs/segmentation"))
