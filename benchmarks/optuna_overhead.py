"""The additional time per trial of one of Optuna's samplers in the strategy ``optuna``.

One side is a loop over Optuna's own ``study.ask`` and ``study.tell`` in memory, the other one ``ask`` and ``tell`` of
the strategy, in a space of 20 decisions of 4 options with an evaluation that takes almost no time. Equal numbers of
trials run in turns (bare, strategy, strategy, bare). Each pair gives one difference and one ratio; their medians are
printed with bootstrap intervals. Times are CPU times, which depend less on other programs.

    python benchmarks/optuna_overhead.py [--trials 1000] [--rounds 4] [--samplers random tpe]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
import warnings
from collections.abc import Callable, Sequence

import optuna

from automl_nas.strategy import Problem, Trial
from automl_nas.testing import ToySpace
from automl_nas_optuna.strategy.optuna_strategy import OptunaStrategy
from automl_nas_optuna.strategy.samplers import Sampler

BLOCKS, OPTIONS = 20, 4
GOALS = {"random": "at most 0.15 ms more", "tpe": "at most 5 % more"}


def value_of(numbers: Sequence[int]) -> float:
    """Return a number in [0, 1)."""
    return hash(tuple(numbers)) % 10007 / 10007


def bare(name: str, trials: int, seed: int) -> float:
    """Return the CPU seconds of Optuna's own loop."""
    sampler = Sampler(name).make(seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        f"d{position}": optuna.distributions.CategoricalDistribution(tuple(range(OPTIONS)))
        for position in range(BLOCKS)
    }
    begin = time.process_time()
    for _ in range(trials):
        trial = study.ask(distributions)
        study.tell(trial, value_of(list(trial.params.values())))
    return time.process_time() - begin


def through_the_strategy(name: str, trials: int, seed: int) -> float:
    """Return the CPU seconds of the same search through the strategy."""
    space = ToySpace(blocks=BLOCKS, options=OPTIONS)
    strategy = OptunaStrategy(space, Problem({"accuracy": "maximize"}), seed=seed, sampler=Sampler(name))
    begin = time.process_time()
    for number in range(trials):
        (proposal,) = strategy.ask(1)
        architecture = proposal.architecture
        value = value_of([int(str(item)) for item in architecture.values()])
        strategy.tell([Trial(number, architecture, {"accuracy": value})])
    return time.process_time() - begin


def interval(values: Sequence[float]) -> str:
    """Return the median and its 95 % bootstrap interval."""
    rng = random.Random(0)
    medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(2000))
    return f"{statistics.median(values):.3f} [{medians[50]:.3f}, {medians[1949]:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=4, help="rounds of bare, strategy, strategy, bare")
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe"])
    settings = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    sides: tuple[Callable[[str, int, int], float], ...] = (bare, through_the_strategy)
    print(f"{settings.trials} trials, {BLOCKS} decisions of {OPTIONS} options, CPU time")
    print("| sampler | bare, ms per trial | strategy, ms per trial | difference, ms per trial | ratio | goal |")
    print("|---|---|---|---|---|---|")
    for name in settings.samplers:
        for side in sides:
            side(name, 30, 0)  # imports everything that is imported on first use
        pairs: list[tuple[float, float]] = []
        for turn in range(settings.rounds):
            first, second, third, fourth = (
                side(name, settings.trials, turn) / settings.trials * 1000 for side in (*sides, *reversed(sides))
            )
            pairs += [(first, second), (fourth, third)]
        before, after = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"| {name} | {before:.3f} | {after:.3f} | {interval([b - a for a, b in pairs])} | "
            f"{interval([b / a for a, b in pairs])} | {GOALS.get(name, '')} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
