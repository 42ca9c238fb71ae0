"""Networks derived under three limits on FLOPs, compared with the best of 100,000 rejection draws.

It reads the trained alpha of finished runs of differentiable strategies on NAS-Bench-201 (`automl-nas
compare-one-shot`), and derives the most probable network within a quarter, a half and three quarters of the largest
FLOPs. Beside it: the most probable feasible one of 100,000 draws from the probabilities, and of all 15,625 networks.

    python benchmarks/derived_limits.py runs/one-shot/nasbench201/*/seed-* [--draws 100000]
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from automl_nas.evaluation import TabulatedCost
from automl_nas.run import open_run
from automl_nas.strategy import Problem, parse_constraint
from automl_nas_benchmarks.spaces.nasbench201 import NASBench201
from automl_nas_costs.models import Flops
from automl_nas_gradient.deriving import Deriver, DeriveSettings

SHARES = (0.25, 0.5, 0.75)
GRADIENT = ("darts", "gdas", "proxyless", "fbnet", "drnas")


def log_probabilities(name: str, alpha: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities of the options, shape ``(decisions, options)``."""
    if name != "drnas":
        return alpha.log_softmax(1)
    beta = F.elu(alpha) + 1
    return (beta / beta.sum(1, keepdim=True)).log()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--draws", type=int, default=100_000)
    options = parser.parse_args()
    space = NASBench201(channels=8, cells=1, input_shape=(3, 16, 16))
    cost = TabulatedCost(Flops(space), space)
    names, count = list(space.decisions), 5
    every = np.array(list(itertools.product(range(count), repeat=len(names))))
    costs = np.array([cost.estimate(space.architecture("".join(map(str, row)))) for row in every])
    cells = feasible = best = optimal = 0
    margins, accepted = [], []
    for directory in options.runs:
        config = open_run(directory).parts.config["stages"][-1]
        strategy = config["strategy"]["name"]
        file = directory / "artifacts" / config["name"] / "alpha.safetensors"
        if strategy not in GRADIENT:
            continue
        saved = load_file(file)
        logs = log_probabilities(strategy, torch.stack([saved[name] for name in names]).double())
        scores = {name: row.tolist() for name, row in zip(names, logs, strict=True)}
        sums = logs.numpy()[np.arange(len(names)), every].sum(1)
        rng = np.random.default_rng(0)
        drawn = np.stack([rng.choice(count, options.draws, p=row / row.sum()) for row in logs.exp().numpy()], axis=1)
        places = drawn @ (count ** np.arange(len(names))[::-1])
        for share in SHARES:
            limit = share * costs.max()
            problem = Problem({"accuracy": "maximize"}, [parse_constraint("flops", f"<= {limit}")], {"flops": cost})
            derived = Deriver(space, problem, DeriveSettings())(scores)[0]
            within = sums[places][costs[places] <= limit]
            rejection = within.max() if len(within) else -np.inf
            cells += 1
            feasible += problem.feasible(derived.architecture)
            # Both are sums of six logarithms in another order, with a rounding of about 1e-15.
            best += derived.log_probability >= rejection - 1e-12
            optimal += abs(derived.log_probability - sums[costs <= limit].max()) < 1e-12
            margins.append(derived.log_probability - rejection)
            accepted.append(len(within) / options.draws)
    limits = ", ".join(f"{share:.0%}" for share in SHARES)
    print(f"{cells} networks derived, under limits of {limits} of the largest FLOPs")
    print(f"feasible: {feasible}; at least as probable as the best of {options.draws:,} rejection draws: {best}")
    print(f"the most probable of all feasible networks: {optimal}")
    print(f"log-probability ahead of the rejection draws: mean {np.mean(margins):.3g}, largest {np.max(margins):.3g}")
    print(f"share of draws that meet the limit: {np.min(accepted):.3f} to {np.max(accepted):.3f}")


if __name__ == "__main__":
    main()
