"""A small benchmark and strategies for the tests of comparisons; worker processes import this module by name."""

from __future__ import annotations

import csv
import itertools
import os
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from automl_nas.evaluation.artifacts import Artifacts
from automl_nas.space.operators import enumerate_all
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.base import Services, Strategy
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.streams import stream
from automl_nas_benchmarks.benchmark import Benchmark, benchmark_from_table

CODES = ["".join(code) for code in itertools.product("0123", repeat=4)]


def truth_of(code: str) -> float:
    """Distinct for all codes: a number of four digits base 4, mixed by an odd factor."""
    return (int(code, 4) * 77 % 256) / 4


def signal_of(code: str) -> float:
    return truth_of(code) + random.Random(code).gauss(0, 6)


def flops_of(code: str) -> int:
    return 100 + 100 * sum(int(digit) ** 2 for digit in code)


def write_table(path: Path, codes: Sequence[str] = CODES) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["code", "signal", "truth", "flops"])
        for code in codes:
            writer.writerow([code, repr(signal_of(code)), repr(truth_of(code)), flops_of(code)])
    return path


def spec(path: Path, **more: Any) -> dict[str, Any]:
    """Return the specification of this benchmark in a configuration."""
    return {"table": str(path), "label": "small", "metric": "truth", "codes": "code", "costs": ["flops"], **more}


def load(folder: str) -> Benchmark:
    """Return the benchmark, for the reference ``fixtures:load``."""
    return benchmark_from_table(Path(folder) / "small.csv", metric="truth", codes="code", costs=("flops",))


class Scan(AskTellStrategy):
    """All architectures in a random order: random search without replacement.

    Args:
        space: the search space.
        problem: ignored, constraints included.
        seed: seed of the order.
        times: how often each architecture is proposed consecutively.
    """

    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int, times: int = 1) -> None:
        every = list(enumerate_all(space.decisions))
        stream(seed, "scan").shuffle(every)
        self._order = [item for item in every for _ in range(times)]
        self._place = 0
        self.received: list[Trial] = []

    def ask(self, n: int) -> list[Proposal]:
        architectures = self._order[self._place : self._place + n]
        self._place += len(architectures)
        return [Proposal(item) for item in architectures]

    def tell(self, trials: Sequence[Trial]) -> None:
        self.received += trials

    def search_state(self) -> dict[str, Any]:
        return {"place": self._place}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        self._place = state["place"]


class Sleeper(Scan):
    """As `Scan`, 20 milliseconds slower for each batch."""

    def ask(self, n: int) -> list[Proposal]:
        time.sleep(0.02)
        return super().ask(n)


class Broken(Scan):
    """Raises an error at its fifth candidate."""

    def ask(self, n: int) -> list[Proposal]:
        if self._place == 4:
            raise RuntimeError("out of ideas")
        return super().ask(n)


class Killer(Scan):
    """Ends its process at its fifth candidate."""

    def ask(self, n: int) -> list[Proposal]:
        if self._place == 4:
            os._exit(3)
        return super().ask(n)


class Weighty(Scan):
    """Needs weights of another stage, which a table does not have."""

    def __init__(self, space: SearchSpace, problem: Problem, artifacts: Artifacts, *, seed: int) -> None:
        super().__init__(space, problem, seed=seed)


@final
class Generations(Strategy):
    """Not an ask-and-tell strategy: each step evaluates ten random candidates, with repetitions."""

    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int) -> None:
        self._space, self._seed, self._steps = space, seed, 0
        self.seen: list[Trial] = []

    def step(self, services: Services) -> None:
        draw = stream(self._seed, "generation", self._steps)
        self._steps += 1
        self.seen += services.evaluate([Proposal(self._space.sample(draw)) for _ in range(10)])
        services.log({"steps": self._steps}, step=self._steps)
        services.progress(self._steps, None, "steps")

    @property
    def done(self) -> bool:
        return False

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._steps = state["steps"]
