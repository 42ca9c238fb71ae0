"""Resolves the specifications of benchmarks in a configuration, and loads the benchmarks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from automl_nas.errors import ConfigurationError, UserError, did_you_mean
from automl_nas.plugin import join
from automl_nas.run import read_settings
from automl_nas_benchmarks.benchmark import BENCHMARKS, Benchmark, benchmark_from_table, load_benchmark
from automl_nas_benchmarks.comparison.strategy_loader import find_reference

TABLE = "table"
"""The key of a benchmark that is a table of the user's own; its value is the path of the file."""


def resolve_benchmark(spec: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return a specification with every default filled in; a table's path becomes absolute.

    Raises:
        ConfigurationError: a name or setting is unknown (the message offers the nearest one), or a value is invalid.
    """
    settings = dict(spec)
    if TABLE in settings:
        file = Path(settings.pop(TABLE)).expanduser().resolve()
        return {TABLE: str(file), **_checked(benchmark_from_table, {**settings, "path": str(file)}, path)}
    name = settings.pop("name")
    if ":" in name:
        return {"name": name, **_checked(find_reference(name, path), settings, path)}
    if name not in BENCHMARKS:
        raise ConfigurationError(f"unknown benchmark '{name}'{did_you_mean(name, BENCHMARKS)}", path=path)
    if settings:
        raise ConfigurationError(f"'{name}' has no settings", path=join(path, next(iter(settings))))
    return {"name": name}


def make_benchmark(spec: Mapping[str, Any], path: str) -> Benchmark:
    """Load the benchmark of a resolved specification.

    Raises:
        ConfigurationError: the function of a reference does not return a benchmark, or the table lacks a column.
        DataError: the table cannot be read.
    """
    settings = dict(spec)
    name = settings.pop("name", "")
    if TABLE in settings:
        file = settings.pop(TABLE)
        try:
            return benchmark_from_table(file, **_arguments(settings))
        except ConfigurationError as error:
            raise ConfigurationError(error.message, path=join(path, error.path)) from error
    if ":" not in name:
        return load_benchmark(name)
    try:
        benchmark = find_reference(name)(**_arguments(settings))
    except UserError:
        raise
    except Exception as error:
        raise ConfigurationError(f"'{name}' raised {type(error).__name__}: {error}", path=path) from error
    if not isinstance(benchmark, Benchmark):
        raise ConfigurationError(f"'{name}' must return a Benchmark, not {type(benchmark).__name__}", path=path)
    return benchmark


def _checked(function: Callable[..., Any], settings: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return the keyword arguments of a function, checked against its annotations, with defaults filled in."""
    hints = get_type_hints(function)
    members: list[Any] = [
        (name, hints.get(name, Any), *([] if item.default is item.empty else [field(default=item.default)]))
        for name, item in inspect.signature(function).parameters.items()
    ]
    schema = make_dataclass(getattr(function, "__name__", "benchmark"), members, frozen=True, kw_only=True)
    owner = f"a {TABLE}" if function is benchmark_from_table else "this benchmark"
    checked: Any = read_settings(schema, settings, path, owner)
    arguments = {name: getattr(checked, name) for name, *_ in members if name != "path"}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in arguments.items()}


def _arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
