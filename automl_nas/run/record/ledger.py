"""The ledger: the numbered, append-only record of every trial; the truth of a run.

``trials.jsonl`` holds one JSON object a line, each with a CRC-32 of what stands before it:

- ``started``: a trial is about to be evaluated, for the n-th time;
- ``released``: the evaluation was stopped by an orderly interruption, and does not count as an attempt;
- ``finished``: the whole trial.

A line without its newline is a write that a crash cut short: it is removed when the run is resumed. A line whose CRC
does not match is damage: it is named and ignored, and its trial is evaluated again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from automl_nas.evaluation.evaluator import State
from automl_nas.run.record.atomic_files import cannot_write, disk_errors
from automl_nas.run.record.json_values import to_json_values
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.trial import Trial

_QUICK = 1e-3
_STATES = {state: state.value for state in State}


@dataclass(slots=True)
class Attempts:
    """How often the evaluation of a trial was begun.

    Attributes:
        started: evaluations that were begun and neither finished nor released.
        crashed: those of them that are known to have killed a worker process.
    """

    started: int = 0
    crashed: int = 0


@dataclass(frozen=True)
class Damage:
    """A line that does not match its checksum.

    Attributes:
        path: the file.
        line: counted from 1.
        number: the trial it was about, if that can still be read.
    """

    path: Path
    line: int
    number: int | None

    def __str__(self) -> str:
        about = "" if self.number is None else f" (trial {self.number})"
        return f"{self.path}, line {self.line}{about}: damaged; it is ignored, and its trial will be evaluated again"


class Ledger:
    """The trials of a run, read from and appended to ``trials.jsonl``.

    Args:
        path: the file; it need not exist yet.
        writable: whether lines may be appended (then an unfinished last line is cut off).
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        self.trials: dict[int, Trial] = {}
        self.attempts: dict[int, Attempts] = {}
        self.damage: list[Damage] = []
        self._file: BinaryIO | None = None
        self._held: Sequence[bytes] = ()
        self._length = whole = self._read()
        if writable:
            with disk_errors(path):
                self._file = path.open("ab", buffering=0)
                if path.stat().st_size > whole:
                    self._file.truncate(whole)

    def started(self, numbers: Sequence[int]) -> None:
        """Record that trials are about to be evaluated."""
        lines = []
        known = self.attempts
        for number in numbers:
            attempts = known.get(number)
            if attempts is None:
                known[number] = Attempts(1)
                lines.append(b'{"event":"started","number":%d,"attempt":1' % number)
            else:
                attempts.started += 1
                lines.append(b'{"event":"started","number":%d,"attempt":%d' % (number, attempts.started))
        self._append(lines)

    def released(self, numbers: Sequence[int]) -> None:
        """Record that evaluations were stopped in an orderly way."""
        for number in numbers:
            self.attempts[number].started -= 1
        self._append([b'{"event":"released","number":%d' % number for number in numbers])

    def crashed(self, number: int) -> None:
        """Record that an evaluation killed its worker process."""
        self.attempts.setdefault(number, Attempts()).crashed += 1
        self._append([b'{"event":"crashed","number":%d' % number])

    def finished(self, trials: Sequence[Trial]) -> None:
        """Record finished trials.

        What took less than a millisecond waits for the next line, or for `flush`, so that both are one write: it is
        as quickly evaluated again.
        """
        bodies = [_finished_line(trial) for trial in trials]
        if trials and trials[0].seconds < _QUICK and len(trials) == 1 and not self._held:
            self._held = bodies
        else:
            self._append(bodies)
        for trial in trials:
            self.trials[trial.number] = trial
            self.attempts.pop(trial.number, None)

    def flush(self) -> None:
        """Write what waits."""
        if self._held:
            self._append(())

    def sync(self) -> None:
        """Make everything recorded durable (called before a checkpoint refers to it)."""
        if self._file is not None:
            self.flush()
            with disk_errors(self.path):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            try:
                self.flush()
            finally:
                self._file.close()
                self._file = None

    def _append(self, bodies: Sequence[bytes]) -> None:
        assert self._file is not None, "the ledger was opened for reading"
        bodies = (*self._held, *bodies)
        self._held = ()
        if not bodies:
            return
        crc = zlib.crc32
        text = b"".join([b'%b,"crc":"%08x"}\n' % (body, crc(body)) for body in bodies])
        try:
            written = self._file.write(text)
            if written != len(text):  # a full disk can take a part
                self._file.write(text[written:])
        except OSError as error:
            with contextlib.suppress(OSError):  # or else what comes next would stand in the torn line
                self._file.truncate(self._length)
            raise cannot_write(self.path, error) from error
        self._length += len(text)

    def _read(self) -> int:
        """Read the file; return the length of its whole lines in bytes."""
        whole = 0
        for position, line in enumerate(_lines(self.path), start=1):
            if not line.endswith(b"\n"):
                break
            whole += len(line)
            record = _checked(line)
            if record is None:
                self.damage.append(Damage(self.path, position, _number_in(line)))
            else:
                self._take(record)
        # A trial that was recorded again after the damage is whole.
        self.damage = [d for d in self.damage if d.number is None or d.number not in self.trials]
        return whole

    def _take(self, record: Mapping[str, Any]) -> None:
        number = record["number"]
        if record["event"] == "finished":
            self.trials[number] = _trial(record)
            self.attempts.pop(number, None)
            return
        attempts = self.attempts.setdefault(number, Attempts())
        if record["event"] == "crashed":
            attempts.crashed += 1
        else:
            attempts.started += 1 if record["event"] == "started" else -1


def finished_after(path: Path, offset: int) -> tuple[list[Trial], int]:
    """Return the trials recorded after an offset in bytes, and the offset after them: for whoever follows a run.

    Lines that are not whole yet are left for the next time, damaged ones are left out.
    """
    found: list[Trial] = []
    if path.exists():
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                offset += len(line)
                record = _checked(line)
                if record is not None and record["event"] == "finished":
                    found.append(_trial(record))
    return found, offset


def _lines(path: Path) -> Iterator[bytes]:
    if path.exists():
        with path.open("rb") as file:
            yield from file


def _checked(line: bytes) -> dict[str, Any] | None:
    body, mark, tail = line.rpartition(b',"crc":"')
    if not mark or tail != f'{zlib.crc32(body):08x}"}}\n'.encode():
        return None
    record: dict[str, Any] = json.loads(line)
    return record


def _number_in(line: bytes) -> int | None:
    _, mark, tail = line.partition(b'"number":')
    digits = tail[: len(tail) - len(tail.lstrip(b"0123456789"))]
    return int(digits) if mark and digits else None


def _finished_line(trial: Trial) -> bytes:
    """Return the record without its end; of numbers that JSON lacks null is left, which `_trial` reads."""
    fields = {
        "event": "finished",
        "number": trial.number,
        "stage": trial.stage,
        "architecture": orjson.Fragment(trial.architecture.key),
        "state": _STATES[trial.state],
        "metrics": trial.metrics,
        "costs": trial.costs,
        "violations": trial.violations,
        "fidelity": trial.fidelity,
        "seed": trial.seed,
        "seconds": round(trial.seconds, 6),
        "error": trial.error,
        "info": trial.info,
    }
    try:
        return orjson.dumps(fields)[:-1]
    except TypeError:  # mappings that are no dicts, whole numbers of more than 64 bits, halves of surrogate pairs
        return _encode(to_json_values({**fields, "architecture": trial.architecture.to_dict()}))[:-1].encode()


_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _trial(record: Mapping[str, Any]) -> Trial:
    return Trial(
        number=record["number"],
        architecture=Architecture(record["architecture"]),
        metrics=record["metrics"],
        costs={name: math.nan if value is None else value for name, value in record["costs"].items()},
        violations={name: math.inf if value is None else value for name, value in record["violations"].items()},
        state=State(record["state"]),
        stage=record["stage"],
        fidelity=record["fidelity"],
        seed=record["seed"],
        seconds=record["seconds"],
        error=record["error"],
        info=record["info"],
    )
