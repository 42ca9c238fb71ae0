"""The collector while a run is driven: nothing is kept for ever, and what was frozen before stays as it was."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from automl_nas.run.gc_tuning import tuned_gc


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
    monkeypatch.setattr("automl_nas.run.gc_tuning.time.monotonic", lambda: now[0])
    frozen = gc.get_freeze_count()
    gc.collect()
    gc.unfreeze()
    yield now
    gc.unfreeze()
    if frozen:
        gc.freeze()


def test_a_record_that_grows_quickly_is_frozen_and_garbage_is_not(clock: list[float]) -> None:
    with tuned_gc() as tuner:
        kept, garbage = [Node() for _ in range(10)], weakref.ref(Node())
        for trials in range(100, 5000, 100):
            clock[0] = trials * 0.9e-3
            tuner.update(trials)
        assert watched(kept[0])
        tuner.update(5000)
        assert not any(watched(node) for node in kept)
        assert garbage() is None
    assert watched(kept[0])
    assert gc.get_freeze_count() == 0


def test_only_trials_that_are_quick_change_the_collector(clock: list[float]) -> None:
    usual = gc.get_threshold()
    with tuned_gc() as tuner:
        kept = Node()
        for trials in range(100, 20_001, 100):
            slow = trials % 5000 == 0
            clock[0] += 0.11 if slow else 0.09
            tuner.update(trials)
            assert (gc.get_threshold() == usual) == slow
            assert watched(kept), "never were 5,000 in a row quick"
    assert gc.get_threshold() == usual


def test_the_collector_is_as_it_was_when_a_run_fails(clock: list[float]) -> None:
    usual = gc.get_threshold()
    with pytest.raises(RuntimeError), tuned_gc() as tuner:
        tuner.update(100)
        assert gc.get_threshold() != usual
        raise RuntimeError
    assert gc.get_threshold() == usual


def test_somebody_elses_frozen_heap_stays_as_it_is(clock: list[float]) -> None:
    gc.freeze()
    count = gc.get_freeze_count()
    with tuned_gc() as tuner:
        kept = Node()
        tuner.update(50_000)
        assert watched(kept)
    assert 0 < gc.get_freeze_count() <= count
