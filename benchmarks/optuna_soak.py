"""Workers over an Optuna storage that are killed and suspended at random, for some minutes.

One search after the other runs with processes ``automl-nas worker`` on one storage. At random moments a worker is
killed with SIGKILL and replaced, or suspended for longer than the grace period and continued; with ``--kill-run`` the
run is killed, too, and resumed. The script prints, for each search and in sum: trials recorded, lost (never recorded)
and doubled (recorded twice), evaluations that ended more than once, kills, suspensions, and the longest gap in seconds
between two recorded trials. A gap above ``--stuck`` seconds ends the script, which then prints the entries of the queue
and the last lines of the run.

    python benchmarks/optuna_soak.py [--storage sqlite|journal|URL] [--minutes 3] [--workers 3] [--trials 60]
        [--every 1.5] [--kill-run] [--load 0] [--stuck 120]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import optuna

from automl_nas.run import dump_yaml
from automl_nas.testing import installed_toys, read_event_log
from automl_nas_optuna import open_storage

SECONDS, GRACE = 0.2, 3.0
_LOAD = "while True: pass"


@dataclass
class Counts:
    """What happened in one search, or in several."""

    recorded: int = 0
    lost: int = 0
    doubled: int = 0
    repeated: int = 0
    killed: int = 0
    suspended: int = 0
    gap: float = 0.0

    def add(self, other: Counts) -> None:
        """Add the counts of a search."""
        for item in fields(self):
            both = getattr(self, item.name), getattr(other, item.name)
            setattr(self, item.name, max(both) if item.name == "gap" else sum(both))

    def __str__(self) -> str:
        numbers = (self.recorded, self.lost, self.doubled, self.repeated, self.killed, self.suspended)
        return "".join(f"{number:10d}" for number in numbers) + f"{self.gap:10.1f}"


@dataclass
class Ledger:
    """The recorded trials of a run as they appear.

    Attributes:
        path: the file.
        numbers: how often each trial is recorded.
        last: the time at which the number of recorded trials last changed.
        gap: the longest time between two changes.
    """

    path: Path
    numbers: Counter[str]
    last: float
    gap: float = 0.0

    def read(self) -> None:
        """Read the file."""
        if not self.path.exists():
            return
        lines = [line for line in self.path.read_text().splitlines() if '"event":"finished"' in line]
        numbers = Counter(line.partition('"number":')[2].partition(",")[0] for line in lines)
        if numbers != self.numbers:
            now = time.monotonic()
            self.gap = max(self.gap, now - self.last)
            self.numbers, self.last = numbers, now


def start(environment: Mapping[str, str], output: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start ``automl-nas`` with these arguments; its output is appended to a file."""
    code = "from automl_nas.cli import main; main()"
    with output.open("ab") as file:
        return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, stdout=file, stderr=file)


def configuration(folder: Path, address: str, study: str, trials: int, workers: int) -> Path:
    """Write the configuration of a search; return its path."""
    stage = {
        "name": "search",
        "strategy": "random",
        "evaluator": {"name": "event_log", "file": str(folder / "event_log"), "seconds": SECONDS},
        "budget": {"trials": trials},
        "ahead": 2 * workers,
    }
    config = {
        "space": {"name": "toy", "blocks": 8, "options": 4},
        "problem": {"objectives": {"accuracy": "maximize"}},
        "runtime": {"device": "cpu", "threads": 1},
        "executor": {"name": "optuna", "storage": address, "study": study, "grace": GRACE, "retries": 100},
        "stages": [stage],
    }
    path = folder / "search.yaml"
    path.write_text(dump_yaml(config))
    return path


def report_stuck(address: str, study: str, output: Path) -> None:
    """Print the entries of a queue and the last lines of the run."""
    storage = open_storage(address)
    for trial in optuna.load_study(study_name=study, storage=storage).get_trials():
        attributes = {name: value for name, value in trial.user_attrs.items() if name not in ("request", "terms")}
        print(trial.number, trial.user_attrs["request"]["number"], trial.state.name, attributes)
    print(output.read_text()[-3000:])


def search(arguments: argparse.Namespace, number: int, rng: random.Random) -> Counts:
    """Run one search with kills; return its counts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment, output = installed_toys(folder, "optuna", "evolution"), folder / "output"
        addresses = {"sqlite": f"sqlite:///{folder}/queue.db", "journal": str(folder / "queue.journal")}
        address = addresses.get(arguments.storage, arguments.storage)
        study, out = f"soak{os.getpid()}-{number}", str(folder / "run")
        path = configuration(folder, address, study, arguments.trials, arguments.workers)
        join = ("worker", address, "--study", study, "--idle", "600")
        workers = [start(environment, folder / "workers", *join) for _ in range(arguments.workers)]
        run = start(environment, output, "run", str(path), "--out", out, "--quiet")
        counts, suspended = Counts(), dict[subprocess.Popen[bytes], float]()
        ledger = Ledger(folder / "run" / "trials.jsonl", Counter(), time.monotonic())
        due = time.monotonic() + rng.expovariate(1 / arguments.every)
        try:
            while run.poll() is None:
                time.sleep(0.05)
                ledger.read()
                now = time.monotonic()
                if now - ledger.last > arguments.stuck:
                    report_stuck(address, study, output)
                    raise SystemExit(f"nothing was recorded for {arguments.stuck} s")
                for worker in [worker for worker, until in suspended.items() if now > until]:
                    worker.send_signal(signal.SIGCONT)
                    del suspended[worker]
                if now < due:
                    continue
                due = now + rng.expovariate(1 / arguments.every)
                if arguments.kill_run and ledger.numbers and rng.random() < 0.15:
                    run.kill()
                    run.wait()
                    run = start(environment, output, "resume", out, "--quiet")
                    counts.killed += 1
                    continue
                worker = rng.choice(workers)
                if rng.random() < 0.25 and worker not in suspended:
                    worker.send_signal(signal.SIGSTOP)
                    suspended[worker] = now + GRACE * rng.uniform(0.3, 2.5)
                    counts.suspended += 1
                    continue
                worker.kill()
                worker.wait()
                suspended.pop(worker, None)
                workers[workers.index(worker)] = start(environment, folder / "workers", *join)
                counts.killed += 1
        finally:
            for process in (run, *workers):
                process.kill()
                process.wait()
        ledger.read()
        if run.returncode:
            raise SystemExit(f"the run ended with {run.returncode}:\n{output.read_text()[-3000:]}")
        ends = Counter(event.number for event in read_event_log(folder / "event_log") if event.what == "end")
        counts.recorded, counts.gap = len(ledger.numbers), ledger.gap
        counts.lost = arguments.trials - counts.recorded
        counts.doubled = sum(count > 1 for count in ledger.numbers.values())
        counts.repeated = sum(count > 1 for count in ends.values())
        return counts


def main() -> None:
    """Run searches until the time is over, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", default="sqlite", help="sqlite, journal, or a URL")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--every", type=float, default=1.5, help="mean seconds between two kills or suspensions")
    parser.add_argument("--kill-run", action="store_true", help="also kill and resume the run")
    parser.add_argument("--load", type=int, default=0, help="number of busy processes beside the search")
    parser.add_argument("--stuck", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, total, end = random.Random(arguments.seed), Counts(), time.monotonic() + 60 * arguments.minutes
    load = [subprocess.Popen([sys.executable, "-c", _LOAD]) for _ in range(arguments.load)]
    columns = ("recorded", "lost", "doubled", "repeated", "killed", "suspended", "gap [s]")
    print("search" + "".join(f"{column:>10}" for column in columns))
    number = 0
    try:
        while time.monotonic() < end:
            counts = search(arguments, number, rng)
            total.add(counts)
            number += 1
            print(f"{number:6d}{counts}", flush=True)
        print(f"{'sum':>6}{total}")
    finally:
        for process in load:
            process.kill()


if __name__ == "__main__":
    main()
