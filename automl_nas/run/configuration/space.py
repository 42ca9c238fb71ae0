"""Resolves and constructs spaces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl_nas.errors import ConfigurationError, PluginError, SpaceError
from automl_nas.evaluation.task import Task
from automl_nas.run.configuration.components import Components
from automl_nas.space.canonical import check_canonical
from automl_nas.space.decisions import Decision
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream_seed


def resolve_space(components: Components, spec: Any, task: Task | None, path: str) -> dict[str, Any]:
    """Return the section of a space with every default filled in.

    Where the space, or a space in one of its settings, has settings ``num_classes`` and ``input_shape``, their defaults
    are those of the task.
    """
    return components.resolve("spaces", spec if task is None else _with_defaults(components, spec, task, path), path)


def _with_defaults(components: Components, spec: Any, task: Task, path: str) -> Any:
    name = spec if isinstance(spec, str) else spec.get("name") if isinstance(spec, Mapping) else None
    if not isinstance(name, str):
        return spec
    settings = {setting.name: setting for setting in components.settings("spaces", name, path)}
    written = {} if isinstance(spec, str) else dict(spec)
    for key, setting in settings.items():
        if key in written and isinstance(setting.type, type) and issubclass(setting.type, SearchSpace):
            written[key] = _with_defaults(components, written[key], task, f"{path}.{key}")
    defaults: dict[str, Any] = {"input_shape": list(task.input_shape)}
    if task.num_classes is not None:
        defaults["num_classes"] = task.num_classes
    return {**{key: value for key, value in defaults.items() if key in settings}, **written, "name": name}


def make_space(components: Components, spec: Mapping[str, Any], seed: int, path: str) -> SearchSpace:
    """Construct a space from its resolved configuration.

    Raises:
        ConfigurationError: the constructor refuses a value, or the space has no decisions.
        SpaceError: the values of several settings do not fit each other; the message starts with the path of the space.
        PluginError: the constructed object is not a `SearchSpace`, its decisions are no mapping of names to decisions,
            or its `canonical` is wrong (`automl_nas.space.canonical`).
    """
    try:
        space = components.construct("spaces", spec, [], stream_seed(seed, "space"), path)
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from error
    if not isinstance(space, SearchSpace):
        raise PluginError(f"{path}: '{spec['name']}' made a {type(space).__name__}, which is not a SearchSpace")
    decisions: object = space.decisions
    if not isinstance(decisions, Mapping):
        raise PluginError(
            f"{path}: {type(space).__name__}.decisions is {decisions!r:.300}, a {type(decisions).__name__}; it must be "
            "{name: decision}"
        )
    if not decisions:
        raise ConfigurationError("the space has no decisions, so there is nothing to search", path=path)
    for name, decision in decisions.items():
        if not isinstance(name, str) or not isinstance(decision, Decision):
            raise PluginError(
                f"{path}: {type(space).__name__}.decisions has {decision!r:.300} under the name {name!r}, a "
                f"{type(decision).__name__}; it must be {{name: decision}}, with text as names and a Choice, Ordinal "
                "or Subset for each, such as Choice((1, 3, 5))"
            )
    try:
        check_canonical(space)
    except (PluginError, SpaceError) as error:
        raise type(error)(f"{path}: {error}") from error
    return space


def first_difference(space: SearchSpace, final_space: SearchSpace) -> str:
    """Describe the first decision in which the search space and the final space differ."""
    names = [*space.decisions, *final_space.decisions]
    name = next(name for name in names if space.decisions.get(name) != final_space.decisions.get(name))
    decision, final_decision = space.decisions.get(name), final_space.decisions.get(name)
    if decision is None:
        return f"only the final space has '{name}'"
    if final_decision is None:
        return f"only the search space has '{name}'"
    return f"'{name}' is {decision!r} in the search space and {final_decision!r} in the final space"
