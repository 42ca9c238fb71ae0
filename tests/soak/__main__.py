"""Kills and resumes runs with every kind of stage: ``PYTHONPATH=tests python -m soak --kills 1000 --minutes 60``.

Each run is killed several times at random moments, mostly with SIGKILL, resumed until it is complete, and compared with
an undisturbed run of another interpreter: result, trials, metrics, artifacts, exports and all other files, without
times. Prints the runs, kills, identical and different runs of each kind, and the kills of each stage.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from soak.kills import Counts, Soak, preload
from soak.kinds import KINDS


def main() -> int:
    """Kill runs; return 1 if one of them differs or failed."""
    parser = argparse.ArgumentParser(prog="python -m soak")
    parser.add_argument("--kills", type=int, default=1000, help="number of kills after which the script ends")
    parser.add_argument("--minutes", type=float, default=60.0, help="minutes after which the script ends")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, action="append", help="kinds of runs; default: all")
    parser.add_argument("--out", type=Path, help="folder for the runs; those that differ are kept")
    parser.add_argument("--references", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.out or Path(tempfile.mkdtemp(prefix="soak-"))
    names = options.kind or list(KINDS)
    preload()
    soaks = {name: Soak(name, folder, options.seed) for name in names}
    if options.references:
        for soak in soaks.values():
            soak.reference()
        return 0
    begun = time.monotonic()
    make_references(names, folder)
    print(f"references: {time.monotonic() - begun:.0f} s", flush=True)
    for name, soak in soaks.items():
        soak.prepare()
        print(f"{name}: {soak.startup:.1f} s to the first stage, {soak.seconds:.1f} s from there", flush=True)
    gc.freeze()
    counts = {name: Counts() for name in names}
    rng = random.Random(options.seed)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while time.monotonic() < begun + 60 * options.minutes and kills(counts) < options.kills:
            # The kind with the fewest kills for its weight is next.
            name = min(names, key=lambda name: (counts[name].kills.total() / KINDS[name].weight, rng.random()))
            counted = soaks[name].run()
            counts[name].add(counted)
            for fault in counted.faults:
                print(f"{name}: {fault}\n", flush=True)
            if kills(counts) // 100 > (kills(counts) - counted.kills.total()) // 100:
                print(table(counts), flush=True)
    except KeyboardInterrupt:
        print("stopped")
    print(table(counts))
    return int(any(count.faults for count in counts.values()))


def kills(counts: Mapping[str, Counts]) -> int:
    """Return the number of kills so far."""
    return sum(count.kills.total() for count in counts.values())


def make_references(names: Sequence[str], folder: Path) -> None:
    """Make an undisturbed run of each kind in another interpreter, with other hashes of strings."""
    command = [sys.executable, "-m", "soak", "--references", "--out", str(folder)]
    for name in names:
        command += ["--kind", name]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def table(counts: Mapping[str, Counts]) -> str:
    """Return the counts of each kind and their sum."""
    total = Counts()
    lines = [f"{'kind':16}{'runs':>6}{'kills':>7}{'identical':>11}{'different':>11}{'failed':>8}  kills by phase"]
    for name, count in counts.items():
        total.add(count)
        lines.append(_row(name, count, count.kills))
    lines.append(_row("sum", total, Counter({"SIG" + name: number for name, number in total.signals.items()})))
    return "\n".join(lines)


def _row(name: str, count: Counts, parts: Counter[str]) -> str:
    numbers = f"{count.runs:6}{count.kills.total():7}{count.identical:11}{count.different:11}{count.failed:8}"
    return f"{name:16}{numbers}  " + ", ".join(f"{number} {part}" for part, number in parts.most_common())


if __name__ == "__main__":
    sys.exit(main())
