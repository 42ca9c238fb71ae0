"""The readable results of a search in the run directory: lambda as JSON, the blocks as pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automl_nas.run import Ledger
from automl_nas.strategy import Trial

FOLDER = "lambda"


def write_results(directory: Path, stage: str, space: Mapping[str, Any]) -> None:
    """Write the architecture's lambda and costs of a stage of the strategy `dso` to ``lambda/STAGE.json``.

    If the space is `dso`, also write a picture of each distinct block to ``lambda/STAGE-BLOCK.svg``.

    Args:
        directory: the run directory; the trial is read from its ledger.
        stage: name of the stage.
        space: the resolved configuration of the space.
    """
    trials = Ledger(directory / "trials.jsonl", writable=False).trials.values()
    trial = next(trial for trial in trials if trial.stage == stage)
    scales = trial.info["lambda"]
    assert isinstance(scales, Mapping)
    result: dict[str, Any] = {
        "trial": trial.number,
        "live_edges": trial.info["live_edges"],
        "edges": trial.info["edges"],
        "costs": dict(trial.costs),
        "lambda": {name: dict(weights) for name, weights in scales.items()},
    }
    files = {f"{stage}.json": json.dumps(result, indent=1) + "\n"}
    if space.get("name") == "dso":
        block_pictures = _pictures(trial, scales, space)
        files |= {f"{stage}-{block}.svg": picture for block, picture in block_pictures.items()}
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        # Written to another name first, so that a crash leaves no incomplete file.
        part = folder / f"{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(folder / name)


def _pictures(trial: Trial, scales: Mapping[str, Mapping[str, float]], space: Mapping[str, Any]) -> dict[str, str]:
    import torch

    from automl_nas.space import Selection, Weighted
    from automl_nas_dso.picture import pictures
    from automl_nas_dso.space import DsoSpace

    settings: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list | tuple) else value for key, value in space.items()
    }
    del settings["name"]
    selection: Selection = {
        name: Weighted(sources, torch.tensor([scales[name][str(source)] for source in sources]))
        if isinstance(sources, tuple) and sources
        else sources
        for name, sources in trial.architecture.items()
    }
    return pictures(DsoSpace(**settings), selection)
