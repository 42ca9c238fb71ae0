"""YAML 1.2 scalars, safe loading, and lines for error messages."""

from __future__ import annotations

import re
from itertools import pairwise
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


def bomb(first: str, level: str) -> str:
    """Return nine nested nine-fold aliases in 300 characters, which stand for 9^9 = 387,420,489 values."""
    lines = [f"a: &a {first}"]
    lines += [f"{b}: &{b} " + level % ",".join([f"*{a}"] * 9) for a, b in pairwise("abcdefghi")]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "x:1: not valid YAML"),
        ("a: 1\na: 2", "x:2: the key 'a' is repeated"),
        ("a: 1\nb: !!python/object/apply:os.system ['true']", "x:2: the tag !!python/object/apply:os.system is not"),
        ("a: !!binary aGk=", "x:1: the tag !!binary is not allowed"),
        ("a: !!bool maybe", "x:1: maybe is not true or false"),
        ("a: *nobody", "x:1: not valid YAML"),
        ("a: 1\nb: \0", "x:2: not valid YAML: the character U+0000 is not allowed; remove it"),
        ("a: &a\n- 1\n- *a", "x:1: an alias is inside the value that it repeats"),
        ("a: &a {<<: *a}", "x:1: a merge key (<<) names a mapping that contains it"),
        ("a:\n  <<: 3", "x:2: a merge key (<<) takes an alias of a mapping"),
        (bomb("[x,x,x,x,x,x,x,x,x]", "[%s]"), "more than 50,000 values, aliases expanded"),
        (bomb("{x: 1}", "{<<: [%s]}"), "more than 50,000 values, aliases expanded"),
        ("[" * 100_000, "x:1: not valid YAML: more than 50 mappings and lists inside each other"),
        ("a: " + "9" * 5000, "x:1: a whole number of more than 100 digits"),
        ("a: 0x" + "f" * 5000, "x:1: a whole number of more than 100 digits"),
        ("3: x", "x:1: a key must be a string, not 3; write it in quotes: '3'"),
        ("? [1]\n: x", "x:1: a key must be a string, not a list or a mapping"),
        ('a: "\\ud800"', "x:1: half of a character"),
        ('a: "\\U00110000"', "x: not valid YAML: chr()"),
        ("a: " + "b" * (1 << 20), "x: larger than 1 MiB"),
        ("- 1\n" * 120_000, "x:1: not valid YAML: more than 50,000 values; write data to files"),
    ],
    ids=lambda text: text[:40],
)
def test_mistakes_are_located(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        parse_yaml(text, "x")


def test_merge_keys_are_expanded() -> None:
    """As in the type repository of YAML 1.1 (merge): own entries precede, then those of earlier mappings."""
    value = parse_yaml("a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {z: 4, <<: [*b, {y: 5, w: 6}]}", "x").value
    assert value == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"z": 4, "x": 3, "y": 2, "w": 6}}


def test_aliases_share_no_object() -> None:
    """A value that is changed, as by --set, must not change elsewhere."""
    value = parse_yaml("a: &a {x: [1]}\nb: *a", "x").value
    value["a"]["x"].append(2)
    assert value["b"] == {"x": [1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: ä".encode("utf-16"), "line 1, is not encoded in UTF-8; it looks like UTF-16; save it as UTF-8"),
        ("b: 1\na: ä".encode("latin-1"), "line 2, is not encoded in UTF-8; save it"),
        (b"a" * (1 << 21), "larger than 1 MiB"),
    ],
)
def test_files_that_are_no_text_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"x\.yaml.*{message}"):
        read_yaml(tmp_path / "x.yaml")


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("a: ä", encoding="utf-8-sig")
    assert read_yaml(tmp_path / "x.yaml").value == {"a": "ä"}


def test_an_endless_file_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="larger than 1 MiB"):
        read_yaml(Path("/dev/zero"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.yaml: No such file"):
        read_yaml(tmp_path / "absent.yaml")
