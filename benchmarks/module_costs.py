"""Costs of networks of a model's space, added up from modules that were counted before, with counting each network.

    python benchmarks/module_costs.py [--models mobilenet_v2 resnet50] [--networks 30]

The architectures are those that a search looks at: random ones, and all neighbours of each. `TabulatedCost` estimates
all of them. One of 40 is also counted by the cost model, in turns with the others; both costs must be equal.
"""

from __future__ import annotations

import argparse
import random
import time

from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.torchvision_import import import_torchvision
from automl_nas_costs.models import Flops
from automl_nas_elastic import ElasticSpace

COUNTED = 40


def measure(name: str, networks: int) -> None:
    """Print one line of the table."""
    model = getattr(import_torchvision("torchvision.models"), name)().eval()
    space = ElasticSpace(model, input_shape=(3, 224, 224))
    cost, counting = TabulatedCost(Flops(space), space), Flops(space)
    rng = random.Random(0)
    architectures = []
    for _ in range(networks):
        drawn = space.sample(rng)
        architectures.append(drawn)
        for decision_name, decision in space.decisions.items():
            architectures += [
                drawn.replace({decision_name: option}) for option in decision.neighbours(drawn[decision_name])
            ]
    summed, counted = [], []
    for number, architecture in enumerate(architectures):
        begun = time.process_time()
        value = cost.estimate(architecture)
        summed.append(time.process_time() - begun)
        if number % COUNTED == 0:
            begun = time.process_time()
            assert counting.estimate(architecture) == value
            counted.append(time.process_time() - begun)
    each = 1000 * sum(counted) / len(counted)
    parts = [summed[:1000], summed[-1000:]]
    cells = " | ".join(f"{(mean := 1000 * sum(part) / len(part)):.2f} ms ({mean / each:.2f})" for part in parts)
    total = 1000 * sum(summed) / len(summed)
    print(
        f"| {name} | {len(space.decisions)} | {len(summed):,} | {each:.1f} ms | {cells} | {total / each:.2f} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mobilenet_v2", "resnet50"])
    parser.add_argument("--networks", type=int, default=60, help="random networks whose neighbours are estimated, too")
    options = parser.parse_args()
    print("| model | decisions | networks | counting | sums, first 1,000 | sums, last 1,000 | ratio, all |")
    print("|---|---|---|---|---|---|---|")
    for name in options.models:
        measure(name, options.networks)


if __name__ == "__main__":
    main()
