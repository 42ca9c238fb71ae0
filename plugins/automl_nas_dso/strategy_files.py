"""What a search leaves in the run directory for people to read: lambda as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automl_nas.search.trial import Trial

FOLDER = "lambda"


def write_found(directory: Path, trial: Trial) -> None:
    """Write what a trial of the strategy `dso` found to ``lambda/STAGE.json``; trials of others are left alone.

    Args:
        directory: of the run.
        trial: a finished one.
    """
    scales = trial.info.get("lambda")
    if not isinstance(scales, Mapping) or "live_edges" not in trial.info:
        return
    found: dict[str, Any] = {
        "trial": trial.number,
        "live_edges": trial.info["live_edges"],
        "edges": trial.info.get("edges"),
        "costs": dict(trial.costs),
        "lambda": {name: dict(weights) for name, weights in scales.items()},
    }
    path = directory / FOLDER / f"{trial.stage}.json"
    path.parent.mkdir(exist_ok=True)
    # Put in place whole: a run that is killed here writes it anew when it ends.
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
