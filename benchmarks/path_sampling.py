"""Microseconds to draw a training path by its costs: from the cost table, and by rejection of uniform paths.

In the space of SPOS for ImageNet (4^20 paths), three ways to draw: one of the seven bins of 10M FLOPs from 290M to 360M
and a path in it (the authors' training), a path at or under 330M FLOPs, and one at or under 330M FLOPs and 3.2M
parameters. Draws from the table are exactly uniform. Rejection draws uniform paths, with their costs from the same
table, until one is inside. Both sides alternate in batches; the interval of the ratio is a bootstrap over batches.

    OMP_NUM_THREADS=1 python benchmarks/path_sampling.py --batches 40
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence

from automl_nas.evaluation import CostInterval, CostModel, CostSampler, CostTable
from automl_nas.space import Architecture, sample
from automl_nas.streams import stream
from automl_nas_costs.models import Flops, Params
from automl_nas_spaces.shufflenet_v2 import shufflenet_v2

BINS = [(1e6 * low, 1e6 * (low + 10)) for low in range(290, 360, 10)]


def interval(ratios: Sequence[float], rng: random.Random, draws: int = 2000) -> tuple[float, float]:
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(draws))
    return medians[int(0.025 * draws)], medians[int(0.975 * draws)]


def built(model: CostModel) -> CostTable:
    begun = time.perf_counter()
    table = CostTable.build(model, space)
    print(f"{model.metric}: table built and verified in {time.perf_counter() - begun:.1f} s")
    return table


def samplers(regions: Sequence[Sequence[CostInterval]]) -> list[CostSampler]:
    begun = time.perf_counter()
    ready = [CostSampler(region) for region in regions]
    counts = [each.count for each in ready]
    seconds = time.perf_counter() - begun
    print(f"  counted in {1e3 * seconds:.1f} ms: {', '.join(f'{count:,}' for count in counts)}")
    return ready


def compare(title: str, regions: Sequence[Sequence[CostInterval]], batches: int, draws: int) -> None:
    """Time both sides on the same regions, one of which is drawn for each path."""
    print(title)
    ready = samplers(regions)
    rejected = [0, 0]

    def from_table(rng: random.Random) -> Architecture:
        return ready[rng.randrange(len(ready))].sample(rng)

    def by_rejection(rng: random.Random) -> Architecture:
        region = regions[rng.randrange(len(regions))]
        rejected[0] += 1
        while True:
            rejected[1] += 1
            path = sample(decisions, rng)
            if all(each.low <= each.table.estimate(path) <= each.high for each in region):
                return path

    sides: list[tuple[Callable[[random.Random], Architecture], list[float]]] = [(from_table, []), (by_rejection, [])]
    for number in range(-2, batches):  # the first two batches are a warm-up
        for work, times in sides[:: 1 if number % 2 else -1]:
            rng = stream(0, title, number + 2)
            begun = time.perf_counter()
            for _ in range(draws):
                work(rng)
            if number >= 0:
                times.append(1e6 * (time.perf_counter() - begun) / draws)
    ratios = [slow / fast for fast, slow in zip(sides[0][1], sides[1][1], strict=True)]
    low, high = interval(ratios, stream(0, "bootstrap"))
    print(f"  from the table    {statistics.median(sides[0][1]):>8.0f} us a path")
    print(
        f"  by rejection      {statistics.median(sides[1][1]):>8.0f} us a path, {rejected[1] / rejected[0]:.1f} draws "
        "each"
    )
    print(
        f"  rejection / table, median of pairs: {statistics.median(ratios):.2f} (95 % interval {low:.2f} to {high:.2f})"
    )


arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
arguments.add_argument("--batches", type=int, default=40, help="the number of timed batches of each side")
arguments.add_argument("--draws", type=int, default=100, help="the number of paths in a batch")
options = arguments.parse_args()
if min(options.batches, options.draws) < 1:
    arguments.error("--batches and --draws must be at least 1")

space = shufflenet_v2()
decisions = space.decisions
flops, params = built(Flops(space)), built(Params(space))
compare(
    "one of seven bins of FLOPs, then a path in it",
    [[CostInterval(flops, *b)] for b in BINS],
    options.batches,
    options.draws,
)
compare("at or under 330M FLOPs", [[CostInterval(flops, high=330e6)]], options.batches, options.draws)
both = [CostInterval(flops, high=330e6), CostInterval(params, high=3.2e6)]
compare("at or under 330M FLOPs and 3.2M parameters", [both], options.batches, options.draws)
