"""Tables and a figure of the records that ``dso_quality.py`` writes: all networks, then differences at equal FLOPs.

    python benchmarks/dso_quality_report.py OUT [OUT ...] [--figure FILE.png] [--titles TITLE ...] [--images 10000]

Each network found is compared with the random network of its FLOPs, trained from the same seed, and with the residual
networks' errors (mean over seeds), interpolated linearly in the logarithm of FLOPs; outside the range of the trained
widths, with the nearest one. Intervals of differences are over networks, so they include the variation between
searches. Intervals of single networks, in the figure, are Wilson intervals over the test images.
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
    """A network found by a search, and the errors it is compared with.

    Attributes:
        search: the record of the search.
        drawn: the record of the random network.
        flops: the FLOPs of the network found, in millions; those of the random network are equal to 3 %.
        found_error: the test error of the network found, in per cent.
        random_error: the test error of the random network.
        residual_error: the test error of the residual networks, interpolated.
    """

    search: Record
    drawn: Record
    flops: float
    found_error: float
    random_error: float
    residual_error: float


def load(out: Path, kind: str) -> dict[str, Record]:
    """Return the records of a kind (``search``, ``found``, ``random`` or ``residual``): name of the file -> record."""
    files = sorted(out.glob(f"{kind}-*.json"))
    return {file.stem.partition("-")[2]: json.loads(file.read_text(encoding="utf-8")) for file in files}


def by_width(plain: dict[str, Record]) -> dict[int, list[Record]]:
    """Return width -> records of the residual networks, one for each seed; widths ascending."""
    of_widths: dict[int, list[Record]] = {}
    for name, each in plain.items():
        of_widths.setdefault(int(name.partition("-")[0].removeprefix("w")), []).append(each)
    return dict(sorted(of_widths.items()))


def pairs(out: Path) -> list[Pair]:
    """Return the networks found whose random network is trained, sorted by penalty, strength and seed."""
    searches, retrained, drawn = (load(out, kind) for kind in ("search", "found", "random"))
    residual = by_width(load(out, "residual")).values()
    flops = [np.log(nets[0]["flops"]) for nets in residual]
    errors = [np.mean([net["error"] for net in nets]) for nets in residual]
    return [
        Pair(
            searches[name],
            drawn[name],
            retrained[name]["flops"] / 1e6,
            retrained[name]["error"],
            drawn[name]["error"],
            float(np.interp(np.log(retrained[name]["flops"]), flops, errors)) if flops else math.nan,
        )
        for name in sorted(searches, key=lambda name: _order(searches[name]))
        if name in retrained and name in drawn
    ]


def _order(search: Record) -> tuple[str, float, int]:
    return search["schedule"], search["k"], search["seed"]


def interval(values: Sequence[float], *, sign: str = "+") -> str:
    """Return the mean of networks with its 95 % interval (Student's t), which is left out for fewer than three."""
    mean = float(np.mean(values))
    if len(values) < 3:
        return f"{mean:{sign}.2f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return f"{mean:{sign}.2f} ({mean - half:{sign}.2f} to {mean + half:{sign}.2f})"


def networks(out: Path) -> None:
    """Print the table of all networks."""
    print("| penalty | k | seed | live edges of 384 | FLOPs | error | random, equal FLOPs | residual, interpolated |")
    print("|---|---|---|---|---|---|---|---|")
    for search in sorted(load(out, "search").values(), key=_order):
        if "dead" in search:
            print(f"| {search['schedule']} | {search['k']:g} | {search['seed']} | 0 | | all died | | |")
    for pair in pairs(out):
        search = pair.search
        print(
            f"| {search['schedule']} | {search['k']:g} | {search['seed']} | {search['live_edges']} | {pair.flops:.2f}M "
            f"| {pair.found_error:.2f} | {pair.random_error:.2f} | {pair.residual_error:.2f} |"
        )


def residuals(out: Path) -> None:
    """Print the residual networks, and the standard deviation over seeds."""
    of_widths = by_width(load(out, "residual"))
    print("\n| residual, width | FLOPs | error |\n|---|---|---|")
    for width, nets in of_widths.items():
        errors = ", ".join(f"{net['error']:.2f}" for net in nets)
        print(f"| {width} | {nets[0]['flops'] / 1e6:.2f}M | {errors} |")
    repeated = [[net["error"] for net in nets] for nets in of_widths.values() if len(nets) > 1]
    freedom = sum(len(errors) - 1 for errors in repeated)
    if freedom:
        pooled = math.sqrt(sum(float(np.var(errors, ddof=1)) * (len(errors) - 1) for errors in repeated) / freedom)
        print(f"\nstandard deviation of one residual network's error over seeds: {pooled:.2f} ({freedom} degrees)")


def over_seeds(rows: list[Pair]) -> None:
    """Print the means over seeds of searches with several seeds, for each penalty and for all penalties together.

    Searches with the same seed share phase 1 and the residual networks, so "all" first averages over the penalties.
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
        f"{interval(mean(lambda pair: pair.found_error), sign='')} | "
        f"{interval(mean(lambda pair: pair.random_error), sign='')} | "
        f"{interval(mean(lambda pair: pair.found_error - pair.random_error))} | "
        f"{interval(mean(lambda pair: pair.found_error - pair.residual_error))} |"
    )


def agreement(rows: list[Pair]) -> None:
    """Print the agreement of searches that differ in their seed only: their common edges / the edges of either."""
    print("\n| penalty | k | pairs of seeds | edges shared, found | edges shared, random |\n|---|---|---|---|---|")
    groups: dict[tuple[str, float], list[Pair]] = {}
    for pair in rows:
        groups.setdefault((pair.search["schedule"], pair.search["k"]), []).append(pair)
    for (schedule, k), group in groups.items():
        both = list(itertools.combinations(group, 2))
        if both:
            agreement_found = np.mean([_common(first.search, second.search) for first, second in both])
            agreement_random = np.mean([_common(first.drawn, second.drawn) for first, second in both])
            print(f"| {schedule} | {k:g} | {len(both)} | {agreement_found:.0%} | {agreement_random:.0%} |")


def _common(first: Record, second: Record) -> float:
    mine, theirs = (
        {(name, source) for name, sources in record["architecture"].items() for source in sources}
        for record in (first, second)
    )
    return len(mine & theirs) / len(mine | theirs)


def differences(rows: list[Pair]) -> None:
    """Print the mean differences for each penalty and over all networks."""
    print("\n| found minus, percentage points | networks | random | residual |\n|---|---|---|---|")
    for schedule in [*dict.fromkeys(pair.search["schedule"] for pair in rows), "all"]:
        own = [pair for pair in rows if schedule in (pair.search["schedule"], "all")]
        random, residual = (
            [pair.found_error - pair.random_error for pair in own],
            [pair.found_error - pair.residual_error for pair in own],
        )
        print(f"| {schedule} | {len(own)} | {interval(random)} | {interval(residual)} |")


def report(out: Path) -> None:
    """Print all tables of a directory of records."""
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
    """Draw error against FLOPs, one panel for each directory, like Figures 5 and 6 of the paper.

    Args:
        outs: the directories of records.
        titles: the titles of the panels.
        images: the number of test images.
        file: the image file to write.
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
            points(
                [pair.flops for pair in own],
                [pair.found_error for pair in own],
                mark,
                colour,
                label=f"found, {schedule}",
            )
        flops, errors = [pair.flops for pair in rows], [pair.random_error for pair in rows]
        points(flops, errors, "x", "0.45", label="random, equal FLOPs")
        residual = by_width(load(out, "residual")).values()
        means = [float(np.mean([net["error"] for net in nets])) for nets in residual]
        panel.plot([nets[0]["flops"] / 1e6 for nets in residual], means, "k-", linewidth=1, label="residual, mean")
        plain = [net for nets in residual for net in nets]
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
    parser.add_argument("outs", type=Path, nargs="+", metavar="OUT", help="a directory of records")
    parser.add_argument("--figure", type=Path, help="write a figure of error against FLOPs to this file")
    parser.add_argument(
        "--titles", nargs="+", help="titles of the figure's panels; default: the names of the directories"
    )
    parser.add_argument(
        "--images", type=int, default=10_000, help="the number of test images, for the figure's intervals"
    )
    arguments = parser.parse_args()
    titles = arguments.titles or [out.name for out in arguments.outs]
    if len(titles) != len(arguments.outs):
        parser.error("the number of titles must be that of the directories")
    for out, title in zip(arguments.outs, titles, strict=True):
        print(f"\n{title}\n" if len(titles) > 1 else "", end="" if len(titles) == 1 else "\n")
        report(out)
    if arguments.figure is not None:
        draw(arguments.outs, titles, arguments.images, arguments.figure)


if __name__ == "__main__":
    main()
