"""Training batches of the image tasks, compared with a plain torchvision DataLoader with the same transforms.

Both read the same images with a random crop, a random flip and normalisation, by the same number of loader workers. One
epoch of each is measured in turn, in the order A B B A; the table shows the median of the paired ratios and its 95 %
bootstrap interval. Above 1 the task is faster. With loader workers an epoch must be much longer than the turns of the
scheduler (0.1 s with `chrt -r`), so take more images on a fast machine.

    python benchmarks/loader.py [--images 2000] [--size 64] [--repeats 8] [--workers 0 2]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from automl_nas.evaluation import Task
from automl_nas.torchvision_import import import_torchvision
from automl_nas_vision.image_folder import ImageFolder

BATCH = 64


def write(folder: Path, images: int, size: int) -> None:
    """Write JPEG files of smooth noise in ten class folders; a side is half as large again as the inputs'."""
    rng = np.random.default_rng(0)
    side = size * 3 // 2
    for k in range(images):
        target = folder / f"class_{k % 10}"
        target.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(target / f"{k}.jpg", quality=90)


def plain(folder: Path, size: int, workers: int, count: int) -> Callable[[], int]:
    """Return an epoch of torchvision's ImageFolder in a DataLoader, over as many images as the task trains with."""
    v2 = import_torchvision("torchvision.transforms.v2")
    datasets = import_torchvision("torchvision.datasets")
    transform = v2.Compose(
        [
            v2.Resize((size, size)),
            v2.RandomCrop(size, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.25] * 3),
        ]
    )
    data = torch.utils.data.Subset(datasets.ImageFolder(folder, transform), range(count))
    loader: Any = torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True, num_workers=workers)
    return lambda: sum(len(x) for x, _ in loader)


def ours(task: Task) -> Callable[[], int]:
    epochs = iter(range(1_000_000))
    return lambda: sum(len(x) for x, _ in task.batches("train", next(epochs), 0))


def seconds(call: Callable[[], int]) -> tuple[float, int]:
    start = time.perf_counter()
    count = call()
    return time.perf_counter() - start, count


def ratios(first: Callable[[], int], second: Callable[[], int], repeats: int) -> tuple[list[float], float]:
    """Return second / first in time for each pair, and the median images per second of the first."""
    seconds(first), seconds(second)
    pairs, rates = [], []
    for k in range(repeats):
        order = (first, second) if k % 2 == 0 else (second, first)
        times = [seconds(call) for call in order]
        (mine, count), (theirs, other) = times if k % 2 == 0 else times[::-1]
        assert count == other
        pairs.append(theirs / mine)
        rates.append(count / mine)
    return pairs, statistics.median(rates)


def interval(values: list[float]) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the median."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (10_000, len(values))), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5]).tolist()
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 2])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder, arguments.images, arguments.size)
        print("images               workers   images/s   task / DataLoader [95 % interval]")
        for workers in arguments.workers:
            for name, in_memory in (("read from files", False), ("in memory", True)):
                task = ImageFolder(
                    path=folder,
                    size=arguments.size,
                    resize="squash",
                    batch_size=BATCH,
                    workers=workers,
                    in_memory=in_memory,
                )
                baseline = plain(folder, arguments.size, workers, task.size("train"))
                pairs, rate = ratios(ours(task), baseline, arguments.repeats)
                low, high = interval(pairs)
                print(f"{name:20} {workers:7} {rate:10,.0f}   {statistics.median(pairs):.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
