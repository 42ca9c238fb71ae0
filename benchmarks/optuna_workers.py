"""The speed-up with several workers, and the effect of killing two of them.

Searches whose evaluations sleep for 0.2 s run with 1, 2 and 4 processes ``automl-nas worker`` on one storage. Two of
the workers are killed with SIGKILL during an evaluation and replaced by new ones. The script prints the seconds from
the first evaluation's begin to the last one's end, the speed-up over one worker, the number of lost trials, and the
number of trials that ended twice. With ``--kill 0``, no worker is killed.

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

from automl_nas.run import Ledger, dump_yaml
from automl_nas.testing import installed_toys, read_event_log

SECONDS, GRACE = 0.2, 3.0


def start(environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[bytes]:
    """Start ``automl-nas`` with these arguments."""
    code = "from automl_nas.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def busy_worker(event_log: Path, workers: list[subprocess.Popen[bytes]]) -> subprocess.Popen[bytes] | None:
    """Return a worker that is evaluating; None if all are idle."""
    events = read_event_log(event_log)
    ended = {(event.number, event.process) for event in events if event.what == "end"}
    busy = {event.process for event in events if (event.number, event.process) not in ended}
    return next((worker for worker in workers if worker.pid in busy), None)


def measure(count: int, trials: int, kill: int, storage: str) -> tuple[float, int, int, int]:
    """Return the seconds, and the numbers of killed workers, lost trials and trials that ended twice."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment, event_log = installed_toys(folder, "optuna", "evolution"), folder / "event_log"
        addresses = {"sqlite": f"sqlite:///{folder}/queue.db", "journal": str(folder / "queue.journal")}
        address = addresses.get(storage, storage)
        executor = {"name": "optuna", "storage": address, "study": f"queue{os.getpid()}-{count}", "grace": GRACE}
        stage = {
            "name": "search",
            "strategy": "random",
            "evaluator": {"name": "event_log", "file": str(event_log), "seconds": SECONDS},
            "budget": {"trials": trials},
            "ahead": 2 * count,
        }
        config = {
            "space": {"name": "toy", "blocks": 8, "options": 4},
            "problem": {"objectives": {"accuracy": "maximize"}},
            "runtime": {"device": "cpu", "threads": 1},
            "executor": executor,
            "stages": [stage],
        }
        (folder / "search.yaml").write_text(dump_yaml(config))
        join = ("worker", address, "--study", executor["study"], "--idle", "300")
        workers = [start(environment, *join) for _ in range(count)]
        run = start(environment, "run", str(folder / "search.yaml"), "--out", str(folder / "run"), "--quiet")
        killed = 0
        while run.poll() is None:
            time.sleep(0.02)
            ended = sum(event.what == "end" for event in read_event_log(event_log))
            if (
                killed < kill
                and ended >= (killed + 1) * trials // (kill + 2)
                and (busy := busy_worker(event_log, workers))
            ):
                busy.send_signal(signal.SIGKILL)
                workers.remove(busy)
                workers.append(start(environment, *join))
                killed += 1
        for worker in workers:
            worker.send_signal(signal.SIGINT)
            worker.wait()
        events = read_event_log(event_log)
        ends = [event.number for event in events if event.what == "end"]
        recorded = Ledger(folder / "run" / "trials.jsonl", writable=False).trials
        seconds = max(event.time for event in events) - min(event.time for event in events)
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
        row = f"{count:7d}   {seconds:7.1f}   {first / seconds:8.2f}   {killed:6d}   {lost:4d}   {twice:11d}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
