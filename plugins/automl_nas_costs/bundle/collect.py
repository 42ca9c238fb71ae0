"""Reading the results of a bundle as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl_nas.errors import DataError, UserError
from automl_nas.evaluation import Measurement
from automl_nas_costs.bundle.write import MANIFEST, VERSION
from automl_nas_costs.json_file import write_json
from automl_nas_costs.latency.measurement_rounds import DRIFT_LIMIT, METHOD

RESULTS = "results.json"


@dataclass(frozen=True)
class CollectedNetwork:
    """A network that was in a bundle.

    Attributes:
        name: of the network.
        architecture: in its space; None for a network that is not of a space.
        measurement: None if the device could not run the network.
        reason: why the device could not run it; empty if it could.
    """

    name: str
    architecture: Mapping[str, Any] | None
    measurement: Measurement | None
    reason: str


@dataclass(frozen=True)
class Collection:
    """The results of a bundle.

    Attributes:
        networks: in the order of the bundle.
        space: the configuration of their space; None for networks that are not of a space.
        options: of the measurement.
        environment: processor, version and provider of the device.
        notes: for users of the values.
    """

    networks: Sequence[CollectedNetwork]
    space: Mapping[str, Any] | None
    options: Mapping[str, Any]
    environment: Mapping[str, Any]
    notes: Sequence[str]

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each measured network: ``architecture`` or ``name``, ``value``, ``low``, ``high`` in ms."""
        rows = []
        for item in self.networks:
            if item.measurement is not None:
                named = {"name": item.name} if item.architecture is None else {"architecture": dict(item.architecture)}
                m = item.measurement
                rows.append({**named, "value": m.value, "low": m.low, "high": m.high})
        return rows


def collect(folder: Path, results: Path | None = None) -> Collection:
    """Read the results that a bundle's runner wrote.

    Args:
        folder: the bundle.
        results: the file of results; ``results.json`` in the bundle by default.

    Raises:
        DataError: a file is missing or damaged, or the results are of another bundle.
    """
    manifest = _read(folder / MANIFEST, f"{folder} is not a bundle")
    path = results or folder / RESULTS
    content = _read(path, "run `python run.py` in the bundle on the device, and copy its results.json back")
    try:
        if manifest["version"] != VERSION or manifest["method"] != METHOD:
            raise DataError(f"{folder} was written by another version of this package, with another method")
        if content["bundle"] != manifest["bundle"]:
            raise DataError(f"{path} holds the results of another bundle than {folder}")
        return _joined(manifest, content)
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path} or {folder / MANIFEST} is damaged: {type(error).__name__}: {error}") from error


def _joined(manifest: Mapping[str, Any], results: Mapping[str, Any]) -> Collection:
    sessions = results["sessions"]
    networks = []
    for entry in manifest["networks"]:
        result = results["models"].get(entry["file"], {"error": "the runner has no result for it"})
        measurement = None
        if "value" in result:
            session = sessions[result["session"]]
            details = {
                "rounds": result["rounds"],
                "options": results["options"],
                "environment": session["environment"],
                "control": {name: session["control"][name] for name in ("value", "drift")},
                "notes": [],
            }
            measurement = Measurement(result["value"], result["low"], result["high"], result["confidence"], details)
        networks.append(
            CollectedNetwork(entry["name"], entry.get("architecture"), measurement, str(result.get("error", "")))
        )
    notes = [
        f"session {number}: the device was not steady, the control moved by {100 * session['control']['drift']:.0f} % "
        f"(more than {100 * DRIFT_LIMIT:.0f} %)"
        for number, session in enumerate(sessions)
        if not session["steady"]
    ]
    controls = [session["control"]["value"] for session in sessions]
    if controls and max(controls) > (1 + DRIFT_LIMIT) * min(controls):
        notes.append(
            f"the control differs between sessions, from {min(controls):.4g} to {max(controls):.4g} ms: values of "
            "different sessions can only be compared to that accuracy; measure with a larger --at-once"
        )
    notes += [f"{item.name} could not be measured: {item.reason}" for item in networks if item.reason]
    environment = sessions[0]["environment"] if sessions else {}
    return Collection(networks, manifest["space"], results["options"], environment, notes)


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write a table as JSON, completely or not at all; `cost_predictor` reads it with ``file: {path: ...}``.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        write_json(path, list(rows))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _read(path: Path, hint: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"the file {path} does not exist; {hint}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
