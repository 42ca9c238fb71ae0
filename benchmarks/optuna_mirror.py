"""The time to mirror a run into an Optuna storage.

Two comparisons for each storage: the milliseconds to copy one trial, in the copying process (goal for SQLite: at most
25), with Optuna's own ``add_trial`` of the same trials; and the CPU time of searches with and without the mirror, in
turns (without, with, with, without), as the median of the paired ratios with a bootstrap interval. The search is random
and an evaluation takes a millisecond, so it records trials faster than any storage accepts them: the worst case.

    python benchmarks/optuna_mirror.py [--trials 300] [--rounds 3] [--storages sqlite journal]
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna

from automl_nas.evaluation import Evaluator, Outcome, Request
from automl_nas.run import Session
from automl_nas.testing import ToySpace, toy_metric
from automl_nas_optuna.mirror.mirror import Mirror
from automl_nas_optuna.mirror.run_description import RunDescription
from automl_nas_optuna.storages import close, open_storage

SPACE = ToySpace(blocks=20, options=4)
GOAL = 25.0


class Slow(Evaluator):
    """An evaluator that uses the processor for a millisecond."""

    stochastic = False

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield the outcomes in order."""
        for request in requests:
            end = time.thread_time() + 1e-3
            while time.thread_time() < end:
                pass
            yield Outcome(request.number, {"accuracy": toy_metric(request.architecture, SPACE)})


def configuration(trials: int, observers: list[Any]) -> dict[str, Any]:
    """Return the configuration of a search."""
    return {
        "space": SPACE,
        "problem": {"objectives": {"accuracy": "maximize"}},
        "runtime": {"device": "cpu", "threads": 1},
        "observers": observers,
        "stages": [
            {"name": "search", "strategy": "random", "evaluator": Slow(), "budget": {"trials": trials}},
        ],
    }


def address(kind: str, folder: Path) -> str:
    """Return the address of a storage in a folder; a URL is returned unchanged."""
    addresses = {"sqlite": f"sqlite:///{folder}/trials.db", "journal": str(folder / "trials.journal")}
    return addresses.get(kind, kind)


def search(trials: int, storage: str | None, folder: Path) -> tuple[float, float]:
    """Return the CPU and wall seconds of one search in this process."""
    observers = [] if storage is None else [{"name": "optuna", "storage": storage, "patience": 0.0}]
    session = Session.start(configuration(trials, observers), folder / "run")
    cpu, wall = time.process_time(), time.perf_counter()
    session.run()
    return time.process_time() - cpu, time.perf_counter() - wall


def add_trial_alone(trials: Sequence[optuna.trial.FrozenTrial], storage: str) -> float:
    """Return the CPU milliseconds per trial of Optuna's own ``add_trial``."""
    opened = open_storage(storage)
    study = optuna.create_study(storage=opened, study_name="bare", direction="maximize")
    study.add_trial(trials[0])
    begun = time.process_time()
    for trial in trials[1:]:
        study.add_trial(trial)
    spent = time.process_time() - begun
    close(opened)
    return 1e3 * spent / (len(trials) - 1)


def copy_times(trials: int, kind: str) -> tuple[float, float, float]:
    """Return milliseconds per trial: CPU time, wall time, and the CPU time of Optuna alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        search(trials, None, folder)
        description = RunDescription.of(folder / "run", {"search": {"accuracy": "maximize"}}, SPACE)
        mirror = Mirror(folder / "run", description, address(kind, folder), "benchmark")
        assert mirror.copy()  # the first one creates the tables
        cpu, wall = time.process_time(), time.perf_counter()
        while mirror.copy():
            pass
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        mirror.close()
        storage = open_storage(address(kind, folder))
        copied = optuna.load_study(study_name="benchmark/search", storage=storage).trials
        close(storage)
        return 1e3 * cpu / (trials - 1), 1e3 * wall / (trials - 1), add_trial_alone(copied, address(kind, folder))


def interval(values: list[float]) -> tuple[float, float, float]:
    """Return the median and a 95 % bootstrap interval."""
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(2000))
    return statistics.median(values), medians[50], medians[-51]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--storages", nargs="+", default=["sqlite", "journal"], help="sqlite, journal, or a URL")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print(f"{arguments.trials} trials of 20 decisions; {arguments.rounds} rounds")
    print("           | ms of CPU a trial | Optuna's add_trial | ms of the clock | CPU time of the search,")
    print("storage    |                   | alone              | a trial         | with / without the mirror")
    for kind in arguments.storages:
        cpu, wall, alone = copy_times(arguments.trials, kind)
        ratios: list[float] = []
        for _ in range(arguments.rounds):
            seconds = []
            for mirrored in (False, True, True, False):
                with tempfile.TemporaryDirectory() as name:
                    storage = address(kind, Path(name)) if mirrored else None
                    seconds.append(search(arguments.trials, storage, Path(name))[0])
            ratios += [seconds[1] / seconds[0], seconds[2] / seconds[3]]
        middle, low, high = interval(ratios)
        goal = f"   (goal: at most {GOAL:g} ms)" if kind == "sqlite" else ""
        columns = f"{kind.partition('://')[0]:10s} | {cpu:17.1f} | {alone:18.1f} | {wall:15.1f} | "
        print(f"{columns}{middle:.3f} [{low:.3f}, {high:.3f}]{goal}", flush=True)


if __name__ == "__main__":
    main()
