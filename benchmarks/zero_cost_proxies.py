"""Zero-cost proxies with the published ones of NAS-Bench-Suite-Zero, on cells of NAS-Bench-201.

Published are the values of Krishnakumar et al. 2022 (arXiv 2210.03230) for CIFAR-10: one batch of 64 augmented training
images, fresh weights of another seed, and networks whose cells have batch normalisation without weights. Both sides are
compared on the same random networks with distinct functions: Spearman's correlation of our values with theirs, of both
with the test accuracy after 200 epochs, and with our own values for other weights and images, which says what noise
allows. Then processor seconds per network for each proxy.

    python benchmarks/zero_cost_proxies.py VALUES.csv.gz CODES.csv.gz IMAGES.npz [--networks 300] [--record FILE]

VALUES has a row for each network: its index in NAS-Bench-201 and columns such as ``c10_synflow``. CODES has the columns
``index`` and ``ops``, the six digits of the cell. IMAGES has CIFAR-10 as the task `npz` reads it. With `--record FILE`,
the values of each network are a line of FILE, and the same command computes the missing ones only.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from automl_nas.evaluation import Runtime
from automl_nas.streams import stream_seed
from automl_nas_benchmarks.spaces.nasbench201 import NASBench201
from automl_nas_benchmarks.tables.packaged import load_table
from automl_nas_proxies.measuring import PROXIES, first_batch
from automl_nas_proxies.probe import Probe
from automl_nas_vision.npz import Npz

FAILED = -1e8
"""What the published file has instead of a value that is not finite."""


def values(space: NASBench201, code: str, batch: Any, task: Npz, runtime: Runtime, seed: int) -> dict[str, float]:
    """Return proxy -> value, and "seconds NAME" -> processor time, of one network."""
    with runtime.seeded(seed, "init"):
        network = runtime.place(space.build(space.architecture(code)))
    computed: dict[str, float] = {}
    for name, proxy in PROXIES.items():
        begun = time.process_time()
        with runtime.seeded(seed, "evaluation"):
            value = proxy(Probe(network, *batch, task.loss))
        computed[name] = value if math.isfinite(value) else FAILED
        computed[f"seconds {name}"] = time.process_time() - begun
    return computed


def read(path: Path) -> dict[int, dict[str, str]]:
    """Return index -> row."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return {int(row["index"]): row for row in csv.DictReader(file)}


def spearman(one: list[float], other: list[float]) -> float:
    return float(stats.spearmanr(one, other).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("values", type=Path)
    parser.add_argument("codes", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--repeated", type=int, default=100, help="networks that are computed with a second seed")
    parser.add_argument("--record", type=Path, help="the file that stores the values")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    published, codes = read(settings.values), read(settings.codes)
    rows = random.Random(0).sample(sorted(published), len(published))[: settings.networks]
    task = Npz(path=settings.images, batch_size=64, label_smoothing=0.0)
    space, truth = NASBench201(affine=False), load_table("nasbench201").lookup("cifar10_test_200")
    runtime = Runtime(device="cpu")
    recorded: dict[str, dict[str, float]] = {}
    if settings.record and settings.record.exists():
        recorded = dict(json.loads(line) for line in settings.record.read_text(encoding="utf-8").splitlines())
    batches = {seed: first_batch(task, 64, stream_seed(seed, "zero-cost")) for seed in (0, 1)}
    for number, row in enumerate(rows):
        for seed in (0, 1)[: 2 if number < settings.repeated else 1]:
            if (key := f"{row}/{seed}") in recorded:
                continue
            recorded[key] = values(space, codes[row]["ops"], batches[seed], task, runtime, seed)
            if settings.record:
                with settings.record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([key, recorded[key]]) + "\n")
    print(f"{len(rows)} networks, CIFAR-10; Spearman's correlations")
    print("| proxy | ours and published | ours: two seeds | accuracy: ours | accuracy: published | s per network |")
    print("|---|---|---|---|---|---|")
    accuracy = [truth(space.architecture(codes[row]["ops"])) for row in rows]
    for name in PROXIES:
        ours = [recorded[f"{row}/0"][name] for row in rows]
        theirs = [float(published[row][f"c10_{name}"]) for row in rows]
        again = [recorded[f"{row}/1"][name] for row in rows[: settings.repeated]]
        seconds = float(np.median([recorded[f"{row}/0"][f"seconds {name}"] for row in rows]))
        cells = (spearman(ours, theirs), spearman(ours[: len(again)], again))
        cells += (spearman(ours, accuracy), spearman(theirs, accuracy))
        print(f"| `{name}` | {' | '.join(f'{cell:.3f}' for cell in cells)} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
