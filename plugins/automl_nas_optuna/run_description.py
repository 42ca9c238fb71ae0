"""What a mirror has to know of a run, as a file in its directory: a run's Python objects cannot be had from outside."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from automl_nas.run import read_json, write_json
from automl_nas.space import Choice, Decision, DecisionSpace, Ordinal, SearchSpace, Subset

NAME: Final = "optuna.json"
"""The file."""

_KINDS: Final[Mapping[str, type[Decision]]] = {"choice": Choice, "ordinal": Ordinal, "subset": Subset}


@dataclass(frozen=True)
class RunDescription:
    """A run, as Optuna sees it.

    Attributes:
        run: an identity of its own: names of directories come again.
        objectives: stage -> metric -> ``maximize`` or ``minimize``.
        decisions: of the space.
    """

    run: str
    objectives: Mapping[str, Mapping[str, str]]
    decisions: Mapping[str, Decision]

    @classmethod
    def of(cls, directory: Path, objectives: Mapping[str, Mapping[str, str]], space: SearchSpace) -> RunDescription:
        """Return the portrait in a run directory, which is drawn if there is none."""
        if (directory / NAME).exists():
            return cls.read(directory)
        made = cls(uuid.uuid4().hex, {stage: dict(own) for stage, own in objectives.items()}, space.decisions)
        decisions = {name: _plain(decision) for name, decision in made.decisions.items()}
        write_json(directory / NAME, {"run": made.run, "objectives": made.objectives, "decisions": decisions})
        return made

    @classmethod
    def read(cls, directory: Path) -> RunDescription:
        """Return the portrait in a run directory.

        Raises:
            DamagedError: the file is not whole.
        """
        found = read_json(directory / NAME)
        return cls(
            found["run"], found["objectives"], {name: _decision(item) for name, item in found["decisions"].items()}
        )

    @property
    def space(self) -> SearchSpace:
        """The decisions, as a space that builds nothing."""
        return DecisionSpace(self.decisions)


def _plain(decision: Decision) -> dict[str, Any]:
    kind = next(name for name, cls in _KINDS.items() if type(decision) is cls)
    limits = {"min": decision.min, "max": decision.max} if isinstance(decision, Subset) else {}
    return {"kind": kind, "options": list(decision.options), **limits}


def _decision(found: Mapping[str, Any]) -> Decision:
    kind, options = found["kind"], tuple(found["options"])
    return Subset(options, min=found["min"], max=found["max"]) if kind == "subset" else _KINDS[kind](options)
