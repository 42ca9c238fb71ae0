"""The collector while a run is driven: nothing is kept for ever, and what was frozen before stays as it was."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from automl_nas.run.heap import heap_frozen


class Node:
    """Garbage in a cycle, which only the collector removes."""

    def __init__(self) -> None:
        self.itself = self


def watched(node: Node) -> bool:
    """Whether the collector looks at it."""
    return any(item is node for item in gc.get_objects())


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Stand in for the clock, with a heap that nobody has frozen."""
    now = [0.0]
    monkeypatch.setattr("automl_nas.run.heap.time.monotonic", lambda: now[0])
    gc.collect()
    gc.unfreeze()
    yield now
    gc.unfreeze()


def test_a_record_that_grows_quickly_is_frozen_and_garbage_is_not(clock: list[float]) -> None:
    with heap_frozen() as heap:
        before = gc.get_freeze_count()
        kept, garbage = [Node() for _ in range(10)], weakref.ref(Node())
        heap.grown(4999)
        assert gc.get_freeze_count() == before
        clock[0] = 4.5
        heap.grown(5000)
        assert gc.get_freeze_count() > before
        assert garbage() is None
        assert not any(watched(node) for node in kept)
    assert gc.get_freeze_count() == 0


def test_where_trials_take_longer_only_what_was_there_before_is_frozen(clock: list[float]) -> None:
    with heap_frozen() as heap:
        before = gc.get_freeze_count()
        kept = [Node() for _ in range(10)]
        clock[0] = 5.5
        heap.grown(5000)
        assert gc.get_freeze_count() <= before
        assert watched(kept[0])
        clock[0] = 10.4  # the next 5,000 take less than five seconds
        heap.grown(9999)
        assert watched(kept[0])
        heap.grown(10_000)
        assert not watched(kept[0])


def test_somebody_elses_frozen_heap_stays_as_it_is(clock: list[float]) -> None:
    gc.freeze()
    count = gc.get_freeze_count()
    with heap_frozen() as heap:
        kept = Node()
        heap.grown(50_000)
        assert watched(kept)
    assert 0 < gc.get_freeze_count() <= count
