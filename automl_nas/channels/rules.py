"""Rules for operators of torch: `rule` registers one, which states what the axes of the outputs are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Protocol, TypeAlias, TypeVar

from torch import Tensor

from automl_nas.channels.axis import Axis

Axes: TypeAlias = list[Axis]


class Recorder(Protocol):
    """What rules need of a trace."""

    def axes(self, tensor: Tensor) -> Axes:
        """Return the axes of a tensor, one for each dimension."""

    def same(self, one: Axis, other: Axis) -> None:
        """State that two axes have the same elements; if they cannot, both are fixed."""

    def attribute(self, kind: type | tuple[type, ...], name: str, axis: Axis | Axes) -> None:
        """Record that an attribute of the running module, if it is of this kind, has the size of an axis."""


class Arguments(tuple[Any, ...]):
    """All arguments of a call, in the order of the operator's schema, with defaults."""

    names: tuple[str, ...]

    def named(self, name: str) -> Any:
        """Return an argument; None: the operator, in this overload, has none of this name."""
        return self[self.names.index(name)] if name in self.names else None


def arguments(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
    """Return the arguments of a call of an operator.

    Args:
        func: the operator.
        args: its positional arguments; the last ones may be missing.
        kwargs: its keyword arguments.
    """
    names, defaults = _schema(func)
    rest = zip(names[len(args) :], defaults[len(args) :], strict=True)
    result = Arguments((*args, *(kwargs.get(name, default) for name, default in rest)))
    result.names = names
    return result


@cache
def _schema(func: Any) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """Return names and default values of the arguments of an operator."""
    own = func._schema.arguments
    return tuple(each.name for each in own), tuple(each.default_value for each in own)


Rule: TypeAlias = Callable[[Recorder, Arguments, Tensor], Axes]
R = TypeVar("R", bound=Rule)
_RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[R], R]:
    """Register the rule of operators by their names without overload."""

    def register(function: R) -> R:
        _RULES.update(dict.fromkeys(names, function))
        return function

    return register


def registered(name: str) -> Rule | None:
    """Return the rule of an operator by its name without overload, or of the operator that it does in place."""
    return _RULES.get(name) or _RULES.get(name.rstrip("_"))


def constants(shape: Sequence[int]) -> Axes:
    """Return axes of sizes that nobody changes."""
    return [Axis(size, "") for size in shape]


def created(shape: Sequence[int]) -> Axes:
    """Return axes of a tensor that code makes: its sizes follow whatever the code read them from."""
    return [Axis(size, None if size > 1 else "") for size in shape]


def dims_of(dim: int | Sequence[int] | None, count: int) -> frozenset[int]:
    """Return the dimensions that an argument names; if it names none, all.

    Args:
        dim: the argument; negative numbers count from the end.
        count: the number of dimensions of the tensor.
    """
    named = [dim] if isinstance(dim, int) else list(dim or range(count))
    return frozenset(each % count for each in named) if count else frozenset()
