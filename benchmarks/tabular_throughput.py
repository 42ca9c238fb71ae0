"""Evaluations per second on a table: driver and ledger, compared with a bare ask-and-tell loop.

An evaluation on the table of NAS-Bench-201 takes almost no time, so the script times the search itself and what a run
adds to it: numbering, two lines of the ledger for each trial, checkpoints. Both sides run the same strategy with the
same seed and trials, in interleaved turns. The second part runs complete searches in two processes.

    python benchmarks/tabular_throughput.py [--trials 1000] [--rounds 5] [--searches 500] [--clock cpu] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import pstats
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from automl_nas.evaluation import Request
from automl_nas.run import Session
from automl_nas.strategy import AskTellStrategy, Problem, Trial
from automl_nas_benchmarks.spaces.nasbench201 import NASBench201
from automl_nas_benchmarks.tables.evaluators import NASBench201Evaluator
from automl_nas_evolution.evolutionary import EvolutionarySearch
from automl_nas_evolution.random_search import RandomSearch
from automl_nas_evolution.regularized_evolution import RegularizedEvolution

STRATEGIES: dict[str, tuple[type[AskTellStrategy], dict[str, Any]]] = {
    "random": (RandomSearch, {}),
    "evolution": (EvolutionarySearch, {"population": 100, "generations": None}),
    "aging": (RegularizedEvolution, {"population": 30, "sample_size": 10}),
}
GOALS = {1: 5_000, 100: 20_000}  # evaluations per second, by batch
SEARCHES_GOAL = 120.0  # seconds for 500 searches of 300 evaluations on two cores
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def with_driver(strategy: str, trials: int, batch: int, seed: int, clock: Callable[[], float]) -> float:
    """Run one search in a new directory; return the seconds from the first step to the result."""
    raw = {
        "seed": seed,
        "space": "nasbench201",
        "problem": {"objectives": {"accuracy": "maximize"}, "costs": []},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [
            {
                "name": "search",
                "strategy": {"name": strategy, **STRATEGIES[strategy][1]},
                "evaluator": "nasbench201",
                "budget": {"trials": trials},
                "batch": batch,
                "ahead": batch,
            }
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        session = Session.start(raw, Path(folder) / "run")
        begun = clock()
        result = session.run()
        spent = clock() - begun
    assert result["stages"][0]["trials"] == trials
    return spent


def bare_loop(strategy: str, trials: int, batch: int, seed: int, clock: Callable[[], float]) -> float:
    """Ask and tell the same strategy in a loop without a ledger; return the seconds."""
    space, problem = NASBench201(), Problem({"accuracy": "maximize"})
    kind, settings = STRATEGIES[strategy]
    search, evaluator = kind(space, problem, seed=seed, **settings), NASBench201Evaluator(space)  # type: ignore[call-arg]
    begun = clock()
    done = 0
    while done < trials:
        proposals = search.ask(min(batch, trials - done))
        requests = [Request(number, item.architecture, 0) for number, item in enumerate(proposals, start=done)]
        outcomes = evaluator.evaluate(requests)
        search.tell([Trial(o.number, r.architecture, o.metrics) for r, o in zip(requests, outcomes, strict=True)])
        done += len(proposals)
    return clock() - begun


def loop_seconds(clock: Callable[[], float]) -> float:
    """Return the seconds that a fixed loop in pure Python takes, which shows how much other programs slow it down."""
    begun, value = clock(), 1
    for step in range(1_000_000):
        value = (value * 3 + step) & 0xFFFF
    return clock() - begun


def one_search(task: tuple[str, int, int]) -> None:
    """Run a complete search in a worker process."""
    strategy, evaluations, seed = task
    with_driver(strategy, evaluations, 1, seed, time.perf_counter)


def many_searches(strategy: str, searches: int, evaluations: int, processes: int) -> tuple[float, float]:
    """Return the wall and CPU seconds of many searches in new processes, including the start of the processes."""
    begun, spent = time.perf_counter(), _cpu_of_children()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        tasks = [(strategy, evaluations, seed) for seed in range(searches)]
        for _ in pool.imap_unordered(one_search, tasks, chunksize=5):
            pass
        pool.close()
        pool.join()
    return time.perf_counter() - begun, _cpu_of_children() - spent


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1_000, help="trials of a timed search")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved turns; the median is printed")
    parser.add_argument("--searches", type=int, default=500, help="complete searches in processes; 0: skip them")
    parser.add_argument("--evaluations", type=int, default=300, help="evaluations of each complete search")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="use cpu if other programs share the machine")
    parser.add_argument("--profile", action="store_true", help="print a profile instead")
    settings = parser.parse_args()
    clock, trials = CLOCKS[settings.clock], settings.trials

    for strategy in STRATEGIES:  # imports everything that is imported on first use, and reads the table
        with_driver(strategy, 100, 100, 0, clock)
    if settings.profile:
        for strategy in STRATEGIES:
            profiler = cProfile.Profile()
            profiler.runcall(with_driver, strategy, trials, 100, 0, clock)
            pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
        return

    print(f"evaluations per second, {trials:,} trials, median of {settings.rounds} turns, {settings.clock} time")
    print("loop: seconds that a fixed loop of 1,000,000 steps took in the same run, for the speed of the machine")
    print("| strategy | batch | driver and ledger | bare loop | driver's microseconds per trial | loop | goal |")
    print("|---|---|---|---|---|---|---|")
    for strategy in STRATEGIES:
        for batch, goal in GOALS.items():
            driven, alone, loops = [], [], []
            for seed in range(settings.rounds):
                driven.append(with_driver(strategy, trials, batch, seed, clock))
                alone.append(bare_loop(strategy, trials, batch, seed, clock))
                loops.append(loop_seconds(clock))
            rate, free = trials / statistics.median(driven), trials / statistics.median(alone)
            print(
                f"| {strategy} | {batch} | {rate:,.0f} | {free:,.0f} | {1e6 / rate - 1e6 / free:.0f} | "
                f"{statistics.median(loops):.3f} | {goal:,}: "
                f"{'met' if rate >= goal else 'MISSED'} |",
                flush=True,
            )
    for strategy in STRATEGIES if settings.searches else ():
        wall, cpu = many_searches(strategy, settings.searches, settings.evaluations, settings.processes)
        goal_text = f"; goal {SEARCHES_GOAL:.0f} s: {'met' if wall <= SEARCHES_GOAL else 'MISSED'}"
        whole = (settings.searches, settings.evaluations, settings.processes) == (500, 300, 2)
        print(
            f"{strategy}: {settings.searches} searches of {settings.evaluations} evaluations (batch 1) in "
            f"{settings.processes} processes: {wall:.1f} s wall, {cpu:.1f} s of CPU{goal_text if whole else ''}",
            flush=True,
        )


if __name__ == "__main__":
    main()
