"""Runs in forked processes that are killed at random moments and resumed until they are complete."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import mmap
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soak.comparison import differences, record
from soak.kinds import KINDS, Kind

import automl_nas
from automl_nas.errors import RunInterrupted
from automl_nas.plugin import Handlers, ProgressMade, RunFinished, SessionEnded, StageStarted

INTERRUPTED = 75
"""The exit code of a process whose run a signal stopped in an orderly way."""

INTERRUPTED_BEFORE = 76
"""The exit code of a process that received SIGINT outside `automl_nas.search`."""

STUCK = 300.0
"""Seconds after which a process counts as stuck."""

BEFORE, DELIVERY, END = "before the first stage", "final: test and export", "end"


class Phase:
    """What a run is doing, in memory that a process shares with its forks; it survives their death."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 64)
        self.set(BEFORE)

    def set(self, name: str) -> None:
        """Record what the run begins to do."""
        self._memory[:] = name.encode()[:64].ljust(64, b"\0")

    def get(self) -> str:
        """Return what the run was doing last."""
        return bytes(self._memory).rstrip(b"\0").decode(errors="replace")

    def handlers(self) -> Handlers:
        """Return handlers of events that record the phase."""
        stage = ""

        def started(event: StageStarted) -> None:
            nonlocal stage
            stage = event.stage
            self.set(stage)

        def progressed(event: ProgressMade) -> None:
            if stage == "final" and event.total is not None and event.done >= event.total:
                self.set(DELIVERY)

        return {
            StageStarted: started,
            ProgressMade: progressed,
            RunFinished: lambda event: self.set("result written"),
            SessionEnded: lambda event: self.set(END),
        }


@dataclass
class Counts:
    """What happened in runs of a kind.

    Attributes:
        runs: number of runs.
        kills: signals that met a process while it worked, by phase.
        signals: the same by name of the signal.
        identical: number of complete runs that are equal to the reference.
        different: number of complete runs that are not.
        failed: number of runs that ended with an error or were stuck.
        faults: a description of each difference and failure.
    """

    runs: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    signals: Counter[str] = field(default_factory=Counter)
    identical: int = 0
    different: int = 0
    failed: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, other: Counts) -> None:
        """Add other counts."""
        for name in ("runs", "kills", "signals", "identical", "different", "failed", "faults"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def preload() -> None:
    """Import what runs need, so that forked processes begin with it; compute nothing."""
    from automl_nas.run.configuration.builtin import complete_manager

    complete_manager().check()
    for name in ("torch._dynamo", "torch.export", "torch.onnx", "onnxscript", "onnxruntime", "optuna", "scipy.stats"):
        importlib.import_module(name)


def fork(work: Callable[[], object], folder: Path, log: Path) -> int:
    """Run a function in a forked process, in a folder; return its process id.

    The process exits with 0, `INTERRUPTED`, or 1 with a traceback. Its output is appended to ``log``.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()  # a group of its own, with its worker processes
        os.chdir(folder)
        file = log.open("ab", buffering=0)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = file_output = os.fdopen(2, "w", buffering=1)
        faulthandler.enable(file_output)
        print(f"--- process {os.getpid()} at {time.time():.3f}")
        work()
        code = 0
    except RunInterrupted as error:
        print(error)
        code = INTERRUPTED
    except KeyboardInterrupt:
        traceback.print_exc()
        code = INTERRUPTED_BEFORE
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stderr.flush()
        os._exit(code)


def ended(pid: int) -> bool:
    """Return whether a child process has ended; its status can still be read."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class Soak:
    """Kills runs of one kind.

    Args:
        name: of the kind.
        folder: for runs, references and data.
        seed: of the moments and signals.
        kills: the maximum number of kills of one run; None: that of the kind.
    """

    def __init__(self, name: str, folder: Path, seed: int, *, kills: int | None = None) -> None:
        self.name, self.kind, self.folder = name, KINDS[name], folder
        self._most = self.kind.kills if kills is None else kills
        self._rng, self._phase, self._number = random.Random(f"{seed} {name}"), Phase(), 0
        self._reference: dict[str, Any] = {}
        # Of an undisturbed process: until the first stage, and from there to the end.
        self.startup = self.seconds = 0.0

    def reference(self) -> None:
        """Make an undisturbed run in a forked process, unless there is one."""
        path = self.folder / f"{self.name}-reference"
        if (path / "run" / "result.json").exists():
            return
        path.mkdir(parents=True)
        workers = [self._worker(path) for _ in range(self.kind.workers)]
        try:
            pid = fork(lambda: self._run(path / "run", resumed=False), path, path / "log")
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        finally:
            for worker in workers:
                _kill(worker)
        assert code == 0, (path / "log").read_text()[-3000:]

    def prepare(self) -> None:
        """Make an undisturbed run, import what it imported, and compare it with the reference if there is one."""
        path = self.folder / f"{self.name}-undisturbed"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        workers = [self._worker(path) for _ in range(self.kind.workers)]
        begun = time.monotonic()
        pid = fork(lambda: (self._run(path / "run", resumed=False), self._write_modules(path)), path, path / "log")
        started = begun
        while not ended(pid):
            if self._phase.get() == BEFORE:
                started = time.monotonic()
            time.sleep(0.005)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        self.startup, self.seconds = started - begun, time.monotonic() - started
        for worker in workers:
            _kill(worker)
        assert code == 0, (path / "log").read_text()[-3000:]
        for module in json.loads((path / "modules").read_text()):
            with contextlib.suppress(Exception):
                importlib.import_module(module)
        reference = self.folder / f"{self.name}-reference" / "run"
        undisturbed = record(path / "run", self.kind.masked)
        self._reference = record(reference, self.kind.masked) if reference.exists() else undisturbed
        problems = differences(self._reference, undisturbed)
        assert not problems, f"two undisturbed runs differ: {problems[:5]}"

    def run(self) -> Counts:
        """Kill and resume one run until it is complete; compare it with the reference."""
        counts, self._number = Counts(runs=1), self._number + 1
        path = self.folder / f"{self.name}-{self._number}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        log = path / "log"
        workers = [self._worker(path) for _ in range(self.kind.workers)]
        try:
            problem = self._until_complete(path, log, workers, counts)
        finally:
            for worker in workers:
                _kill(worker)
        if problem:
            counts.failed = 1
            counts.faults.append(f"{path}: {problem}\n{log.read_text()[-2000:]}")
            return counts
        unequal = differences(self._reference, record(path / "run", self.kind.masked))
        if unequal:
            counts.different = 1
            counts.faults.append(f"{path}: " + "\n  ".join(unequal[:8]))
        else:
            counts.identical = 1
            shutil.rmtree(path)
        return counts

    def _until_complete(self, path: Path, log: Path, workers: list[int], counts: Counts) -> str:
        """Start processes until one completes the run; return a problem, or an empty string."""
        rng = self._rng
        while True:
            self._phase.set(BEFORE)
            pid = fork(lambda: self._run(path / "run", resumed=rng.random() < 0.5), path, log)
            rng.random()  # the fork has drawn it
            begun = time.monotonic()
            # Most kills are spread over the work of the stages, the others over the beginning.
            early, pause = rng.random() < 0.1, rng.uniform(0.0, self.seconds / 2)
            due = begun + rng.uniform(0.0, self.startup) if early else None
            spared = sum(counts.kills.values()) >= self._most
            next_worker = begun + rng.expovariate(2 / self.seconds)
            sent = False
            while not ended(pid):
                time.sleep(0.005)
                now = time.monotonic()
                if now > begun + STUCK:
                    os.kill(pid, signal.SIGABRT)  # prints where it is
                    os.waitpid(pid, 0)
                    return f"stuck in the phase '{self._phase.get()}' for {STUCK:.0f} s"
                # A bound: with a journal, a worker that dies with the lock stops all others for 30 s.
                if workers and now > next_worker and not sent and counts.kills["worker"] < self._most:
                    self._replace_worker(path, workers, counts)
                    next_worker = now + rng.expovariate(2 / self.seconds)
                if due is None and self._phase.get() != BEFORE:
                    due = now + pause
                if due is not None and now > due and not sent and not spared:
                    sent = True
                    self._send(pid, counts)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if code == 0:
                return ""
            expected = (INTERRUPTED, -signal.SIGKILL)
            if self._phase.get() in (BEFORE, END):  # nothing catches signals there
                expected += (INTERRUPTED_BEFORE, -signal.SIGTERM)
            if not sent or code not in expected:
                return f"the process ended with {code} in the phase '{self._phase.get()}'"

    def _send(self, pid: int, counts: Counts) -> None:
        """Send one or two signals to a process, or to its group; count them if they meet it while it works."""
        rng, phase = self._rng, self._phase.get()
        name = rng.choices(("KILL", "TERM", "INT", "TERM, KILL", "INT, INT"), (14, 2, 2, 1, 1))[0]
        send = rng.choice((os.kill, os.killpg))
        for position, item in enumerate(name.split(", ")):
            if position:
                time.sleep(rng.uniform(0.0, 0.3))
            if ended(pid):
                break
            with contextlib.suppress(ProcessLookupError):
                send(pid, getattr(signal, f"SIG{item}"))
            if not position and phase != END:
                counts.kills[phase] += 1
                counts.signals[name] += 1

    def _replace_worker(self, path: Path, workers: list[int], counts: Counts) -> None:
        position = self._rng.randrange(len(workers))
        _kill(workers[position])
        counts.kills["worker"] += 1
        counts.signals["KILL"] += 1
        workers[position] = self._worker(path)

    def _worker(self, path: Path) -> int:
        executor = self.kind.make(self.folder)["executor"]

        def work() -> None:
            from automl_nas_optuna.workers.worker import Worker

            Worker(executor["storage"], executor["study"], idle=600, say=print).run()

        return fork(work, path, path / "workers")

    def _run(self, path: Path, *, resumed: bool) -> None:
        """Begin or resume the run in this process."""
        _fork_workers()
        settings, handlers = self.kind.make(self.folder), self._phase.handlers()
        if resumed and isinstance(settings["space"], dict | str) and (path / "config.yaml").exists():
            automl_nas.resume(path, handlers=handlers)
        else:
            automl_nas.search(settings, out=path, resume=True, handlers=handlers)

    @staticmethod
    def _write_modules(path: Path) -> None:
        (path / "modules").write_text(json.dumps([name for name in list(sys.modules) if "__main__" not in name]))


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _fork_workers() -> None:
    """Let this process fork its worker processes, which saves the seconds in which a server imports torch."""
    import multiprocessing

    from automl_nas.run.trials import child_process

    child_process.process_context = lambda preload=(): multiprocessing.get_context("fork")


__all__ = ["Counts", "Kind", "Soak", "preload"]
