"""Shapes of plain data: what a file of a run must hold. `problem_of` names the first entry that does not fit.

A shape is one of:

- a class: int and float exclude booleans, float includes int and excludes NaN and infinity;
- a tuple of shapes: one of them fits; None stands for null;
- a list with one shape: a list whose entries have the shape;
- `Each`: a mapping whose values have a shape;
- `Fields`: a mapping with certain keys;
- `Checked`: a shape with a condition.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Shape: TypeAlias = Any

_NOUNS: dict[object, str] = {
    int: "a whole number",
    float: "a finite number",
    str: "a string",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
    None: "null",
}


@dataclass(frozen=True)
class Each:
    """A mapping from strings to values of one shape.

    Attributes:
        shape: of the values.
    """

    shape: Shape


@dataclass(frozen=True)
class Fields:
    """A mapping with certain keys.

    Attributes:
        required: key -> shape.
        optional: key -> shape, for keys that may be missing.
        closed: whether other keys are refused.
    """

    required: Mapping[str, Shape]
    optional: Mapping[str, Shape] = field(default_factory=dict)
    closed: bool = False


@dataclass(frozen=True)
class Checked:
    """A shape with a condition.

    Attributes:
        shape: without the condition.
        check: returns what is wrong with a value of the shape, after its path; empty if the condition holds.
    """

    shape: Shape
    check: Callable[[Any], str]


def problem_of(value: Any, shape: Shape, path: str = "") -> str:
    """Return what is wrong with a value, with the path of the entry, such as ``stages[0].trials must be a whole
    number, not a list``; empty if the value has the shape.
    """
    if isinstance(shape, tuple):
        problems = [problem_of(value, option, path) for option in shape]
        # The option that fits most of the value is the one meant: its problem has the longest path.
        return "" if "" in problems else max(problems, key=lambda text: len(text.partition(" ")[0]))
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _wrong(value, "a list", path)
        return _first(problem_of(item, shape[0], f"{path}[{position}]") for position, item in enumerate(value))
    if isinstance(shape, Each):
        if not isinstance(value, dict):
            return _wrong(value, "a mapping", path)
        return _first(problem_of(item, shape.shape, _join(path, key)) for key, item in value.items())
    if isinstance(shape, Fields):
        return _problem_of_fields(value, shape, path)
    if isinstance(shape, Checked):
        if problem := problem_of(value, shape.shape, path):
            return problem
        problem = shape.check(value)
        return f"{path or 'it'} {problem}" if problem else ""
    return "" if _is_a(value, shape) else _wrong(value, _NOUNS[shape], path)


def _problem_of_fields(value: Any, shape: Fields, path: str) -> str:
    if not isinstance(value, dict):
        return _wrong(value, "a mapping", path)
    shapes = {**shape.required, **shape.optional}
    for key in shape.required:
        if key not in value:
            return f"{_join(path, key)} is missing"
    for key, item in value.items():
        if key in shapes:
            if problem := problem_of(item, shapes[key], _join(path, key)):
                return problem
        elif shape.closed:
            return f"{_join(path, key)} does not belong to it"
    return ""


def _is_a(value: Any, kind: type | None) -> bool:
    if kind is None:
        return value is None
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of float
        return False


def _wrong(value: Any, expected: str, path: str) -> str:
    return f"{path or 'it'} must be {expected}, not {_noun(value)}"


def _noun(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    kinds: tuple[tuple[type, str], ...] = ((str, "a string"), (int, "a number"), (float, "a number"))
    kinds += ((dict, "a mapping"), (list, "a list"), (type(None), "null"))
    return next((noun for kind, noun in kinds if isinstance(value, kind)), type(value).__name__)


def _first(problems: Iterable[str]) -> str:
    return next((problem for problem in problems if problem), "")


def _join(path: str, key: str) -> str:
    shown = key if len(key) <= 60 else f"{key[:57]}..."
    return f"{path}.{shown}" if path else shown


def one_of(*options: str) -> Checked:
    """Return the shape of a string that is one of the options."""
    return Checked(str, lambda value: "" if value in options else f"must be {' or '.join(options)}")


def at_least(least: int, below: int | None = None) -> Checked:
    """Return the shape of a whole number in a range."""

    def check(value: int) -> str:
        if value >= least and (below is None or value < below):
            return ""
        return f"must be at least {least}{'' if below is None else f' and below {below}'}"

    return Checked(int, check)
