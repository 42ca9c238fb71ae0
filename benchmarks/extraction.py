"""The time to extract a stand-alone network from an ImageNet-size supernet, compared with ``copy.deepcopy``.

Both sides copy the same weights: ``copy.deepcopy`` copies the extracted network, and ``supernet.extract`` also selects
one of 4 candidates in each of 20 blocks. They run in interleaved pairs (ABBA) on the same architectures. The interval
of the ratio is a bootstrap over pairs. With `--compiled` the process has compiled a module before, which replaces
methods of `nn.Module`. With `--model` the supernet is that of a model of torchvision, and extraction slices the weights
instead of selecting candidates.

    python benchmarks/extraction.py --pairs 100 [--compiled] [--model mobilenet_v2]
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from automl_nas.space import SupernetSpace
from automl_nas.streams import stream
from automl_nas_elastic import ElasticSpace
from automl_nas_elastic.models import load_model
from automl_nas_spaces.shufflenet_v2 import shufflenet_v2


def milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - begun)


def interval(ratios: Sequence[float], rng: random.Random, draws: int = 2000) -> tuple[float, float]:
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(draws))
    return medians[int(0.025 * draws)], medians[int(0.975 * draws)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--pairs", type=int, default=100, help="the number of timed pairs")
    arguments.add_argument("--seed", type=int, default=0, help="the seed of the architectures")
    arguments.add_argument("--compiled", action="store_true", help="compile a module first")
    arguments.add_argument("--model", help="a model of torchvision, whose narrower networks are extracted")
    options = arguments.parse_args()
    if options.pairs < 1:
        arguments.error("--pairs must be at least 1")

    if options.compiled:
        torch.compile(nn.ReLU(), backend="eager")(torch.zeros(1))
    space: SupernetSpace
    if options.model:
        space = ElasticSpace(load_model(options.model, {}, None), input_shape=(3, 224, 224))
    else:
        space = shufflenet_v2()
    supernet = space.build_supernet().eval()
    extract: list[float] = []
    deepcopy: list[float] = []
    for number in range(-3, options.pairs):  # the first three pairs are a warm-up
        architecture = space.sample(stream(options.seed, "extraction", number + 3))
        network = supernet.extract(architecture)
        sides: list[tuple[list[float], Callable[[], object]]] = [
            (extract, lambda a=architecture: supernet.extract(a)),  # type: ignore[misc]
            (deepcopy, lambda n=network: copy.deepcopy(n)),  # type: ignore[misc]
        ]
        for times, work in sides[:: 1 if number % 2 else -1]:
            spent = milliseconds(work)
            if number >= 0:
                times.append(spent)

    parameters = sum(parameter.numel() for parameter in supernet.parameters())
    print(f"supernet of {parameters:,} parameters, {options.pairs} architectures")
    print(f"{'':24}{'median ms':>10}{'95th percentile ms':>20}")
    for name, times in (("supernet.extract", extract), ("copy.deepcopy", deepcopy)):
        print(f"{name:24}{statistics.median(times):>10.1f}{sorted(times)[int(0.95 * len(times))]:>20.1f}")
    ratios = [one / other for one, other in zip(extract, deepcopy, strict=True)]
    low, high = interval(ratios, stream(options.seed, "bootstrap"))
    print(
        f"extract / deepcopy, median of pairs: {statistics.median(ratios):.2f} (95 % interval {low:.2f} to {high:.2f})"
    )


if __name__ == "__main__":
    main()
