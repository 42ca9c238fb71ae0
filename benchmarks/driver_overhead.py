"""The time per trial of driver, ledger and evolution, with an evaluator that takes no time.

The space has 20 decisions of 4 options and a limit on an additive cost. The driver writes a complete run directory, as
in every run. The same strategy is also asked and told in a bare loop without a ledger, so the difference is the time of
driver and ledger; and, if Optuna is installed, its random sampler is timed. Times are printed for blocks of trials, to
show whether the time per trial grows.

    python benchmarks/driver_overhead.py [--trials 100000] [--optuna-trials 2000] [--clock cpu] [--profile]
"""

from __future__ import annotations

import argparse
import cProfile
import importlib.util
import pstats
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from automl_nas.evaluation import CostModel, Evaluator, Outcome, Request, TabulatedCost, Task
from automl_nas.run import Session
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import Problem, Trial, parse_constraint
from automl_nas.testing import ToySpace
from automl_nas_evolution.evolutionary import EvolutionarySearch

LIMIT = "<= 32"  # the costs are 0 to 60 with mean 30; about two in three architectures meet the limit
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = CLOCKS["wall"]
GOALS = {1: 0.2, 100: 0.05}  # ms per trial, by batch


class Sum(CostModel):
    """The sum of the options, an additive cost."""

    metric: ClassVar[str] = "toy_cost"
    unit: ClassVar[str] = "units"
    integral: ClassVar[bool] = True

    def __init__(self, space: SearchSpace) -> None:
        self._names = tuple(space.decisions)

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the option of each decision."""
        return {name: float(str(architecture[name])) for name in self._names}


class Free(Evaluator):
    """Scores an architecture by its hash, which takes almost no time; stores the time before every 1,000th trial."""

    stochastic: ClassVar[bool] = False

    def __init__(self) -> None:
        self.marks: dict[int, float] = {}

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield outcomes in order."""
        for request in requests:
            if not request.number % 1000:
                self.marks[request.number] = clock()
            yield Outcome(request.number, {"accuracy": score(request.architecture)})

    @classmethod
    def metric_names(cls, task: Task | None) -> frozenset[str]:
        """``accuracy``."""
        return frozenset({"accuracy"})


def score(architecture: Architecture) -> float:
    """Return a number in [0, 1) that does not depend on the cost."""
    return hash(architecture) % 10007 / 10007


def space() -> ToySpace:
    return ToySpace(blocks=20, options=4)


def with_driver(trials: int, batch: int, population: int) -> dict[int, float]:
    """Run a search in a new directory; return trial number -> time, before every 1,000th trial and at the end."""
    evaluator = Free()
    raw = {
        "space": space(),
        "problem": {
            "objectives": {"accuracy": "maximize"},
            "constraints": {"toy_cost": LIMIT},
            "costs": {"toy_cost": Sum},
        },
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [
            {
                "name": "search",
                "strategy": {"name": "evolution", "population": population, "generations": None},
                "evaluator": evaluator,
                "budget": {"trials": trials},
                "batch": batch,
                "ahead": batch,
            }
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        session = Session.start(raw, Path(folder) / "run")
        result = session.run()
        evaluator.marks[trials] = clock()
    assert result["stages"][0]["trials"] == trials
    return evaluator.marks


def bare_loop(trials: int, batch: int, population: int) -> dict[int, float]:
    """Ask and tell the same strategy in a loop; return the same times as `with_driver`."""
    toy_space = space()
    problem = Problem(
        {"accuracy": "maximize"},
        [parse_constraint("toy_cost", LIMIT)],
        {"toy_cost": TabulatedCost(Sum(toy_space), toy_space)},
    )
    strategy = EvolutionarySearch(toy_space, problem, seed=0, population=population, generations=None)
    marks: dict[int, float] = {}
    done = 0
    while done < trials:
        proposals = strategy.ask(min(batch, trials - done))
        evaluated = []
        for number, proposal in enumerate(proposals, start=done):
            if not number % 1000:
                marks[number] = clock()
            architecture = proposal.architecture
            evaluated.append(
                Trial(
                    number,
                    architecture,
                    {"accuracy": score(architecture)},
                    problem.costs(architecture),
                    problem.violations(architecture),
                    info=proposal.info,
                )
            )
        strategy.tell(evaluated)
        done += len(evaluated)
    marks[trials] = clock()
    return marks


def optuna_random(trials: int) -> dict[int, float]:
    """Ask and tell Optuna's random sampler, in memory; return the same times as `with_driver`."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    marks: dict[int, float] = {}
    for number in range(trials):
        if not number % 1000:
            marks[number] = clock()
        trial = study.ask()
        values = [trial.suggest_categorical(f"d{position}", (0, 1, 2, 3)) for position in range(20)]
        study.tell(trial, hash(tuple(values)) % 10007 / 10007)
    marks[trials] = clock()
    return marks


def blocks(trials: int) -> list[tuple[int, int]]:
    """Return (begin, end) of the timed blocks: up to 1,000, 10,000 and 100,000 trials, and the last tenth."""
    ends = [end for end in (1_000, 10_000, 100_000) if end < trials] + [trials]
    begins = [0, *ends[:-1]]
    last = trials - max(1000, trials // 10 // 1000 * 1000)
    return [*zip(begins, ends, strict=True), *([(last, trials)] if last > begins[-1] else [])]


def per_trial(marks: Mapping[int, float], begin: int, end: int) -> str:
    """Return the milliseconds per trial in a block, or a dash if the block was not run."""
    if begin not in marks or end not in marks:
        return "-"
    return f"{(marks[end] - marks[begin]) / (end - begin) * 1000:.4f}"


def loop_seconds() -> float:
    """Return the seconds that a fixed loop in pure Python takes, which shows how much other programs slow it down."""
    begun, value = clock(), 1
    for step in range(1_000_000):
        value = (value * 3 + step) & 0xFFFF
    return clock() - begun


def profile(call: Callable[[], object]) -> None:
    profiler = cProfile.Profile()
    profiler.runcall(call)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(35)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100_000, help="a multiple of 1,000")
    parser.add_argument("--optuna-trials", type=int, default=2_000)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="use cpu if other programs share the machine")
    parser.add_argument("--profile", action="store_true", help="print a profile instead")
    settings = parser.parse_args()
    trials = settings.trials
    global clock
    clock = CLOCKS[settings.clock]

    if settings.profile:
        for batch in GOALS:
            profile(lambda batch=batch: with_driver(trials, batch, max(50, batch)))  # type: ignore[misc]
        return

    with_driver(1000, 1, 50)  # imports everything that is imported on first use
    columns: dict[str, dict[int, float]] = {}
    loops = [loop_seconds()]
    for batch in GOALS:
        # A generation has at least one batch; 50 is the population of the paper.
        population = max(50, batch)
        columns[f"driver, batch {batch}"] = with_driver(trials, batch, population)
        loops.append(loop_seconds())
        columns[f"bare loop, batch {batch}"] = bare_loop(trials, batch, population)
        loops.append(loop_seconds())
    if importlib.util.find_spec("optuna") is not None:
        columns["optuna random"] = optuna_random(settings.optuna_trials)
    print(
        f"ms per trial, {settings.clock} time; a fixed loop of 1,000,000 steps took {min(loops):.3f} to "
        f"{max(loops):.3f} s in the same run"
    )
    print("| trials | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for begin, end in blocks(trials):
        print(
            f"| {begin:,} to {end:,} | " + " | ".join(per_trial(marks, begin, end) for marks in columns.values()) + " |"
        )
    for batch, goal in GOALS.items():
        marks = columns[f"driver, batch {batch}"]
        mean = (marks[trials] - marks[0]) / trials * 1000
        print(
            f"batch {batch}: {mean:.4f} ms per trial over the whole run; goal at most {goal}: "
            f"{'met' if mean <= goal else 'MISSED'}"
        )


if __name__ == "__main__":
    main()
