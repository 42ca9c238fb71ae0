"""Compares what a run is with what it was when it began: its spaces and its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automl_nas.errors import ConfigurationError, RunDirectoryError
from automl_nas.evaluation.runtime import Runtime
from automl_nas.run.configuration.identity import describe_space, space_difference, weights_difference
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.repeatable_costs import costs_difference
from automl_nas.run.record.atomic_files import write_record
from automl_nas.run.record.directory import RunDirectory
from automl_nas.space.space import SearchSpace


def check_spaces(directory: RunDirectory, plan: Plan) -> None:
    """Check that search space, final space and cost models are those that the run began with.

    Nothing is compared in a run that an older version began.

    Raises:
        RunDirectoryError: they differ; the message names the first difference.
    """
    if (recorded := directory.read_identity()) is not None:
        compare_spaces(directory, recorded, plan)


def compare_spaces(directory: RunDirectory, recorded: Mapping[str, Any], plan: Plan) -> None:
    """Compare the spaces and costs of a recorded identity with those of a plan; see `check_spaces`."""
    for key, noun in (("space", "search space"), ("final_space", "final space")):
        before, now = recorded[key], plan.identity[key]
        if (before is None) != (now is None):
            before, now = before or recorded["space"], now or plan.identity["space"]
        if before is not None and (difference := space_difference(before, now) or weights_difference(before, now)):
            raise _another(directory, noun, difference)
    if difference := costs_difference(recorded.get("costs", {}), plan.identity.get("costs", {})):
        raise RunDirectoryError(
            f"{directory.path} was begun with another cost model: {difference}; restore the code, the library or the "
            "data that the cost depends on, or start a new run, since trials of both costs could not be compared"
        )


def check_space(directory: RunDirectory, space: SearchSpace, path: str) -> None:
    """Check that one space is the one that a run began with; see `check_spaces`.

    Args:
        directory: of the run.
        space: the space.
        path: ``space`` for the search space, ``final.space`` for the final space.

    Raises:
        RunDirectoryError: it is not; the message names the first difference.
    """
    recorded = directory.read_identity()
    if recorded is None:
        return
    before = (recorded["final_space"] if path == "final.space" else None) or recorded["space"]
    with Runtime(device="cpu").seeded(0, "identity"):  # building networks draws from the global generators
        now = describe_space(space, networks=before["modules"] is not None)
    if difference := space_difference(before, now):
        raise _another(directory, "final space" if path == "final.space" else "search space", difference)


def _another(directory: RunDirectory, noun: str, difference: str) -> RunDirectoryError:
    return RunDirectoryError(
        f"{directory.path} was begun with another {noun}: {difference}; pass the {noun} that it was begun with, or "
        "start a new run in another directory"
    )


def check_data(directory: RunDirectory, plan: Plan, *, changed: bool) -> None:
    """Check that the data of the tasks are those that the run began with; the run is locked.

    Args:
        directory: of the run.
        plan: of the run.
        changed: whether the user knows that the data changed; the present data are then recorded.

    Raises:
        RunDirectoryError: they differ.
    """
    if (recorded := directory.read_identity()) is not None:
        identity = compare_data(directory, recorded, plan, changed=changed)
        if identity is not recorded:
            write_record(directory.identity, identity)


def compare_data(
    directory: RunDirectory, recorded: Mapping[str, Any], plan: Plan, *, changed: bool
) -> Mapping[str, Any]:
    """Return a recorded identity, with the present data if they changed and the user knows it; see `check_data`."""
    _compare_files(directory, recorded, plan, changed=changed)
    names = [key for key in ("task", "final_task") if recorded[key] != plan.identity[key]]
    if names and not changed:
        raise RunDirectoryError(
            f"the data of the {names[0].replace('_', ' ')} changed since {directory.path} was begun (fingerprint "
            f"{_short(recorded[names[0]])}, now {_short(plan.identity[names[0]])}), so its trials could not be "
            "compared with new ones; restore the data, or start a new run. To continue all the same: "
            "changed_data=True in Python, --changed-data on the command line"
        )
    keys = [key for key in ("task", "final_task", "files") if key in recorded and key in plan.identity]
    present: dict[str, Any] = {key: plan.identity[key] for key in keys}
    if all(recorded[key] == present[key] for key in keys):
        return recorded
    earlier = [*recorded.get("earlier_data", ()), {key: recorded[key] for key in keys}]
    return {**recorded, **present, "earlier_data": earlier}


def _compare_files(directory: RunDirectory, recorded: Mapping[str, Any], plan: Plan, *, changed: bool) -> None:
    """Check that files of weights are those that a run began with; one that an older version began has none."""
    present = plan.identity.get("files", {})
    for file, before in recorded.get("files", {}).items():
        now = present.get(file, before)
        if now != before and not changed:
            what = "is missing" if now is None else f"changed (SHA-256 {_short(before)}, now {_short(now)})"
            raise RunDirectoryError(
                f"{directory.path} was begun with the weights {file}, and this file {what}; restore it, or start a new "
                "run. To continue all the same: changed_data=True in Python, --changed-data on the command line"
            )


def check_worker(identity: Mapping[str, Any], plan: Plan) -> None:
    """Check that a worker on another machine has the spaces, the cost models and the data of the run.

    Args:
        identity: the recorded identity of the run; empty: nothing is compared.
        plan: that the worker made from the configuration of the run.

    Raises:
        ConfigurationError: a space, a cost or the data of a task differ; the message names the first difference.
    """
    for key, noun in (("space", "search space"), ("final_space", "final space")):
        if not identity:
            return
        before, now = identity[key], plan.identity[key]
        if before is None or now is None:
            continue
        if difference := space_difference(before, now) or weights_difference(before, now):
            raise ConfigurationError(
                f"this worker has another {noun} than the run: {difference}; install the same version of what defines "
                "the space",
                path=key.replace("final_", "final."),
            )
    if difference := costs_difference(identity.get("costs", {}), plan.identity.get("costs", {})):
        raise ConfigurationError(
            f"this worker has another cost model than the run: {difference}; install the same version of what computes "
            "the cost, with the same data",
            path="problem.costs",
        )
    for key in ("task", "final_task"):
        if identity[key] != plan.identity[key]:
            raise ConfigurationError(
                f"this worker has other data than the run (fingerprint {_short(plan.identity[key])}, in the run "
                f"{_short(identity[key])}); copy the data of the run",
                path=key.replace("final_", "final."),
            )
    for file, before in identity.get("files", {}).items():
        now = plan.identity.get("files", {}).get(file)
        if now is not None and now != before:
            raise ConfigurationError(
                f"this worker has another file {file} than the run (SHA-256 {_short(now)}, in the run "
                f"{_short(before)}); copy the file of the run"
            )


def check_versions(recorded: Mapping[str, str], present: Mapping[str, str]) -> None:
    """Check that a worker on another machine has the plugins of the run.

    Args:
        recorded: distribution -> version in the process of the run; empty: nothing is compared.
        present: distribution -> version in the worker.

    Raises:
        ConfigurationError: a distribution of the run has another version or is not installed.
    """
    for name, version in recorded.items():
        if present.get(name) != version:
            has = f"version {present[name]}" if present.get(name) else "no such distribution"
            raise ConfigurationError(
                f"the run has version {version} of {name}, and this worker has {has}: pip install '{name}=={version}'"
            )


def _short(fingerprint: str | None) -> str:
    return "none" if fingerprint is None else fingerprint[:12]
