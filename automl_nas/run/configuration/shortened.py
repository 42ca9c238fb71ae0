"""The settings that a time budget shortened: their record in the configuration of a run."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any


def with_used_values(config: Mapping[str, Any], shortened: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a resolved configuration with the values that were used.

    Args:
        config: the resolved configuration as written.
        shortened: setting, such as ``stages.search.budget.trials`` -> its values ``written`` and ``used``.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(config))
    for setting, values in shortened.items():
        *path, last = setting.split(".")
        section: Any = changed
        for key in path:
            section = section[key] if isinstance(section, dict) else _named(section, key)
        section[last] = values["used"]
    return changed


def with_recorded_budget(written: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return a resolved configuration as the run uses it that began with it: shortened as it was recorded.

    Args:
        written: as the user wrote it, resolved.
        recorded: the configuration of the run. If it is that of another one, the written one is returned.
    """
    budget, begun = written.get("budget"), recorded.get("budget")
    if budget is None or begun is None or budget["shortened"] is not None or begun["shortened"] is None:
        return dict(written)
    names = [stage["name"] for stage in written["stages"]]
    if budget["minutes"] != begun["minutes"] or names != [stage["name"] for stage in recorded["stages"]]:
        return dict(written)
    return {**with_used_values(written, begun["shortened"]), "budget": begun}


def _named(stages: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(stage for stage in stages if stage["name"] == name)
