"""Mirroring a run after it has finished, or once while nobody works on it."""

from __future__ import annotations

from pathlib import Path

from automl_nas.errors import RunDirectoryError
from automl_nas.run import RunDirectory
from automl_nas_optuna.mirror.mirror import Mirror
from automl_nas_optuna.mirror.run_description import FILE_NAME, RunDescription


def mirror_once(directory: Path, storage: str, study: str | None) -> tuple[int, list[str]]:
    """Copy the trials of a run that a storage lacks.

    Args:
        directory: the run directory.
        storage: see `open_storage`.
        study: the first part of the studies' names; None: the name of the run directory.

    Returns:
        The number of copied trials, and the names of the studies.

    Raises:
        RunDirectoryError: the directory is not a run directory, or a process that works on the run already mirrors it.
        ConfigurationError: a study with this name belongs to another run.
        StorageError: the storage cannot be reached.
    """
    run = RunDirectory.open(directory)
    config = run.read_config()
    if run.locked and any(item.get("name") == "optuna" for item in config.get("observers", ())):
        raise RunDirectoryError(f"the process that works on {directory} already mirrors it; wait until it ends")
    mirror = Mirror(directory, _describe(run), storage, study or directory.resolve().name)
    try:
        mirror.check()
        while mirror.copy():
            pass
        return mirror.copied, mirror.names
    finally:
        mirror.close()


def _describe(run: RunDirectory) -> RunDescription:
    if (run.path / FILE_NAME).exists():
        return RunDescription.read(run.path)
    from automl_nas.plugin import consent
    from automl_nas.run import complete_manager, make_plan, run_info

    with consent(run.path, trust=False):
        plan = make_plan(run.read_config(), complete_manager().registry, checked=True)
    return RunDescription.of(run.path, run_info(run.path, plan, resumed=True).objectives, plan.space)
