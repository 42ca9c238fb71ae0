"""How much faster several workers are, and what killing two of them costs.

A search of candidates that take 0.2 s each (asleep: processes wait, they do not compute) with 1, 2 and 4 processes
``automl-nas worker`` on one storage, two of which are killed with SIGKILL in the middle of an evaluation and replaced
by new ones. Printed are the seconds from the first evaluation's begin to the last one's end, the speed-up over one
worker, evaluations that were lost, and those that ended twice. With ``--kill 0`` nobody is killed.

    python benchmarks/optuna_workers.py [--trials 60] [--workers 1 2 4] [--kill 2] [--storage sqlite|journal|URL]
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from automl_nas.run.ledger import Ledger
from automl_nas.run.yaml import dump_yaml

PLUGIN = """
import os, time
from automl_nas.evaluation.evaluator import Evaluator, Outcome
from automl_nas.plugin import hookimpl
from automl_nas.space.space import SearchSpace
from automl_nas.testing import ToySpace, toy_metric


def space() -> ToySpace:
    return ToySpace(blocks=8, options=4)


class Asleep(Evaluator):
    stochastic = False

    def __init__(self, space: SearchSpace, *, diary: str, seconds: float) -> None:
        self.space, self.diary, self.seconds = space, diary, seconds

    def note(self, what, number):
        with open(self.diary, "a") as file:
            file.write(f"{what} {number} {os.getpid()} {time.time()}\\n")

    def evaluate(self, requests):
        for request in requests:
            self.note("begin", request.number)
            time.sleep(self.seconds)
            self.note("end", request.number)
            yield Outcome(request.number, {"accuracy": toy_metric(request.architecture, self.space)})


@hookimpl
def register_spaces(register):
    register("asleep_toy", "asleep_plugin:space")


@hookimpl
def register_evaluators(register):
    register("asleep", "asleep_plugin:Asleep")
"""
SECONDS, GRACE = 0.2, 3.0


def install(folder: Path) -> Mapping[str, str]:
    """Write the plugin as an installed distribution; return the environment that finds it."""
    (folder / "asleep_plugin.py").write_text(PLUGIN)
    info = folder / "asleep-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: asleep\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[automl_nas]\nasleep = asleep_plugin\n")
    return {**os.environ, "PYTHONPATH": str(folder), "AUTOML_NAS_PLUGINS": "asleep,optuna,evolution"}


def program(environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    """Start ``automl-nas``."""
    code = "from automl_nas.cli.app import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def read(diary: Path) -> list[tuple[str, int, int, float]]:
    """Return (begin or end, trial, process, time)."""
    lines = [line.split() for line in diary.read_text().splitlines()] if diary.exists() else []
    return [(what, int(number), int(process), float(at)) for what, number, process, at in lines]


def victim(diary: Path, workers: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes] | None:
    """Return a worker that is in the middle of an evaluation."""
    notes = read(diary)
    ended = {(number, process) for what, number, process, _ in notes if what == "end"}
    busy = {process for what, number, process, _ in notes if what == "begin" and (number, process) not in ended}
    return next((worker for worker in workers if worker.pid in busy), None)


def measure(count: int, trials: int, kill: int, storage: str) -> tuple[float, int, int, int]:
    """Return seconds, killed workers, lost trials and trials that ended twice."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment, diary = install(folder), folder / "diary"
        made = {"sqlite": f"sqlite:///{folder}/queue.db", "journal": str(folder / "queue.journal")}
        address = made.get(storage, storage)
        executor = {"name": "optuna", "storage": address, "study": f"queue{os.getpid()}-{count}", "grace": GRACE}
        stage = {
            "name": "search",
            "strategy": "random",
            "evaluator": {"name": "asleep", "diary": str(diary), "seconds": SECONDS},
            "budget": {"trials": trials},
            "ahead": 2 * count,
        }
        config = {
            "space": "asleep_toy",
            "problem": {"objectives": {"accuracy": "maximize"}},
            "runtime": {"device": "cpu", "threads": 1},
            "executor": executor,
            "stages": [stage],
        }
        (folder / "search.yaml").write_text(dump_yaml(config))
        join = ("worker", address, "--study", executor["study"], "--idle", "300")
        workers = [program(environment, *join) for _ in range(count)]
        run = program(environment, "run", str(folder / "search.yaml"), "--out", str(folder / "run"), "--quiet")
        killed = 0
        while run.poll() is None:
            time.sleep(0.02)
            ended = sum(note[0] == "end" for note in read(diary))
            if killed < kill and ended >= (killed + 1) * trials // (kill + 2) and (found := victim(diary, workers)):
                found.send_signal(signal.SIGKILL)
                workers.remove(found)
                workers.append(program(environment, *join))
                killed += 1
        for worker in workers:
            worker.send_signal(signal.SIGINT)
            worker.wait()
        notes = read(diary)
        ends = [number for what, number, _, _ in notes if what == "end"]
        recorded = Ledger(folder / "run" / "trials.jsonl", writable=False).trials
        seconds = max(note[3] for note in notes) - min(note[3] for note in notes)
        return seconds, killed, trials - len(recorded), len(ends) - len(set(ends))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--kill", type=int, default=2)
    parser.add_argument("--storage", default="sqlite", help="sqlite, journal, or a URL")
    arguments = parser.parse_args()
    print(
        f"{arguments.trials} trials of {SECONDS} s, grace {GRACE:g} s, storage: {arguments.storage.partition(':')[0]}"
    )
    print("workers   seconds   speed-up   killed   lost   ended twice")
    first = 0.0
    for count in arguments.workers:
        seconds, killed, lost, twice = measure(count, arguments.trials, arguments.kill, arguments.storage)
        first = first or seconds * count / arguments.workers[0]
        told = f"{count:7d}   {seconds:7.1f}   {first / seconds:8.2f}   {killed:6d}   {lost:4d}   {twice:11d}"
        print(told, flush=True)


if __name__ == "__main__":
    main()
