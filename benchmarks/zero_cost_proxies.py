"""Zero-cost proxies with the published ones of NAS-Bench-Suite-Zero, on cells of NAS-Bench-201.

Published are the values of Krishnakumar et al. 2022 (arXiv 2210.03230) for CIFAR-10: one batch of 64 augmented training
images, fresh weights of another seed, and networks whose cells have batch normalisation without weights. Both sides are
compared on the same random networks with distinct functions: Spearman's correlation of our values with theirs (with
its 95 % interval, by bootstrap over the networks), of our own values for two draws of weights and images, which says
what noise allows, of their mean with the published values, and of both with the test accuracy after 200 epochs. Then
processor seconds per network for each proxy alone (in the others, proxies share a backward pass).

    python benchmarks/zero_cost_proxies.py VALUES.csv.gz CODES.csv.gz IMAGES.npz [--networks 300] [--record FILE]
        [--own-batches 100]

With `--own-batches N` the proxies that depend most on the draw are also computed twice for N networks with another
batch of images for each network, as the published values are: noise that two draws with one batch for all do not show.

VALUES has a row for each network: its index in NAS-Bench-201 and columns such as ``c10_synflow``. CODES has the columns
``index`` and ``ops``, the six digits of the cell. IMAGES has CIFAR-10 as the task `npz` reads it. With `--record FILE`,
the values of each network are a line of FILE, and the same command computes the missing ones only; `--show` computes
none, and prints what the record has.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import random
import time
from collections.abc import Collection, Sequence
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

TIMED = 20
"""Number of networks for which each proxy computes alone."""

RESAMPLES = 1000

NOISY = ("grasp", "epe_nas", "plain")
"""Proxies whose published values ours agree with at less than 0.9."""


def values(
    space: NASBench201,
    code: str,
    batch: Any,
    task: Npz,
    runtime: Runtime,
    seed: int,
    timed: bool,
    names: Collection[str] = tuple(PROXIES),
) -> dict[str, float]:
    """Return proxy -> value of one network, and "seconds NAME" -> processor time if it is timed."""
    with runtime.seeded(seed, "init"):
        network = runtime.place(space.build(space.architecture(code)))
    computed: dict[str, float] = {}
    shared = Probe(network, *batch, task.loss)
    for name, proxy in PROXIES.items():
        if name not in names:
            continue
        begun = time.process_time()
        with runtime.seeded(seed, "evaluation"):
            value = proxy(Probe(network, *batch, task.loss) if timed else shared)
        computed[name] = value if math.isfinite(value) else FAILED
        if timed:
            computed[f"seconds {name}"] = time.process_time() - begun
    return computed


def read(path: Path) -> dict[int, dict[str, str]]:
    """Return index -> row."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return {int(row["index"]): row for row in csv.DictReader(file)}


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    return float(stats.spearmanr(one, other).statistic)


def interval(one: list[float], other: list[float]) -> str:
    """Return the 95 % interval of Spearman's correlation, by bootstrap over the networks."""
    generator, pairs = np.random.default_rng(0), np.array([one, other])
    ranks = stats.rankdata(pairs[:, generator.integers(0, len(one), (RESAMPLES, len(one)))], axis=2)
    centred = ranks - ranks.mean(2, keepdims=True)
    squares = np.sqrt((centred**2).sum(2))
    low, high = np.quantile((centred[0] * centred[1]).sum(1) / (squares[0] * squares[1]), [0.025, 0.975])
    return f"{spearman(one, other):.3f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("values", type=Path)
    parser.add_argument("codes", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--repeated", type=int, default=100, help="networks that are computed with a second seed")
    parser.add_argument(
        "--own-batches", type=int, default=0, help="networks that are computed twice with a batch of their own"
    )
    parser.add_argument("--record", type=Path, help="the file that stores the values")
    parser.add_argument("--show", action="store_true", help="print what the record has")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    published, codes = read(settings.values), read(settings.codes)
    rows = random.Random(0).sample(sorted(published), len(published))[: settings.networks]
    space, truth = NASBench201(affine=False), load_table("nasbench201").lookup("cifar10_test_200")
    recorded: dict[str, dict[str, float]] = {}
    if settings.record and settings.record.exists():
        recorded = dict(json.loads(line) for line in settings.record.read_text(encoding="utf-8").splitlines())
    if not settings.show:
        compute(rows, codes, space, settings, recorded)
    rows = [row for row in rows if f"{row}/0" in recorded]
    twice = [row for row in rows if f"{row}/1" in recorded]
    print(f"{len(rows)} networks, {len(twice)} of them with two draws, CIFAR-10; Spearman's correlations")
    print("| proxy | ours and published | two draws | their mean and published | accuracy: ours | published | s |")
    print("|---|---|---|---|---|---|---|")
    accuracy = [truth(space.architecture(codes[row]["ops"])) for row in rows]
    for name in PROXIES:
        ours, again = ({row: recorded[f"{row}/{draw}"][name] for row in some} for draw, some in ((0, rows), (1, twice)))
        theirs = {row: float(published[row][f"c10_{name}"]) for row in rows}
        times = [record[f"seconds {name}"] for record in recorded.values() if f"seconds {name}" in record]
        cells = (
            spearman([ours[row] for row in twice], list(again.values())),
            spearman([ours[row] + again[row] for row in twice], [theirs[row] for row in twice]),
            spearman(list(ours.values()), accuracy),
            spearman(list(theirs.values()), accuracy),
        )
        agreement = interval(list(ours.values()), list(theirs.values()))
        shown = " | ".join(f"{cell:.3f}" for cell in cells)
        print(f"| `{name}` | {agreement} | {shown} | {float(np.median(times)):.2f} |")
    for name in NOISY:
        own = [row for row in rows if f"{row}/own1" in recorded]
        both = [[recorded[f"{row}/own{draw}"][name] for row in own] for draw in (0, 1)]
        if own:
            print(f"`{name}`, {len(own)} networks, each with a batch of its own: two draws {interval(*both)}")


def compute(
    rows: list[int],
    codes: dict[int, dict[str, str]],
    space: NASBench201,
    settings: argparse.Namespace,
    recorded: dict[str, dict[str, float]],
) -> None:
    """Add the values that `recorded` does not have, in the order of the networks."""
    task, runtime = Npz(path=settings.images, batch_size=64, label_smoothing=0.0), Runtime(device="cpu")
    batches = {seed: first_batch(task, 64, stream_seed(seed, "zero-cost")) for seed in (0, 1)}

    def add(key: str, computed: dict[str, float]) -> None:
        recorded[key] = computed
        if settings.record:
            with settings.record.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, computed]) + "\n")

    for number, row in enumerate(rows):
        for seed in (0, 1)[: 2 if number < settings.repeated else 1]:
            if (key := f"{row}/{seed}") in recorded:
                continue
            timed = number < TIMED and not seed
            add(key, values(space, codes[row]["ops"], batches[seed], task, runtime, seed, timed))
    for row in rows[: settings.own_batches]:
        for draw in (0, 1):
            if (key := f"{row}/own{draw}") not in recorded:
                seed = stream_seed(draw, "zero-cost", row)
                batch = first_batch(task, 64, seed)
                add(key, values(space, codes[row]["ops"], batch, task, runtime, seed, False, NOISY))


if __name__ == "__main__":
    main()
