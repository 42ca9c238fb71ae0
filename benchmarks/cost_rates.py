"""How many candidates a second can be costed: counted, from a table, predicted, measured; and what a block costs.

One run measures everything on the same space. The measured rows say what a search pays that measures each candidate
anew (export and session apart), and what each distinct block of a latency table costs. Run:
``OMP_NUM_THREADS=1 python benchmarks/cost_rates.py``; ``--large`` takes the space of SPOS.
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


def row(what: str, seconds: float, count: int) -> None:
    print(f"{what:58} {count / seconds:14,.1f} /s {1000 * seconds / count:14.5f} ms each", flush=True)


def export_all(space: SearchSpace, architectures: Sequence[Architecture]) -> list[bytes]:
    return [export(space.build(item), space.input_shape) for item in architectures]


def blocks(space: SearchSpace, architecture: Architecture) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """Return the modules that stand where the decisions are named, with the shapes of their inputs."""
    network = space.build(architecture).eval()
    found: list[tuple[nn.Module, tuple[int, ...]]] = []
    hooks = []
    for name in space.decisions:
        module = network.get_submodule(name)
        hooks.append(
            module.register_forward_pre_hook(lambda module, args: found.append((module, tuple(args[0].shape[1:]))))
        )
    with torch.no_grad():
        network(torch.zeros(1, *space.input_shape))
    for hook in hooks:
        hook.remove()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--large", action="store_true", help="the space of SPOS at 96 x 96")
    parser.add_argument("--networks", type=int, default=12, help="measured networks")
    given = parser.parse_args()
    space = default_manager().registry.construct(
        "spaces", {"name": "shufflenet_v2", **(LARGE if given.large else SMALL)}
    )
    rng = stream(0, "cost_rates")
    architectures = list(dict.fromkeys(space.sample(rng) for _ in range(given.networks)))
    print(f"{len(space.decisions)} decisions, {space.size:,} architectures; processor time unless wall time is said\n")

    flops = Flops(space)
    row("flops, each network traced", timed(lambda: [flops.estimate(item) for item in architectures]), given.networks)
    table: list[CostTable] = []
    row("flops, making the table (once)", timed(lambda: table.append(CostTable.build(flops, space))), 1)
    codes = np.array([encode(space.sample(rng), space.decisions) for _ in range(CODES)])
    many = [space.sample(rng) for _ in range(2000)]
    row("table, one at a time", timed(lambda: [table[0].estimate(item) for item in many]), len(many))
    row("table, as an array", timed(lambda: table[0].estimates(codes)), CODES)

    models: list[bytes] = []
    row("export to ONNX", timed(lambda: models.extend(export_all(space, architectures))), len(architectures))
    options = LatencyOptions()
    found = []
    measuring = timed(lambda: found.extend(measure(models, options)), time.perf_counter)
    row(f"measured, {options.rounds} rounds, all in one session (wall)", measuring, len(models))
    alone = timed(lambda: measure(models[:1], options), time.perf_counter)
    row("measured alone (wall)", alone, 1)
    parts = blocks(space, architectures[0])
    exported: list[bytes] = []
    work = timed(lambda: exported.extend(export(module, shape) for module, shape in parts))
    row("export of a block", work, len(parts))
    work = timed(lambda: measure(exported, options), time.perf_counter)
    row("blocks measured, all in one session (wall)", work, len(parts))
    print(f"control moved by {100 * found[0].details['control']['drift']:.0f} %")

    values = [item.value for item in found]
    made: list[Predictor] = []
    row("predictor, fitted on these (once)", timed(lambda: made.append(Predictor(space, architectures, values))), 1)
    row("predictor, one at a time", timed(lambda: [made[0].estimate(item) for item in many[:200]]), 200)
    row("predictor, as an array", timed(lambda: made[0].estimates(codes[:10_000])), 10_000)


if __name__ == "__main__":
    main()
