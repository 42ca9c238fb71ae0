from torch import nn

import automl_nas
from automl_nas import ModuleSpace, OneOf


def conv(kernel):
    return nn.Sequential(nn.Conv2d(16, 16, kernel, padding=kernel // 2), nn.BatchNorm2d(16), nn.ReLU())


def layer():
    return OneOf({"conv3": conv(3), "conv5": conv(5), "skip": nn.Identity()})


def network():  # an ordinary module that contains choices: 3 * 3 * 3 * 3 = 81 networks
    body = [nn.Conv2d(1, 16, 3, padding=1), layer(), layer(), nn.MaxPool2d(2), layer(), layer()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


supernet = {"name": "single_path", "train": {"epochs": 30}}
evolution = {"name": "evolution", "population": 8, "generations": 4}
result = automl_nas.search(
    space=ModuleSpace(network, input_shape=(1, 8, 8)),
    task="digits",
    problem={"constraints": {"flops": "<= 0.6M"}},
    runtime={"threads": 1},
    stages=[
        {"name": "supernet", "strategy": supernet},
        {"name": "search", "strategy": evolution, "evaluator": "supernet_weights"},
    ],
)
print(dict(result.architecture), result.metrics["accuracy"])
model = result.load_trained()  # a plain nn.Module with its trained weights
