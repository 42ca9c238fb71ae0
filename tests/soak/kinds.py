"""The configurations whose runs are killed: seconds long each, and together with every kind of stage."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from end_to_end.runs import small_space

TRAIN = {"epochs": 2}
SHUFFLENET = {"stem_channels": 8, "stem_stride": 1, "widths": [16, 32], "repeats": [1, 1], "strides": [2, 2]}
INHERITED = {"name": "inherited", "weights": "supernet", "recalibration_images": 128}
MEASURED = frozenset({"latency_ms", "latency_ms <= 1000", "predicted", "measured", "exported", "margin", "crc"})
"""Entries of JSON files that hold a measured latency, or the checksum of one."""

ALL_FORMATS = ["safetensors", "pt2", "onnx"]


@dataclass(frozen=True)
class Kind:
    """A kind of run.

    Attributes:
        make: folder for data files that all runs share -> the configuration.
        weight: its share of the kills, relative to the others.
        workers: number of processes ``automl-nas worker`` beside the run, which are killed too.
        masked: names of entries of JSON files that are not compared, because they are measured.
        kills: kills of one run before it is left to finish.
    """

    make: Callable[[Path], dict[str, Any]]
    weight: float = 1.0
    workers: int = 0
    masked: frozenset[str] = frozenset()
    kills: int = 8


def supernet(**settings: Any) -> dict[str, Any]:
    """Return the stage that trains a supernet."""
    return {
        "name": "supernet",
        "strategy": {"name": "single_path", "train": TRAIN, "iterations_per_step": 3, **settings},
    }


def stage(strategy: str | Mapping[str, Any], evaluator: Any = INHERITED, **settings: Any) -> dict[str, Any]:
    """Return a search stage with the name of its strategy."""
    name = strategy if isinstance(strategy, str) else strategy["name"]
    return {"name": name, "strategy": strategy, "evaluator": evaluator, **settings}


def config(**sections: Any) -> dict[str, Any]:
    """Return a configuration on the digits."""
    return copy.deepcopy(
        {
            "seed": 5,
            "space": {"name": "shufflenet_v2", **SHUFFLENET, "last_channels": 16},
            "task": {"name": "digits", "batch_size": 128},
            "problem": {"constraints": {"flops": "<= 0.8 * largest"}, "costs": ["flops", "params"]},
            "runtime": {"device": "cpu", "threads": 1},
            "checkpoint_seconds": 0.0,
            **sections,
        }
    )


def final(**settings: Any) -> dict[str, Any]:
    """Return a final stage."""
    return {"train": TRAIN, "iterations_per_step": 4, **settings}


def uniform(data: Path) -> dict[str, Any]:
    """Uniform paths, a survey, evolution in batches; the best of two networks, two baselines."""
    return config(
        space=small_space(),
        stages=[
            supernet(),
            stage({"name": "survey", "count": 6, "sample": "stratified", "strata": 3}),
            stage({"name": "evolution", "population": 6, "generations": 3, "top_k": 3}, batch=2, ahead=4),
        ],
        final=final(top_k=2, baselines=["largest", "random", "equal"], equal_within=0.5),
    )


def fair(data: Path) -> dict[str, Any]:
    """Fair paths, random and local search with the default time between checkpoints; fine-tuning."""
    sections = config(
        stages=[
            supernet(paths="fair"),
            stage("random", budget={"trials": 8}, batch=3),
            stage({"name": "local_search", "improvement": "first"}, budget={"trials": 8}),
        ],
        final=final(weights="inherited", seeds=2, data="train"),
    )
    del sections["checkpoint_seconds"]
    return sections


def feasible(data: Path) -> dict[str, Any]:
    """Feasible paths, a surrogate and a sampler of Optuna, two objectives."""
    return config(
        problem={
            "objectives": {"accuracy": "maximize", "params": "minimize"},
            "constraints": {"flops": "<= 0.7 * largest"},
        },
        stages=[
            supernet(paths="feasible", train={**TRAIN, "optimizer": "adamw", "learning_rate": 0.01}),
            stage("surrogate", budget={"trials": 8}),
            stage({"name": "optuna", "sampler": "nsgaii"}, budget={"trials": 8}, batch=2),
            stage({"name": "deduplicate", "strategy": {"name": "optuna", "sampler": "tpe"}}, budget={"trials": 6}),
        ],
        final=final(baselines=["random"]),
    )


def channels(data: Path) -> dict[str, Any]:
    """Blocks and widths, widened supernet training, one supernet of two searches."""
    # A limit relative to the largest network would count all 1,024 networks at each start.
    return config(
        space={"name": "shufflenet_v2_channels", **SHUFFLENET, "last_channels": 16},
        problem={"constraints": {"flops": "<= 26k"}},
        stages=[
            supernet(widen_epochs=1),
            stage({"name": "regularized_evolution", "population": 4, "sample_size": 2}, budget={"trials": 8}, ahead=2),
            stage("random", budget={"trials": 4}, problem={"constraints": {"flops": "<= 22k"}}),
        ],
        final=final(**{"from": "regularized_evolution"}, space={"variant": "final"}, export=["pt2"], rehearse=False),
        check_networks=4,
    )


def shared(data: Path) -> dict[str, Any]:
    """Twelve candidates that are evaluated together, then a race of them: most of the time is shared evaluation."""
    evaluator = {"name": "inherited", "weights": "supernet", "recalibration_images": 1024}
    race = {"name": "race", "strategy": {"name": "random"}, "part": 64, "candidates": 12, "keep": 4}
    return config(
        space=small_space(),
        stages=[
            supernet(train={"epochs": 1}),
            stage({"name": "evolution", "population": 12, "generations": 6, "top_k": 4}, evaluator, batch=12),
            stage(race, {**evaluator, "fidelity": "scored_images"}, budget={"trials": 36}, batch=12),
        ],
        final=final(**{"from": "evolution"}, train={"epochs": 1}),
    )


def scratch(data: Path) -> dict[str, Any]:
    """Candidates trained from scratch, with checkpoints of their own, and a table of the user's."""
    evaluator = {"name": "train", "train": {"epochs": 3}, "checkpoint_seconds": 0.0, "iterations_per_chunk": 5}
    return config(
        stages=[stage({"name": "evolution", "population": 4, "generations": 2, "top_k": 2}, evaluator, batch=4)],
        final=final(baselines=["largest"]),
    )


def processes(data: Path) -> dict[str, Any]:
    """Worker processes for inherited weights and for training from scratch."""
    evaluator = {"name": "train", "train": {"epochs": 1}}
    return config(
        executor={"name": "processes", "workers": 2, "rehearse": False},
        stages=[
            supernet(),
            stage("random", budget={"trials": 10}, batch=2, ahead=4),
            stage("local_search", evaluator, budget={"trials": 6}, ahead=2),
        ],
        final=final(train={"epochs": 1}),
    )


def dso(data: Path) -> dict[str, Any]:
    """DSO-NAS: both phases, pruning, the final network in a format with graphs."""
    strategy = {
        "name": "dso",
        "train": {"epochs": 5, "learning_rate": 0.1, "schedule": "constant"},
        "pretrain_epochs": 1,
        "prune_epochs": 1,
        "gamma": 0.07,
        "lambda_learning_rate": 0.5,
        "lambda_momentum": 0.5,
        "iterations_per_step": 3,
    }
    space = {"name": "dso", "blocks": [1, 1], "width": 4, "levels": 2, "operations": ["sep3", "max3"]}
    return config(
        space={**space, "sharing": "full"},
        task={"name": "digits", "batch_size": 128, "search_fraction": 0.5},
        problem={},
        stages=[{"name": "search", "strategy": strategy}],
        final=final(space={"variant": "final"}, baselines=["equal"], equal_within=0.5, export=["safetensors", "pt2"]),
    )


def gradient(data: Path) -> dict[str, Any]:
    """All differentiable strategies: both orders, draws, a cost in the loss, the eigenvalue, a limit."""
    base = {"train": TRAIN, "iterations_per_step": 2}
    strategies: list[dict[str, Any]] = [
        {"name": "darts", "order": "second", "collapse": {"eigenvalue_every": 1}, **base},
        {"name": "gdas", "cost": {"metric": "flops", "form": "hinge"}, "derive": {"top": 2}, **base},
        {"name": "proxyless", "pretrain_epochs": 1, "weight_steps": 2, **base},
        {"name": "fbnet", "pretrain_epochs": 0, "cost": {"metric": "flops"}, **base},
        {"name": "drnas", "optimisation": "joint", "kl": 1e-3, **base},
    ]
    return config(
        space={"name": "nasbench201", "channels": 2, "cells": 1, "affine": False},
        task={"name": "digits", "batch_size": 128, "search_fraction": 0.5},
        problem={"constraints": {"flops": "<= 0.5 * largest"}},
        stages=[{"name": strategy["name"], "strategy": strategy} for strategy in strategies],
        final=final(**{"from": "gdas"}, space={"affine": True}),
    )


def policy(data: Path) -> dict[str, Any]:
    """ENAS, and REINFORCE and PPO by ask and tell: in batches from its supernet, and from scratch."""
    enas = {"name": "enas", "controller_steps": 4, "samples": 3, "candidates": 2, "final_candidates": 3}
    inherited = {"name": "inherited", "weights": "enas", "recalibration_images": 128}
    trained = {"name": "train", "train": {"epochs": 1}}
    return config(
        space={"name": "nasbench201", "channels": 2, "cells": 1, "affine": False},
        task={"name": "digits", "batch_size": 128, "search_fraction": 0.5},
        problem={"constraints": {"flops": "<= 0.5 * largest"}},
        stages=[
            {"name": "enas", "strategy": {**enas, "train": TRAIN, "iterations_per_step": 2}},
            stage({"name": "reinforce", "samples": 3}, inherited, budget={"trials": 12}, batch=3),
            stage({"name": "ppo", "samples": 4, "passes": 2}, trained, budget={"trials": 12}, ahead=4),
        ],
        final=final(**{"from": "enas"}, space={"affine": True}),
    )


def table(data: Path) -> dict[str, Any]:
    """Thousands of trials from a table, without a final stage."""
    return config(
        space="nasbench201",
        task=None,
        problem={
            "objectives": {"accuracy": "maximize"},
            "costs": {"latency": {"name": "hw_nas_bench", "device": "raspi4"}},
            "constraints": {"latency": "<= 0.5 * largest"},
        },
        stages=[
            stage("random", "nasbench201", budget={"trials": 1500}, batch=10),
            stage("regularized_evolution", "nasbench201", budget={"trials": 1500}, batch=5, ahead=10),
            stage("local_search", "nasbench201", budget={"trials": 300}),
            stage({"name": "optuna", "sampler": "tpe"}, "nasbench201", budget={"trials": 60}),
            stage("surrogate", "nasbench201", budget={"trials": 30}),
        ],
        final=None,
        checkpoint_seconds=0.02,
    )


def exports(data: Path) -> dict[str, Any]:
    """All formats, rehearsed before the run."""
    return config(
        space=small_space(),
        stages=[stage("random", {"name": "train", "train": {"epochs": 1}}, budget={"trials": 3})],
        final=final(train={"epochs": 1}, export=ALL_FORMATS),
    )


def measured(data: Path) -> dict[str, Any]:
    """A limit on measured latency that all networks meet: what is measured differs, what follows from it does not."""
    quick = {"name": "latency_ms", "rounds": 5, "burst_ms": 1.0, "warmup_ms": 1.0, "round_ms": 2.0, "cache": None}
    return config(
        problem={
            "objectives": {"accuracy": "maximize"},
            "costs": {"latency_ms": quick, "flops": "flops"},
            "constraints": {"latency_ms": "<= 1000"},
        },
        stages=[stage("random", {"name": "train", "train": {"epochs": 1}}, budget={"trials": 3})],
        final=final(train={"epochs": 1}, measure=2, export=["safetensors", "onnx"], rehearse=False),
    )


def perceptrons(data: Path) -> dict[str, Any]:
    """A table of numbers, regression."""
    path = data / "points.csv"
    if not path.exists():
        rows = [(i % 7, i % 11, i % 13, (i % 7) * (i % 11) - 0.5 * (i % 13)) for i in range(400)]
        path.write_text("a,b,c,y\n" + "".join(f"{a},{b},{c},{y}\n" for a, b, c, y in rows))
    return config(
        space={"name": "mlp", "width": 8, "blocks": 2, "hidden_widths": [8, 16]},
        task={"name": "csv", "path": str(path), "target": "y", "kind": "regression"},
        problem={},
        stages=[
            stage("random", {"name": "train", "train": {"epochs": 2, "learning_rate": 0.01}}, budget={"trials": 10})
        ],
        final=final(train={"epochs": 3, "learning_rate": 0.01}, export=["safetensors", "pt2"]),
    )


def optuna_workers(data: Path, storage: str = "queue.journal") -> dict[str, Any]:
    """Two workers over a journal file, and the supernet trained by the run."""
    return config(
        executor={"name": "optuna", "storage": storage, "study": "soak", "grace": 3.0, "retries": 1000, "poll": 0.02},
        stages=[
            supernet(),
            stage("random", budget={"trials": 10}, batch=2, ahead=4),
            stage("local_search", {"name": "train", "train": {"epochs": 1}}, budget={"trials": 6}, ahead=3),
        ],
        final=final(train={"epochs": 1}),
    )


def sqlite_workers(data: Path) -> dict[str, Any]:
    """Two workers over SQLite."""
    return optuna_workers(data, "sqlite:///queue.db")


KINDS: dict[str, Kind] = {
    "uniform": Kind(uniform),
    "fair": Kind(fair),
    "feasible": Kind(feasible),
    "channels": Kind(channels, weight=0.3),
    "shared": Kind(shared, weight=0.5),
    "scratch": Kind(scratch),
    "processes": Kind(processes),
    "dso": Kind(dso),
    "gradient": Kind(gradient),
    "policy": Kind(policy),
    "table": Kind(table),
    "exports": Kind(exports),
    "measured": Kind(measured, masked=MEASURED),
    "perceptrons": Kind(perceptrons),
    "optuna_workers": Kind(optuna_workers, workers=2),
    "sqlite_workers": Kind(sqlite_workers, workers=2, weight=0.3),
}
