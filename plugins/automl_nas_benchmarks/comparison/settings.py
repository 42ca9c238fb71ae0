"""What a comparison is: its settings, as a configuration file writes them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from automl_nas.errors import ConfigurationError
from automl_nas.plugin import join

DEFAULT_BENCHMARKS = ("nasbench201-cifar10", "nasbench201-cifar100", "nasbench201-imagenet16-120", "nasbench_macro")
"""Where they are compared if nothing else is asked for: the clean signals that come with the plugin."""

DEFAULT_STRATEGIES = ("random", "aging", "local_search", "evolution")
"""What is compared if nothing else is asked for, by the names that their plugins register."""


@dataclass(frozen=True)
class ComparisonSettings:
    """Strategies x benchmarks x seeds, and how each search goes.

    Attributes:
        strategies: each a component as in a run, or ``module:Class``; one that stands here twice needs a ``label``.
        benchmarks: each a name, ``module:function`` that returns a benchmark, or ``{table: FILE, ...}`` for a table of
            your own; with settings, and a ``label`` if it stands here twice.
        seeds: how many searches of each strategy on each benchmark.
        first_seed: the seed of the first one; the others count up.
        evaluations: budget of a search.
        batch: how many trials a strategy is told at once.
        deduplicate: whether known networks are answered from memory, so that all evaluations are of new functions.
        constraints: cost -> limit, such as ``<= 0.5 * largest``; scores are then relative to what is feasible.
        objectives: ``accuracy`` and costs; with several, strategies are judged by the hypervolume. A mapping gives
            directions; in a list costs are minimised.
        top: shares of the best networks; how soon a search evaluates one of them is reported.
        judge: what ranks and tests compare: what a search has found at the end (``final``), on average over its
            evaluations (``anytime``), or how soon it evaluates one of the networks of the last share of ``top``
            (``arrival``).
        alpha: probability of an error in the tests.
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
            raise ConfigurationError(f"must not be negative, but is {self.first_seed}", path="first_seed")
        if not 0 < self.alpha < 1:
            raise ConfigurationError(f"must lie between 0 and 1, not {self.alpha}", path="alpha")
        for name in ("strategies", "benchmarks", "objectives"):
            if not getattr(self, name):
                raise ConfigurationError("name at least one", path=name)
        if self.judge == "arrival" and not self.top:
            raise ConfigurationError("judging by the arrival needs a share to arrive at, such as 0.001", path="top")
        for position, share in enumerate(self.top):
            if not 0 < share <= 1:
                raise ConfigurationError(
                    f"a share lies between 0 and 1 (0.01 is the top 1 %), not {share}", path=join("top", position)
                )


@dataclass(frozen=True)
class Entry:
    """A strategy or a benchmark of a comparison.

    Attributes:
        label: what it is called in tables.
        spec: its specification, without the label.
        path: where it stands in the configuration.
    """

    label: str
    spec: dict[str, Any]
    path: str


def short_label(name: str) -> str:
    """Return what something is called if nobody says: ``module:Class`` by its class, a table by its file."""
    if ":" in name:
        return name.rpartition(":")[2]
    return Path(name).name.partition(".")[0]


def entries(items: Sequence[Any], where: str, key: str = "name") -> list[Entry]:
    """Split labels from specifications.

    Args:
        items: each a name, or a mapping with ``name`` (or another key of ``key``).
        where: ``strategies`` or ``benchmarks``.
        key: another key that an item may have instead of a name.

    Raises:
        ConfigurationError: an item is neither, or two have the same label.
    """
    found: dict[str, Entry] = {}
    for position, item in enumerate(items):
        path = join(where, position)
        spec = {"name": item} if isinstance(item, str) else item
        if not isinstance(spec, Mapping) or not any(isinstance(spec.get(name), str) for name in ("name", key)):
            raise ConfigurationError(f"must be a name or a mapping with a name, not {item!r}", path=path)
        spec = dict(spec)
        label = spec.pop("label", None) or short_label(spec.get("name") or spec[key])
        if not isinstance(label, str) or not label.isprintable():
            raise ConfigurationError(f"a label is a line of text, not {label!r}", path=join(path, "label"))
        if label in found:
            raise ConfigurationError(
                f"'{label}' stands at {found[label].path} already; give each a label of its own: "
                "{name: ..., label: ...}",
                path=path,
            )
        found[label] = Entry(label, spec, path)
    return list(found.values())


GROWING = ("strategies", "benchmarks", "seeds")
"""Settings that may grow without changing any search that is on record."""

ONLY_REPORTED = ("alpha", "judge", "top")
"""Settings that change no search."""


def changes(old: Mapping[str, Any], new: Mapping[str, Any], redone: Collection[str] = ()) -> list[str]:
    """Return what keeps the searches of one resolved configuration from belonging to another; empty if nothing does.

    Args:
        old: of the searches on record; strategies and benchmarks are lists of mappings with labels.
        new: of the searches that are wanted. More strategies, benchmarks or seeds are no obstacle.
        redone: labels of strategies whose searches are not kept anyway.
    """
    found = []
    for item in fields(ComparisonSettings):
        name = item.name
        if name in ("strategies", "benchmarks"):
            kept = [item for item in old[name] if name != "strategies" or item["label"] not in redone]
            found += _changed_entries(kept, new[name], name)
        elif name == "seeds":
            if new[name] < old[name]:
                found.append(f"seeds: {old[name]} -> {new[name]} (they can only grow)")
        elif name not in ONLY_REPORTED and old.get(name) != new[name]:
            found.append(f"{name}: {old.get(name)} -> {new[name]}")
    return found


def _changed_entries(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], where: str) -> list[str]:
    fresh = {item["label"]: item for item in new}
    found = []
    for item in old:
        label = item["label"]
        if label not in fresh:
            found.append(f"{where}: '{label}' is missing (they can only grow)")
            continue
        now = fresh[label]
        found += [
            f"{where}, {label}: {key}: {item.get(key)} -> {now.get(key)}"
            for key in sorted({*item, *now})
            if item.get(key) != now.get(key)
        ]
    return found
