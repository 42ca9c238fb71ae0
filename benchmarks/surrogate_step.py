"""The time of a proposal of `surrogate` in a space of many decisions, compared with its code at an earlier commit.

Both sides search the same space with the same seed, in turns of one proposal (AB, then BA), and must propose the same
architectures. The earlier code is read from git. The script prints the milliseconds of processor time that the last
``--last`` proposals take on both sides, and the median of the paired ratios with a bootstrap interval. The mean
includes the proposals at which the model is fitted again.

Set OMP_NUM_THREADS to 1: threads of one side would wait in a loop during the turn of the other.

    python benchmarks/surrogate_step.py [--decisions 500] [--options 4] [--proposals 60] [--last 40] [--before REF]
        [--evidence 4]

With `--evidence N` both sides have N columns of evidence, the result with noise, and a pool of the default size.
"""

from __future__ import annotations

import argparse
import importlib
import io
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from supernet_step import interval

from automl_nas.evaluation import Evaluator, Outcome, Request
from automl_nas.space import Architecture, Choice, DecisionSpace
from automl_nas.strategy import AskTellStrategy, Problem, Trial
from automl_nas.streams import stream
from automl_nas_surrogate.search import SurrogateSearch

ROOT = Path(__file__).parents[1]
BEFORE = "0a7c321"
EARLIER = "surrogate_before"


class Space(DecisionSpace):
    """Decisions without networks."""

    def build(self, architecture: Architecture) -> Any:
        """Raise an error: there are no networks."""
        raise NotImplementedError


class Noisy(Evaluator):
    """Evidence: the result of an architecture, with noise of its own in each column.

    Args:
        columns: their number.
    """

    stochastic: ClassVar[bool] = False

    def __init__(self, columns: int) -> None:
        self._columns = columns

    @classmethod
    def metric_names(cls, task: object) -> None:
        """Return None: they depend on the number of columns."""
        return

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """Yield outcomes in order."""
        for request in requests:
            noise = stream(0, "evidence", request.architecture.key)
            result, spread = matches(request.architecture), len(request.architecture) ** 0.5
            values = {f"column{place}": result + noise.gauss(0, spread) for place in range(self._columns)}
            yield Outcome(request.number, values)


def matches(architecture: Architecture) -> float:
    """Return the number of values that are equal to those of a pattern."""
    return float(sum(value == place % 3 for place, value in enumerate(architecture.values())))


def earlier_class(reference: str, folder: str) -> type[AskTellStrategy]:
    """Return the strategy of a commit, whose package is written to a folder under another name."""
    package = "plugins/automl_nas_surrogate"
    archive = subprocess.run(["git", "archive", reference, package], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    (Path(folder) / package).rename(Path(folder) / EARLIER)
    for path in (Path(folder) / EARLIER).glob("*.py"):
        path.write_text(path.read_text(encoding="utf-8").replace("automl_nas_surrogate", EARLIER), encoding="utf-8")
    sys.path.insert(0, folder)
    earlier: type[AskTellStrategy] = importlib.import_module(f"{EARLIER}.search").SurrogateSearch
    return earlier


def step(strategy: AskTellStrategy, number: int) -> tuple[float, Architecture]:
    """Return the seconds of a proposal with its result, and its architecture; better are those closer to a pattern."""
    begun = time.process_time()
    (proposal,) = strategy.ask(1)
    spent = time.process_time() - begun
    metrics = {"accuracy": matches(proposal.architecture)}
    begun = time.process_time()
    strategy.tell([Trial(number, proposal.architecture, metrics, {})])
    return spent + time.process_time() - begun, proposal.architecture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decisions", type=int, default=500)
    parser.add_argument("--options", type=int, default=4)
    parser.add_argument("--proposals", type=int, default=60)
    parser.add_argument("--last", type=int, default=40, help="the proposals that are compared")
    parser.add_argument("--before", default=BEFORE, help="the commit of the earlier code")
    parser.add_argument("--evidence", type=int, default=0, help="columns of evidence")
    settings = parser.parse_args()
    space = Space({f"d{place}": Choice(tuple(range(settings.options))) for place in range(settings.decisions)})
    problem = Problem({"accuracy": "maximize"})
    evidence = {"evidence": [Noisy(settings.evidence)]} if settings.evidence else {}
    with tempfile.TemporaryDirectory() as folder:
        classes: list[Any] = [earlier_class(settings.before, folder), SurrogateSearch]
        sides = [make(space, problem, seed=0, **evidence) for make in classes]
        for side in sides:
            while side.prepare() is not None:
                pass
        seconds = np.zeros((settings.proposals, 2))
        for number in range(settings.proposals):
            architectures: dict[int, Architecture] = {}
            for side in (0, 1) if number % 2 else (1, 0):
                seconds[number, side], architectures[side] = step(sides[side], number)
            if architectures[0] != architectures[1]:
                raise SystemExit(f"proposal {number} differs")
    modelled = seconds[4:][-settings.last :]  # the first four are random
    ratios = modelled[:, 1] / modelled[:, 0]
    low, high = interval(ratios)
    columns = f", {settings.evidence} columns of evidence" if settings.evidence else ""
    print(
        f"{settings.decisions} decisions of {settings.options} options{columns}, {settings.proposals} equal proposals"
    )
    print(f"| {settings.before}, ms: median (mean) | now | now / before [95 % interval] |")
    print("|---|---|---|")
    before, now = (f"{1000 * np.median(side):.1f} ({1000 * np.mean(side):.1f})" for side in modelled.T)
    print(f"| {before} | {now} | {np.median(ratios):.3f} [{low:.3f}, {high:.3f}] |")


if __name__ == "__main__":
    main()
