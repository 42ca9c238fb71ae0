"""Writing a bundle: `Bundle`, `write_bundle`."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl_nas.errors import SpaceError, UserError
from automl_nas_costs.bundle import runner
from automl_nas_costs.latency import engine, measurement_rounds
from automl_nas_costs.latency.graphs import digest
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.latency.reference_network import control_model

VERSION = 1

MANIFEST, RUNNER, CONTROL, PACKAGE = "manifest.json", "run.py", "control.onnx", "latency"


@dataclass(frozen=True)
class BundledModel:
    """A network of a bundle.

    Attributes:
        model: ONNX with fixed shapes.
        name: in tables and messages.
        architecture: in its space; None for a network that is not of a space.
    """

    model: bytes
    name: str
    architecture: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Bundle:
    """The networks that another device measures.

    Attributes:
        models: the networks.
        options: how they are measured there.
        space: the configuration of their space, for readers of the manifest; None for networks that are not of a space.
        seed: of the orders of the rounds.
    """

    models: Sequence[BundledModel]
    options: LatencyOptions = field(default_factory=LatencyOptions)
    space: Mapping[str, Any] | None = None
    seed: int = 0


def write_bundle(bundle: Bundle, folder: Path) -> Path:
    """Write a folder in which ``python run.py``, with numpy and onnxruntime, measures the networks.

    The runner writes results.json. The folder is written completely or not at all.

    Args:
        bundle: the networks.
        folder: new, or empty.

    Raises:
        SpaceError: the bundle has no network.
        UserError: the folder is not empty, or cannot be written.
    """
    if not bundle.models:
        raise SpaceError("a bundle needs at least one network")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty; use a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".bundle-", dir=folder.parent) as name:
            stage = Path(name) / "bundle"
            _fill(stage, bundle)
            if folder.exists():
                folder.rmdir()
            stage.replace(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
    return folder


def _fill(stage: Path, bundle: Bundle) -> None:
    (stage / "models").mkdir(parents=True)
    digits = len(str(len(bundle.models) - 1))
    entries: list[dict[str, Any]] = []
    files: dict[str, str] = {}
    for number, item in enumerate(bundle.models):
        graph = digest(item.model)
        # Networks with the same graph have the same latency: only one of them is measured.
        file = files.setdefault(graph, f"models/{number:0{digits}}.onnx")
        if not (stage / file).exists():
            (stage / file).write_bytes(item.model)
        entry: dict[str, Any] = {"name": item.name, "file": file, "graph": graph}
        if item.architecture is not None:
            entry["architecture"] = dict(item.architecture)
        entries.append(entry)
    (stage / CONTROL).write_bytes(control_model())
    (stage / PACKAGE).mkdir()
    (stage / PACKAGE / "__init__.py").touch()
    for module in (engine, measurement_rounds):
        assert module.__file__ is not None
        shutil.copy(module.__file__, stage / PACKAGE)
    shutil.copyfile(runner.__file__, stage / RUNNER)
    options = bundle.options.as_dict()
    identity = hashlib.sha256(
        json.dumps([entries, options["batch"], measurement_rounds.METHOD], sort_keys=True).encode()
    )
    manifest = {
        "version": VERSION,
        "bundle": identity.hexdigest(),
        "method": measurement_rounds.METHOD,
        "seed": bundle.seed,
        "options": options,
        "control": CONTROL,
        "space": None if bundle.space is None else dict(bundle.space),
        "models": [{"file": file} for file in dict.fromkeys(entry["file"] for entry in entries)],
        "networks": entries,
    }
    (stage / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
