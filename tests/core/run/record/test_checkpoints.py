"""Checkpoints are whole, named after their content, and never execute code."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from automl_nas.errors import PluginError
from automl_nas.run.record.checkpoints import KEPT, Checkpoints, check_state


def anything(state: dict[str, Any]) -> bool:
    return True


def refuse(text: str) -> None:
    raise AssertionError(text)


def test_the_newest_comes_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    state = {
        "step": 3,
        "tensor": torch.randn(4, 3, dtype=torch.float64),
        "nested": {"list": [1, None, "x", (2.5, True)]},
    }
    checkpoints.save({"step": 2})
    checkpoints.save(state)
    back = checkpoints.newest(refuse, anything)
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
    newest = checkpoints.save({"step": 1})
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(bytes(content))
    warnings: list[str] = []
    assert checkpoints.newest(warnings.append, anything) == {"step": 0}
    assert len(warnings) == 1
    assert str(newest) in warnings[0]


def test_an_unusable_one_is_passed_over(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for step in range(2):
        checkpoints.save({"step": step})
    assert checkpoints.newest(refuse, lambda state: state["step"] == 0) == {"step": 0}
    assert checkpoints.newest(refuse, lambda state: False) is None


def test_what_could_execute_code_is_not_written(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save({"step": 0})
    with pytest.raises(pickle.UnpicklingError):
        checkpoints.save({"path": Path("x")})
    assert checkpoints.newest(refuse, anything) == {"step": 0}
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
    with pytest.raises(pickle.UnpicklingError):
        checkpoints.newest(refuse, anything)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("entry", "kind"),
    [(lambda: 0, "function"), (deque([1]), "deque"), (np.float64(0.5), "float64"), (Path("x"), "Path")],
)
def test_a_state_that_no_checkpoint_can_hold_is_refused_with_its_entry(entry: object, kind: str) -> None:
    state = {"weights": torch.randn(3), "history": [1, (2.0, {"best": entry})]}
    with pytest.raises(PluginError, match=rf"^mine: .* state_dict\(\)\['history'\]\[1\]\[1\]\['best'\], a .*{kind} "):
        check_state(state, "mine")


def test_every_state_that_is_written_and_read_is_accepted(tmp_path: Path) -> None:
    state = {
        "tensors": [torch.randn(2, dtype=torch.bfloat16), torch.nn.Parameter(torch.zeros(1))],
        "plain": {1: None, "a": (True, 2, 3.5, "x", b"y"), "infinite": float("inf")},
        "ordered": OrderedDict(a=1),
    }
    check_state(state, "mine")
    Checkpoints(tmp_path).save(state)
    assert Checkpoints(tmp_path).newest(refuse, anything) is not None
