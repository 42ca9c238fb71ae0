"""Mirroring a run afterwards."""

from __future__ import annotations

from pathlib import Path

from automl_nas.errors import RunDirectoryError
from automl_nas.run import RunDirectory
from automl_nas_optuna.mirror import Mirror
from automl_nas_optuna.run_description import NAME, RunDescription


def catch_up(directory: Path, storage: str, study: str | None) -> tuple[int, list[str]]:
    """Copy what a storage lacks of a run's trials.

    Args:
        directory: of the run.
        storage: see `open_storage`.
        study: the first part of the studies' names; None: the name of the run directory.

    Returns:
        The number of trials that were copied, and the names of the studies.

    Raises:
        RunDirectoryError: it is no run, or a process works on it that mirrors it itself.
        ConfigurationError: a study of the name belongs to another run.
        StorageError: the storage cannot be reached.
    """
    run = RunDirectory.open(directory)
    config = run.read_config()
    if run.locked and any(item.get("name") == "optuna" for item in config.get("observers", ())):
        raise RunDirectoryError(f"{directory} is being worked on, and mirrored by who does; wait for it")
    mirror = Mirror(directory, _portrait(run), storage, study or directory.resolve().name)
    try:
        mirror.check()
        while mirror.copy():
            pass
        return mirror.copied, mirror.names
    finally:
        mirror.close()


def _portrait(run: RunDirectory) -> RunDescription:
    if (run.path / NAME).exists():
        return RunDescription.read(run.path)
    from automl_nas.run import complete_manager, make_plan, run_info

    plan = make_plan(run.read_config(), complete_manager().registry, checked=True)
    return RunDescription.of(run.path, run_info(run.path, plan, resumed=True).objectives, plan.space)
