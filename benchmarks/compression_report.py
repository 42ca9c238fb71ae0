"""The tables of `benchmarks/compression.py`: accuracies, costs, and ours minus the other methods.

python benchmarks/compression_report.py OUT
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import t as student

OURS = ("ours", "ours_rerank", "ours_steps", "ours_narrowed", "ours_equal", "ours_three")


def interval(values: Sequence[float]) -> str:
    """Return mean and 95 % interval of Student's t of accuracies, in per cent."""
    percent = [100 * value for value in values]
    mean = statistics.mean(percent)
    if len(percent) < 2:
        return f"{mean:.2f}"
    half = student.ppf(0.975, len(percent) - 1) * statistics.stdev(percent) / len(percent) ** 0.5
    return f"{mean:.2f} ({mean - half:.2f} to {mean + half:.2f})"


def print_report(out: Path) -> None:
    """Print accuracies and costs of all methods, and ours minus the others."""
    cells: dict[tuple[str, float, str], dict[int, list[dict[str, Any]]]] = {}
    for file in sorted(out.glob("results-*.jsonl")):
        for line in map(json.loads, file.open()):
            roles: dict[str, list[dict[str, Any]]] = {}
            for network in line["networks"]:
                role = line["method"]
                if network.get("role") == "equal":  # a random network of the cost of this method, with its training
                    role = "random" if role == "ours" else f"random, {role}"
                roles.setdefault(role, []).append(network)
            for role, networks in roles.items():
                cells.setdefault((line["model"], line["limit"], role), {})[line["seed"]] = networks
    order = (
        "original",
        "ours",
        "ours_rerank",
        "ours_steps",
        "ours_narrowed",
        "ours_equal",
        "ours_three",
        "random",
        "random, ours_narrowed",
        "random, ours_equal",
        "pruned",
        "pruned_short",
        "uniform",
        "uniform_short",
        "uniform_budget",
    )
    keys = sorted(cells, key=lambda each: (each[0], -each[1], order.index(each[2])))
    print("| model | limit | method | accuracy of each seed | mean | multiply-adds | parameters |")
    print("|---|---|---|---|---|---|---|")
    for each in keys:
        seeds = sorted(cells[each].items())
        own = [statistics.mean(network["accuracy"] for network in networks) for _, networks in seeds]
        costs = [
            f"{statistics.mean(n[cost] for _, networks in seeds for n in networks) / 1000:,.0f}k"
            for cost in ("flops", "params")
        ]
        text = ", ".join(f"{100 * value:.2f}" for value in own)
        print(f"| {each[0]} | {each[1]:.0%} | {each[2]} | {text} | {interval(own)} | {costs[0]} | {costs[1]} |")
    print("\n| model | limit | difference | percentage points |\n|---|---|---|---|")
    for model, limit, method in keys:
        for own in OURS:
            ours, other = cells.get((model, limit, own), {}), cells[model, limit, method]
            seeds = [seed for seed in sorted(other) if seed in ours]
            if method in (*OURS, "original") or not seeds:
                continue
            means = [{s: statistics.mean(n["accuracy"] for n in side[s]) for s in seeds} for side in (ours, other)]
            text = interval([means[0][s] - means[1][s] for s in seeds])
            print(f"| {model} | {limit:.0%} | {own} minus {method} | {text} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    print_report(parser.parse_args().out)
