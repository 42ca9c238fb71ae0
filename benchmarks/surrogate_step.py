"""The time of a proposal of `surrogate` in a space of many decisions, compared with its code at an earlier commit.

Both sides search the same space with the same seed, in turns of one proposal (AB, then BA), and must propose the same
architectures. The earlier code is read from git. The script prints the milliseconds of processor time that the last
``--last`` proposals take on both sides, and the median of the paired ratios with a bootstrap interval. The mean
includes the proposals at which the model is fitted again.

    python benchmarks/surrogate_step.py [--decisions 500] [--options 4] [--proposals 60] [--last 40] [--before REF]
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
from pathlib import Path
from typing import Any

import numpy as np

from automl_nas.space import Architecture, Choice, DecisionSpace
from automl_nas.strategy import AskTellStrategy, Problem, Trial
from automl_nas_surrogate.search import SurrogateSearch

ROOT = Path(__file__).parents[1]
BEFORE = "0a7c321"
EARLIER = "surrogate_before"


class Space(DecisionSpace):
    """Decisions without networks."""

    def build(self, architecture: Architecture) -> Any:
        """Raise an error: there are no networks."""
        raise NotImplementedError


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
    values = proposal.architecture.values()
    metrics = {"accuracy": float(sum(value == place % 3 for place, value in enumerate(values)))}
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
    settings = parser.parse_args()
    space = Space({f"d{place}": Choice(tuple(range(settings.options))) for place in range(settings.decisions)})
    problem = Problem({"accuracy": "maximize"})
    with tempfile.TemporaryDirectory() as folder:
        classes: list[Any] = [earlier_class(settings.before, folder), SurrogateSearch]
        sides = [make(space, problem, seed=0) for make in classes]
        seconds = np.zeros((settings.proposals, 2))
        for number in range(settings.proposals):
            architectures: dict[int, Architecture] = {}
            for side in (0, 1) if number % 2 else (1, 0):
                seconds[number, side], architectures[side] = step(sides[side], number)
            if architectures[0] != architectures[1]:
                raise SystemExit(f"proposal {number} differs")
    modelled = seconds[4:][-settings.last :]  # the first four are random
    ratios = modelled[:, 1] / modelled[:, 0]
    resampled = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(resampled, axis=1), [0.025, 0.975])
    print(f"{settings.decisions} decisions of {settings.options} options, {settings.proposals} equal proposals")
    print(f"| {settings.before}, ms: median (mean) | now | now / before [95 % interval] |")
    print("|---|---|---|")
    before, now = (f"{1000 * np.median(side):.1f} ({1000 * np.mean(side):.1f})" for side in modelled.T)
    print(f"| {before} | {now} | {np.median(ratios):.3f} [{low:.3f}, {high:.3f}] |")


if __name__ == "__main__":
    main()
