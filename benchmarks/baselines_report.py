"""Is the network that a search found better than its baselines? Over runs of one configuration with different seeds.

    python benchmarks/baselines_report.py RUN RUN RUN [--metric accuracy]

Each run's final stage must have trained the network found and baselines (``baselines: [largest, random, ...]``).
Differences are in points of a hundred for metrics that are shares. Their 95 % intervals are Student's t over the runs,
so they include the variation between supernets, searches, random networks and trainings.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from scipy import stats

import automl_nas


def measured(run: str, metric: str) -> dict[str, list[float]]:
    """Return role (``found``, ``largest``, ``random``) -> the metric of its networks on the test split."""
    final = automl_nas.open_run(run).final
    if final is None:
        raise SystemExit(f"{run} has no final stage")
    values: dict[str, list[float]] = {}
    for network in final.networks:
        if network.test is None:
            raise SystemExit(f"a network of {run} was not tested: {network.failed}")
        values.setdefault(network.role, []).append(float(network.test[metric]))
    return values


def interval(differences: Sequence[float]) -> str:
    """Return mean and 95 % interval by Student's t, with signs."""
    mean = float(np.mean(differences))
    if len(differences) < 2:
        return f"{mean:+.2f}"
    half = float(stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences))
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"


def main() -> None:
    """Print a row for each run, and the differences."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--metric", default="accuracy")
    arguments = parser.parse_args()
    values = [measured(run, arguments.metric) for run in arguments.runs]
    roles = [role for role in values[0] if role != "found"]
    print(f"| run | found | {' | '.join(roles)} | random networks beaten |")
    print("|---|---|" + "---|" * (len(roles) + 1))
    for run, of_run in zip(arguments.runs, values, strict=True):
        (searched,) = of_run["found"]
        cells = [" ".join(f"{100 * value:.2f}" for value in of_run[role]) for role in roles]
        drawn = of_run.get("random", [])
        beaten = f"{sum(searched > value for value in drawn)} of {len(drawn)}"
        print(f"| {run} | {100 * searched:.2f} | {' | '.join(cells)} | {beaten} |")
    for role in roles:
        differences = [100 * (of_run["found"][0] - float(np.mean(of_run[role]))) for of_run in values]
        print(f"found minus the mean of {role}: {interval(differences)}")


if __name__ == "__main__":
    main()
