"""Checkpoints are whole, named after their content, and never execute code."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from automl_nas.errors import DamagedError, PluginError
from automl_nas.run.record.checkpoints import KEPT, Checkpoints, check_state


def refuse(text: str) -> None:
    raise AssertionError(text)


def newest(checkpoints: Checkpoints, warn: Callable[[str], object] = refuse) -> Any:
    """Return the newest state that can be read; None if there is none."""
    return next((state for _, state in checkpoints.newest_first(warn)), None)


def test_the_newest_comes_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    state = {
        "step": 3,
        "tensor": torch.randn(4, 3, dtype=torch.float64),
        "nested": {"list": [1, None, "x", (2.5, True)]},
    }
    checkpoints.save({"step": 2})
    checkpoints.save(state)
    back = newest(checkpoints)
    assert back is not None
    assert torch.equal(back.pop("tensor"), state.pop("tensor"))  # type: ignore[arg-type]
    assert back == state


def test_the_last_ones_and_the_boundaries_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in range(10):
        checkpoints.save({"step": step}, boundary=step in (0, 4))
    files = sorted(tmp_path.iterdir())
    assert [int(path.name[:8]) for path in files] == [0, 4, *range(10 - KEPT, 10)]
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name.split("-")[1].removesuffix(".pt")


def test_a_damaged_one_is_named_and_the_previous_one_used(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 0})
    damaged = checkpoints.save({"step": 1})
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(bytes(content))
    warnings: list[str] = []
    assert newest(checkpoints, warnings.append) == {"step": 0}
    assert len(warnings) == 1
    assert str(damaged) in warnings[0]


def test_all_are_returned_newest_first(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    paths = [checkpoints.save({"step": step}) for step in range(2)]
    assert list(checkpoints.newest_first(refuse)) == [(paths[1], {"step": 1}), (paths[0], {"step": 0})]


def test_something_else_with_the_name_of_a_checkpoint_is_passed_over(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 0})
    (tmp_path / f"00000007-{'0' * 64}.pt").mkdir()
    (tmp_path / f"00000008-{hashlib.sha256(b'').hexdigest()}.pt").write_bytes(b"")
    warnings: list[str] = []
    assert newest(checkpoints, warnings.append) == {"step": 0}
    assert "cannot be read: EOFError" in warnings[0] and "Is a directory" in warnings[1]
    for step in range(4):  # the directory is never removed
        checkpoints.save({"step": step})
    assert len(list(tmp_path.glob("00000007*"))) == 1


def test_what_could_execute_code_is_not_written(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 0})
    with pytest.raises(DamagedError, match="UnpicklingError"):
        checkpoints.save({"path": Path("x")})
    assert newest(checkpoints) == {"step": 0}
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


def test_opening_a_prepared_file_executes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = tmp_path / "content"
    torch.save({"bomb": Bomb()}, content)
    digest = hashlib.sha256(content.read_bytes()).hexdigest()
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder)
    content.rename(folder / f"00000000-{digest}.pt")
    warnings: list[str] = []
    assert newest(checkpoints, warnings.append) is None
    assert "cannot be read: UnpicklingError: it holds something else than tensors and plain values" in warnings[0]
    assert "Weights only" not in warnings[0], "torch's text tells how to execute the code"
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("entry", "kind"),
    [(lambda: 0, "function"), (deque([1]), "deque"), (np.float64(0.5), "float64"), (Path("x"), "Path")],
)
def test_a_state_that_no_checkpoint_can_hold_is_refused_with_its_entry(entry: object, kind: str) -> None:
    state = {"weights": torch.randn(3), "history": [1, (2.0, {"best": entry})]}
    with pytest.raises(
        PluginError, match=rf"^mine: .* state_dict\(\)\['history'\]\[1\]\[1\]\['best'\], a \S*{kind}; keep"
    ):
        check_state(state, "mine")


@pytest.mark.parametrize("state", [{"best": {"order": object()}}, {"best": {Path("order"): 1}}])
def test_what_a_state_cannot_hold_is_said_in_plain_words(state: dict[str, Any]) -> None:
    with pytest.raises(PluginError, match=r"state_dict\(\)\['best'\].*, a \S+; keep tensors, numbers") as caught:
        check_state(state, "mine")
    assert "order" in str(caught.value)
    assert "Weights only" not in str(caught.value) and "\x1b" not in str(caught.value), "torch's own text"


def test_every_state_that_is_written_and_read_is_accepted(tmp_path: Path) -> None:
    state = {
        "tensors": [torch.randn(2, dtype=torch.bfloat16), torch.nn.Parameter(torch.zeros(1))],
        "plain": {1: None, "a": (True, 2, 3.5, "x", b"y"), "infinite": float("inf")},
        "ordered": OrderedDict(a=1),
    }
    check_state(state, "mine")
    Checkpoints(tmp_path).save(state)
    assert newest(Checkpoints(tmp_path)) is not None
