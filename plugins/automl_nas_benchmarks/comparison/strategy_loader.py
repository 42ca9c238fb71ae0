"""The strategies of a comparison: named in the registry, referred to as ``module:Class``, or given as classes."""

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
_RUNTIME = "automl_nas.evaluation.runtime:Runtime"


def reference(made: StrategyFactory) -> str:
    """Return ``module:Class`` of a class or function."""
    return f"{made.__module__}:{made.__qualname__}"


@final
class StrategyLoader:
    """Resolves and constructs strategies.

    Args:
        registry: of what plugins registered.
        objects: ``module:Class`` -> the class or function itself, for those that cannot be imported (of a notebook).
    """

    def __init__(self, registry: Registry, objects: Mapping[str, StrategyFactory] | None = None) -> None:
        self._registry, self._objects = registry, dict(objects or {})

    def resolve(self, spec: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Return a specification with every default filled in.

        Raises:
            ConfigurationError: an unknown name or setting (offers the nearest), a wrong value, or a reference that
                leads nowhere.
            PluginError: the strategy cannot be imported, or its signature is no configuration schema.
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
            ConfigurationError: its constructor refuses a setting, or needs what a table cannot give (a task, say).
        """
        settings = dict(spec)
        made, signature = self._load(settings.pop("name"), path)
        collaborators = self._collaborators(spec, space, problem)
        strategy: Strategy = signature.construct(
            made, settings, collaborators, seed, path=path, registry=self._registry
        )
        if not isinstance(space, strategy.space_type):
            raise ConfigurationError(
                f"'{spec['name']}' needs a {strategy.space_type.__name__}, and the space is none "
                f"({type(space).__name__})",
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
        found: list[object] = [space, problem]
        wanted = [
            collaborator.type
            for name in _names(spec)
            if ":" in name or name in self._registry.names("strategies")
            for collaborator in self._load(name, "")[1].collaborators
        ]
        if any(derives(kind, _RUNTIME) for kind in wanted):
            # One thread: the searches themselves are what runs in parallel.
            from automl_nas.evaluation import Runtime

            found.append(Runtime(device="cpu", threads=1))
        return found


def find_reference(name: str, path: str = "") -> Any:
    """Return what ``module:object`` refers to.

    Raises:
        ConfigurationError: there is no such module, it cannot be imported, or it holds nothing of that name.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ConfigurationError(f"cannot import {module}: {error}", path=path) from error
        raise ConfigurationError(
            f"there is no module '{module}' for '{name}'; it must be installed or lie in the current folder", path=path
        ) from None
    except Exception as error:
        raise ConfigurationError(f"cannot import {module}: {type(error).__name__}: {error}", path=path) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [own for own in dir(found) if not own.startswith("_")]
            raise ConfigurationError(f"there is no '{attribute}' in {module}{did_you_mean(part, known)}", path=path)
        found = getattr(found, part)
    return found


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
