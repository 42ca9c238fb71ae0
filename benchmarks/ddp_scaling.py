"""The time of a data-parallel training step on two ranks, compared with one process at the same global batch.

Both sides train the same supernet of ShuffleNet V2 blocks on the same batches and paths, each process with one thread.
They take turns of a few iterations (ABBA); while one process trains alone, the other rank sleeps. The script prints the
milliseconds of an iteration, wall clock and processor time of a process, and the median of the paired ratios with a
bootstrap interval. On a machine where other programs compete for the cores, the ratio of processor times shows what the
ranks would reach without them: a rank that waits for the other one sleeps. The goal is a ratio of at least 1.6.

    python benchmarks/ddp_scaling.py [--width 48] [--batch 64] [--pairs 12] [--iterations 4]
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.evaluation import Batch, Direction, Fit, Predictor, Recipe, Runtime, Task
from automl_nas.evaluation.ranks import join_ranks
from automl_nas.space import SupernetSpace
from automl_nas.streams import stream
from automl_nas_spaces.shufflenet_v2 import shufflenet_v2

RANKS = 2
SIZE = 32
SEED = 1
RECIPE = Recipe(epochs=10_000, learning_rate=0.05)


class Noise(Task):
    """Random images in memory, so that reading batches takes almost no time."""

    def __init__(self, batch: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._batch = batch
        self._images = torch.randn(8 * batch, 3, SIZE, SIZE, generator=generator)
        self._labels = torch.randint(10, (8 * batch,), generator=generator)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the images."""
        return 3, SIZE, SIZE

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """The accuracy."""
        return {"accuracy": "maximize"}

    def size(self, split: str) -> int:
        """Return the number of images."""
        return len(self._labels)

    def batches_per_epoch(self, split: str) -> int:
        """Return the number of batches."""
        return len(self._labels) // self._batch

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches in a fixed order."""
        for first in range(start * self._batch, len(self._labels), self._batch):
            yield self._images[first : first + self._batch], self._labels[first : first + self._batch]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross entropy."""
        return F.cross_entropy(outputs, targets)

    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        """Return the accuracy."""
        return {"accuracy": (model(self._images).argmax(1) == self._labels).float().mean().item()}


def training(space: SupernetSpace, task: Task, runtime: Runtime) -> Fit:
    """Return a training by single paths."""
    with runtime.seeded(SEED, "init"):
        supernet = runtime.place(space.build_supernet())

    def forward(network: nn.Module, inputs: Tensor, count: int) -> Tensor:
        outputs: Tensor = network(inputs, space.sample(stream(SEED, "path", count)))
        return outputs

    return Fit(supernet, task, runtime, RECIPE, seed=SEED, forward=forward)


def measured(fit: Fit, iterations: int) -> tuple[float, float]:
    """Train; return the seconds of an iteration, wall clock and processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    fit.advance(iterations)
    return (time.perf_counter() - wall) / iterations, (time.process_time() - processor) / iterations


def compare(options: argparse.Namespace) -> None:
    """Take turns, in each rank; rank 0 prints."""
    ranks = join_ranks()
    runtime = Runtime(device="cpu", threads=1)
    runtime.activate()
    width, task = options.width, Noise(options.batch)
    space = shufflenet_v2(
        num_classes=10,
        input_shape=task.input_shape,
        stem_channels=16,
        stem_stride=1,
        widths=[width, 2 * width, 4 * width],
        repeats=[4, 8, 4],
        strides=[1, 2, 2],
        last_channels=256,
    )
    together, alone = training(space, task, runtime), training(space, task, runtime.alone())
    rows: dict[str, list[tuple[float, float]]] = {"one process": [], f"{RANKS} ranks": []}

    def turn(name: str) -> None:
        if name == "one process":
            spent = ranks.lead(lambda: measured(alone, options.iterations))
            rows[name].append(ranks.agree(spent or (0.0, 0.0)))
        else:
            ranks.gather(None)
            everyone = ranks.gather(measured(together, options.iterations))
            rows[name].append((max(wall for wall, _ in everyone), max(processor for _, processor in everyone)))

    for pair in range(options.pairs + 1):
        names = list(rows)
        for name in names if pair % 2 else reversed(names):
            turn(name)
    if ranks.rank == 0:
        show({name: spent[1:] for name, spent in rows.items()}, together, options)


def show(rows: Mapping[str, list[tuple[float, float]]], fit: Fit, options: argparse.Namespace) -> None:
    """Print both sides and the ratios, without the first pair, which warms up."""
    count = sum(parameter.numel() for parameter in fit.network.parameters())
    print(f"supernet of {count:,} parameters, global batch {options.batch}, one thread each, gloo")
    print(f"{'':14}{'wall clock':>14}{'processor':>14}   milliseconds an iteration, median of {options.pairs}")
    for name, spent in rows.items():
        wall, processor = (float(np.median([each[place] for each in spent])) * 1e3 for place in range(2))
        print(f"{name:14}{wall:14.1f}{processor:14.1f}")
    one, several = rows.values()
    generator = np.random.default_rng(0)
    for place, name in enumerate(("wall clock", "processor time of a process")):
        ratios = np.array([a[place] / b[place] for a, b in zip(one, several, strict=True)])
        resamples = np.median(generator.choice(ratios, (10_000, len(ratios))), axis=1)
        low, high = np.percentile(resamples, (2.5, 97.5))
        print(f"ratio by {name}: {np.median(ratios):.2f} [{low:.2f}, {high:.2f}]")


def start(arguments: list[str]) -> int:
    """Start the ranks; return their exit code."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS)}
    # The warning that a path without unused parameters exists is of no use here.
    common |= {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, *arguments],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(RANKS)
    ]
    return max(process.wait() for process in processes)


def main() -> None:
    """Start the ranks, or be one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=48, help="channels of the first stage")
    parser.add_argument("--batch", type=int, default=64, help="images of the global batch")
    parser.add_argument("--pairs", type=int, default=12, help="pairs of turns")
    parser.add_argument("--iterations", type=int, default=4, help="iterations of a turn")
    options = parser.parse_args()
    if "RANK" in os.environ:
        compare(options)
    else:
        sys.exit(start(sys.argv[1:]))


if __name__ == "__main__":
    main()
