"""Hostile inputs cause no traceback, no hang, no execution and no other answer. For more: ``python -m fuzz``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fuzz.__main__ import judge
from fuzz.files import FILES
from fuzz.judge import FAULTS, Place, call, prepared
from fuzz.runs import RUNS, Original
from hypothesis import given, settings, strategies as st

EXAMPLES = {"damage": 40, "forgery": 40, "yaml": 20, "json": 15, "configuration": 10, "npz": 20, "onnx": 20}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with prepared(tmp_path_factory.mktemp("fuzz")) as place:
        yield place


@pytest.fixture(scope="module")
def original(place: Place) -> Original:
    return Original.make(place)


@pytest.mark.slow
@pytest.mark.process  # a candidate that was being evaluated is evaluated in a process of its own
@pytest.mark.parametrize("kind", [*RUNS, *FILES])
def test_hostile_inputs_are_named_or_have_no_influence(place: Place, original: Original, kind: str) -> None:
    @settings(max_examples=EXAMPLES.get(kind, 20), derandomize=True, deadline=None, database=None)
    @given(st.integers(0, 10**9))
    def check(number: int) -> None:
        done, verdict, detail = judge(place, original, kind, number)
        assert verdict not in FAULTS, f"{done}: {detail}"

    check()


def test_an_execution_would_be_noticed(place: Place) -> None:
    """The judge itself: a payload that is executed leaves the sentinel."""
    place.sentinel.mkdir()
    assert call(place, ["--version"]).fault == "execution"
    assert call(place, ["--version"]).fault == ""
