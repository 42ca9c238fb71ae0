"""Times of code with small matrices: by one BLAS thread, as `one_blas_thread` sets it, and by one for each core.

The proposals of `surrogate` (those after ``--proposals``, with four columns of evidence) and the fit of a predictor of
costs to 150 samples are each timed in turns (AB, then BA). The script prints the medians of both sides and the median
of the paired ratios, in seconds by the clock and of the processor, with bootstrap intervals. Run it without variables
that set numbers of threads, on a machine that does nothing else.

    python benchmarks/blas_threads.py [--proposals 240] [--repetitions 60]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from unittest import mock

import numpy as np
from supernet_step import interval
from surrogate_step import Noisy, Space, matches
from threadpoolctl import threadpool_info

from automl_nas import blas_threads
from automl_nas.space import Choice
from automl_nas.strategy import Problem, Trial
from automl_nas_costs.prediction.predictor import Predictor
from automl_nas_surrogate.search import SurrogateSearch

SAMPLES = 150
REST_SECONDS = 0.2
"""Between turns: threads go on waiting in a loop for a while after their work, and would slow the other side."""


class NoLibraries:
    """Stands for the libraries and lists none, so that nothing is limited."""

    lib_controllers = ()


@contextlib.contextmanager
def all_threads() -> Iterator[None]:
    """Make `one_blas_thread` have no effect."""
    with mock.patch.object(blas_threads, "_libraries", NoLibraries):
        yield


def proposals(skipped: int) -> Callable[[int], Callable[[], object]]:
    """Return a function from the number of a side to one that makes the next proposal of its search."""
    space = Space({f"d{place}": Choice(tuple(range(4))) for place in range(20)})
    searches = [SurrogateSearch(space, Problem({"accuracy": "maximize"}), seed=0, evidence=[Noisy(4)]) for _ in "ab"]
    counts = [0, 0]

    def proposing(side: int) -> Callable[[], None]:
        def propose() -> None:
            (proposal,) = searches[side].ask(1)
            metrics = {"accuracy": matches(proposal.architecture)}
            searches[side].tell([Trial(counts[side], proposal.architecture, metrics, {})])
            counts[side] += 1

        return propose

    for side, search in enumerate(searches):
        while search.prepare() is not None:
            pass
        for _ in range(skipped):
            proposing(side)()
    return proposing


def fits() -> Callable[[int], Callable[[], object]]:
    """Return the same of a predictor of costs, a sum over 20 decisions with deviations."""
    space = Space({f"d{place}": Choice(tuple(range(4))) for place in range(20)})
    rng = np.random.default_rng(0)
    samples = [space.sample(random.Random(number)) for number in range(SAMPLES)]
    values = [float(matches(sample) + rng.normal(0, 0.1) + 5) for sample in samples]
    return lambda side: lambda: Predictor(space, samples, values)


def compare(name: str, make: Callable[[int], Callable[[], object]], repetitions: int) -> None:
    """Time both sides in turns and print a row."""
    seconds = np.zeros((repetitions, 2, 2))
    for number in range(repetitions):
        for side in (0, 1) if number % 2 else (1, 0):
            time.sleep(REST_SECONDS)
            with contextlib.nullcontext() if side else all_threads():
                begun = time.perf_counter(), time.process_time()
                make(side)()
                seconds[number, side] = time.perf_counter() - begun[0], time.process_time() - begun[1]
    for place, clock in enumerate(("clock", "processor")):
        before, now = 1000 * np.median(seconds[:, :, place], axis=0)
        ratios = seconds[:, 1, place] / seconds[:, 0, place]
        low, high = interval(ratios)
        print(f"| {name} | {clock} | {before:.1f} | {now:.1f} | {np.median(ratios):.3f} [{low:.3f}, {high:.3f}] |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proposals", type=int, default=240, help="proposals before those that are timed")
    parser.add_argument("--repetitions", type=int, default=60)
    settings = parser.parse_args()
    threads = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    print(f"{os.cpu_count()} cores, BLAS threads {threads}\n")
    print("| | time | all threads, ms | one thread, ms | ratio [95 % interval] |\n|---|---|---|---|---|")
    with all_threads():
        make = proposals(settings.proposals)
    compare("a proposal of `surrogate`", make, settings.repetitions)
    compare(f"a predictor of costs, {SAMPLES} samples", fits(), max(settings.repetitions // 4, 3))


if __name__ == "__main__":
    main()
