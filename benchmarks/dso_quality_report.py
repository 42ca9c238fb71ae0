"""Tables of the records that ``dso_quality.py`` leaves: every network, then differences at equal FLOPs.

    python benchmarks/dso_quality_report.py OUT

A network that was found is compared with the random one of its FLOPs, trained from the same seed, and with the residual
networks' errors (mean over seeds), interpolated linearly in the logarithm of FLOPs; beyond the widths that were
trained, with the nearest. Intervals are over networks, so they hold how much searches differ from each other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats


def interval(values: Sequence[float]) -> str:
    """Return the mean with its 95 % interval (Student's t, over networks)."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:+.2f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"


def load(out: Path, kind: str) -> dict[str, dict[str, Any]]:
    """Return what is known of a kind: name without the kind -> record."""
    files = sorted(out.glob(f"{kind}-*.json"))
    return {file.stem.partition("-")[2]: json.loads(file.read_text(encoding="utf-8")) for file in files}


def report(out: Path) -> None:
    """Print a table of all networks, then the differences between those of equal FLOPs."""
    searches, found, drawn, plain = (load(out, kind) for kind in ("search", "found", "random", "residual"))
    known: dict[int, list[dict[str, Any]]] = {}
    for name, each in plain.items():
        known.setdefault(int(name.partition("-")[0].removeprefix("w")), []).append(each)
    by_width = [known[width] for width in sorted(known)]
    print("| penalty | k | seed | live edges of 384 | FLOPs | error | random, equal FLOPs | residual, interpolated |")
    print("|---|---|---|---|---|---|---|---|")
    gains: dict[str, list[tuple[float, float]]] = {}
    for name, search in sorted(searches.items(), key=lambda item: (item[1]["schedule"], item[1]["k"], item[1]["seed"])):
        start = f"| {search['schedule']} | {search['k']:g} | {search['seed']} |"
        if "dead" in search:
            print(f"{start} 0 | | all died | | |")
            continue
        if name not in found or name not in drawn:
            continue
        residual = float(
            np.interp(
                np.log(found[name]["flops"]),
                [np.log(each[0]["flops"]) for each in by_width],
                [np.mean([net["error"] for net in each]) for each in by_width],
            )
        )
        mine, theirs = found[name]["error"], drawn[name]["error"]
        gains.setdefault(search["schedule"], []).append((mine - theirs, mine - residual))
        print(
            f"{start} {search['live_edges']} | {found[name]['flops'] / 1e6:.2f}M | {mine:.2f} | {theirs:.2f} | "
            f"{residual:.2f} |"
        )
    print("\n| residual, width | FLOPs | error |\n|---|---|---|")
    for width, nets in sorted(known.items()):
        errors = ", ".join(f"{net['error']:.2f}" for net in nets)
        print(f"| {width} | {nets[0]['flops'] / 1e6:.2f}M | {errors} |")
    print("\n| found minus, percentage points | networks | random | residual |\n|---|---|---|---|")
    everything = [pair for pairs in gains.values() for pair in pairs]
    for schedule, pairs in {**gains, "all": everything}.items():
        print(
            f"| {schedule} | {len(pairs)} | {interval([pair[0] for pair in pairs])} | "
            f"{interval([pair[1] for pair in pairs])} |"
        )
    seconds = sum(each.get("seconds", 0.0) for each in (*searches.values(), *found.values(), *drawn.values()))
    print(f"\n{(seconds + sum(each['seconds'] for each in plain.values())) / 60:.0f} minutes of CPU time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the records")
    report(parser.parse_args().out)


if __name__ == "__main__":
    main()
