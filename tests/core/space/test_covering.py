"""Few architectures have every option, and every pair of options of neighbouring decisions."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from automl_nas.space import Choice, Decision, Ordinal, Subset
from automl_nas.space.covering import PAIR_OPTIONS, cover_options, cover_pairs


def choices(*sizes: int) -> dict[str, Decision]:
    return {f"d{position}": Choice(tuple(range(size))) for position, size in enumerate(sizes)}


@pytest.mark.parametrize(
    ("options", "count", "rows"), [(2, 3, 4), (2, 9, 8), (2, 12, 12), (3, 12, 18), (4, 6, 25), (5, 12, 50), (7, 3, 49)]
)
def test_pairs_of_options_of_all_decisions(options: int, count: int, rows: int) -> None:
    architectures = list(cover_pairs(choices(*[options] * count)))
    assert len(architectures) == rows
    for first, second in combinations(range(count), 2):
        pairs = {(item[f"d{first}"], item[f"d{second}"]) for item in architectures}
        assert pairs == set(product(range(options), repeat=2))


@pytest.mark.parametrize(("options", "prime"), [(2, 2), (3, 3), (4, 5), (5, 5), (6, 7)])
def test_pairs_of_near_decisions_come_first(options: int, prime: int) -> None:
    architectures = list(cover_pairs(choices(*[options] * 12)))[: prime**2]
    for first, second in combinations(range(12), 2):
        if second - first <= prime:
            pairs = {(item[f"d{first}"], item[f"d{second}"]) for item in architectures}
            assert pairs == set(product(range(options), repeat=2))


def test_decisions_of_different_sizes() -> None:
    decisions = choices(2, 5, 1, 3, 4, 2)
    architectures = list(cover_pairs(decisions))
    for (one, first), (other, second) in combinations(decisions.items(), 2):
        assert {(item[one], item[other]) for item in architectures} == set(product(first.options, second.options))


def test_many_options_are_sampled_evenly() -> None:
    decisions = {"width": Ordinal(tuple(range(0, 100, 10))), "other": Choice(("a", "b"))}
    assert {item["width"] for item in cover_pairs(decisions)} == {0, 20, 30, 40, 60, 80, 90}
    assert len(list(cover_pairs(decisions))) == PAIR_OPTIONS**2
    assert [item["width"] for item in cover_options(decisions, 3)] == [0, 40, 90]


def test_every_option_occurs() -> None:
    decisions: dict[str, Decision] = {**choices(2, 5), "edges": Subset(("a", "b", "c"), min=1, max=2)}
    architectures = list(cover_options(decisions, 8))
    assert [item["d1"] for item in architectures] == [0, 1, 2, 3, 4]
    assert [item["d0"] for item in architectures] == [0, 1, 1, 1, 1]
    assert [item["edges"] for item in architectures] == [("a",), *[("a", "b")] * 4]
