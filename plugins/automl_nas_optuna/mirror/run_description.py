"""What a mirror needs to know about a run, stored as a file in the run directory.

The mirror is another process: it has no access to the Python objects of the run.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from automl_nas.run import read_json, write_json
from automl_nas.space import Choice, Decision, DecisionSpace, Ordinal, SearchSpace, Subset

FILE_NAME: Final = "optuna.json"

_KINDS: Final[Mapping[str, type[Decision]]] = {"choice": Choice, "ordinal": Ordinal, "subset": Subset}


@dataclass(frozen=True)
class RunDescription:
    """A run as the mirror needs it.

    Attributes:
        run: a random identifier: names of run directories are not unique.
        objectives: stage -> metric -> ``maximize`` or ``minimize``.
        decisions: the decisions of the search space.
    """

    run: str
    objectives: Mapping[str, Mapping[str, str]]
    decisions: Mapping[str, Decision]

    @classmethod
    def of(cls, directory: Path, objectives: Mapping[str, Mapping[str, str]], space: SearchSpace) -> RunDescription:
        """Return the description stored in a run directory; create it if it does not exist."""
        if (directory / FILE_NAME).exists():
            return cls.read(directory)
        description = cls(uuid.uuid4().hex, {stage: dict(own) for stage, own in objectives.items()}, space.decisions)
        decisions = {name: _serialize_decision(decision) for name, decision in description.decisions.items()}
        write_json(
            directory / FILE_NAME,
            {"run": description.run, "objectives": description.objectives, "decisions": decisions},
        )
        return description

    @classmethod
    def read(cls, directory: Path) -> RunDescription:
        """Return the description stored in a run directory.

        Raises:
            DamagedError: the file is damaged.
        """
        data = read_json(directory / FILE_NAME)
        decisions = {name: _read_decision(item) for name, item in data["decisions"].items()}
        return cls(data["run"], data["objectives"], decisions)

    @property
    def space(self) -> SearchSpace:
        """A search space with these decisions; it cannot build networks."""
        return DecisionSpace(self.decisions)


def _serialize_decision(decision: Decision) -> dict[str, Any]:
    kind = next(name for name, cls in _KINDS.items() if type(decision) is cls)
    size_limits = {"min": decision.min, "max": decision.max} if isinstance(decision, Subset) else {}
    return {"kind": kind, "options": list(decision.options), **size_limits}


def _read_decision(data: Mapping[str, Any]) -> Decision:
    kind, options = data["kind"], tuple(data["options"])
    return Subset(options, min=data["min"], max=data["max"]) if kind == "subset" else _KINDS[kind](options)
