"""A million architectures of the SPOS space costed from a table, compared with one network counted by tracing it.

If fvcore is installed, it is compared too. It also counts normalisation and pooling, so only its numbers for
convolutions and linear layers are summed.

    python benchmarks/cost_table.py [--architectures 1000000] [--checked 50] [--repeats 9]
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import random
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from automl_nas.evaluation import CostTable
from automl_nas.space import Architecture, SearchSpace, decode
from automl_nas.streams import stream, stream_seed
from automl_nas_costs.models import Flops
from automl_nas_spaces.shufflenet_v2 import shufflenet_v2


def seconds(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the median time of a call and its last result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def fvcore_counter(space: SearchSpace, architecture: Architecture) -> Callable[[], int]:
    from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    network = space.build(architecture).eval()
    image = torch.zeros(1, *space.input_shape)

    def count() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            operators = FlopCountAnalysis(network, image).by_operator()
        return int(operators["conv"] + operators["linear"])

    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--architectures", type=int, default=1_000_000)
    parser.add_argument("--checked", type=int, default=50, help="the number of them that are also counted by tracing")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    settings = parser.parse_args()

    space = shufflenet_v2(variant="final")
    model = Flops(space)
    width = len(space.decisions)
    rng = np.random.default_rng(stream_seed(settings.seed, "benchmark"))
    codes = rng.integers(0, 4, (settings.architectures, width), dtype=np.int8)
    one = decode(codes[0].tolist(), space.decisions)

    model.estimate(one)  # the first call imports torch's meta kernels
    build, table = seconds(lambda: CostTable.build(model, space, seed=settings.seed), 1)
    many, values = seconds(lambda: table.estimates(codes), settings.repeats)
    single, _ = seconds(lambda: [table.estimate(one) for _ in range(1000)], settings.repeats)
    counted, exact = seconds(lambda: model.estimate(one), settings.repeats)
    counting, below = seconds(lambda: table.count(high=330e6), 1)
    draws, _ = seconds(lambda: [table.sample(stream(settings.seed, "draw"), 290e6, 330e6) for _ in range(100)], 3)

    rows = [
        (f"table: {settings.architectures:,} architectures", many),
        ("table: one architecture", single / 1000),
        ("table: one uniform draw from 290M..330M", draws / 100),
        (f"table: the number of architectures <= 330M: {below:,}", counting),
        ("table: building and verifying it, once", build),
        ("meta tensors: one network, built and counted", counted),
    ]
    if importlib.util.find_spec("fvcore"):
        traced, theirs = seconds(fvcore_counter(space, one), settings.repeats)
        rows.append(("fvcore: one network, already built", traced))
        assert theirs == exact == values[0], (theirs, exact, values[0])
    else:
        print("fvcore is not installed, so it is not compared")

    print(f"{'':58} {'seconds':>12}")
    for name, taken in rows:
        print(f"{name:58} {taken:12.6f}")
    print(f"one network on meta tensors takes as long as {counted / many * settings.architectures:,.0f} from the table")

    positions = random.Random(settings.seed).sample(range(settings.architectures), settings.checked)
    wrong = sum(
        model.estimate(decode(codes[position].tolist(), space.decisions)) != values[position] for position in positions
    )
    print(f"{settings.checked} of the values compared with traced networks: {wrong} differ")
    assert not wrong


if __name__ == "__main__":
    main()
