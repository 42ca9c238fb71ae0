"""Requests and outcomes as JSON data, for executors whose workers run on other machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automl_nas.evaluation.evaluator import Outcome, Request, State
from automl_nas.run.record.json_values import to_json_values
from automl_nas.run.trials.pruning import read_earlier, serialize_earlier
from automl_nas.space.architecture import Architecture


def serialize_request(request: Request, stage: int) -> dict[str, Any]:
    """Return a request as JSON data, without its folder, which belongs to the machine that evaluates it.

    Args:
        request: of the run.
        stage: position of the stage in the run.
    """
    data = {
        "number": request.number,
        "stage": stage,
        "architecture": request.architecture.to_dict(),
        "seed": request.seed,
        "fidelity": request.fidelity,
    }
    if request.earlier is not None:
        data["earlier"] = serialize_earlier(request.earlier)
    return data


def read_request(data: Mapping[str, Any], scratch: Path | None) -> Request:
    """Return the request that `serialize_request` wrote.

    Args:
        data: the return value of `serialize_request`.
        scratch: the folder for intermediate files of this evaluation.
    """
    architecture = Architecture(data["architecture"])
    earlier = read_earlier(data["earlier"]) if "earlier" in data else None
    request = Request(data["number"], architecture, data["seed"], data["fidelity"], earlier=earlier)
    vars(request)["_scratch"] = scratch
    return request


def serialize_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON data; numbers that are not finite are null."""
    data: dict[str, Any] = to_json_values(
        {
            "metrics": {name: float(value) for name, value in outcome.metrics.items()},
            "state": outcome.state.value,
            "error": outcome.error,
            "seconds": outcome.seconds,
            "info": outcome.info,
            "worker": outcome.worker,
        }
    )
    return data


def read_outcome(number: int, data: Mapping[str, Any]) -> Outcome:
    """Return the outcome that `serialize_outcome` wrote.

    Args:
        number: of the trial.
        data: the return value of `serialize_outcome`.
    """
    metrics = {name: float("nan") if value is None else value for name, value in data["metrics"].items()}
    state, worker = State(data["state"]), data.get("worker", {})
    return Outcome(number, metrics, state, data["error"], data["seconds"], data["info"], worker)
