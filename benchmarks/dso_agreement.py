"""Which edges DSO-NAS leaves: do two seeds agree, and what does the gradient of lambda contain.

    python benchmarks/dso_agreement.py DATA.npz OUT [--stem-strides 2] [--seeds 3] [--rules l1 hoyer ...] [--report]

Searches as `dso_quality.py` does (three blocks of 4 x 4 operations with 8, 16 and 32 channels), each rule with several
seeds. A rule sets how edges are removed; every rule but `l1-k5` aims at the same number of edges, as far as its setting
allows. For each pair of seeds of a rule: the Jaccard index J of the live edges, the index E that independent draws of
these sizes have on average, and (J - E) / (1 - E). At four points of phase 2 of each search the gradient of lambda is
computed on 16 batches of the split of lambda, and divided at each node into its radial part, along lambda, and the
rest, the tangential part: the share of the radial part in its norm, and signal to noise of the tangential part.

Each search writes a JSON file to OUT and is skipped if the file exists, so the script may be interrupted and started
again. `--report` prints the tables of the existing files.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from dso_quality import PROBLEM, Experiment, make_parser
from torch import Tensor

from automl_nas.errors import RunFailedError
from automl_nas.evaluation import NumberedBatches
from automl_nas.space import Architecture
from automl_nas.streams import stream_seed
from automl_nas.testing import SimulatedServices, finished
from automl_nas_dso.strategy import DSO
from automl_nas_vision.npz import Npz

PROBED_BATCHES = 16
PROBED = (0.0, 0.3, 0.6, 0.9)
"""Shares of phase 2 at which the gradient of lambda is looked at."""

RULES: Mapping[str, Mapping[str, Any]] = {
    "l1": {"k": 2.0},
    "l1-k5": {"k": 5.0},
    "hoyer": {"k": 2.0, "penalty": "hoyer"},
    "l1-decay": {"k": 2.0, "lambda_weight_decay": 1e-2},
    "target": {"sparsity": {"edges": 0.25}},
    "hoyer-target": {"sparsity": {"edges": 0.25}, "penalty": "hoyer"},
    "sensitivity": {"sparsity": {"edges": 0.25}, "ranking": "sensitivity"},
    "norm": {"k": 2.0, "keep_norm": True},
    "norm-target": {"sparsity": {"edges": 0.25}, "keep_norm": True},
    "target-longer": {"sparsity": {"edges": 0.25}, "longer": 6},
    "norm-longer": {"sparsity": {"edges": 0.25}, "keep_norm": True, "longer": 6},
    "l1-long": {"k": 2.0, "longer": 3},
    "sensitivity-long": {"sparsity": {"edges": 0.25}, "ranking": "sensitivity", "longer": 3},
    "sensitivity-longer": {"sparsity": {"edges": 0.25}, "ranking": "sensitivity", "longer": 6},
}


def make(options: argparse.Namespace, rule: Mapping[str, Any], seed: int) -> tuple[DSO, Npz]:
    """Return the strategy of a search at its start, and its task."""
    settings = dict(rule)
    first, second = options.epochs
    epochs = (first, second * settings.pop("longer", 1), 0)
    experiment = Experiment(options.data, options.out, tuple(options.stem_strides), epochs)
    if "k" in settings:
        settings["gamma"] = experiment.gamma(settings.pop("k"))
    return experiment.dso(seed, **settings), experiment.task


def search(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Search with one rule and one seed; return the live edges and the measurements of the gradient."""
    begun = time.process_time()
    strategy, task = make(options, RULES[name], seed)
    services = SimulatedServices(lambda number, proposal: finished(PROBLEM, number, proposal, {}))
    per_epoch = task.batches_per_epoch("train")
    first = options.epochs[0] * per_epoch
    length = options.epochs[1] * RULES[name].get("longer", 1) * per_epoch
    points = {first + round(share * length / per_epoch) * per_epoch: share for share in PROBED}
    probes = []
    try:
        while not strategy.done:
            iteration = strategy._training.iteration
            if iteration in points:
                probes.append({"share": points.pop(iteration), **probe(strategy, task, seed)})
            strategy.step(services)
    except RunFailedError as error:
        return {"rule": name, "seed": seed, "dead": str(error), "probes": probes}
    (trial,) = services.trials()
    return {
        "rule": name,
        "seed": seed,
        "edges": edges(trial.architecture),
        "total": len(strategy._gates.edges),
        "probes": probes,
        "seconds": time.process_time() - begun,
    }


def edges(architecture: Architecture) -> list[str]:
    """Return the live edges of an architecture."""
    return [f"{name}<-{source}" for name, value in architecture.items() for source in value]  # type: ignore[union-attr]


def probe(strategy: DSO, task: Npz, seed: int) -> dict[str, float]:
    """Return what the gradient of lambda contains at this point of the search, which is not changed.

    Returns:
        Medians over nodes. ``radial``: ``||radial part|| / ||gradient||`` of the mean gradient; ``radial_random``: what
        a random direction has, the root of 1 / n; ``signal``: the norm of the mean tangential part over the norm of its
        standard error, about 1 without a signal.
    """
    training, gates = strategy._training, strategy._gates
    state = {name: value.clone() for name, value in strategy._supernet.state_dict().items()}
    batches = NumberedBatches(task, "search", stream_seed(seed, "probe"), strategy._setup.runtime)
    gradients = []
    for number in range(PROBED_BATCHES):
        inputs, targets = batches.take(number)
        loss = training._loss(strategy._supernet, inputs, targets, gates.selection(gates.values))
        gradients.append(torch.autograd.grad(loss, gates.values, materialize_grads=True)[0].double())
    strategy._supernet.load_state_dict(state)
    stacked, values = torch.stack(gradients), gates.values.detach().double()
    radial, expected, signal = [], [], []
    start = 0
    for decision in strategy._setup.space.decisions.values():
        places = torch.arange(start, start + len(decision.options))
        places = places[gates.present[places]]
        start += len(decision.options)
        if len(places) > 1 and bool(values[places].any()):
            share, noise = decompose(stacked[:, places], values[places])
            radial.append(share)
            expected.append(len(places) ** -0.5)
            signal.append(noise)
    median = statistics.median
    return {"radial": median(radial), "radial_random": median(expected), "signal": median(signal)}


def decompose(gradients: Tensor, values: Tensor) -> tuple[float, float]:
    """Return the share of the radial part, and the signal to noise ratio of the tangential part.

    Args:
        gradients: of several batches, shape ``(batches, edges of a node)``.
        values: lambda, shape ``(edges of a node,)``.
    """
    direction = values / values.norm()
    mean = gradients.mean(0)
    share = float((mean @ direction).abs() / mean.norm().clamp_min(1e-30))
    tangential = gradients - (gradients @ direction)[:, None] * direction
    error = tangential.std(0) / math.sqrt(len(gradients))
    return share, float(tangential.mean(0).norm() / error.norm().clamp_min(1e-30))


def agreement(first: Sequence[str], second: Sequence[str], total: int) -> tuple[float, float]:
    """Return the Jaccard index of two sets of edges, and that of independent draws of their sizes.

    The second is ``E / (a + b - E)`` at the mean size ``E = a b / total`` of the intersection.
    """
    a, b = set(first), set(second)
    both = len(a) * len(b) / total
    return len(a & b) / len(a | b), both / (len(a) + len(b) - both)


def report(out: Path) -> None:
    """Print the tables of the existing files."""
    records: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(out.glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        records.setdefault(record["rule"], []).append(record)
    print("| rule | seeds | edges left | Jaccard index | by chance | beyond chance |")
    print("|---|---|---|---|---|---|")
    for rule in [name for name in RULES if name in records]:
        alive = [each for each in records[rule] if "edges" in each]
        pairs = [agreement(a["edges"], b["edges"], a["total"]) for a, b in itertools.combinations(alive, 2)]
        sizes = ", ".join(str(len(each["edges"])) for each in alive)
        if not pairs:
            print(f"| `{rule}` | {len(alive)} of {len(records[rule])} | {sizes} | | | |")
            continue
        beyond = [(j - e) / (1 - e) for j, e in pairs]
        spread = ", ".join(f"{value:.2f}" for value in beyond)
        means = [statistics.mean(values) for values in zip(*pairs, strict=True)]
        print(
            f"| `{rule}` | {len(alive)} of {len(records[rule])} | {sizes} | {means[0]:.2f} | {means[1]:.2f} | "
            f"{statistics.mean(beyond):.2f} ({spread}) |"
        )
    print("\n| rule | at | radial share of the gradient | of a random direction | tangential signal / noise |")
    print("|---|---|---|---|---|")
    for rule in [name for name in RULES if name in records]:
        for share in PROBED:
            probes = [each for record in records[rule] for each in record["probes"] if each["share"] == share]
            if probes:
                means = [statistics.mean(each[key] for each in probes) for key in ("radial", "radial_random", "signal")]
                print(f"| `{rule}` | {share:g} | {means[0]:.1e} | {means[1]:.2f} | {means[2]:.2f} |")


def main() -> None:
    parser = make_parser(__doc__, "phase 1", "phase 2")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each rule")
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES), help="rules to run")
    parser.add_argument("--report", action="store_true", help="print the tables of existing files and run nothing")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.report:
        for seed, rule in itertools.product(range(options.seeds), options.rules):
            file = options.out / f"{rule}-s{seed}.json"
            if not file.exists():
                record = search(options, rule, seed)
                file.with_suffix(".part").write_text(json.dumps(record) + "\n", encoding="utf-8")
                file.with_suffix(".part").replace(file)
                left = len(record.get("edges", []))
                print(time.strftime("%H:%M:%S"), rule, seed, left, record.get("seconds"), flush=True)
    report(options.out)


if __name__ == "__main__":
    main()
