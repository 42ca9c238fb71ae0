"""CPU seconds of ``automl-nas run CONFIG --smoke`` for example configurations, each in a process of its own.

    OMP_NUM_THREADS=1 python benchmarks/smoke_runs.py [examples/configs/quickstart.yaml ...]

Without arguments all example configurations that `automl-nas run` accepts are measured. Their data are made here, with
random images in the number, the size and the format that each configuration expects; for spos_imagenet they are JPEG
files of about 500 x 375 pixels in ten classes, since the 1.3 million files of ImageNet are read once before any run.
The seconds are those of the user and of the system, of the process and of its children.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
LIMIT = 60
"""CPU seconds that a smoke run may take."""

OTHERS = {"one_shot_nasbench201"}
"""Configurations of another command."""


def _pixels(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Return an image of smooth noise."""
    coarse = Image.fromarray(rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def _npz(path: Path, *shape: int, train: int, test: int) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", train), ("test", test)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count, dtype=np.uint8) % 10
    np.savez(path, **arrays)  # type: ignore[arg-type]


def _photographs(path: Path) -> None:
    """Write 200 images of each of ten classes, as ``examples/prepare_folder.py`` does."""
    rng = np.random.default_rng(0)
    for k in range(2000):
        folder = path / f"class_{k % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        _pixels(rng, 32, 32).save(folder / f"{k:04}.{'jpg' if k // 10 % 2 else 'png'}")


def _imagenet(path: Path) -> None:
    """Write train and val with ten classes; train has more images than a batch of 1,024 and the held-out ones."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 1200), ("val", 100)):
        for k in range(count):
            folder = path / split / f"n{k % 10:08}"
            folder.mkdir(parents=True, exist_ok=True)
            _pixels(rng, *rng.integers(330, 520, 2).tolist()).save(folder / f"{k}.JPEG", quality=90)


def _wine(path: Path) -> None:
    """Write a table of 178 rows with 13 numbers and three kinds."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"feature {k}" for k in range(13)), "kind"])
        writer.writerows([*rng.normal(size=13).tolist(), f"kind {row % 3}"] for row in range(178))


DATA: dict[str, tuple[str, Callable[[Path], None]]] = {
    "csv_wine": ("wine.csv", _wine),
    "image_folder": ("photographs", _photographs),
    "spos_imagenet": ("imagenet", _imagenet),
    "dso_cifar10": ("cifar10.npz", lambda path: _npz(path, 32, 32, 3, train=50_000, test=10_000)),
    "dso_cifar10_small": ("small.npz", lambda path: _npz(path, 32, 32, 3, train=5_000, test=1_000)),
    "spos_cifar10_small": ("small.npz", lambda path: _npz(path, 32, 32, 3, train=5_000, test=1_000)),
    "rank_macro_cifar10": ("cifar10_16.npz", lambda path: _npz(path, 16, 16, 3, train=50_000, test=10_000)),
    "spos_fashion_mnist": ("fashion.npz", lambda path: _npz(path, 28, 28, train=60_000, test=10_000)),
    "mixed_precision_fashion_mnist": ("fashion_10k.npz", lambda path: _npz(path, 28, 28, train=10_000, test=10_000)),
}
"""The file or folder of each configuration that needs one, and what writes it."""


def main() -> None:
    """Do the smoke runs, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", type=Path)
    arguments = parser.parse_args()
    configs = arguments.configs or [
        path for path in sorted((ROOT / "examples" / "configs").glob("*.yaml")) if path.stem not in OTHERS
    ]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'configuration':32} {'user':>7} {'system':>7} {'CPU s':>7}   goal: {LIMIT} s", flush=True)
        for config in configs:
            command = [sys.executable, "-c", "from automl_nas.cli import main; main()", "run", str(config), "--smoke"]
            if config.stem in DATA:
                name, write = DATA[config.stem]
                path = Path(folder) / name
                if not path.exists():
                    write(path)
                command += ["--set", f"task.path={path}"]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            environment = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache-{config.stem}", "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
            missed += user + system > LIMIT
            print(f"{config.stem:32} {user:7.1f} {system:7.1f} {user + system:7.1f}", flush=True)
            if done.returncode:
                print(done.stderr, f"{config}: the smoke run failed", sep="\n")
                missed += 1
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
