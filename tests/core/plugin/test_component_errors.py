"""The line of an error is one of the component that raised, whatever its methods call their object."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from automl_nas.errors import PluginError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.plugin.component_errors import component_errors
from automl_nas.plugin.registry import Registry
from automl_nas.space.architecture import Architecture


def logged(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any) -> Any:
        return method(*args)

    return call


def divided(model: CostModel) -> float:
    """A function with a component as its first argument is no method of it: the line is that of its caller."""
    return 1 / 0


class Raises(CostModel):
    metric, unit = "price", "euros"

    def breakdown(this, architecture: Architecture) -> Mapping[str, float]:  # noqa: N805
        return 1 / 0  # type: ignore[return-value] # in a method

    @classmethod
    def made(kind) -> float:  # noqa: N804
        return 1 / 0  # in a class method

    @logged
    def decorated(this) -> float:  # noqa: N805
        return 1 / 0  # in a decorated one

    def helped(this) -> float:  # noqa: N805
        return divided(this)  # in a caller


@pytest.mark.parametrize(
    ("call", "comment"),
    [
        (lambda: Raises().estimate(Architecture({})), "# in a method"),
        (lambda: Raises.made(), "# in a class method"),
        (lambda: Raises().decorated(), "# in a decorated one"),
        (lambda: Raises().helped(), "# in a caller"),
    ],
)
def test_the_line_is_that_of_the_component(call: Callable[[], object], comment: str) -> None:
    lines = inspect.getsource(inspect.getmodule(Raises)).splitlines()  # type: ignore[arg-type]
    (line,) = (number for number, text in enumerate(lines, 1) if text.endswith(comment))
    with (
        pytest.raises(PluginError, match=rf"the cost model Raises .*test_component_errors\.py, line {line}\)"),
        component_errors(Registry()),
    ):
        call()
