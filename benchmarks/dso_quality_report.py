"""Tables and a figure of the records that ``dso_quality.py`` leaves: every network, then differences at equal FLOPs.

    python benchmarks/dso_quality_report.py OUT [OUT ...] [--figure FILE.png] [--titles TITLE ...] [--images 10000]

A network that was found is compared with the random one of its FLOPs, trained from the same seed, and with the residual
networks' errors (mean over seeds), interpolated linearly in the logarithm of FLOPs; beyond the widths that were
trained, with the nearest. Intervals of differences are over networks, so they hold how much searches differ from each
other; those of single networks, in the figure, are Wilson's over the test images.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy import stats

from automl_nas.evaluation import wilson_interval

Record: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """A network that was found, and what it is compared with.

    Attributes:
        search: the record of the search.
        drawn: that of the random network.
        flops: of both networks, in millions, to 3 %.
        found: its error in per cent.
        random: that of the random network.
        residual: that of the residual networks, interpolated.
    """

    search: Record
    drawn: Record
    flops: float
    found: float
    random: float
    residual: float


def load(out: Path, kind: str) -> dict[str, Record]:
    """Return what is known of a kind: name without the kind -> record."""
    files = sorted(out.glob(f"{kind}-*.json"))
    return {file.stem.partition("-")[2]: json.loads(file.read_text(encoding="utf-8")) for file in files}


def by_width(plain: dict[str, Record]) -> dict[int, list[Record]]:
    """Return width -> residual networks, one for each seed; widths ascending."""
    known: dict[int, list[Record]] = {}
    for name, each in plain.items():
        known.setdefault(int(name.partition("-")[0].removeprefix("w")), []).append(each)
    return dict(sorted(known.items()))


def pairs(out: Path) -> list[Pair]:
    """Return the networks that were found and have their random one, by penalty, strength and seed."""
    searches, found, drawn = (load(out, kind) for kind in ("search", "found", "random"))
    known = by_width(load(out, "residual")).values()
    flops = [np.log(nets[0]["flops"]) for nets in known]
    errors = [np.mean([net["error"] for net in nets]) for nets in known]
    return [
        Pair(
            searches[name],
            drawn[name],
            found[name]["flops"] / 1e6,
            found[name]["error"],
            drawn[name]["error"],
            float(np.interp(np.log(found[name]["flops"]), flops, errors)) if flops else math.nan,
        )
        for name in sorted(searches, key=lambda name: _order(searches[name]))
        if name in found and name in drawn
    ]


def _order(search: Record) -> tuple[str, float, int]:
    return search["schedule"], search["k"], search["seed"]


def interval(values: Sequence[float], *, sign: str = "+") -> str:
    """Return the mean with its 95 % interval (Student's t, over networks); that of two would say nothing."""
    mean = float(np.mean(values))
    if len(values) < 3:
        return f"{mean:{sign}.2f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return f"{mean:{sign}.2f} ({mean - half:{sign}.2f} to {mean + half:{sign}.2f})"


def networks(out: Path) -> None:
    """Print every network."""
    print("| penalty | k | seed | live edges of 384 | FLOPs | error | random, equal FLOPs | residual, interpolated |")
    print("|---|---|---|---|---|---|---|---|")
    for search in sorted(load(out, "search").values(), key=_order):
        if "dead" in search:
            print(f"| {search['schedule']} | {search['k']:g} | {search['seed']} | 0 | | all died | | |")
    for pair in pairs(out):
        search = pair.search
        print(
            f"| {search['schedule']} | {search['k']:g} | {search['seed']} | {search['live_edges']} | {pair.flops:.2f}M "
            f"| {pair.found:.2f} | {pair.random:.2f} | {pair.residual:.2f} |"
        )


def residuals(out: Path) -> None:
    """Print the residual networks, and how much one of them differs from seed to seed."""
    known = by_width(load(out, "residual"))
    print("\n| residual, width | FLOPs | error |\n|---|---|---|")
    for width, nets in known.items():
        errors = ", ".join(f"{net['error']:.2f}" for net in nets)
        print(f"| {width} | {nets[0]['flops'] / 1e6:.2f}M | {errors} |")
    repeated = [[net["error"] for net in nets] for nets in known.values() if len(nets) > 1]
    freedom = sum(len(errors) - 1 for errors in repeated)
    if freedom:
        pooled = math.sqrt(sum(float(np.var(errors, ddof=1)) * (len(errors) - 1) for errors in repeated) / freedom)
        print(f"\nstandard deviation of one residual network's error over seeds: {pooled:.2f} ({freedom} degrees)")


def over_seeds(rows: list[Pair]) -> None:
    """Print the means over seeds of what was searched more than once, and of all penalties together.

    Searches of one seed share phase 1 and the residual networks, so "all" first takes the mean over the penalties.
    """
    strengths = dict.fromkeys(pair.search["k"] for pair in rows)
    print("\n| penalty | k | seeds | FLOPs | found | random | found minus random | found minus residual |")
    print("|---|---|---|---|---|---|---|---|")
    for k in strengths:
        groups: dict[str, dict[int, Pair]] = {}
        for pair in rows:
            if pair.search["k"] == k:
                groups.setdefault(pair.search["schedule"], {})[pair.search["seed"]] = pair
        for schedule, group in groups.items():
            _seeds(schedule, k, [[pair] for pair in group.values()])
        shared = set.intersection(*(set(group) for group in groups.values()))
        if len(groups) > 1:
            _seeds("all", k, [[group[seed] for group in groups.values()] for seed in sorted(shared)])


def _seeds(name: str, k: float, of_seeds: list[list[Pair]]) -> None:
    if len(of_seeds) < 2:
        return
    flops = [pair.flops for pairs_of_seed in of_seeds for pair in pairs_of_seed]

    def mean(value: Callable[[Pair], float]) -> list[float]:
        return [float(np.mean([value(pair) for pair in pairs_of_seed])) for pairs_of_seed in of_seeds]

    print(
        f"| {name} | {k:g} | {len(of_seeds)} | {min(flops):.2f}M to {max(flops):.2f}M | "
        f"{interval(mean(lambda pair: pair.found), sign='')} | {interval(mean(lambda pair: pair.random), sign='')} | "
        f"{interval(mean(lambda pair: pair.found - pair.random))} | "
        f"{interval(mean(lambda pair: pair.found - pair.residual))} |"
    )


def agreement(rows: list[Pair]) -> None:
    """Print how many edges two searches share that differ in their seed, as a share of those that either has."""
    print("\n| penalty | k | pairs of seeds | edges shared, found | edges shared, random |\n|---|---|---|---|---|")
    groups: dict[tuple[str, float], list[Pair]] = {}
    for pair in rows:
        groups.setdefault((pair.search["schedule"], pair.search["k"]), []).append(pair)
    for (schedule, k), group in groups.items():
        both = list(itertools.combinations(group, 2))
        if both:
            found = np.mean([_shared(first.search, second.search) for first, second in both])
            random = np.mean([_shared(first.drawn, second.drawn) for first, second in both])
            print(f"| {schedule} | {k:g} | {len(both)} | {found:.0%} | {random:.0%} |")


def _shared(first: Record, second: Record) -> float:
    mine, theirs = (
        {(name, source) for name, sources in record["architecture"].items() for source in sources}
        for record in (first, second)
    )
    return len(mine & theirs) / len(mine | theirs)


def differences(rows: list[Pair]) -> None:
    """Print the mean differences, by penalty and over all, and of the means of seeds."""
    print("\n| found minus, percentage points | networks | random | residual |\n|---|---|---|---|")
    for schedule in [*dict.fromkeys(pair.search["schedule"] for pair in rows), "all"]:
        own = [pair for pair in rows if schedule in (pair.search["schedule"], "all")]
        random, residual = ([pair.found - pair.random for pair in own], [pair.found - pair.residual for pair in own])
        print(f"| {schedule} | {len(own)} | {interval(random)} | {interval(residual)} |")


def report(out: Path) -> None:
    """Print all tables of a folder."""
    networks(out)
    residuals(out)
    rows = pairs(out)
    over_seeds(rows)
    agreement(rows)
    differences(rows)
    seconds = [each.get("seconds", 0.0) for kind in ("search", "found", "random") for each in load(out, kind).values()]
    seconds += [each["seconds"] for each in load(out, "residual").values()]
    print(f"\n{sum(seconds) / 60:.0f} minutes of CPU time")


def draw(outs: Sequence[Path], titles: Sequence[str], images: int, file: Path) -> None:
    """Draw error against FLOPs, one panel for each folder, as Figures 5 and 6 of the paper do.

    Args:
        outs: folders of records.
        titles: of the panels.
        images: that errors were measured on.
        file: takes the figure.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    marks = {"constant": ("o", "C0"), "adaptive_flops": ("s", "C1"), "adaptive_mac": ("^", "C2")}
    figure, panels = pyplot.subplots(1, len(outs), figsize=(6 * len(outs), 4.4), squeeze=False)
    for out, title, panel in zip(outs, titles, panels[0], strict=True):
        rows = pairs(out)

        def points(
            flops: Sequence[float], errors: Sequence[float], mark: str, colour: str, panel: Any = panel, **style: Any
        ) -> None:
            bounds = [wilson_interval(error / 100, images) for error in errors]
            low = [error - 100 * bound[0] for error, bound in zip(errors, bounds, strict=True)]
            high = [100 * bound[1] - error for error, bound in zip(errors, bounds, strict=True)]
            panel.errorbar(
                flops, errors, [low, high], fmt=mark, color=colour, markersize=5, elinewidth=0.7, alpha=0.85, **style
            )

        for schedule, (mark, colour) in marks.items():
            own = [pair for pair in rows if pair.search["schedule"] == schedule]
            points([pair.flops for pair in own], [pair.found for pair in own], mark, colour, label=f"found, {schedule}")
        flops, errors = [pair.flops for pair in rows], [pair.random for pair in rows]
        points(flops, errors, "x", "0.45", label="random, equal FLOPs")
        known = by_width(load(out, "residual")).values()
        means = [float(np.mean([net["error"] for net in nets])) for nets in known]
        panel.plot([nets[0]["flops"] / 1e6 for nets in known], means, "k-", linewidth=1, label="residual, mean")
        plain = [net for nets in known for net in nets]
        points([net["flops"] / 1e6 for net in plain], [net["error"] for net in plain], ".", "k")
        panel.set(title=title, xscale="log", xlabel="million multiply-adds", ylabel="test error, %")
        panel.set_xticks(ticks := [0.1, 0.2, 0.3, 0.5], labels=[f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outs", type=Path, nargs="+", metavar="OUT", help="folder of the records")
    parser.add_argument("--figure", type=Path, help="draw error against FLOPs into this file")
    parser.add_argument("--titles", nargs="+", help="of the figure's panels; default: the folders' names")
    parser.add_argument("--images", type=int, default=10_000, help="test images, for the figure's intervals")
    arguments = parser.parse_args()
    titles = arguments.titles or [out.name for out in arguments.outs]
    if len(titles) != len(arguments.outs):
        parser.error("as many titles as folders are needed")
    for out, title in zip(arguments.outs, titles, strict=True):
        print(f"\n{title}\n" if len(titles) > 1 else "", end="" if len(titles) == 1 else "\n")
        report(out)
    if arguments.figure is not None:
        draw(arguments.outs, titles, arguments.images, arguments.figure)


if __name__ == "__main__":
    main()
