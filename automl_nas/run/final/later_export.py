"""Exporting the delivered network of a complete run to any folder, without replacing files of others."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from automl_nas.errors import RunDirectoryError, RunFailedError
from automl_nas.evaluation.exporter import Delivery
from automl_nas.run.final.delivery import make_formats, move_files
from automl_nas.run.parts import RunParts
from automl_nas.run.record.atomic_files import ELSEWHERE, CannotWriteError, disk_errors
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
    named: bool = True,
) -> tuple[list[Path], list[str]]:
    """Write the delivered network in several formats.

    Args:
        delivery: the network with its description.
        parts: of the run.
        specs: resolved specifications of exporters.
        folder: to write to; it is made if it does not exist.
        path: of the list of formats, for messages: an argument, or an option of the command line.
        replace: whether exporters replace their older files, a package as a whole.
        way_out: the end of the message if files exist and differ.
        named: whether the user named the formats. If not, those that add nothing for this network are left out, with a
            note in ``delivery``.

    Returns:
        The files, and the errors of formats that cannot hold the network: they do not keep others from being written.

    Raises:
        RunDirectoryError: the folder cannot be created, or it has files that differ or would be left.
        CannotWriteError: the disk is full.
    """
    seed = stream_seed(parts.config["seed"], "final")
    formats = make_formats(parts.components, specs, parts.exporter_collaborators(), seed, path)
    failures: list[str] = []
    # Exporters replace existing files. Without consent they write to a temporary folder, from which files are moved.
    with (
        _folder(folder),
        disk_errors(folder, ELSEWHERE),
        tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary,
    ):
        place = folder if replace else Path(temporary)
        written: list[Path] = []
        for item in formats:
            if not named and (reason := item.exporter.adds_nothing(delivery.network)) is not None:
                delivery.notes.append(f"the format '{item.name}' was left out: {reason}")
                continue
            try:
                files = item.export(delivery, place, replace=replace)
            except CannotWriteError:
                raise
            except RunFailedError as error:
                failures.append(str(error))
                continue
            if again := [path for path in files if path in written]:
                names = ", ".join(str(path.relative_to(place)) for path in again)
                failures.append(
                    f"{item.path}: {item.description}: it replaced {names}, which another format of this export had "
                    "written; write the two to different folders"
                )
            written += [path for path in files if path not in again]
        if not replace:
            check_kept(place, folder, way_out)
            written = move_files(written, place, folder)
    return written, failures


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[None]:
    """Make a folder; at the end, remove those that were missing and are still empty."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"cannot make the folder {folder}: {error.strerror}") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # it has files
            for path in missing:
                path.rmdir()


def check_kept(new: Path, folder: Path, way_out: str) -> None:
    """Raise an error if files of a folder would be replaced by others, or would be left in a folder of new files.

    Args:
        new: complete files and folders.
        folder: to which they are to be moved.
        way_out: the end of the message.
    """
    replaced, left = [], []
    for entry in sorted(new.iterdir()):
        target = folder / entry.name
        for path in sorted(entry.rglob("*")) if entry.is_dir() else [entry]:
            other = folder / path.relative_to(new)
            if path.is_file() and other.exists() and not (other.is_file() and other.read_bytes() == path.read_bytes()):
                replaced.append(str(other))
        if entry.is_dir() and target.is_dir():
            present = {path.relative_to(target) for path in target.rglob("*") if "__pycache__" not in path.parts}
            left += [str(target / path) for path in sorted(present) if not (entry / path).exists()]
    if replaced or left:
        texts = [f"replace {', '.join(replaced)}"] if replaced else []
        texts += [f"leave files of another network in it: {', '.join(left)}"] if left else []
        raise RunDirectoryError(f"the export would {' and '.join(texts)}; {way_out}")
