"""YAML 1.2 scalars, safe loading, and lines for error messages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from automl_nas.errors import ConfigurationError
from automl_nas.run.record.yaml import dump_yaml, parse_yaml, read_yaml

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@pytest.mark.slow
@given(JSON)
def test_what_is_written_comes_back(value: object) -> None:
    assert parse_yaml(dump_yaml(value), "x").value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("true", True), ("False", False),
        ("1e-3", 1e-3), ("1.", 1.0), (".5", 0.5), ("010", 10), ("0x1f", 31), ("1_000", "1_000"),
        ("1:30", "1:30"), ("2020-01-01", "2020-01-01"), ("~", None), ("", None), ("'1'", "1"), ("<= 330M", "<= 330M"),
    ],
)  # fmt: skip
def test_scalars_of_yaml_1_2(text: str, value: object) -> None:
    """Section 10.3 of the specification (the core schema); octal is left out, as it surprises."""
    parsed = parse_yaml(f"key: {text}", "x").value["key"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_lines_are_known() -> None:
    document = parse_yaml("a: 1\nstages:\n- name: x\n  strategy:\n    name: y\n", "f.yaml")
    assert document.where("stages[0].strategy.name") == "f.yaml:5"
    assert document.where("stages[0].strategy.missing") == "f.yaml:4"
    assert document.where("nowhere") == "f.yaml:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "x:1: not valid YAML"),
        ("a: 1\na: 2", "x:2: the key 'a' is repeated"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("a: *nobody", "x:1: not valid YAML"),
    ],
)
def test_mistakes_are_located(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("[", r"\[")):
        parse_yaml(text, "x")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.yaml: No such file"):
        read_yaml(tmp_path / "absent.yaml")
