"""From the sections of spaces to spaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl_nas.errors import ConfigurationError, PluginError
from automl_nas.evaluation.task import Task
from automl_nas.run.configuration.components import Components
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream_seed


def resolve_space(components: Components, spec: Any, task: Task | None, path: str) -> dict[str, Any]:
    """Return the section with every default filled in; what the task says (classes, shape of an input) is one."""
    name = spec if isinstance(spec, str) else spec.get("name") if isinstance(spec, Mapping) else None
    if task is not None and isinstance(name, str):
        known = {setting.name for setting in components.settings("spaces", name, path)}
        given = {} if isinstance(spec, str) else dict(spec)
        defaults = {"num_classes": task.num_classes, "input_shape": list(task.input_shape)}
        spec = {**{key: value for key, value in defaults.items() if key in known}, **given, "name": name}
    return components.resolve("spaces", spec, path)


def make_space(components: Components, spec: Mapping[str, Any], seed: int, path: str) -> SearchSpace:
    """Construct a space from its resolved configuration.

    Raises:
        ConfigurationError: a value is refused, or the space has no decisions.
        PluginError: what was made is no space.
    """
    space = components.construct("spaces", spec, [], stream_seed(seed, "space"), path)
    if not isinstance(space, SearchSpace):
        raise PluginError(f"{path}: '{spec['name']}' made a {type(space).__name__}, which is no SearchSpace")
    if not space.decisions:
        raise ConfigurationError("the space has no decisions: there is nothing to search", path=path)
    return space


def first_difference(space: SearchSpace, other: SearchSpace) -> str:
    """Say of two spaces with different decisions where they differ first."""
    names = [*space.decisions, *other.decisions]
    name = next(name for name in names if space.decisions.get(name) != other.decisions.get(name))
    mine, theirs = space.decisions.get(name), other.decisions.get(name)
    if mine is None or theirs is None:
        return f"only the {'searched' if theirs is None else 'final'} one has '{name}'"
    return f"'{name}' is {mine!r} in the searched one and {theirs!r} in the final one"
