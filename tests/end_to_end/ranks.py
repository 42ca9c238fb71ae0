"""What the tests of runs by several ranks share, and the script that each rank of them executes; see test_ranks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

import automl_nas
from automl_nas.errors import AutoMLNASError, DataError
from automl_nas.evaluation import Batch, MeasuredCost, Measurement
from automl_nas.evaluation.ranks import join_ranks
from automl_nas.run import smoke_run
from automl_nas.run.configuration.stages import TrainingLimit
from automl_nas.run.estimate import beginning
from automl_nas.space import Architecture, Dag, ModuleSpace, OneOf
from automl_nas.testing import ToyTask


def network() -> nn.Module:
    """Return a network without batch normalisation and dropout: what ranks compute adds up exactly."""

    def layer() -> nn.Module:
        return OneOf([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)])

    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        layer(),
        nn.ReLU(),
        layer(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def space() -> ModuleSpace:
    """Return the space of `network`."""
    return ModuleSpace(network, input_shape=(1, 4, 4))


class OtherData(ToyTask):
    """A task whose samples differ from rank to rank, and that knows it."""

    def fingerprint(self) -> str:
        """Return the rank."""
        return os.environ["RANK"]


def network_of_edges() -> nn.Module:
    """Return a network with choices among inputs, without batch normalisation."""
    nodes = {"a": nn.Conv2d(4, 4, 3, padding=1), "b": nn.Conv2d(4, 4, 1), "c": nn.Conv2d(4, 4, 3, padding=1)}
    edges = {"a": ["input"], "b": ["input", "a"], "c": ["input", "a", "b"], "output": ["input", "a", "b", "c"]}
    dag = Dag(nodes, edges, shortcut=nn.Identity(), name="graph")
    return nn.Sequential(nn.Conv2d(1, 4, 1), dag, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


def space_of_edges() -> ModuleSpace:
    """Return the space of `network_of_edges`."""
    return ModuleSpace(network_of_edges, input_shape=(1, 4, 4))


TRAIN = {"epochs": 3, "learning_rate": 0.05}

CONFIG: dict[str, Any] = {
    "seed": 3,
    "space": space,
    "task": {"name": ToyTask, "batch_size": 8},
    "runtime": {"threads": 1, "device": "cpu"},
    "stages": [
        {
            "name": "supernet",
            "strategy": {"name": "single_path", "train": {**TRAIN, "weight_decay": 0.01}, "iterations_per_step": 2},
        },
        {
            "name": "search",
            "strategy": "random",
            "evaluator": "supernet_weights",
            "budget": {"trials": 4},
            "ahead": 3,
        },
    ],
    "final": {"train": {"epochs": 1}, "export": ["safetensors"]},
}
"""A supernet, a search with its weights, and a final training."""

REGISTERED: dict[str, Any] = {
    "seed": 3,
    "space": {
        "name": "shufflenet_v2",
        "stem_channels": 8,
        "stem_stride": 1,
        "widths": [16],
        "repeats": [2],
        "strides": [2],
        "last_channels": 16,
    },
    "task": {"name": "digits", "batch_size": 128},
    "runtime": CONFIG["runtime"],
    "stages": [
        {"name": "supernet", "strategy": {"name": "single_path", "train": {"epochs": 2}, "iterations_per_step": 3}},
        {
            "name": "search",
            "strategy": "random",
            "evaluator": {"name": "supernet_weights", "recalibration_images": 128},
            "budget": {"trials": 3},
            "ahead": 3,
        },
    ],
    "final": {"train": {"epochs": 1}, "export": ["safetensors"], "rehearse": False},
    "checkpoint_seconds": 0,
    "check_networks": 0,
}
"""A run that the command line can do."""


def one_stage(strategy: Mapping[str, Any], space: object = space, **settings: Any) -> dict[str, Any]:
    """Return a run with a single stage."""
    stage = {"name": "stage", "strategy": strategy, **settings}
    return {**CONFIG, "space": space, "stages": [stage], "final": None}


RUNS: dict[str, dict[str, Any]] = {
    "darts": one_stage({"name": "darts", "train": {**TRAIN, "epochs": 2}, "order": "second"}),
    "dso": one_stage(
        {
            "name": "dso",
            "train": {**TRAIN, "epochs": 8},
            "pretrain_epochs": 1,
            "sparsity": {"edges": 0.6},
            "prune_epochs": 1,
        },
        space_of_edges,
    ),
    "fair": one_stage({"name": "single_path", "train": TRAIN, "paths": "fair", "ema": 0.9}),
    "together": one_stage(
        {"name": "random"}, evaluator={"name": "train", "train": TRAIN, "together": True}, budget={"trials": 2}
    ),
    "apart": one_stage({"name": "random"}, evaluator={"name": "train", "train": TRAIN}, budget={"trials": 3}, ahead=3),
}
"""Runs whose results with two ranks are compared with those of one process."""


class FailsInRank1(ToyTask):
    """A task whose batches cannot be read by rank 1 after the first epoch."""

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches."""
        if epoch and os.environ["RANK"] == "1":
            raise DataError("a disk of rank 1 is gone")
        return super().batches(split, epoch, seed, start)


class OfProcess(MeasuredCost):
    """A cost that is fitted to what one process measures, here its number, and has the same value ever after."""

    metric = "process"
    unit = "processes"
    exported_suffix = ".onnx"

    def __init__(self) -> None:
        self._measured: int | None = None

    def estimate(self, architecture: Architecture) -> float:
        """Return the number of the process that measured."""
        self._measured = self._measured or os.getpid()
        return float(self._measured)

    def breakdown(self, architecture: Architecture) -> dict[str, float]:
        """Return the cost."""
        return {"": self.estimate(architecture)}

    def measure(self, networks: Sequence[nn.Module], input_shape: Sequence[int]) -> list[Measurement]:
        """Nothing limits the cost."""
        raise NotImplementedError

    def measure_files(self, paths: Sequence[Path]) -> list[Measurement]:
        """Nothing limits the cost."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """Return the number."""
        return {"measured": self._measured}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the number."""
        self._measured = state["measured"]


class MeasuredEachTime(OfProcess):
    """The same, but measured for each candidate."""

    noisy = True


class KeptByEachRank(OfProcess):
    """The same, but a process does not hand on what it measured."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load nothing."""


def with_cost(cost: type[MeasuredCost]) -> dict[str, Any]:
    """Return a run that evaluates a cost only."""
    problem = {"objectives": {"process": "minimize"}, "costs": {"process": cost}}
    return {**one_stage({"name": "random"}, budget={"trials": 2}), "problem": problem}


def refusal(configuration: Mapping[str, Any], out: Path) -> str:
    """Return the error of a run."""
    try:
        automl_nas.search(configuration, out=out, progress="none")
    except AutoMLNASError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def main(folder: Path) -> None:
    """Do runs with all ranks, and write what this rank saw."""
    rank = join_ranks().rank
    seen: dict[str, Any] = {
        "configuration": refusal({**CONFIG, "seed": rank}, folder / "refused"),
        "data": refusal({**CONFIG, "task": OtherData}, folder / "refused"),
        "batch": refusal({**CONFIG, "task": {**CONFIG["task"], "batch_size": 9}}, folder / "refused"),
        "executor": refusal({**CONFIG, "executor": "processes"}, folder / "refused"),
        "noisy": refusal(with_cost(MeasuredEachTime), folder / "refused"),
        "unlike": refusal(with_cost(KeptByEachRank), folder / "refused"),
        "written": (folder / "refused" / "config.yaml").exists(),
    }
    seen["result"] = automl_nas.search(CONFIG, out=folder / "run", progress="none").data
    for name, configuration in {**RUNS, "registered": REGISTERED}.items():
        seen[name] = automl_nas.search(configuration, out=folder / name, progress="none").data
    seen["fitted"] = automl_nas.search(with_cost(OfProcess), out=folder / "fitted", progress="none").data
    seen["process"] = os.getpid()
    seen["smoke"] = list(smoke_run(CONFIG).stages)
    # Stages are measured for seconds otherwise.
    beginning.MEASURING = replace(beginning.MEASURING, seconds=1e-9, training=TrainingLimit(2))
    budget = {**REGISTERED, "budget": {"minutes": 60}}
    seen["budget"] = automl_nas.search(budget, out=folder / "budget", progress="none").data
    seen["retrained"] = automl_nas.retrain(folder / "registered", out=folder / "retrained", progress="none").data
    stages = {"search": {"budget": {"trials": 5}}}
    registered, extended = folder / "registered", folder / "extended"
    seen["extended"] = automl_nas.extend(registered, out=extended, stages=stages, progress="none").data
    seen["failed"] = refusal({**CONFIG, "task": FailsInRank1}, folder / "failed")
    (folder / f"rank{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
