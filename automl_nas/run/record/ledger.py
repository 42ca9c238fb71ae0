"""The ledger: the numbered, append-only record of every trial; the truth of a run.

``trials.jsonl`` holds one JSON object in each line, with a CRC-32 of the line up to there:

- ``started``: a trial is about to be evaluated, for the n-th time;
- ``released``: an interruption stopped the evaluation in an orderly way; it does not count as an attempt;
- ``crashed``: the evaluation killed its worker process;
- ``finished``: the whole trial.

A line without a newline at its end is a write that a crash interrupted: it is removed when the run is resumed. A line
whose CRC does not match is damaged: a warning names it, it is ignored, and its trial is evaluated again.
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

_STATES = {state: state.value for state in State}


@dataclass(slots=True)
class Attempts:
    """Number of times that the evaluation of a trial was begun.

    Attributes:
        started: evaluations that were begun and neither finished nor released.
        crashed: those of them that killed a worker process.
    """

    started: int = 0
    crashed: int = 0


@dataclass(frozen=True)
class Damage:
    """A line that does not match its checksum.

    Attributes:
        path: the file.
        line: counted from 1.
        number: of the trial; None if it cannot be read.
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
        writable: whether lines may be appended; an unfinished last line is then cut off.

    Attributes:
        path: as given.
        trials: number -> finished trial.
        attempts: number -> attempts of a trial that is not finished.
        damage: the damaged lines whose trials are not recorded again further down.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        self.trials: dict[int, Trial] = {}
        self.attempts: dict[int, Attempts] = {}
        self.damage: list[Damage] = []
        self._file: BinaryIO | None = None
        self._length = whole = self._read()
        if writable:
            with disk_errors(path):
                self._file = path.open("ab", buffering=0)
                if path.stat().st_size > whole:
                    self._file.truncate(whole)

    def started(self, numbers: Sequence[int]) -> None:
        """Record that trials are about to be evaluated."""
        lines = []
        all_attempts = self.attempts
        for number in numbers:
            attempts = all_attempts.get(number)
            if attempts is None:
                all_attempts[number] = Attempts(1)
                lines.append(b'{"event":"started","number":%d,"attempt":1' % number)
            else:
                attempts.started += 1
                lines.append(b'{"event":"started","number":%d,"attempt":%d' % (number, attempts.started))
        self._append(lines)

    def released(self, numbers: Sequence[int]) -> None:
        """Record that evaluations were stopped in an orderly way; they do not count as attempts."""
        for number in numbers:
            self.attempts[number].started -= 1
        self._append([b'{"event":"released","number":%d' % number for number in numbers])

    def crashed(self, number: int) -> None:
        """Record that an evaluation killed its worker process."""
        self.attempts.setdefault(number, Attempts()).crashed += 1
        self._append([b'{"event":"crashed","number":%d' % number])

    def finished(self, trials: Sequence[Trial]) -> None:
        """Record finished trials."""
        self._append([_finished_line(trial) for trial in trials])
        for trial in trials:
            self.trials[trial.number] = trial
            self.attempts.pop(trial.number, None)

    def sync(self) -> None:
        """Make all lines durable; called before a checkpoint refers to them."""
        if self._file is not None:
            with disk_errors(self.path):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, bodies: Sequence[bytes]) -> None:
        assert self._file is not None, "the ledger was opened for reading"
        if not bodies:
            return
        crc = zlib.crc32
        text = b"".join([b'%b,"crc":"%08x"}\n' % (body, crc(body)) for body in bodies])
        try:
            written = self._file.write(text)
            if written != len(text):  # a full disk may accept a part of it
                self._file.write(text[written:])
        except OSError as error:
            with contextlib.suppress(OSError):  # otherwise the next line would continue the torn one
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
        # A trial that was recorded again after the damaged line is whole.
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
    """Return the trials recorded after an offset in bytes, and the offset after them, to follow a run.

    A line that is not complete yet is left for the next call; damaged lines are left out.
    """
    trials: list[Trial] = []
    if path.exists():
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                offset += len(line)
                record = _checked(line)
                if record is not None and record["event"] == "finished":
                    trials.append(_trial(record))
    return trials, offset


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
    """Return the line of a finished trial without its CRC; NaN and infinite numbers are null, which `_trial` reads."""
    fields = {
        "event": "finished",
        "number": trial.number,
        "stage": trial.stage,
        # Not its key, whose names are sorted: a trial that is read back has its names in the order of the space.
        "architecture": trial.architecture._values,
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
    except TypeError:  # mappings that are not dicts, integers of more than 64 bits, single surrogates
        return _encode(to_json_values(fields))[:-1].encode()


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
