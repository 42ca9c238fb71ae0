"""The configuration of a comparison of one-shot methods, and its cells: one run for each space, method and seed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from automl_nas.errors import ConfigurationError
from automl_nas.plugin import join
from automl_nas_benchmarks.benchmark import Benchmark
from automl_nas_benchmarks.comparison.benchmark_loader import make_benchmark, resolve_benchmark
from automl_nas_benchmarks.comparison.settings import Entry, entries
from automl_nas_benchmarks.rank.command import DEFAULTS

if TYPE_CHECKING:
    from automl_nas.plugin import Registry
    from automl_nas.strategy import Problem

OWN = ("methods", "spaces", "seeds", "first_seed")
"""The sections that an ordinary configuration does not have."""

REPLACED = {"stages": "methods", "space": "spaces", "seed": "first_seed"}
"""Sections of an ordinary configuration -> the one that replaces it."""


@dataclass(frozen=True)
class Cell:
    """A run of the comparison.

    Attributes:
        space: the label of the space.
        method: the label of the method.
        seed: of the run.
    """

    space: str
    method: str
    seed: int

    def directory(self, out: Path) -> Path:
        """Return the run directory in the folder of the comparison."""
        return out / self.space / self.method / f"seed-{self.seed}"


@final
class OneShotPlan:
    """A checked configuration.

    Args:
        config: the sections of an ordinary configuration with ``spaces`` instead of ``space``, ``methods`` instead of
            ``stages``, ``seeds`` and ``first_seed`` instead of ``seed``.

    Attributes:
        spaces: the spaces; the key ``benchmark`` of one is the source of its true values.
        methods: label -> the stages of its runs.
        seeds: the seeds of each method on each space.

    Raises:
        ConfigurationError: a section is missing, has the wrong form, or belongs to runs of one method.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        for name, instead in REPLACED.items():
            if name in config:
                raise ConfigurationError(f"a comparison of one-shot methods has {instead} instead", path=name)
        if config.get("final") is not None:
            raise ConfigurationError("leave it out: true values are those of the table", path="final")
        self._sections = {name: value for name, value in config.items() if name not in OWN}
        self.spaces = _spaces(config.get("spaces"))
        self.methods = _methods(config.get("methods"))
        count, first = (_integer(config, name, default) for name, default in (("seeds", 3), ("first_seed", 0)))
        if count < 1:
            raise ConfigurationError(f"must be at least 1, not {count}", path="seeds")
        self.seeds = range(first, first + count)

    @property
    def cells(self) -> list[Cell]:
        """All runs, seed by seed, so that an unfinished comparison has all methods with fewer seeds."""
        return [Cell(space, method, seed) for seed in self.seeds for space in self.spaces for method in self.methods]

    def config(self, cell: Cell) -> dict[str, Any]:
        """Return the configuration of a run."""
        spec = {name: value for name, value in self.spaces[cell.space].spec.items() if name != "benchmark"}
        sections = {**self._sections, "space": spec, "stages": self.methods[cell.method], "seed": cell.seed}
        return copy.deepcopy({**sections, "final": None})

    @cached_property
    def benchmarks(self) -> dict[str, Benchmark]:
        """Label of a space -> the benchmark with the true values of its networks.

        Raises:
            ConfigurationError: a space has no benchmark of its own, and none is given.
        """
        return {label: _benchmark(entry) for label, entry in self.spaces.items()}

    def check(self, registry: Registry) -> dict[tuple[str, str], Problem]:
        """Check all settings before the first run; return the problem of each method on each space.

        Raises:
            UserError: a setting is invalid, or a space does not fit its benchmark.
        """
        from automl_nas.run import make_plan

        problems = {}
        for label, benchmark in self.benchmarks.items():
            for method in self.methods:
                config = self.config(Cell(label, method, self.seeds[0]))
                try:
                    # On the CPU, where the plan does not measure which settings of the runtime are fastest.
                    plan = make_plan({**config, "runtime": {"device": "cpu"}}, registry)
                except ConfigurationError as error:
                    raise ConfigurationError(error.message, path=self._place(error.path, label, method)) from error
                benchmark.truth_source.table.check(plan.space, f"the benchmark '{benchmark.name}'")
                problems[label, method] = plan.result_stage.problem
        return problems

    def _place(self, path: str, space: str, method: str) -> str:
        """Return the place of a setting of a run in this configuration."""
        if path == "space" or path.startswith("space."):
            return self.spaces[space].path + path.removeprefix("space")
        for position, stage in enumerate(self.methods[method]):
            begin = f"stages[{position}]"
            if path == begin or path.startswith(f"{begin}."):
                alone = len(self.methods[method]) == 1 and stage["name"] == _ALONE
                rest = path.removeprefix(begin)
                return f"methods.{method}" + (rest.removeprefix(".strategy") if alone else f"[{position}]{rest}")
        return path


_ALONE = "search"
"""The name of the stage of a method that is given as a strategy."""


def _spaces(items: Any) -> dict[str, Entry]:
    if not isinstance(items, Sequence) or isinstance(items, str) or not items:
        raise ConfigurationError("must be a list of spaces, such as [nasbench201, nasbench_macro]", path="spaces")
    spaces = entries(items, "spaces")
    for entry in spaces:
        _check_label(entry.label, entry.path)
    return {entry.label: entry for entry in spaces}


def _methods(methods: Any) -> dict[str, list[dict[str, Any]]]:
    if not isinstance(methods, Mapping) or not methods:
        raise ConfigurationError(
            "must be a mapping from labels to strategies, or to lists of stages: {darts: {name: darts}}", path="methods"
        )
    stages = {}
    for label, method in methods.items():
        path = join("methods", str(label))
        _check_label(label, path)
        if isinstance(method, str | Mapping):
            stages[label] = [{"name": _ALONE, "strategy": method}]
        elif isinstance(method, Sequence) and method and all(isinstance(s, Mapping) and "name" in s for s in method):
            stages[label] = [dict(stage) for stage in method]
        else:
            raise ConfigurationError(f"must be a strategy, or a list of stages with names, not {method!r}", path=path)
    return stages


def _check_label(label: Any, path: str) -> None:
    if not isinstance(label, str) or not label.isprintable() or not label.strip(". ") or set(label) & set('/\\:*?"<>|'):
        raise ConfigurationError(
            f"a label must be a string that can be the name of a folder, not {label!r}; give the entry a label",
            path=path,
        )


def _integer(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigurationError(f"must be an integer of at least 0, not {value!r}", path=name)
    return value


def _benchmark(entry: Entry) -> Benchmark:
    path = join(entry.path, "benchmark")
    spec = entry.spec.get("benchmark", DEFAULTS.get(entry.spec["name"]))
    if spec is None:
        raise ConfigurationError(
            f"is missing: the true values of the networks of the space '{entry.spec['name']}', a name or "
            "{table: mine.csv, metric: accuracy}",
            path=path,
        )
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping) or ("name" in spec) == ("table" in spec):
        raise ConfigurationError("must be a name, or a mapping with a table", path=path)
    return make_benchmark(resolve_benchmark(spec, path), path)
