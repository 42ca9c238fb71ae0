"""Random search and aging evolution on NAS-Bench-201, compared with the closed form of random search.

The searches see the validation accuracy after 12 epochs (the signal). The result of a search is the test accuracy after
200 epochs of the network with the best signal. Equivalent cells share the accuracies of the first of them. Random
search runs with replacement, like the closed form, and with the default of the strategy, which never proposes the same
function twice.

The second table compares random search with its closed form at 10, 100 and 1,000 draws, in standard errors.

    python benchmarks/random_and_aging.py [--seeds 200] [--check-seeds 500] [--population 30] [--sample-size 10]
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from automl_nas.strategy import AskTellStrategy, Problem, Trial
from automl_nas_benchmarks.benchmark import DATASETS, Benchmark, load_benchmark
from automl_nas_benchmarks.comparison.random_search_expectation import Expectation, expected_best
from automl_nas_evolution.random_search import RandomSearch
from automl_nas_evolution.regularized_evolution import RegularizedEvolution

AT = (50, 100, 200, 500)
CHECKED = (10, 100, 1_000)
AGREE = 3.0  # standard errors


def results(benchmark: str, strategy: str, settings: dict[str, Any], at: Sequence[int], seed: int) -> list[float]:
    """Return the results of one search after the numbers of evaluations in ``at``."""
    tabular, problem = load_benchmark(benchmark), Problem({"accuracy": "maximize"})
    search: AskTellStrategy
    if strategy == "aging":
        search = RegularizedEvolution(tabular.space, problem, seed=seed, **settings)
    else:
        search = RandomSearch(tabular.space, problem, seed=seed, **settings)
    best, truth, truths = -math.inf, math.nan, []
    for number in range(max(at)):
        (proposal,) = search.ask(1)
        signal = tabular.signal(proposal.architecture)
        if signal > best:
            best, truth = signal, tabular.truth(proposal.architecture)
        search.tell([Trial(number, proposal.architecture, {"accuracy": signal})])
        if number + 1 in at:
            truths.append(truth)
    return truths


def closed_form(benchmark: Benchmark, draws: int) -> Expectation:
    """Return the expected result of random search over all codes; a function is drawn as often as it has codes."""
    sign = benchmark.sign
    return expected_best(
        sign * np.array(benchmark.signal_source.values), sign * np.array(benchmark.truth_source.values), draws
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument(
        "--check-seeds", type=int, default=500, help="seeds of the comparison with the closed form; 0: no comparison"
    )
    parser.add_argument("--population", type=int, default=30, help="the population of aging evolution")
    parser.add_argument("--sample-size", type=int, default=10, help="the sample size of aging evolution")
    parser.add_argument("--processes", type=int, default=1)
    settings = parser.parse_args()

    aging = {"population": settings.population, "sample_size": settings.sample_size}
    strategies: dict[str, tuple[str, dict[str, Any]]] = {
        "random, with replacement": ("random", {"duplicates": True}),
        "random, distinct (default)": ("random", {}),
        f"aging, {settings.population} / {settings.sample_size}": ("aging", aging),
    }
    with multiprocessing.get_context("spawn").Pool(settings.processes) as pool:
        print(f"test accuracy, mean ± standard deviation over {settings.seeds} seeds; signal: validation, 12 epochs")
        print("| data set | search | " + " | ".join(f"{count} evaluations" for count in AT) + " |")
        print("|---|---|" + "---|" * len(AT))
        for dataset, title in DATASETS.items():
            name = f"nasbench201-{dataset}-12ep"
            exact = [closed_form(load_benchmark(name), count) for count in AT]
            cells = " | ".join(f"{e.mean:.2f} ± {e.deviation:.2f}" for e in exact)
            print(f"| {title} | random, closed form | {cells} |")
            for label, (strategy, options) in strategies.items():
                truths = pool.map(partial(results, name, strategy, options, AT), range(settings.seeds), chunksize=5)
                cells = " | ".join(
                    f"{statistics.fmean(x):.2f} ± {statistics.stdev(x):.2f}" for x in zip(*truths, strict=True)
                )
                print(f"| {title} | {label} | {cells} |", flush=True)
        if not settings.check_seeds:
            return
        print(f"\nrandom search, with replacement, against its closed form; {settings.check_seeds} seeds")
        print("| benchmark | draws | found | exact | standard error | difference in standard errors |")
        print("|---|---|---|---|---|---|")
        worst = 0.0
        for name in ("nasbench201-cifar10", *(f"nasbench201-{dataset}-12ep" for dataset in DATASETS)):
            for draws in CHECKED:
                one = partial(results, name, "random", {"duplicates": True}, (draws,))
                truths = [each[0] for each in pool.map(one, range(settings.check_seeds), chunksize=5)]
                expected = closed_form(load_benchmark(name), draws)
                error = expected.deviation / math.sqrt(len(truths))
                away = (statistics.fmean(truths) - expected.mean) / error
                worst = max(worst, abs(away))
                mean = statistics.fmean(truths)
                print(
                    f"| {name} | {draws:,} | {mean:.3f} | {expected.mean:.3f} | {error:.3f} | {away:+.2f} |", flush=True
                )
        print(
            f"largest difference {worst:.2f} standard errors; goal {AGREE:.0f}: {'met' if worst <= AGREE else 'MISSED'}"
        )


if __name__ == "__main__":
    main()
