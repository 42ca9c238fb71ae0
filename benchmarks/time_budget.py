"""A time budget against the time of the run, on digits and on a larger synthetic set: prints both and their ratio.

    python benchmarks/time_budget.py --minutes 2 5
    python benchmarks/time_budget.py --minutes 3 --data fashion_mnist.npz --clock cpu

Stages and lengths are those of the quickstart. The synthetic images have ten classes of noisy patterns, 28 x 28 pixels;
``--data`` takes a file of the task ``npz`` in their place. The networks for them are smaller, and the batches larger,
so that an epoch of each stage fits into a few minutes. With ``--clock cpu`` the budget is one of CPU seconds of the
process, which other programs on the machine change less than the wall clock.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from automl_nas import search
from automl_nas.plugin.events import MessageSent
from automl_nas.run import RunDirectory, read_yaml, session as session_module
from automl_nas.run.estimate import beginning, estimate as estimate_module, stage_clock

LIMIT = "<= 0.4M"
"""The limit for the larger set, whose networks have from 0.318M multiply-adds on."""

QUICKSTART = Path(__file__).parent.parent / "examples" / "configs" / "quickstart.yaml"


class _CpuTime:
    """Stands for the module `time` with the CPU seconds of the process as its counter."""

    perf_counter = staticmethod(time.process_time)
    monotonic = staticmethod(time.process_time)


def main() -> None:
    """Do a run for each set and budget, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", nargs="+", type=float, default=[2.0, 5.0])
    parser.add_argument("--images", type=int, default=60_000, help="size of the synthetic set; 0: digits only")
    parser.add_argument("--data", type=Path, help="images of 28 x 28 pixels in place of the synthetic ones")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    arguments = parser.parse_args()
    if arguments.clock == "cpu":
        for module in (stage_clock, estimate_module, beginning, session_module):
            module.time = _CpuTime  # type: ignore[attr-defined]
    counter = time.process_time if arguments.clock == "cpu" else time.perf_counter
    config: dict[str, Any] = dict(read_yaml(QUICKSTART).value)
    print(f"{'set':10} {'budget':>8} {'estimate':>9} {'run':>8} {'run / budget':>13}  lengths")
    with tempfile.TemporaryDirectory() as folder:
        sets = {"digits": config}
        if arguments.data or arguments.images:
            path = arguments.data or _synthetic(arguments.images, Path(folder) / "images.npz")
            smaller = {"stem_stride": 2, "widths": [16, 32], "repeats": [2, 2], "last_channels": 64}
            sets["larger"] = {
                **config,
                "task": {"name": "npz", "path": str(path), "batch_size": 256},
                "space": {**config["space"], **smaller},
                "problem": {"constraints": {"flops": LIMIT}},
            }
        for minutes in arguments.minutes:
            for name, settings in sets.items():
                out, messages = Path(folder) / f"{name}-{minutes}", list[str]()
                begun = counter()
                search(
                    settings,
                    out=out,
                    time_limit=60 * minutes,
                    progress="none",
                    handlers={MessageSent: lambda event, messages=messages: messages.append(event.text)},
                )
                seconds = counter() - begun
                estimate = next(text for text in messages if "estimate " in text).partition("estimate ")[2]
                lengths = RunDirectory(out).read_config()["budget"]["shortened"]
                print(
                    f"{name:10} {60 * minutes:6.0f} s {estimate.partition(' (')[0]:>9} {seconds:6.0f} s "
                    f"{seconds / (60 * minutes):13.2f}  {_words(lengths)}",
                    flush=True,
                )


def _synthetic(count: int, path: Path) -> Path:
    """Write a data set; return its path."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (10, 28, 28, 1))
    labels = rng.integers(0, 10, count)
    noise = rng.integers(0, 256, (count, 28, 28, 1), dtype=np.int64)
    images = ((patterns[labels] + 2 * noise) // 3).astype(np.uint8)
    train = count * 6 // 7
    np.savez(
        path,
        train_images=images[:train],
        train_labels=labels[:train],
        test_images=images[train:],
        test_labels=labels[train:],
    )
    return path


def _words(lengths: Mapping[str, Mapping[str, Any]]) -> str:
    shown = {name: values["used"] for name, values in lengths.items() if not name.endswith("warmup_epochs")}
    return ", ".join(f"{name.removeprefix('stages.')} {value}" for name, value in shown.items()) or "as written"


if __name__ == "__main__":
    main()
