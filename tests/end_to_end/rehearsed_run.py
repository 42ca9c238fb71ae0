"""A script that starts runs that need processes, the last one without a main guard; see test_rehearsal."""

from __future__ import annotations

import multiprocessing
import sys

from torch import nn

import automl_nas
from automl_nas.errors import AutoMLNASError
from automl_nas.space import ModuleSpace, OneOf
from automl_nas.testing import ToyEvaluator, ToySpace, ToyTask

WIDTH = 4


def network() -> nn.Module:
    choice = OneOf([nn.Conv2d(1, WIDTH, 3, padding=1), nn.Conv2d(1, WIDTH, 5, padding=2)])
    return nn.Sequential(choice, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 3))


class OnlyHere(ToySpace):
    """A space that only the process of the run can construct."""

    def __init__(self) -> None:
        if multiprocessing.parent_process() is not None:
            raise RuntimeError("no space in a worker")
        super().__init__()


def run(space: object, stages: list[dict[str, object]], out: str) -> None:
    try:
        automl_nas.search(
            progress="none",
            space=space,
            task=ToyTask,
            stages=stages,
            final=None,
            executor="processes",
            out=out,
        )
        print("complete")
    except AutoMLNASError as error:
        print(f"{type(error).__name__}: {error}")


if "noguard" not in sys.argv:
    if __name__ == "__main__":
        search = {"name": "search", "strategy": "random", "evaluator": ToyEvaluator, "budget": {"trials": 2}}
        supernet = {"name": "supernet", "strategy": {"name": "single_path", "train": {"epochs": 1}}}
        run(ModuleSpace(network, input_shape=(1, 4, 4)), [supernet, search], f"{sys.argv[1]}/one")
        WIDTH = 6
        run(ModuleSpace(network, input_shape=(1, 4, 4)), [supernet, search], f"{sys.argv[1]}/two")
        run(OnlyHere, [search], f"{sys.argv[1]}/three")
else:
    automl_nas.search(
        space="nasbench_macro", task={"name": "digits", "workers": 2}, out=f"{sys.argv[1]}/three", progress="none"
    )
