"""What evidence saves: evaluations of `surrogate` until one of the truly best networks, with and without evidence.

The eight problems, the budget and what counts as found are those of ``surrogate_search.py``. Evidence is looked up in
files: zero-cost proxies of NAS-Bench-201 (columns ``c10_nwot``, ``in16_nwot``, ...; CIFAR-100 has those of CIFAR-10),
and the losses that networks of NAS-Bench-Macro have with the weights of one supernet (JSON: code -> loss). Variants:

- ``surrogate``: without evidence.
- ``evidence``: nwot, synflow, jacov and zen; on NAS-Bench-Macro the supernet's loss and the number of layers.
- ``noise``: one column of standard normal numbers, drawn once for each network.
- ``evidence + noise``: both, with four columns of noise.
- ``all proxies``: all eleven proxies of the file; on NAS-Bench-Macro as ``evidence``.

The script prints medians and upper quartiles of the evaluations, their geometric mean, and the ratio to ``surrogate``
with a bootstrap interval over seeds, paired. An unsuccessful search counts as the budget. Each finished search is
stored as a line of the record; the same command runs what is missing.

    python benchmarks/surrogate_evidence.py ZERO_COST.csv.gz NASBENCH201.csv.gz [--supernet LOSSES.json]
        [--seeds 50] [--first-seed 0] [--only LABEL;...] [--workers 2] [--record FILE]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import multiprocessing
import statistics
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar, final

import numpy as np
from surrogate_record import Record, Task
from surrogate_search import CLEAN, NOISY, TOP, until_found

from automl_nas.evaluation import Evaluator, Outcome, Request, State
from automl_nas.space import Architecture
from automl_nas.strategy import Deduplicate, Problem
from automl_nas.streams import stream_seed
from automl_nas_benchmarks.benchmark import Benchmark, load_benchmark
from automl_nas_surrogate.search import SurrogateSearch

FOUR = ("nwot", "synflow", "jacov", "zen")
ALL = ("epe_nas", "fisher", "grad_norm", "grasp", "jacov", "l2_norm", "nwot", "plain", "snip", "synflow", "zen")
LABELS = ("surrogate", "evidence", "noise", "evidence + noise", "all proxies")
Rows = Mapping[str, Mapping[str, float]]
Outcomes = tuple[float | None, float, int, int]
"""Evaluations (None: more than the budget), the strategy's seconds, proposals, and networks measured for evidence."""


@final
class Looked(Evaluator):
    """Evidence that is looked up; a network without a row fails.

    Args:
        benchmark: whose networks are measured.
        rows: code of a canonical architecture -> metrics.
        metrics: those that are returned.
    """

    stochastic: ClassVar[bool] = False

    def __init__(self, benchmark: Benchmark, rows: Rows, metrics: Iterable[str]) -> None:
        self._space, self._rows, self._metrics = benchmark.space, rows, tuple(metrics)
        self.measured = 0

    @classmethod
    def metric_names(cls, task: object) -> None:
        """Return None: they depend on the file."""
        return

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield outcomes in order."""
        for request in requests:
            self.measured += 1
            row = self._rows.get(code(self._space.canonical(request.architecture)))
            if row is None:
                yield Outcome(request.number, state=State.FAILED, error="no row")
            else:
                yield Outcome(request.number, {name: row[name] for name in self._metrics})


def code(architecture: Architecture) -> str:
    """Return the values of an architecture as one string, by the names of its decisions."""
    return json.dumps(sorted(architecture.items()))


@cache
def rows(family: str, path: str, cells: str) -> dict[str, dict[str, float]]:
    """Return code of a canonical architecture -> columns of a file, and of noise.

    Args:
        family: ``nasbench201`` or ``nasbench_macro``.
        path: of the file of proxies or losses; empty: no file.
        cells: the table of NAS-Bench-201, which has the codes of the rows.
    """
    benchmark = load_benchmark("nasbench201-cifar10" if family == "nasbench201" else family)
    space, table = benchmark.space, benchmark.truth_source.table
    columns: dict[str, dict[str, float]] = {}
    published: dict[str, dict[str, float]] = {}
    if family == "nasbench201":
        with gzip.open(cells, "rt", encoding="utf-8") as file:
            codes = {row["index"]: row["ops"] for row in csv.DictReader(file)}
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                published[codes[row.pop("index")]] = {name: float(value) for name, value in row.items()}
    elif path:
        losses = json.loads(Path(path).read_text(encoding="utf-8"))
        published = {key: {"supernet": -loss} for key, loss in losses.items()}
    rng = np.random.default_rng(0)
    for text in table.codes:
        architecture = space.canonical(space.architecture(text))  # type: ignore[attr-defined]
        key = code(architecture)
        row = columns.setdefault(key, {f"noise{number}": value for number, value in enumerate(rng.normal(size=4))})
        if family != "nasbench201":
            row["layers"] = float(sum(digit != "0" for digit in text))
        # The first network of the same function that has a row.
        for name, value in published.get(text, {}).items():
            row.setdefault(name, value)
    return columns


def evidence(label: str, benchmark: Benchmark, files: Mapping[str, str]) -> list[Looked]:
    """Return the evaluators of a variant."""
    noise = {"noise": ["noise0"], "evidence + noise": [f"noise{number}" for number in range(4)]}.get(label, [])
    if label == "surrogate":
        return []
    if benchmark.name.startswith("nasbench_macro"):
        table = rows("nasbench_macro", files["supernet"], files["cells"])
        names = ["layers", *(["supernet"] if files["supernet"] else [])]
    else:
        table = rows("nasbench201", files["proxies"], files["cells"])
        prefix = "in16_" if "imagenet" in benchmark.name else "c10_"
        names = [prefix + name for name in (ALL if label == "all proxies" else FOUR)]
    names = noise if label == "noise" else [*names, *noise]
    complete = {key: row for key, row in table.items() if all(name in row for name in names)}
    return [Looked(benchmark, complete, names)]


def arrival(task: Task) -> tuple[Task, Outcomes]:
    """Search until one of the best is evaluated; the task is variant, problem, seed, budget, settings and files."""
    label, name, seed, budget = str(task[0]), str(task[1]), int(task[2]), int(task[3])
    settings, files = json.loads(str(task[4])), json.loads(str(task[5]))
    benchmark = load_benchmark(name)
    problem = Problem({"accuracy": "maximize"}, (), benchmark.costs)
    threshold = benchmark.truths[math.ceil(TOP * len(benchmark.truths)) - 1]
    evaluators = evidence(label, benchmark, files)
    inner = SurrogateSearch(
        benchmark.space, problem, seed=stream_seed(seed, name), evidence=list(evaluators), **settings
    )
    search = Deduplicate(benchmark.space, problem, strategy=inner)
    outcome = until_found(search, benchmark, problem, threshold, budget)
    return task, (*outcome, sum(item.measured for item in evaluators))


def ratio(own: np.ndarray, other: np.ndarray) -> str:
    """Return the ratio of geometric means over problems of medians over seeds, with its 95 % bootstrap interval.

    Args:
        own: evaluations, shape ``(problems, seeds)``.
        other: of the other side, with the same seeds.
    """
    drawn = np.random.default_rng(0).integers(0, own.shape[1], (4000, own.shape[1]))

    def logs(evaluations: np.ndarray) -> np.ndarray:
        return np.log(np.median(evaluations[:, drawn], axis=2)).mean(axis=0)

    low, high = np.quantile(np.exp(logs(own) - logs(other)), [0.025, 0.975])
    point = math.exp(float(np.log(np.median(own, axis=1)).mean() - np.log(np.median(other, axis=1)).mean()))
    return f"{point:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proxies", type=Path, help="nasbench201_zero_cost.csv.gz")
    parser.add_argument("cells", type=Path, help="nasbench201.csv.gz, which has the codes of its rows")
    parser.add_argument(
        "--supernet", type=Path, help="JSON: code -> loss; without it, layers are the evidence on Macro"
    )
    parser.add_argument("--seeds", type=int, default=50, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=300, help="the budget of a search")
    parser.add_argument("--problems", default=",".join(CLEAN + NOISY), help="names of benchmarks")
    parser.add_argument("--only", default=";".join(LABELS), help="variants, separated by semicolons")
    parser.add_argument("--settings", default="{}", help="JSON: settings of the variants with evidence")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--record", type=Path, help="the file that stores finished searches")
    settings = parser.parse_args()
    problems, labels = settings.problems.split(","), settings.only.split(";")
    files = {
        "proxies": str(settings.proxies),
        "cells": str(settings.cells),
        "supernet": str(settings.supernet) if settings.supernet else "",
    }
    print(f"evaluations to the true top {TOP:.1%}: median / upper quartile")
    print("| variant | " + " | ".join(problems) + " | geometric mean | ratio [95 %] | largest | measured | ms |")
    print("|---" * (len(problems) + 6) + "|")
    record, table = Record(settings.record), dict[str, np.ndarray]()
    with multiprocessing.get_context("spawn").Pool(settings.workers) as pool:
        for label in labels:
            own = "{}" if label == "surrogate" else settings.settings
            tasks: list[Task] = [
                (label, problem, seed, settings.evaluations, own, json.dumps(files))
                for problem in problems
                for seed in range(settings.first_seed, settings.first_seed + settings.seeds)
            ]
            outcomes = [record.complete(arrival, tasks, pool)[task] for task in tasks]
            taken = np.array([settings.evaluations if item[0] is None else item[0] for item in outcomes], dtype=float)
            table[label] = taken = taken.reshape(len(problems), settings.seeds)
            cells = [f"{np.median(row):.0f} / {np.quantile(row, 0.75):.0f}" for row in taken]
            medians = np.median(taken, axis=1)
            paired = largest = ""
            if "surrogate" in table and label != "surrogate":
                paired = ratio(taken, table["surrogate"])
                largest = f"{float((medians / np.median(table['surrogate'], axis=1)).max()):.2f}"
            spent = 1000 * sum(item[1] for item in outcomes) / sum(item[2] for item in outcomes)
            row = [label, *cells, f"{statistics.geometric_mean(medians):.1f}", paired, largest]
            row += [f"{statistics.median(item[3] for item in outcomes):.0f}", f"{spent:.1f}"]
            print(f"| {' | '.join(row)} |", flush=True)
        pool.close()
        pool.join()


if __name__ == "__main__":
    main()
