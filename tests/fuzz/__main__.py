"""Fuzzes the command line: ``PYTHONPATH=tests python -m fuzz --count 5000 --seed 1``.

Prints each input that raised an exception, took too long, executed code or changed an answer, and the number of inputs
of each class. The number of an input is its seed: ``--seed N --count 1 --kind KIND`` repeats it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fuzz.files import FILES
from fuzz.judge import FAULTS, Place, prepared
from fuzz.runs import RUNS, Original


def main() -> int:
    """Judge inputs; return 1 if one of them is a fault."""
    parser = argparse.ArgumentParser(prog="python -m fuzz")
    parser.add_argument("--count", type=int, default=1000, help="number of inputs")
    parser.add_argument("--seed", type=int, default=0, help="the number of the first input")
    parser.add_argument("--kind", choices=[*RUNS, *FILES], action="append", help="kinds of input; default: all")
    options = parser.parse_args()
    kinds = options.kind or [*RUNS, *FILES]
    counts: Counter[tuple[str, str]] = Counter()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, prepared(Path(folder)) as place:
        original = Original.make(place)
        for number in range(options.seed, options.seed + options.count):
            kind = kinds[number % len(kinds)]
            done, verdict, detail = judge(place, original, kind, number)
            counts[kind, verdict] += 1
            if verdict in FAULTS:
                print(f"input {number}, {kind}: {verdict}: {done}\n{detail}\n", flush=True)
    for kind in kinds:
        row = {verdict: count for (name, verdict), count in sorted(counts.items()) if name == kind}
        print(f"{kind:14} {sum(row.values()):6}  " + ", ".join(f"{count} {verdict}" for verdict, count in row.items()))
    faults = sum(count for (_, verdict), count in counts.items() if verdict in FAULTS)
    print(f"{options.count} inputs, {faults} faults, {time.monotonic() - begun:.0f} s")
    return 1 if faults else 0


def judge(place: Place, original: Original, kind: str, number: int) -> tuple[str, str, str]:
    """Make one input and judge it; return the input, the class of what happened, and its details."""
    rng = random.Random(number)
    return RUNS[kind](place, original, rng) if kind in RUNS else FILES[kind](place, rng)


if __name__ == "__main__":
    sys.exit(main())
