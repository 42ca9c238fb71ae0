"""The time of a pass on meta tensors, which finds the shapes in a network: `MetaPass` compared with torch alone.

    python benchmarks/meta_pass.py [--spaces mlp convnext vit] [--networks 30]

Random networks of each space are built without data and run once with torch alone and once within `MetaPass`, in turns.
Ten networks before them fill what `MetaPass` remembers. The script prints milliseconds of processor time for a pass,
the medians over the networks, and the median of the paired ratios with its 95 % interval.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from supernet_step import interval
from torch import nn

from automl_nas.space import MetaPass, ModuleSpace, sample
from automl_nas.streams import stream
from automl_nas_spaces.convnext import convnext
from automl_nas_spaces.mlp import mlp
from automl_nas_spaces.vit import vit

SPACES: dict[str, Callable[[], ModuleSpace]] = {
    "mlp": lambda: mlp(input_shape=(64,), num_classes=10),
    "convnext": lambda: convnext(input_shape=(3, 32, 32), num_classes=10),
    "vit": lambda: vit(input_shape=(3, 32, 32), num_classes=10),
}
WARM_UP = 10


def seconds(network: nn.Module, shape: tuple[int, ...], context: AbstractContextManager[Any]) -> float:
    """Return the processor time of a pass of one input."""
    x = torch.zeros(1, *shape, device="meta")
    begun = time.process_time()
    with torch.no_grad(), context:
        network(x)
    return time.process_time() - begun


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", choices=SPACES, default=list(SPACES))
    parser.add_argument("--networks", type=int, default=30)
    options = parser.parse_args()
    print("| space | torch | MetaPass | ratio [95 % interval] |\n|---|---|---|---|")
    for name in options.spaces:
        space, rng = SPACES[name](), stream(0, "networks")
        spent = np.zeros((WARM_UP + options.networks, 2))
        for place in range(len(spent)):
            with torch.device("meta"):
                network = space.build(sample(space.decisions, rng)).eval()
            for side in (0, 1) if place % 2 else (1, 0):
                spent[place, side] = seconds(
                    network, space.input_shape, MetaPass() if side else contextlib.nullcontext()
                )
        spent = spent[WARM_UP:]
        ratios = spent[:, 1] / spent[:, 0]
        low, high = interval(ratios)
        cells = " | ".join(f"{1000 * median:.1f} ms" for median in np.median(spent, axis=0))
        print(f"| {name} | {cells} | {np.median(ratios):.2f} [{low:.2f}, {high:.2f}] |", flush=True)


if __name__ == "__main__":
    main()
