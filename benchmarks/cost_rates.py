"""Costed candidates per second: counted, from a table, predicted, measured; and the time for a block.

One run measures everything on the same space. The rows of measurements show the time of a search that measures each
candidate (export and session separately), and the time for each distinct block of a latency table. Run:
``OMP_NUM_THREADS=1 python benchmarks/cost_rates.py``; ``--large`` uses the space of SPOS.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from automl_nas.evaluation import CostTable
from automl_nas.plugin import default_manager
from automl_nas.space import Architecture, SearchSpace, encode
from automl_nas.streams import stream
from automl_nas_costs.latency.export import export
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.latency.session import measure
from automl_nas_costs.models import Flops
from automl_nas_costs.prediction.predictor import Predictor

SMALL = {"num_classes": 10, "input_shape": [3, 32, 32], "widths": [32, 64], "repeats": [4, 4], "strides": [1, 2]}
LARGE = {"num_classes": 1000, "input_shape": [3, 96, 96]}
CODES = 100_000


def timed(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    begin = clock()
    work()
    return clock() - begin


def print_row(title: str, seconds: float, count: int) -> None:
    print(f"{title:58} {count / seconds:14,.1f} /s {1000 * seconds / count:14.5f} ms each", flush=True)


def export_all(space: SearchSpace, architectures: Sequence[Architecture]) -> list[bytes]:
    return [export(space.build(item), space.input_shape) for item in architectures]


def blocks_of(space: SearchSpace, architecture: Architecture) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Return the modules at the paths of the decisions, with the shapes of their inputs."""
    network = space.build(architecture).eval()
    blocks: list[tuple[nn.Module, tuple[int, ...]]] = []
    hooks = []
    for name in space.decisions:
        module = network.get_submodule(name)
        hooks.append(
            module.register_forward_pre_hook(lambda module, args: blocks.append((module, tuple(args[0].shape[1:]))))
        )
    with torch.no_grad():
        network(torch.zeros(1, *space.input_shape))
    for hook in hooks:
        hook.remove()
    return blocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--large", action="store_true", help="the space of SPOS at 96 x 96")
    parser.add_argument("--networks", type=int, default=12, help="measured networks")
    arguments = parser.parse_args()
    space = default_manager().registry.construct(
        "spaces", {"name": "shufflenet_v2", **(LARGE if arguments.large else SMALL)}
    )
    rng = stream(0, "cost_rates")
    architectures = list(dict.fromkeys(space.sample(rng) for _ in range(arguments.networks)))
    print(
        f"{len(space.decisions)} decisions, {space.size:,} architectures; processor time unless marked as wall time\n"
    )

    flops = Flops(space)
    print_row(
        "flops, each network traced",
        timed(lambda: [flops.estimate(item) for item in architectures]),
        arguments.networks,
    )
    table: list[CostTable] = []
    print_row("flops, building the table (once)", timed(lambda: table.append(CostTable.build(flops, space))), 1)
    codes = np.array([encode(space.sample(rng), space.decisions) for _ in range(CODES)])
    many = [space.sample(rng) for _ in range(2000)]
    print_row("table, one at a time", timed(lambda: [table[0].estimate(item) for item in many]), len(many))
    print_row("table, as an array", timed(lambda: table[0].estimates(codes)), CODES)

    models: list[bytes] = []
    print_row("export to ONNX", timed(lambda: models.extend(export_all(space, architectures))), len(architectures))
    options = LatencyOptions()
    measurements = []
    measuring = timed(lambda: measurements.extend(measure(models, options)), time.perf_counter)
    print_row(f"measured, {options.rounds} rounds, all in one session (wall)", measuring, len(models))
    alone = timed(lambda: measure(models[:1], options), time.perf_counter)
    print_row("measured alone (wall)", alone, 1)
    parts = blocks_of(space, architectures[0])
    exported: list[bytes] = []
    work = timed(lambda: exported.extend(export(module, shape) for module, shape in parts))
    print_row("export of a block", work, len(parts))
    work = timed(lambda: measure(exported, options), time.perf_counter)
    print_row("blocks measured, all in one session (wall)", work, len(parts))
    print(f"the control network drifted by {100 * measurements[0].details['control']['drift']:.0f} %")

    values = [item.value for item in measurements]
    predictors: list[Predictor] = []
    print_row(
        "predictor, fitted to these (once)",
        timed(lambda: predictors.append(Predictor(space, architectures, values))),
        1,
    )
    print_row("predictor, one at a time", timed(lambda: [predictors[0].estimate(item) for item in many[:200]]), 200)
    print_row("predictor, as an array", timed(lambda: predictors[0].estimates(codes[:10_000])), 10_000)


if __name__ == "__main__":
    main()
