"""The ledger: the numbered, append-only record of every trial; the truth of a run.

``trials.jsonl`` holds one JSON object in each line, with a CRC-32 of the line up to there:

- ``started``: a trial is about to be evaluated, for the n-th time;
- ``released``: an interruption stopped the evaluation in an orderly way; it does not count as an attempt;
- ``crashed``: the evaluation killed its worker process;
- ``finished``: the whole trial, and the time of the record in seconds since 1970.

A line without a newline at its end is a write that a crash interrupted: it is removed when the run is resumed. A line
whose CRC does not match is damaged: a warning names it, it is ignored, and its trial is evaluated again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from automl_nas.evaluation.evaluator import State
from automl_nas.run.record.atomic_files import cannot_write, disk_errors, present, reading
from automl_nas.run.record.json_values import to_json_values
from automl_nas.run.record.lines import checked, with_checksums
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.trial import Trial

_STATES = {state: state.value for state in State}
_NUMBERS = frozenset((int, float))
_NUMBERS_OR_NULL = frozenset((int, float, type(None)))
_SCALARS = frozenset((str, int, float, bool, type(None)))


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
    """A damaged part of a record.

    Attributes:
        path: the file.
        line: counted from 1; None if it is unknown.
        number: of the trial; None if it cannot be read.
        problem: what is damaged, and what follows.
    """

    path: Path
    line: int | None
    number: int | None
    problem: str = "damaged; it is ignored, and its trial will be evaluated again"

    def __str__(self) -> str:
        where = f"{self.path}" if self.line is None else f"{self.path}, line {self.line}"
        return f"{where}{'' if self.number is None else f' (trial {self.number})'}: {self.problem}"


class Ledger:
    """The trials of a run, read from and appended to ``trials.jsonl``.

    Args:
        path: the file; it need not exist yet.
        writable: whether lines may be appended; an unfinished last line is then cut off.
        follows: whether another process writes the lines: this one keeps what it records in memory only.

    Attributes:
        path: as given.
        trials: number -> finished trial.
        attempts: number -> attempts of a trial that is not finished.
        damage: the damaged lines whose trials are not recorded again further down.
    """

    def __init__(self, path: Path, *, writable: bool, follows: bool = False) -> None:
        self.path, self._follows = path, follows
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
        if not bodies or self._follows:
            return
        assert self._file is not None, "the ledger was opened for reading"
        text = with_checksums(bodies)
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
            record = _record(line)
            if record is None:
                self.damage.append(Damage(self.path, position, _number_in(line)))
            else:
                self._take(record)
        # A trial that was recorded again after the damaged line is whole.
        self.damage = [d for d in self.damage if d.number is None or d.number not in self.trials]
        return whole

    def _take(self, record: Trial | Mapping[str, Any]) -> None:
        if isinstance(record, Trial):
            self.trials[record.number] = record
            self.attempts.pop(record.number, None)
            return
        if record["number"] in self.trials:  # lines in another order: a finished trial is not evaluated any more
            return
        attempts = self.attempts.setdefault(record["number"], Attempts())
        if record["event"] == "crashed":
            attempts.crashed += 1
        else:
            attempts.started += 1 if record["event"] == "started" else -1


def finished_after(path: Path, offset: int) -> tuple[list[Trial], int]:
    """Return the trials recorded after an offset in bytes, and the offset after them, to follow a run.

    A line that is not complete yet is left for the next call; damaged lines are left out.
    """
    recorded, offset = recorded_after(path, offset)
    return [trial for trial, _ in recorded], offset


def recorded_after(path: Path, offset: int) -> tuple[list[tuple[Trial, float | None]], int]:
    """Return the trials recorded after an offset in bytes, each with its time, and the offset after them.

    The time is that of the record, in seconds since 1970; None if an earlier version recorded the trial. Incomplete and
    damaged lines are treated as in `finished_after`.
    """
    recorded: list[tuple[Trial, float | None]] = []
    if path.exists():
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                offset += len(line)
                trial = _record(line)
                if isinstance(trial, Trial):
                    at = (checked(line) or {}).get("time")
                    recorded.append((trial, at if type(at) in _NUMBERS else None))
    return recorded, offset


def _lines(path: Path) -> Iterator[bytes]:
    if present(path):
        with reading(path), path.open("rb") as file:
            yield from file


def _record(line: bytes) -> Trial | Mapping[str, Any] | None:
    """Return what a line records: a finished trial or another event; None if the line is damaged."""
    record = checked(line)
    if record is None:
        return None
    number, event = record.get("number"), record.get("event")
    if type(number) is not int or number < 0:
        return None
    if event in ("started", "released", "crashed"):
        return record
    # A line with a right checksum can still be of somebody else.
    return _trial(record) if event == "finished" and _is_trial(record) else None


def _is_trial(record: Mapping[str, Any]) -> bool:
    """Whether a record has the types of a trial; written out, since `problem_of` takes longer than reading the line."""
    get = record.get
    mappings: list[Any] = [get(name) for name in ("architecture", "metrics", "costs", "violations", "info")]
    if not all(type(mapping) is dict for mapping in mappings):
        return False
    architecture, metrics, costs, violations, _ = mappings
    return (
        all(type(get(name)) is str for name in ("stage", "error", "state"))
        and type(get("worker", {})) is dict
        and type(get("seed")) is int
        and type(get("seconds")) in _NUMBERS
        and type(get("fidelity")) in _NUMBERS_OR_NULL
        and get("state") in _STATES
        and _NUMBERS.issuperset(map(type, metrics.values()))
        and _NUMBERS_OR_NULL.issuperset(map(type, (*costs.values(), *violations.values())))
        and all(type(value) in _SCALARS or _is_list_of_scalars(value) for value in architecture.values())
    )


def _is_list_of_scalars(value: object) -> bool:
    return type(value) is list and _SCALARS.issuperset(map(type, value))


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
        "time": round(time.time(), 3),
    }
    if trial.worker:
        fields["worker"] = trial.worker
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
        worker=record.get("worker", {}),
    )
