"""Networks with searched bits beside networks with uniform bits, retrained with the same recipe.

    python benchmarks/mixed_precision.py CONFIG DATA.npz OUT [--seeds 3] [--report]

CONFIG is ``examples/configs/mixed_precision_fashion_mnist.yaml`` or one like it: a supernet, then a search for each
limit on bit operations. Each seed has its own supernet, searches and trainings. The networks that were found, and
uniform ones of 2, 3, 4 and 8 bits, are trained from scratch on all training images with the recipe of CONFIG's final
stage and scored on the test images.

The searches of a seed are a run in OUT, which continues after an interruption; each training writes a JSON file and is
skipped if the file exists. ``--report`` only prints the table of what exists.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

import automl_nas
from automl_nas.evaluation import Fit, Recipe, Runtime, score
from automl_nas.space import Architecture
from automl_nas.streams import stream_seed
from automl_nas_quantization.bit_ops import BitOps
from automl_nas_quantization.resnet import mixed_precision_resnet
from automl_nas_vision.npz import Npz

UNIFORM = (2, 3, 4, 8)


class Study:
    """The searches and trainings of one configuration.

    Args:
        config: of the searches, with the recipe in its section ``final``.
        data: the file of the data set.
        out: the directory of runs and records.
    """

    def __init__(self, config: Mapping[str, Any], data: Path, out: Path) -> None:
        self.out = out
        task = {**config["task"], "path": str(data.resolve())}
        self.config = {**config, "task": task, "final": None}
        settings = {key: value for key, value in task.items() if key not in ("name", "path")}
        self.task = Npz(path=data.resolve(), **settings)
        self.runtime = Runtime(threads=config["runtime"]["threads"])
        self.runtime.activate()
        shape = {"input_shape": self.task.input_shape, "num_classes": self.task.num_classes}
        spec = {key: value for key, value in config["space"].items() if key != "name"}
        spec = {key: tuple(value) if isinstance(value, list) else value for key, value in spec.items()}
        self.space = mixed_precision_resnet(**shape, **spec)
        self.recipe = Recipe(**config["final"]["train"])

    def found(self, seed: int) -> dict[str, Architecture]:
        """Return stage -> the best architecture within its limit; search first if the run is not complete."""
        result = automl_nas.search(
            self.config, seed=seed, out=self.out / f"search-s{seed}", resume=True, progress="none"
        )
        best = {stage["name"]: stage["best"] for stage in result.data["stages"] if stage["trials"]}
        return {name: self.space.validate(trial["architecture"]) for name, trial in best.items()}

    def networks(self, seed: int) -> dict[str, Architecture]:
        """Return name -> architecture of all networks that are trained with a seed."""
        uniform = {
            f"uniform {bits}": self.space.validate(dict.fromkeys(self.space.decisions, f"W{bits}A{bits}"))
            for bits in UNIFORM
        }
        return {**uniform, **self.found(seed)}

    def train(self, name: str, architecture: Architecture, seed: int) -> None:
        """Train a network and write its record, if it has none yet."""
        file = self.out / f"{name.replace(' ', '-')}-s{seed}.json"
        if file.exists():
            return
        begun = time.process_time()
        with self.runtime.seeded(seed, "build"):
            network = self.runtime.place(self.space.build(architecture))
        fit = Fit(network, self.task, self.runtime, self.recipe, seed=stream_seed(seed, "fit"), split="train+search")
        while not fit.done:
            fit.advance(100)
        record = {
            "name": name,
            "seed": seed,
            "architecture": architecture.to_dict(),
            "bit_ops": BitOps(self.space).estimate(architecture),
            "accuracy": score(network, self.task, self.runtime, "test")["accuracy"],
            "seconds": time.process_time() - begun,
        }
        file.with_suffix(".part").write_text(json.dumps(record) + "\n", encoding="utf-8")
        file.with_suffix(".part").replace(file)
        print(time.strftime("%H:%M:%S"), json.dumps(record), flush=True)

    def records(self) -> list[dict[str, Any]]:
        """Return the records that exist."""
        return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(self.out.glob("*-s*.json"))]


def interval(values: Sequence[float]) -> str:
    """Return mean and 95 % interval by Student's t, in points of a hundred."""
    points = 100 * np.array(values)
    mean = float(points.mean())
    if len(values) < 2:
        return f"{mean:.2f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(points))
    return f"{mean:.2f} ({mean - half:.2f} to {mean + half:.2f})"


def report(records: Sequence[Mapping[str, Any]]) -> None:
    """Print the table, the cheapest networks first, and found minus uniform at the same limit."""
    named: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        named.setdefault(record["name"], []).append(record)
    print("| network | bit operations in millions | test accuracy [95 % interval over seeds] | seeds |")
    print("|---|---|---|---|")
    for name, each in sorted(named.items(), key=lambda item: float(np.mean([r["bit_ops"] for r in item[1]]))):
        costs = ", ".join(f"{cost / 1e6:.2f}" for cost in sorted({record["bit_ops"] for record in each}))
        print(f"| {name} | {costs} | {interval([record['accuracy'] for record in each])} | {len(each)} |")
    for searched, uniform in (("two_bits", "uniform 2"), ("three_bits", "uniform 3"), ("four_bits", "uniform 4")):
        pairs = [
            (record["accuracy"], other["accuracy"])
            for record in named.get(searched, [])
            for other in named.get(uniform, [])
            if record["seed"] == other["seed"]
        ]
        if pairs:
            print(f"{searched} minus {uniform}: {interval([one - other for one, other in pairs])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="the configuration of the searches")
    parser.add_argument("data", type=Path, help="an .npz file of the task npz")
    parser.add_argument("out", type=Path, help="the directory of the runs and records")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", action="store_true", help="print the table of the records that exist")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    study = Study(yaml.safe_load(options.config.read_text(encoding="utf-8")), options.data, options.out)
    for seed in range(0 if options.report else options.seeds):
        for name, architecture in study.networks(seed).items():
            study.train(name, architecture, seed)
    report(study.records())


if __name__ == "__main__":
    main()
