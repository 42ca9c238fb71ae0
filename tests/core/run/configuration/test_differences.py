"""The settings in which two configurations differ."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from automl_nas.run.configuration.differences import differences, first_difference

CONFIG: dict[str, Any] = {
    "seed": 0,
    "space": {"name": "toy", "widths": [16, 32]},
    "stages": [
        {"name": "a", "strategy": {"name": "random"}},
        {"name": "b", "strategy": {"name": "survey", "count": 8}},
    ],
    "final": None,
}


def at(config: Any, path: list[str | int]) -> Any:
    for part in path:
        config = config[part]
    return config


@pytest.mark.parametrize(
    ("place", "value", "setting"),
    [
        (["seed"], 1, "seed"),
        (["space", "widths"], [16, 48], "space.widths[1]"),
        (["space", "widths"], [16], "space.widths"),
        (["space", "name"], "other", "space"),
        (["stages", 1, "strategy", "count"], 9, "stages[1].strategy.count"),
        (["stages", 1, "strategy"], {"name": "random"}, "stages[1].strategy"),
        (["final"], {"export": []}, "final"),
    ],
)
def test_a_change_is_the_only_difference_and_has_its_path(place: list[str | int], value: Any, setting: str) -> None:
    changed = copy.deepcopy(CONFIG)
    at(changed, place[:-1])[place[-1]] = value
    ((path, one, other),) = differences(CONFIG, changed)
    assert path == setting
    assert one != other
    assert f"{one!r}" in repr(CONFIG) and f"{other!r}" in repr(changed)


def test_a_setting_that_one_side_lacks_is_a_difference_even_if_the_other_is_null() -> None:
    without = {key: value for key, value in CONFIG.items() if key != "final"}
    assert list(differences(CONFIG, without)) == [("final", None, None)]
    assert first_difference(without, CONFIG, "here") == ("here.final", "null", "null")


def test_equal_configurations_have_no_difference() -> None:
    assert list(differences(CONFIG, copy.deepcopy(CONFIG))) == []
    assert first_difference(CONFIG, copy.deepcopy(CONFIG)) is None
