"""The settings of a comparison, as in a configuration file."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from automl_nas.errors import ConfigurationError
from automl_nas.plugin import join

DEFAULT_BENCHMARKS = ("nasbench201-cifar10", "nasbench201-cifar100", "nasbench201-imagenet16-120", "nasbench_macro")
"""The benchmarks of a comparison by default: those of the plugin whose signal is the truth."""

DEFAULT_STRATEGIES = ("random", "aging", "local_search", "evolution")
"""The strategies of a comparison by default, by their registered names."""


@dataclass(frozen=True)
class ComparisonSettings:
    """Strategies x benchmarks x seeds, and the settings of each search.

    Attributes:
        strategies: each a component as in a run, or ``module:Class``; a strategy that is listed twice needs a
            ``label``.
        benchmarks: each a name, ``module:function`` that returns a benchmark, or ``{table: FILE, ...}`` for a table of
            your own; with settings, and a ``label`` if it is listed twice.
        seeds: number of searches of each strategy on each benchmark.
        first_seed: seed of the first search; the other seeds follow it.
        evaluations: number of evaluations of each search.
        batch: number of trials that a strategy receives at once.
        deduplicate: whether repeated networks are answered from memory, so that every evaluation is of a new function.
        constraints: cost -> limit, such as ``<= 0.5 * largest``; scores are then relative to the feasible networks.
        objectives: ``accuracy`` and costs; with several, strategies are compared by the hypervolume. The values of a
            mapping are directions; in a list costs are minimised.
        top: shares of the best networks; the comparison reports after how many evaluations a search evaluates one of
            them.
        judge: what ranks and tests compare: the result at the end of a search (``final``), the mean over its
            evaluations (``anytime``), or the evaluations until it evaluates one of the networks of the last share of
            ``top`` (``arrival``).
        alpha: significance level of the tests.
    """

    strategies: list[Any] = field(default_factory=lambda: list(DEFAULT_STRATEGIES))
    benchmarks: list[Any] = field(default_factory=lambda: list(DEFAULT_BENCHMARKS))
    seeds: int = 100
    first_seed: int = 0
    evaluations: int = 300
    batch: int = 1
    deduplicate: bool = True
    constraints: dict[str, str] = field(default_factory=dict)
    objectives: list[str] | dict[str, str] = field(default_factory=lambda: ["accuracy"])
    top: list[float] = field(default_factory=lambda: [0.01, 0.001])
    judge: Literal["final", "anytime", "arrival"] = "final"
    alpha: float = 0.05

    def __post_init__(self) -> None:
        for name in ("seeds", "evaluations", "batch"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"must be at least 1, not {getattr(self, name)}", path=name)
        if self.first_seed < 0:
            raise ConfigurationError(f"must be at least 0, not {self.first_seed}", path="first_seed")
        if not 0 < self.alpha < 1:
            raise ConfigurationError(f"must be between 0 and 1, not {self.alpha}", path="alpha")
        for name in ("strategies", "benchmarks", "objectives"):
            if not getattr(self, name):
                raise ConfigurationError("must have at least one entry", path=name)
        if self.judge == "arrival" and not self.top:
            raise ConfigurationError("must have at least one share, such as 0.001, if judge is arrival", path="top")
        for position, share in enumerate(self.top):
            if not 0 < share <= 1:
                raise ConfigurationError(
                    f"must be between 0 and 1 (0.01 is the top 1 %), not {share}", path=join("top", position)
                )


@dataclass(frozen=True)
class Entry:
    """A strategy or a benchmark of a comparison.

    Attributes:
        label: its name in tables and plots.
        spec: its specification, without the label.
        path: its path in the configuration.
    """

    label: str
    spec: dict[str, Any]
    path: str


def short_label(name: str) -> str:
    """Return the default label: the class of ``module:Class``, the file name of a table without its suffix."""
    if ":" in name:
        return name.rpartition(":")[2]
    return Path(name).name.partition(".")[0]


def entries(items: Sequence[Any], where: str, key: str = "name") -> list[Entry]:
    """Split labels from specifications.

    Args:
        items: each a name, or a mapping with the key ``name`` or ``key``.
        where: ``strategies`` or ``benchmarks``.
        key: the key that an item may have instead of ``name``.

    Raises:
        ConfigurationError: an item is neither a name nor such a mapping, or two items have the same label.
    """
    by_label: dict[str, Entry] = {}
    for position, item in enumerate(items):
        path = join(where, position)
        spec = {"name": item} if isinstance(item, str) else item
        if not isinstance(spec, Mapping) or not any(isinstance(spec.get(name), str) for name in ("name", key)):
            raise ConfigurationError(f"must be a name or a mapping with a name, not {item!r}", path=path)
        spec = dict(spec)
        label = spec.pop("label", None) or short_label(spec.get("name") or spec[key])
        if not isinstance(label, str) or not label.isprintable():
            raise ConfigurationError(f"a label must be a printable string, not {label!r}", path=join(path, "label"))
        if label in by_label:
            raise ConfigurationError(
                f"{by_label[label].path} has the label '{label}' already; give each entry a label of its own: "
                "{name: ..., label: ...}",
                path=path,
            )
        by_label[label] = Entry(label, spec, path)
    return list(by_label.values())


GROWING = ("strategies", "benchmarks", "seeds")
"""Settings that can be extended without changing any recorded search."""

ONLY_REPORTED = ("alpha", "judge", "top")
"""Settings that change the report, but no search."""


def changes(old: Mapping[str, Any], new: Mapping[str, Any], redone: Collection[str] = ()) -> list[str]:
    """Return the differences because of which recorded searches cannot be used; empty if they can.

    Args:
        old: resolved configuration of the recorded searches; strategies and benchmarks are lists of mappings with
            labels.
        new: resolved configuration of the comparison. Additional strategies, benchmarks and seeds are not differences.
        redone: labels of strategies whose searches are run again; changes of these are not differences either.
    """
    differences = []
    for item in fields(ComparisonSettings):
        name = item.name
        if name in ("strategies", "benchmarks"):
            reused = [item for item in old[name] if name != "strategies" or item["label"] not in redone]
            differences += _changed_entries(reused, new[name], name)
        elif name == "seeds":
            if new[name] < old[name]:
                differences.append(f"seeds: {old[name]} -> {new[name]} (the number can only grow)")
        elif name not in ONLY_REPORTED and old.get(name) != new[name]:
            differences.append(f"{name}: {old.get(name)} -> {new[name]}")
    return differences


def _changed_entries(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], where: str) -> list[str]:
    new_by_label = {item["label"]: item for item in new}
    differences = []
    for item in old:
        label = item["label"]
        if label not in new_by_label:
            differences.append(f"{where}: '{label}' is missing (entries can only be added)")
            continue
        changed = new_by_label[label]
        differences += [
            f"{where}, {label}: {key}: {item.get(key)} -> {changed.get(key)}"
            for key in sorted({*item, *changed})
            if item.get(key) != changed.get(key)
        ]
    return differences
