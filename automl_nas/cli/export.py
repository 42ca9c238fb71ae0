"""``automl-nas export``: the network of a complete run in more formats."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli.common import debug_option, trust_option, working_plugins
from automl_nas.cli.logs import quiet_libraries
from automl_nas.cli.references import import_from_command_line
from automl_nas.errors import RunDirectoryError, RunFailedError

if TYPE_CHECKING:
    from automl_nas.run.results import Result


@click.command(short_help="Export the network of a complete run in more formats.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    multiple=True,
    help="A format (default: all; see: automl-nas plugins), or YAML: '{name: onnx, opset: 18}'. May be repeated.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="The folder to write to (default: DIR/export)."
)
@click.option(
    "--space",
    metavar="MODULE:OBJECT",
    help="The space of a run whose space is a Python object, or a function that makes it; needs --trust.",
)
@click.option(
    "--task",
    metavar="MODULE:OBJECT",
    help="The same for the task; exporters trace the network with its samples.",
)
@click.option("--force", is_flag=True, help="Replace files that exist and differ.")
@trust_option
@debug_option
def export(
    directory: Path,
    formats: tuple[str, ...],
    out: Path | None,
    space: str | None,
    task: str | None,
    force: bool,
    trust: bool,
) -> None:
    """Export the trained network that the complete run in DIR delivered."""
    from automl_nas.run.api import open_run
    from automl_nas.run.record.yaml import parse_yaml

    registry = working_plugins().registry
    exporters = [
        registry.resolve("exporters", parse_yaml(text, f"--format {text}").value, path="--format")
        for text in formats or registry.names("exporters")
    ]
    with quiet_libraries():
        parts = {
            name: import_from_command_line(reference, f"--{name}", trust=trust)
            for name, reference in {"space": space, "task": task}.items()
            if reference is not None
        }
        result = open_run(directory, trust=trust, **_sections(directory, parts))
        paths, failures = _export(result, exporters, out or directory / "export", force)
    for path in paths:
        click.echo(path)
    if failures:
        raise RunFailedError("; ".join(failures))


def _sections(directory: Path, parts: Mapping[str, object]) -> dict[str, Any]:
    """Return sections of a configuration with the objects where the final stage of the run has them."""
    from automl_nas.run.record.directory import RunDirectory

    final = RunDirectory.open(directory).read_config().get("final") or {}
    inside = {name: part for name, part in parts.items() if name in final}
    return {
        **{name: part for name, part in parts.items() if name not in final},
        **({"final": inside} if inside else {}),
    }


def _export(result: Result, specs: list[dict[str, Any]], folder: Path, force: bool) -> tuple[list[Path], list[str]]:
    """Write the delivered network in several formats.

    Args:
        result: of a run with a final stage.
        specs: resolved specifications of exporters.
        folder: to write to.
        force: whether files that exist and differ are replaced.

    Returns:
        The files, and the errors of formats that cannot hold the network: they do not keep others from being written.

    Raises:
        RunDirectoryError: the folder cannot be created, or it has files that differ.
        RunFailedError: the run has no final stage.
    """
    from automl_nas.run.final.delivery import make_formats
    from automl_nas.run.record.atomic_files import CannotWriteError, disk_errors
    from automl_nas.streams import stream_seed

    delivery, parts = result.delivery(), result.parts
    seed = stream_seed(parts.config["seed"], "final")
    formats = make_formats(parts.components, specs, parts.exporter_collaborators(), seed, "--format")
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
        targets = {path: folder / path.relative_to(temporary) for path in dict.fromkeys(written)}
        differing = [
            str(target)
            for path, target in targets.items()
            if target.exists() and target.read_bytes() != path.read_bytes()
        ]
        if differing and not force:
            raise RunDirectoryError(
                f"the export would replace {', '.join(differing)}; use another --out, or --force to replace"
            )
        for path, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    return list(targets.values()), failures
