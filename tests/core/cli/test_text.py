from __future__ import annotations

import pytest

from automl_nas.cli.text import architecture, table
from automl_nas.run.number_text import cost, duration, exact, human, measured


@pytest.mark.parametrize(
    ("value", "shown", "short"),
    [
        (322_918_720, "322,918,720", "322.9M"),
        (322_918_720.0, "322,918,720", "322.9M"),
        (8_388_176, "8,388,176", "8.388M"),
        (4**20, "1,099,511,627,776", "1.1T"),
        (2**60 + 1, "1,152,921,504,606,846,977", "1.153e+06T"),
        (999, "999", "999"),
        (1000, "1,000", "1k"),
        (12.3456789, "12.3457", "12.35"),
        (0.5, "0.5", "0.5"),
        (-1500, "-1,500", "-1.5k"),
    ],
)
def test_numbers(value: float, shown: str, short: str) -> None:
    assert exact(value) == shown
    assert human(value) == short


def test_a_cost_is_exact_and_has_a_prefix_if_it_is_large() -> None:
    assert cost(322_918_720) == "322,918,720 (322.9M)"
    assert cost(7008) == "7,008"


def test_a_metric_with_its_interval() -> None:
    assert measured(0.925, [0.8932, 0.9478]) == "0.9250 [0.8932, 0.9478]"
    assert measured(0.925) == "0.9250"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9, "9 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (125.9, "2 min 5 s"),
        (3600, "1 h 0 min"),
        (12_000, "3 h 20 min"),
        (100_000, "1 d 3 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_architecture_is_wrapped_between_decisions() -> None:
    values = {f"stage{n}.block-{n}": ["a b", "c"] if n % 2 else n for n in range(30)}
    lines = architecture(values, "  ").splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 100
    parts = [f'stage{n}.block-{n}=["a b", "c"]' if n % 2 else f"stage{n}.block-{n}={n}" for n in range(30)]
    assert " ".join(line.strip() for line in lines) == " ".join(parts)


def test_a_table_aligns_numbers_on_the_right() -> None:
    assert table(["name", "n"], [["a", "1,000"], ["longer", "1"]], indent=" ") == [
        " name        n",
        " a       1,000",
        " longer      1",
    ]
