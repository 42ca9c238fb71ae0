"""Two objectives: the share of the true front's hypervolume that `surrogate` and other strategies find.

The objectives are accuracy and the latency of a device (HW-NAS-Bench) on NAS-Bench-201. All strategies search the same
tables with the same seeds, wrapped in `Deduplicate`, so only evaluations of distinct networks are counted. The script
prints the hypervolume (area) dominated by the networks evaluated so far, as a share of that of the whole table: mean
and standard deviation over seeds. The reference point is the median accuracy and the largest latency of the table. With
the lowest accuracy, 10 %, as the reference, nearly all of the volume would be below networks of no practical interest.
The latency is either a cost, which strategies may look up before an evaluation, or a metric that they receive with the
accuracy (`--measured`). With `--record FILE`, each finished search is stored as a line of FILE, and the same command
runs the missing searches only.

Optuna's TPE takes 170 ms per proposal over 300 evaluations with two objectives; `--evaluations 100` is much shorter.

    python benchmarks/surrogate_front.py [--seeds 20] [--devices edgegpu,raspi4] [--measured] [--record FILE]
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from surrogate_record import Record, Task

from automl_nas.space import SearchSpace, enumerate_all
from automl_nas.strategy import AskTellStrategy, Deduplicate, Problem, Trial
from automl_nas.streams import stream_seed
from automl_nas_benchmarks.benchmark import load_benchmark
from automl_nas_benchmarks.comparison.statistics import hypervolume
from automl_nas_evolution.evolutionary import EvolutionarySearch
from automl_nas_evolution.local_search import LocalSearch
from automl_nas_evolution.random_search import RandomSearch
from automl_nas_evolution.regularized_evolution import RegularizedEvolution
from automl_nas_optuna.strategy.optuna_strategy import OptunaStrategy
from automl_nas_optuna.strategy.samplers import Sampler
from automl_nas_surrogate.search import SurrogateSearch

Maker = Callable[[SearchSpace, Problem, int], AskTellStrategy]
STRATEGIES: dict[str, Maker] = {
    "surrogate": lambda space, problem, seed: SurrogateSearch(space, problem, seed=seed),
    "evolution, 20": lambda space, problem, seed: EvolutionarySearch(
        space, problem, seed=seed, population=20, generations=None
    ),
    "aging, 30/10": lambda space, problem, seed: RegularizedEvolution(
        space, problem, seed=seed, population=30, sample_size=10
    ),
    "local search, first": lambda space, problem, seed: LocalSearch(space, problem, seed=seed, improvement="first"),
    "random": lambda space, problem, seed: RandomSearch(space, problem, seed=seed),
    "Optuna TPE": lambda space, problem, seed: OptunaStrategy(space, problem, seed=seed, sampler="tpe"),
    "Optuna NSGA-II": lambda space, problem, seed: OptunaStrategy(space, problem, seed=seed, sampler="nsgaii"),
    "Optuna NSGA-II, 20": lambda space, problem, seed: OptunaStrategy(
        space, problem, seed=seed, sampler=Sampler("nsgaii", {"population_size": 20})
    ),
}
MARKS = (50, 100, 200, 300)
Point = tuple[float, float]  # accuracy, negative latency: larger is better


class Race:
    """The searches on one table and device.

    Args:
        name: the name of the benchmark.
        device: a device of HW-NAS-Bench.
    """

    def __init__(self, name: str, device: str) -> None:
        self.benchmark, self.latency = load_benchmark(name), f"{device}_latency"
        self.model = self.benchmark.devices[self.latency]
        points = [
            (self.benchmark.signal(item), -self.model.estimate(item))
            for item in enumerate_all(self.benchmark.space.decisions)
        ]
        with_latency = [point for point in points if math.isfinite(point[1])]
        self.reference = statistics.median(point[0] for point in with_latency), min(point[1] for point in with_latency)
        self.whole = hypervolume(with_latency, self.reference)

    def run(self, label: str, seed: int, measured: bool, evaluations: int) -> tuple[list[float], float]:
        """Return the shares of the volume at the `MARKS` within the budget, and the strategy's seconds per proposal."""
        costs = dict(self.benchmark.costs) | ({} if measured else {self.latency: self.model})
        problem = Problem({"accuracy": "maximize", self.latency: "minimize"}, (), costs)
        space = self.benchmark.space
        inner = STRATEGIES[label](space, problem, stream_seed(seed, f"{self.benchmark.name}/{self.latency}"))
        search = Deduplicate(space, problem, strategy=inner)
        evaluated: list[Point] = []
        shares, spent = [], 0.0
        for number in range(evaluations):
            begun = time.process_time()
            (proposal,) = search.ask(1)
            spent += time.process_time() - begun
            architecture = proposal.architecture
            accuracy, latency = self.benchmark.signal(architecture), self.model.estimate(architecture)
            evaluated.append((accuracy, -latency))
            metrics = {"accuracy": accuracy} | ({self.latency: latency} if measured else {})
            begun = time.process_time()
            search.tell([Trial(number, architecture, metrics, problem.costs(architecture))])
            spent += time.process_time() - begun
            if number + 1 in MARKS:
                shares.append(hypervolume(evaluated, self.reference) / self.whole)
        return shares, spent / evaluations


race = cache(Race)


def search(task: Task) -> tuple[Task, tuple[list[float], float]]:
    """Run the search of a task: strategy, benchmark, device, whether the latency is measured, seed, and budget."""
    label, name, device, measured, seed, *budget = task
    evaluations = int(budget[0]) if budget else MARKS[-1]
    return task, race(str(name), str(device)).run(str(label), int(seed), bool(measured), evaluations)


def spread(values: Iterable[float]) -> float:
    numbers = list(values)
    return statistics.stdev(numbers) if len(numbers) > 1 else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--benchmarks", default="nasbench201-cifar10,nasbench201-imagenet16-120")
    parser.add_argument("--devices", default="edgegpu,raspi4")
    parser.add_argument("--only", help="labels of strategies, separated by semicolons")
    parser.add_argument(
        "--measured", action="store_true", help="strategies receive the latency only after an evaluation"
    )
    parser.add_argument("--evaluations", type=int, choices=MARKS, default=MARKS[-1], help="the budget of a search")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--record", type=Path, help="the file that stores finished searches")
    settings = parser.parse_args()
    races = [(name, device) for name in settings.benchmarks.split(",") for device in settings.devices.split(",")]
    record = Record(settings.record)
    budget = () if settings.evaluations == MARKS[-1] else (settings.evaluations,)
    marks = " / ".join(str(mark) for mark in MARKS if mark <= settings.evaluations)
    print(f"% of the true volume after {marks} evaluations, mean over {settings.seeds} seeds")
    print("(standard deviation at the end); CPU ms per proposal")
    print("| strategy | " + " | ".join(f"{name}, {device}" for name, device in races) + " | ms |")
    print("|---" * (len(races) + 2) + "|")
    with multiprocessing.get_context("spawn").Pool(settings.workers) as pool:
        for label in settings.only.split(";") if settings.only else STRATEGIES:
            cells, spent = [], []
            for name, device in races:
                tasks: list[Task] = [
                    (label, name, device, settings.measured, seed, *budget) for seed in range(settings.seeds)
                ]
                outcomes = record.complete(search, tasks, pool)
                shares = [[100 * share for share in outcomes[task][0]] for task in tasks]
                means = " / ".join(f"{statistics.fmean(column):.2f}" for column in zip(*shares, strict=True))
                cells.append(f"{means} ({spread(row[-1] for row in shares):.2f})")
                spent += [outcomes[task][1] for task in tasks]
            print(f"| {label} | {' | '.join(cells)} | {statistics.fmean(spent) * 1000:.1f} |", flush=True)
        pool.close()
        pool.join()


if __name__ == "__main__":
    main()
