"""The strategies of a comparison: registered names, references ``module:Class``, or classes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas.plugin import Component, Registry, Signature, Source, derives, from_config, join

if TYPE_CHECKING:
    from automl_nas.space import SearchSpace
    from automl_nas.strategy import Problem, Strategy

StrategyFactory = Callable[..., Any]
"""A strategy class, or a function that returns a strategy."""

_RUNTIME = "automl_nas.evaluation.runtime:Runtime"


def reference(factory: StrategyFactory) -> str:
    """Return the reference ``module:Class`` of a class or function."""
    return f"{factory.__module__}:{factory.__qualname__}"


@final
class StrategyLoader:
    """Resolves and constructs strategies.

    Args:
        registry: the components that plugins registered.
        objects: ``module:Class`` -> the class or function itself, for those that cannot be imported (in a notebook).
    """

    def __init__(self, registry: Registry, objects: Mapping[str, StrategyFactory] | None = None) -> None:
        self._registry, self._objects = registry, dict(objects or {})

    def resolve(self, spec: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Return a specification with every default filled in.

        Raises:
            ConfigurationError: a name or setting is unknown (the message offers the nearest one), a value is invalid,
                or a reference does not exist.
            PluginError: the strategy cannot be imported, or its signature is not a configuration schema.
        """
        settings = from_config(spec, path=path)
        if ":" not in settings["name"]:
            return self._registry.resolve("strategies", settings, path=path)
        name = settings.pop("name")
        _, signature = self._load(name, path)
        return {"name": name, **signature.validate(settings, path, registry=self._registry)}

    def construct(
        self, spec: Mapping[str, Any], space: SearchSpace, problem: Problem, seed: int, path: str
    ) -> Strategy:
        """Construct a strategy for a problem.

        Raises:
            ConfigurationError: its constructor refuses a setting, or needs a collaborator that a table cannot supply,
                such as a task.
        """
        settings = dict(spec)
        factory, signature = self._load(settings.pop("name"), path)
        collaborators = self._collaborators(spec, space, problem)
        strategy: Strategy = signature.construct(
            factory, settings, collaborators, seed, path=path, registry=self._registry
        )
        if not isinstance(space, strategy.space_type):
            raise ConfigurationError(
                f"'{spec['name']}' needs a {strategy.space_type.__name__}; the space of the benchmark is a "
                f"{type(space).__name__}",
                path=path,
            )
        return strategy

    def _load(self, name: str, path: str) -> tuple[StrategyFactory, Signature]:
        if name in self._objects:
            return self._objects[name], Signature.of(self._objects[name], name=name)
        if ":" in name:
            find_reference(name, path)
            component = Component("strategies", name, name, "", Source(name.partition(":")[0], name))
        else:
            component = self._registry.get("strategies", name, path=join(path, "name"))
        return component.load(), component.signature()

    def _collaborators(self, spec: Mapping[str, Any], space: SearchSpace, problem: Problem) -> Sequence[object]:
        collaborators: list[object] = [space, problem]
        types = [
            collaborator.type
            for name in _names(spec)
            if ":" in name or name in self._registry.names("strategies")
            for collaborator in self._load(name, "")[1].collaborators
        ]
        if any(derives(collaborator_type, _RUNTIME) for collaborator_type in types):
            # One thread, because the searches run in parallel.
            from automl_nas.evaluation import Runtime

            collaborators.append(Runtime(device="cpu", threads=1))
        return collaborators


def find_reference(name: str, path: str = "") -> Any:
    """Return the object of a reference ``module:object``.

    Raises:
        ConfigurationError: the module does not exist, cannot be imported, or has no attribute of that name.
    """
    module, _, attribute = name.partition(":")
    try:
        referred: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"cannot import {module}: {error}", path=path) from error
        raise ConfigurationError(
            f"the module '{module}' of '{name}' does not exist; it must be installed or in the current folder",
            path=path,
        ) from None
    except Exception as error:
        raise ConfigurationError(f"cannot import {module}: {type(error).__name__}: {error}", path=path) from error
    for part in attribute.split("."):
        if not hasattr(referred, part):
            public = [member for member in dir(referred) if not member.startswith("_")]
            raise ConfigurationError(f"the module {module} has no '{attribute}'{did_you_mean(part, public)}", path=path)
        referred = getattr(referred, part)
    return referred


def _names(spec: Any) -> Iterator[str]:
    """Yield the names of a component and of all components in its settings."""
    if isinstance(spec, Mapping):
        if isinstance(spec.get("name"), str):
            yield spec["name"]
        for value in spec.values():
            yield from _names(value)
    elif isinstance(spec, list | tuple):
        for value in spec:
            yield from _names(value)
