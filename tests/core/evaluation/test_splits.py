from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from sklearn.model_selection import train_test_split

from automl_nas.errors import ConfigurationError, DataError
from automl_nas.evaluation import permutation
from automl_nas.evaluation.tasks.splits import held_out_counts, hold_out
from automl_nas_vision.digits import Digits, read_digits


@given(st.lists(st.integers(20, 300), min_size=2, max_size=8), st.sampled_from([0.1, 0.15, 0.2, 0.25, 0.5]))
def test_counts_are_those_of_scikit_learn_up_to_ties(sizes: list[int], fraction: float) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    counts = held_out_counts(np.array(sizes), fraction)
    _, held = train_test_split(labels, test_size=fraction, stratify=labels, random_state=0)
    theirs = np.bincount(held, minlength=len(sizes))
    # The total follows the decimal fraction exactly, theirs its float: ceil may differ by the one sample that rounding
    # error adds. Within that, both give each class the floor or the ceiling of its share; ties are broken differently.
    assert abs(int(counts.sum()) - int(theirs.sum())) <= 1
    shares = np.array(sizes) * counts.sum() / sum(sizes)
    assert (np.abs(counts - shares) < 1).all() and (np.abs(counts - theirs) <= 1).all()


def test_largest_remainders_by_hand() -> None:
    # ceil(0.2 * 17) = 4 of 17; shares 2.35, 1.18, 0.47: whole parts 2, 1, 0 and the last one has the largest remainder.
    assert held_out_counts(np.array([10, 5, 2]), 0.2).tolist() == [2, 1, 1]
    # 0.1 * 30 is 3 whole samples, although 30 * 0.1 in binary is more.
    assert held_out_counts(np.array([10, 10, 10]), 0.1).tolist() == [1, 1, 1]


def test_digits_have_the_sizes_of_scikit_learns_split_and_are_stratified() -> None:
    _, labels = read_digits()
    rest, test = train_test_split(labels, test_size=0.2, stratify=labels, random_state=0)
    train, search = train_test_split(rest, test_size=0.2, stratify=rest, random_state=0)
    task = Digits()
    assert (task.size("train"), task.size("search"), task.size("test")) == (len(train), len(search), len(test))
    assert task.size("test") == 360
    for split, theirs in (("train", train), ("search", search), ("test", test)):
        ours = np.bincount(task._data.labels.numpy()[task._splits[split]])
        assert np.abs(ours - np.bincount(theirs)).max() <= 1


def test_a_split_is_a_partition_that_depends_on_seed_and_name() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 200)

    def held(seed: int, what: str) -> list[int]:
        remaining, out = hold_out(labels, 0.25, setting="f", seed=seed, what=what)
        assert sorted([*remaining, *out]) == list(range(200)) and len(out) == 50
        assert (np.diff(remaining) > 0).all() and (np.diff(out) > 0).all()
        result: list[int] = out.tolist()
        return result

    assert held(0, "test") == held(0, "test")
    assert held(0, "test") != held(1, "test")
    assert held(0, "test") != held(0, "search")


def test_each_class_has_the_stream_of_its_number_also_with_gaps() -> None:
    """Recorded splits stay what they are: the first ones of the class's permutation, as defined class by class."""
    labels = np.random.default_rng(0).choice([0, 1, 4, 9], 200)
    sizes = np.bincount(labels)
    expected = []
    for k, count in enumerate(held_out_counts(sizes, 0.3).tolist()):
        members = np.flatnonzero(labels == k)
        expected += members[permutation(5, "split/test", k, len(members))[:count]].tolist()
    remaining, out = hold_out(labels, 0.3, setting="f", seed=5, what="test")
    assert out.tolist() == sorted(expected) and len(out) == 60
    assert remaining.tolist() == sorted(set(range(200)) - set(expected))


def test_class_numbers_may_be_dates() -> None:
    """A table of all numbers up to the largest one would take 8 TB."""
    labels = np.repeat([20_260_101, 10**12], 20)
    remaining, out = hold_out(labels, 0.25, setting="f", seed=0, what="test")
    assert np.unique(labels[out], return_counts=True)[1].tolist() == [5, 5] and len(remaining) == 30


def test_the_test_split_does_not_depend_on_the_search_fraction() -> None:
    small, large = Digits(search_fraction=0.1), Digits(search_fraction=0.4)
    assert small.size("search") != large.size("search")
    assert np.array_equal(small._splits["test"], large._splits["test"])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_0_and_1_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigurationError, match=r"task\.search_fraction: search_fraction must be between 0 and 1"):
        Digits(search_fraction=fraction)


def test_a_class_that_is_too_small_is_named() -> None:
    labels = np.array([0] * 50 + [1] * 1)
    with pytest.raises(DataError, match=r"class 1 has 1 sample, too few for the split 'search'"):
        hold_out(labels, 0.2, setting="search_fraction", seed=0, what="search")
    with pytest.raises(DataError, match=r"takes 0 of them and leaves"):
        Digits(search_fraction=0.001)
