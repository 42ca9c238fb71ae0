"""The ledger survives what happens to files: torn lines, flipped bits, full disks."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, cast

import pytest
from hypothesis import given, strategies as st

from automl_nas.errors import DamagedError, RunFailedError
from automl_nas.evaluation.evaluator import State
from automl_nas.run.record.ledger import Attempts, Ledger
from automl_nas.run.record.lines import with_checksums
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.trial import Trial


def trial(number: int, **changes: object) -> Trial:
    values = {
        "architecture": Architecture({"a": "x", "b": number, "edges": ("1", "2")}),
        "metrics": {"accuracy": 0.1 * number},
        "costs": {"flops": 12345678901234 + number},
        "violations": {"flops <= 1M": -0.5},
        "stage": "search",
        "seed": 7,
        "seconds": 0.25,
        "info": {"parents": [1, 2]},
    }
    return Trial(number, **{**values, **changes})  # type: ignore[arg-type]


def written(path: Path, trials: list[Trial]) -> Path:
    ledger = Ledger(path, writable=True)
    for item in trials:
        ledger.started([item.number])
        ledger.finished([item])
    ledger.close()
    return path


def test_trials_come_back_as_they_were(tmp_path: Path) -> None:
    trials = [
        trial(0),
        trial(1, state=State.FAILED, error='a "quoted"\nline ', metrics={}, fidelity=3.0),
        trial(2, violations={"accuracy >= 0.9": math.inf}),
        trial(3, info={"text": "Größe"}, costs={}),
    ]
    back = Ledger(written(tmp_path / "trials.jsonl", trials), writable=False)
    assert list(back.trials.values()) == trials
    assert not back.damage


def test_every_line_is_strict_json(tmp_path: Path) -> None:
    path = written(tmp_path / "trials.jsonl", [trial(0, violations={"x": math.inf})])

    def refuse(text: str) -> None:
        raise AssertionError(text)

    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=refuse)


@given(cut=st.integers(min_value=1, max_value=400))
def test_a_torn_last_line_is_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = written(tmp_path_factory.mktemp("ledger") / "trials.jsonl", [trial(number) for number in range(3)])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - cut])
    ledger = Ledger(path, writable=True)
    lines = (content[: len(content) - cut]).count(b"\n")
    assert not ledger.damage
    assert len(ledger.trials) == lines // 2
    ledger.finished([trial(2)] if 2 not in ledger.trials else [trial(3)])
    ledger.close()
    again = Ledger(path, writable=False)
    assert not again.damage
    assert len(again.trials) == lines // 2 + 1


def test_reading_never_writes(tmp_path: Path) -> None:
    path = written(tmp_path / "trials.jsonl", [trial(0)])
    path.write_bytes(path.read_bytes() + b'{"event":"fin')
    before = path.read_bytes()
    Ledger(path, writable=False)
    assert path.read_bytes() == before
    Ledger(tmp_path / "absent.jsonl", writable=False)
    assert not (tmp_path / "absent.jsonl").exists()


def test_one_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "trials.jsonl", [trial(number) for number in range(3)])
    content = bytearray(path.read_bytes())
    rng = random.Random(0)
    for _ in range(300):
        place, bit = rng.randrange(len(content)), rng.randrange(8)
        flipped = bytearray(content)
        flipped[place] ^= 1 << bit
        path.write_bytes(bytes(flipped))
        ledger = Ledger(path, writable=False)
        # A flip that makes or unmakes a line end joins, splits or tears lines; CRC-32 finds every other single flip.
        line = bytes(content[:place]).count(b"\n")
        if content[place] == 10 or flipped[place] == 10:
            assert len(ledger.damage) >= 1 or len(ledger.trials) < 3 or place == len(content) - 1
            continue
        assert [damage.line for damage in ledger.damage] in ([line + 1], []), (
            "a started line is not needed once the trial is whole"
        )
        survivors = set(ledger.trials)
        assert survivors == ({0, 1, 2} - {line // 2} if line % 2 else {0, 1, 2})
        if line % 2:
            assert ledger.damage[0].line == line + 1
            assert f"line {line + 1}" in str(ledger.damage[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"number": "0"}, {"number": -1}, {"number": None}, {"event": "exploded"}, {"event": []}, {"stage": 7},
        {"architecture": []}, {"architecture": {"a": {}}}, {"architecture": {"a": [[1]]}}, {"metrics": None},
        {"metrics": {"accuracy": "0.5"}}, {"metrics": {"accuracy": None}}, {"costs": {"flops": True}}, {"costs": 7},
        {"violations": {"x": "y"}}, {"state": "compleat"}, {"state": {}}, {"fidelity": "high"}, {"seed": 1.5},
        {"seconds": None}, {"error": None}, {"info": []},
    ],
    ids=str,
)  # fmt: skip
def test_a_line_with_a_right_checksum_and_wrong_types_is_damage(tmp_path: Path, changes: dict[str, object]) -> None:
    path = written(tmp_path / "trials.jsonl", [trial(0), trial(1)])
    lines = path.read_bytes().splitlines(keepends=True)
    record = {**json.loads(lines[1]), **changes}
    del record["crc"]
    lines[1] = with_checksums([json.dumps(record, separators=(",", ":")).encode()[:-1]])
    path.write_bytes(b"".join(lines))
    ledger = Ledger(path, writable=False)
    assert list(ledger.trials) == [1]
    assert [damage.line for damage in ledger.damage] == [2]


@pytest.mark.parametrize("body", [b'[{"number":0', b'{"number":NaN', b'{"number":' + b"[" * 100_000, b'"x"', b"\xff"])
def test_a_line_with_a_right_checksum_that_is_no_json_is_damage(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_bytes(with_checksums([body]))
    assert [damage.line for damage in Ledger(path, writable=False).damage] == [1]


def test_lines_in_another_order_mean_the_same(tmp_path: Path) -> None:
    path = written(tmp_path / "trials.jsonl", [trial(0), trial(1)])
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    ledger = Ledger(path, writable=False)
    assert sorted(ledger.trials) == [0, 1]
    assert not ledger.attempts


def test_a_ledger_that_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").mkdir()
    with pytest.raises(DamagedError, match=r"trials\.jsonl cannot be read: Is a directory"):
        Ledger(tmp_path / "trials.jsonl", writable=False)


def test_a_damaged_trial_can_be_recorded_again(tmp_path: Path) -> None:
    path = written(tmp_path / "trials.jsonl", [trial(0), trial(1)])
    path.write_bytes(path.read_bytes().replace(b'"x"', b'"y"', 1))
    ledger = Ledger(path, writable=True)
    assert [damage.number for damage in ledger.damage] == [0]
    ledger.finished([trial(0)])
    ledger.close()
    again = Ledger(path, writable=False)
    assert not again.damage
    assert set(again.trials) == {0, 1}


def test_attempts_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    ledger = Ledger(path, writable=True)
    ledger.started([0, 1, 2, 3])
    ledger.released([1])
    ledger.crashed(2)
    ledger.started([2])
    ledger.finished([trial(3)])
    ledger.close()
    again = Ledger(path, writable=False)
    assert again.attempts[0] == Attempts(started=1)
    assert again.attempts[1] == Attempts(started=0)
    assert again.attempts[2] == Attempts(started=2, crashed=1)
    assert 3 not in again.attempts


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    """/dev/full refuses every byte, as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    path = written(tmp_path / "trials.jsonl", [trial(0)])
    ledger = Ledger(path, writable=True)
    assert ledger._file is not None
    ledger._file.close()
    ledger._file = Path("/dev/full").open("ab", buffering=0)  # noqa: SIM115
    with pytest.raises(RunFailedError, match="disk is full; free some space and resume"):
        ledger.finished([trial(1)])
    ledger._file.close()
    assert set(Ledger(path, writable=False).trials) == {0}


def test_a_line_that_a_full_disk_took_in_part_leaves_no_trace(tmp_path: Path) -> None:
    """Space may come back before the process ends, and then other lines follow."""

    class Nearly:
        """A file on a disk with room for 20 bytes more, at first."""

        def __init__(self, file: BinaryIO) -> None:
            self.file, self.room = file, 20

        def write(self, text: bytes) -> int:
            if not self.room:
                raise OSError(28, "No space left on device")
            written = self.file.write(text[: self.room])
            self.room -= written
            return written

        def truncate(self, length: int) -> int:
            self.room = 10_000
            return self.file.truncate(length)

        def close(self) -> None:
            self.file.close()

    path = written(tmp_path / "trials.jsonl", [trial(0)])
    ledger = Ledger(path, writable=True)
    assert ledger._file is not None
    ledger.started([1])
    ledger._file = cast(BinaryIO, Nearly(ledger._file))
    with pytest.raises(RunFailedError, match="disk is full"):
        ledger.finished([trial(1)])
    ledger.released([1])
    ledger.close()
    again = Ledger(path, writable=False)
    assert not again.damage
    assert set(again.trials) == {0}
    assert again.attempts[1] == Attempts(started=0)


@pytest.mark.parametrize("seconds", [2e-3, 1e-5, 0.0])
def test_a_finished_trial_is_in_the_file_at_once(tmp_path: Path, seconds: float) -> None:
    path = tmp_path / "trials.jsonl"
    ledger = Ledger(path, writable=True)
    for number in range(3):
        ledger.finished([trial(number, seconds=seconds)])
        assert number in ledger.trials
        assert [*Ledger(path, writable=False).trials] == [*range(number + 1)]
    ledger.close()


def test_several_trials_at_once_are_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials.jsonl", writable=True)
    ledger.finished([trial(number, seconds=0.0) for number in range(3)])
    assert [*Ledger(ledger.path, writable=False).trials] == [0, 1, 2]
    ledger.close()


def test_values_that_orjson_rejects_come_back_too(tmp_path: Path) -> None:
    trials = [
        trial(0, info={"big": 1 << 80}),
        trial(1, info={"half": "\ud800"}, violations={"x": math.inf}),
        trial(2, metrics=MappingProxyType({"accuracy": 0.5})),
    ]
    back = Ledger(written(tmp_path / "trials.jsonl", trials), writable=False)
    assert [*back.trials.values()] == trials


def test_a_cost_that_is_nan_comes_back_as_nan(tmp_path: Path) -> None:
    back = Ledger(written(tmp_path / "trials.jsonl", [trial(0, costs={"latency": math.nan})]), writable=False)
    assert math.isnan(back.trials[0].costs["latency"])
