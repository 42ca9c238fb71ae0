"""The number of evaluations until one of the truly best networks is found: `surrogate` and other strategies.

All strategies search the same tables with the same seeds, wrapped in `Deduplicate`, so only evaluations of distinct
networks are counted, until one of the truly best 0.1 % of all distinct networks has been evaluated. The script prints
the median, the upper quartile, and the share of seeds that succeed within the budget. The signal may be noisy (12
epochs of validation; one of three runs); the truth is the same. The last column is the geometric mean of the medians,
in which an unsuccessful search counts as the budget. `--codes` uses the best 0.1 % of all codes instead, in which a
network counts as often as it has codes: 16 of 15,625 and 7 of 6,561, which are found earlier. With `--record FILE`,
each finished search is stored as a line of FILE, and the same command runs the missing searches only; searches are
independent of each other.

    python benchmarks/surrogate_search.py [--seeds 100] [--slow-seeds 20] [--workers 2] [--only LABEL;...]
        [--codes] [--record FILE]
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from surrogate_record import Record, Task

from automl_nas.space import SearchSpace
from automl_nas.strategy import AskTellStrategy, Deduplicate, Problem, Trial
from automl_nas.streams import stream_seed
from automl_nas_benchmarks.benchmark import Benchmark, load_benchmark
from automl_nas_evolution.evolutionary import EvolutionarySearch
from automl_nas_evolution.local_search import LocalSearch
from automl_nas_evolution.random_search import RandomSearch
from automl_nas_evolution.regularized_evolution import RegularizedEvolution
from automl_nas_optuna.strategy.optuna_strategy import OptunaStrategy
from automl_nas_surrogate.search import SurrogateSearch

CLEAN = ("nasbench201-cifar10", "nasbench201-cifar100", "nasbench201-imagenet16-120", "nasbench_macro")
NOISY = (
    "nasbench201-cifar10-12ep",
    "nasbench201-cifar100-12ep",
    "nasbench201-imagenet16-120-12ep",
    "nasbench_macro-run1",
)
Maker = Callable[[SearchSpace, Problem, int], AskTellStrategy]
STRATEGIES: dict[str, Maker] = {
    "surrogate": lambda space, problem, seed: SurrogateSearch(space, problem, seed=seed),
    "local search, first": lambda space, problem, seed: LocalSearch(space, problem, seed=seed, improvement="first"),
    "local search, steepest": lambda space, problem, seed: LocalSearch(space, problem, seed=seed),
    "aging, 30/10": lambda space, problem, seed: RegularizedEvolution(
        space, problem, seed=seed, population=30, sample_size=10
    ),
    "SPOS evolution": lambda space, problem, seed: EvolutionarySearch(space, problem, seed=seed, generations=None),
    "random": lambda space, problem, seed: RandomSearch(space, problem, seed=seed),
    "Optuna TPE": lambda space, problem, seed: OptunaStrategy(space, problem, seed=seed, sampler="tpe"),
    "Optuna NSGA-II": lambda space, problem, seed: OptunaStrategy(space, problem, seed=seed, sampler="nsgaii"),
    "Optuna GP": lambda space, problem, seed: OptunaStrategy(space, problem, seed=seed, sampler="gp"),
}
SLOW = ("Optuna GP",)
TOP = 0.001


Outcome = tuple[float | None, float, int]  # evaluations (None: more than the budget), the strategy's seconds, proposals


def arrival(task: Task) -> tuple[Task, Outcome]:
    """Search until one of the best is evaluated; the task is strategy, problem, seed, budget and maybe "codes"."""
    label, name, seed, budget = str(task[0]), str(task[1]), int(task[2]), int(task[3])
    benchmark = load_benchmark(name)
    problem = Problem({"accuracy": "maximize"}, (), benchmark.costs)
    truths = sorted(benchmark.truth_source.values, reverse=True) if "codes" in task else benchmark.truths
    threshold = truths[math.ceil(TOP * len(truths)) - 1]
    inner = STRATEGIES[label](benchmark.space, problem, stream_seed(seed, name))
    search = Deduplicate(benchmark.space, problem, strategy=inner)
    return task, until_found(search, benchmark, problem, threshold, budget)


def until_found(search: Deduplicate, benchmark: Benchmark, problem: Problem, threshold: float, budget: int) -> Outcome:
    """Let a strategy evaluate one candidate after the other until the true value of one is at least the threshold."""
    spent = 0.0
    for number in range(budget):
        begun = time.process_time()
        proposals = search.ask(1)
        spent += time.process_time() - begun
        if not proposals:
            break
        architecture = proposals[0].architecture
        if benchmark.truth(architecture) >= threshold:
            return number + 1, spent, number + 1
        metrics = {"accuracy": benchmark.signal(architecture)}
        begun = time.process_time()
        search.tell([Trial(number, architecture, metrics, problem.costs(architecture))])
        spent += time.process_time() - begun
    return None, spent, number + 1


def count(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--slow-seeds", type=int, default=20, help="seeds of Optuna's Gaussian process; 0: skip it")
    parser.add_argument("--evaluations", type=int, default=300, help="the budget of a search")
    parser.add_argument("--problems", default=",".join(CLEAN + NOISY), help="names of benchmarks")
    parser.add_argument("--only", help="labels of strategies, separated by semicolons")
    parser.add_argument("--codes", action="store_true", help="use the best of all codes, not of all distinct networks")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--record", type=Path, help="the file that stores finished searches")
    settings = parser.parse_args()
    problems, labels = settings.problems.split(","), (settings.only.split(";") if settings.only else list(STRATEGIES))

    print(f"distinct evaluations to the true top {TOP:.1%}: median / upper quartile (share of successful seeds)")
    print("| strategy | seeds | " + " | ".join(problems) + " | geometric mean | ms per proposal |")
    print("|---" * (len(problems) + 4) + "|")
    means: dict[str, float] = {}
    record = Record(settings.record)
    with multiprocessing.get_context("spawn").Pool(settings.workers) as pool:
        for label in labels:
            seeds = settings.slow_seeds if label in SLOW else settings.seeds
            if not seeds:
                continue
            cells, logs, spent, asked = [], [], 0.0, 0
            for problem in problems:
                extra = ("codes",) if settings.codes else ()
                tasks: list[Task] = [(label, problem, seed, settings.evaluations, *extra) for seed in range(seeds)]
                outcomes_of = record.complete(arrival, tasks, pool)
                outcomes = [outcomes_of[task] for task in tasks]
                taken = sorted(math.inf if evaluations is None else evaluations for evaluations, _, _ in outcomes)
                spent, asked = spent + sum(item[1] for item in outcomes), asked + sum(item[2] for item in outcomes)
                median, upper = statistics.median(taken), taken[math.ceil(0.75 * seeds) - 1]
                share = sum(map(math.isfinite, taken)) / seeds
                cells.append(f"{count(median)} / {count(upper)} ({share:.0%})")
                logs.append(math.log(min(median, settings.evaluations)))
            means[label] = math.exp(sum(logs) / len(logs))
            row = " | ".join([label, str(seeds), *cells, f"{means[label]:.1f}", f"{spent / asked * 1000:.1f}"])
            print(f"| {row} |", flush=True)
        pool.close()
        pool.join()
    rivals = {label: mean for label, mean in means.items() if label.startswith("Optuna")}
    if rivals and "surrogate" in means:
        best = min(rivals, key=rivals.__getitem__)
        ratio = means["surrogate"] / rivals[best]
        verdict = "met" if ratio <= 0.7 else "MISSED"
        print(f"surrogate / {best} (the best of Optuna's samplers): {ratio:.2f}; goal at most 0.7: {verdict}")


if __name__ == "__main__":
    main()
