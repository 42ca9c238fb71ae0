"""Exporting the delivered network of a complete run to any folder, without replacing files of others."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from automl_nas.errors import RunDirectoryError, RunFailedError
from automl_nas.evaluation.exporter import Delivery
from automl_nas.run.final.delivery import make_formats
from automl_nas.run.parts import RunParts
from automl_nas.run.record.atomic_files import CannotWriteError, disk_errors
from automl_nas.streams import stream_seed


def export_delivery(
    delivery: Delivery,
    parts: RunParts,
    specs: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    path: str,
    replace: bool,
    way_out: str,
) -> tuple[list[Path], list[str]]:
    """Write the delivered network in several formats.

    Args:
        delivery: the network with its description.
        parts: of the run.
        specs: resolved specifications of exporters.
        folder: to write to; it is made if it does not exist.
        path: of the list of formats, for messages: an argument, or an option of the command line.
        replace: whether files that exist and differ are replaced.
        way_out: the end of the message if files exist and differ.

    Returns:
        The files, and the errors of formats that cannot hold the network: they do not keep others from being written.

    Raises:
        RunDirectoryError: the folder cannot be created, or it has files that differ.
    """
    seed = stream_seed(parts.config["seed"], "final")
    formats = make_formats(parts.components, specs, parts.exporter_collaborators(), seed, path)
    failures: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"cannot make the folder {folder}: {error.strerror}") from error
    # Exporters replace existing files. So they write to a temporary folder, from which complete files are moved.
    with disk_errors(folder), tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
        written: list[Path] = []
        for item in formats:
            try:
                written += item.export(delivery, Path(temporary))
            except CannotWriteError:
                raise
            except RunFailedError as error:
                failures.append(str(error))
        targets = {file: folder / file.relative_to(temporary) for file in dict.fromkeys(written)}
        differing = [
            str(target)
            for file, target in targets.items()
            if target.exists() and target.read_bytes() != file.read_bytes()
        ]
        if differing and not replace:
            raise RunDirectoryError(f"the export would replace {', '.join(differing)}; {way_out}")
        for file, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    return list(targets.values()), failures
