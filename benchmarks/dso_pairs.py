"""Pairs of networks of equal FLOPs, one found by DSO-NAS and one random, both as wide as a budget of FLOPs allows.

    python benchmarks/dso_pairs.py DATA.npz OUT [--stem-strides 2] [--seeds 0 1 2] [--edges 0.25 0.1] [--rule l1]
    python benchmarks/dso_pairs.py DATA.npz OUT --report [--against OTHER]

Searches as `dso_quality.py` does (three blocks of 4 x 4 operations with 8, 16 and 32 channels) with a share of the
edges as the target, by sensitivity or by the L1 norm of the paper. The budget is the FLOPs of the plain residual
network of width 10. The network that is found gets the largest width whose FLOPs are within the budget, as
`final.space.width: {fit: ...}` does; the random network has the same width, and FLOPs that differ by at most 3 %. Both
are trained from scratch on all training images, and so is the residual network. The protocol is in
docs/results/sparsity.md.

Each search and each training writes a JSON file to OUT and is skipped if the file exists, so the script may be
interrupted and started again, and several processes may work on different seeds. `--report` prints the table of the
existing files; with `--against` also how the networks of the other folder differ that were found with the same seeds.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from dso_quality import SPACE, Experiment, Row, make_parser
from dso_quality_report import Record, interval, load
from scipy import stats

from automl_nas.space import Architecture
from automl_nas_costs.models import Flops
from automl_nas_dso.space.dso_space import DsoSpace
from automl_nas_dso.space.edges import OUTPUT, Block
from automl_nas_dso.strategy import DSO

RULES = {"sensitivity": "sensitivity", "l1": "size"}
"""Name -> which edges are removed to meet the share of the edges, a setting of the strategy."""

EDGES = (0.25, 0.1)
RESIDUAL_WIDTH = 10
WIDEST = 64
SEED_STEP = 1000
"""Difference between the seeds of two trainings of one network."""


def kind_of(kind: str, training: int) -> str:
    """Return the first part of the file name of a training: `found`, `found2`, ..."""
    return f"{kind}{training + 1}" if training else kind


class PairExperiment(Experiment):
    """Searches to a share of the edges, and networks as wide as the budget allows.

    In a `Row`, the schedule is the name of the rule and k the share of the edges.
    """

    def strategy(self, row: Row) -> DSO:
        """Return the strategy of a search, at its start."""
        return self.dso(row.seed, sparsity={"edges": row.k}, ranking=RULES[row.schedule])

    def pair(self, row: Row, budget: float, trainings: int) -> None:
        """Search; train the network that is found and a random one of the same width and FLOPs."""
        search = self.record(f"search-{row.name}", lambda: self.search(row))
        if "dead" in search:
            return
        width = self.widest(search, budget)
        wide = self.of_width(width)
        architecture = wide.space.validate(search["architecture"])
        flops = wide.flops.estimate(architecture)

        def train(kind: str, training: int, network: Callable[[], Architecture]) -> None:
            seed = row.seed + SEED_STEP * training
            self.record(
                f"{kind_of(kind, training)}-{row.name}",
                lambda: {**self.retrain(wide.space, network(), seed), "width": width},
            )

        for training in range(trainings):
            train("found", training, lambda: architecture)
            train("random", training, lambda: wide.random(flops, row))

    def of_width(self, width: int) -> Experiment:
        """Return the experiment with a final space of this width."""
        wide = copy.copy(self)
        wide.space = self.make_space(width=width, variant="final")
        wide.flops = Flops(wide.space)
        return wide

    def widest(self, search: Record, budget: float) -> int:
        """Return the largest width with which the network that is found is within the budget."""
        for width in range(2, WIDEST):
            space = self.make_space(width=width, variant="final")
            if Flops(space).estimate(space.validate(search["architecture"])) > budget:
                return width - 1
        raise SystemExit(f"the network of seed {search['seed']} is within the budget with a width of {WIDEST - 1}")


def trained(out: Path, kind: str) -> dict[str, Record]:
    """Return name -> record of each network of a kind, with its mean error; `errors` has that of each training."""
    repeats: list[dict[str, Record]] = []
    while records := load(out, kind_of(kind, len(repeats))):
        repeats.append(records)
    networks = {}
    for name, record in repeats[0].items() if repeats else ():
        errors = [each[name]["error"] for each in repeats if name in each]
        if len(errors) == len(repeats):
            networks[name] = {**record, "errors": errors, "error": float(np.mean(errors))}
    return networks


def report(out: Path) -> None:
    """Print the differences of test errors, in percentage points, for each share of the edges and for all."""
    searches, searched, drawn = load(out, "search"), trained(out, "found"), trained(out, "random")
    residual = [each["error"] for each in load(out, "residual").values()]
    shares = sorted({each["k"] for each in searches.values()}, reverse=True)
    print("| edges | pairs | widths | FLOPs | found | random | residual | found - random | found - residual | ", end="")
    print("random - residual |\n|---|---|---|---|---|---|---|---|---|---|")
    groups = {f"{share:.0%}": [share] for share in shares} | ({"all": shares} if len(shares) > 1 else {})
    both = [name for name in searched if name in drawn]
    pairs = {label: [name for name in both if searches[name]["k"] in chosen] for label, chosen in groups.items()}
    for label, names in pairs.items():
        row(label, [searched[name] for name in names], [drawn[name] for name in names], residual)
    of_seeds: dict[int, list[float]] = {}
    for name in both:
        of_seeds.setdefault(searches[name]["seed"], []).append(searched[name]["error"] - drawn[name]["error"])
    means = [float(np.mean(differences)) for differences in of_seeds.values()]
    print(f"\nfound - random, means of {len(means)} seeds: {interval(means)}" if means else "")
    for label, names in pairs.items():
        spread(label, [drawn[name] for name in names])
    for label, names in pairs.items():
        structures(label, [(searched[name], drawn[name]) for name in names])
    dead = [name for name, each in searches.items() if "dead" in each]
    if dead:
        print(f"\nsearches in which all edges died: {', '.join(dead)}")
    files = [json.loads(file.read_text(encoding="utf-8")) for file in out.glob("*.json")]
    print(f"\n{sum(each.get('seconds', 0.0) for each in files) / 60:.0f} minutes of CPU time")


def compared(out: Path, other: Path) -> None:
    """Print the differences of the networks that were found in two folders, by share of the edges and seed."""
    sides = []
    for folder in (out, other):
        searches = load(folder, "search")
        networks = {
            (searches[name]["k"], searches[name]["seed"]): each for name, each in trained(folder, "found").items()
        }
        sides.append(networks)
    for share in sorted({share for share, _ in sides[0]}, reverse=True):
        both = [key for key in sides[0] if key[0] == share and key in sides[1]]
        differences = [sides[0][key]["error"] - sides[1][key]["error"] for key in both]
        if differences:
            print(f"\n{share:.0%}, {len(both)} seeds: found - found in {other.name}: {interval(differences)}")


def spread(label: str, records: Sequence[Record]) -> None:
    """Print how much random networks differ by their architecture, and by the seed of their training.

    The covariance of two trainings is the variance between architectures: the seeds of different trainings and of
    different networks have nothing in common. The interval is a bootstrap over the networks.
    """
    if len(records) < 3 or len(records[0]["errors"]) < 2:
        return
    errors = np.array([record["errors"][:2] for record in records])
    drawn = np.random.default_rng(0).integers(0, len(errors), (2000, len(errors)))
    centred = errors[drawn] - errors[drawn].mean(axis=1, keepdims=True)
    covariances = (centred[..., 0] * centred[..., 1]).sum(axis=1) / (len(errors) - 1)
    between = float(np.cov(errors.T)[0, 1])
    low, high = np.sqrt(np.maximum(np.quantile(covariances, [0.025, 0.975]), 0.0))
    training = math.sqrt(float(((errors[:, 0] - errors[:, 1]) ** 2).mean()) / 2)
    print(
        f"\n{label}, {len(errors)} random networks: standard deviation between architectures "
        f"{math.sqrt(max(between, 0.0)):.2f} ({low:.2f} to {high:.2f}) points, between trainings of one {training:.2f}"
    )


def structures(label: str, pairs: Sequence[tuple[Record, Record]]) -> None:
    """Print what networks are made of: means of those found and of the random ones, and of their differences."""
    if len(pairs) < 3:
        return
    blocks = DsoSpace(**SPACE, variant="final").blocks  # the same edges with any width, strides and input
    described = [[structure(blocks, Architecture(record["architecture"])) for record in pair] for pair in pairs]
    print(f"\n| {label}: means of {len(pairs)} pairs | found | random | difference |\n|---|---|---|---|")
    for name in described[0][0]:
        searched, drawn = ([pair[side][name] for pair in described] for side in (0, 1))
        difference = interval([a - b for a, b in zip(searched, drawn, strict=True)])
        print(f"| {name} | {np.mean(searched):.1f} | {np.mean(drawn):.1f} | {difference} |")


def structure(blocks: Sequence[Block], architecture: Architecture) -> dict[str, float]:
    """Return the numbers of live edges and operations of a network, and the lengths of its paths."""
    edges, kinds, longest, inputs = [], [], [], []
    for block in blocks:
        live, depths = block.live(architecture), {"input": 0}
        for target, sources in live.items():  # in the order of evaluation
            depths[target] = 1 + max(depths[source] for source in sources)
        edges.append(sum(len(sources) for sources in live.values()))
        kinds += [block.operations[node] for node in live if node != OUTPUT]
        longest.append(depths.get(OUTPUT, 1) - 1)
        inputs.append(len(live.get(OUTPUT, ())))
    separable = sum(kind.startswith("sep") for kind in kinds)
    return {
        "live edges": sum(edges),
        **{f"live edges of block {place}": count for place, count in enumerate(edges, 1)},
        "separable convolutions": separable,
        "poolings": len(kinds) - separable,
        "operations of the longest path, mean of the blocks": float(np.mean(longest)),
        "inputs of a block's output, mean of the blocks": float(np.mean(inputs)),
    }


def row(label: str, searched: Sequence[Record], drawn: Sequence[Record], residual: Sequence[float]) -> None:
    """Print one row of the table.

    The residual networks have seeds of their own, so the difference to their mean has an interval of two samples: the
    square root of the sum of both squared half widths.
    """
    if len(searched) < 3:
        return
    widths, flops = [each["width"] for each in searched], [each["flops"] / 1e6 for each in searched]
    errors, of_random = ([each["error"] for each in group] for group in (searched, drawn))
    cells = [
        label,
        str(len(searched)),
        f"{min(widths)} to {max(widths)}",
        f"{min(flops):.2f}M to {max(flops):.2f}M",
        *(interval(values, sign="") for values in (errors, of_random, residual)),
        interval([a - b for a, b in zip(errors, of_random, strict=True)]),
        *(two_samples(values, residual) for values in (errors, of_random)),
    ]
    print(f"| {' | '.join(cells)} |")


def two_samples(first: Sequence[float], second: Sequence[float]) -> str:
    """Return the difference of two means with its 95 % interval (Welch)."""
    difference = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 3:
        return f"{difference:+.2f}"
    bounds = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return f"{difference:+.2f} ({bounds.low:+.2f} to {bounds.high:+.2f})"


def main() -> None:
    """Compute what is missing, or print the table."""
    parser = make_parser(__doc__, "phase 1", "phase 2", "retraining")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(20)))
    parser.add_argument("--edges", type=float, nargs="+", default=EDGES, help="shares of the edges that are left")
    parser.add_argument(
        "--rule", choices=RULES, default="sensitivity", help="an OUT folder has the searches of one rule"
    )
    parser.add_argument("--trainings", type=int, default=1, help="trainings of each network, with different seeds")
    parser.add_argument("--report", action="store_true", help="print the table of existing files and run nothing")
    parser.add_argument("--against", type=Path, help="the folder of another rule, for --report")
    options = parser.parse_args()
    if options.report:
        report(options.out)
        if options.against:
            compared(options.out, options.against)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    experiment = PairExperiment(options.data, options.out, tuple(options.stem_strides), tuple(options.epochs))
    for seed in options.seeds:
        budget = experiment.residual(RESIDUAL_WIDTH, seed)["flops"]
        for share in options.edges:
            experiment.pair(Row(options.rule, share, seed), budget, options.trainings)


if __name__ == "__main__":
    main()
