"""``automl-nas export``: the network of a complete run in more formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from automl_nas.cli.common import debug_option, trust_option, working_plugins
from automl_nas.cli.logs import quiet_libraries
from automl_nas.cli.references import import_from_command_line
from automl_nas.cli.summary import conversion_lines
from automl_nas.errors import RunFailedError


@click.command(short_help="Export the network of a complete run in more formats.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    multiple=True,
    help="A format, or YAML: '{name: onnx, opset: 18}'. May be repeated. Default: all (see: automl-nas plugins) but "
    "those that add nothing for the network.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="The folder to write to (default: DIR/export)."
)
@click.option(
    "--network",
    type=click.IntRange(min=0),
    help="Another network of the final stage, by its number in `automl-nas show` (default: the delivered one).",
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
@click.option("--force", is_flag=True, help="Replace the files of an earlier export.")
@trust_option
@debug_option
def export(
    directory: Path,
    formats: tuple[str, ...],
    out: Path | None,
    network: int | None,
    space: str | None,
    task: str | None,
    force: bool,
    trust: bool,
) -> None:
    """Export the trained network that the complete run in DIR delivered."""
    from automl_nas.run.api import open_run
    from automl_nas.run.final.later_export import export_delivery
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
        delivery = result.delivery(network)
        paths, failures = export_delivery(
            delivery,
            result.parts,
            exporters,
            out or result.export_folder(network),
            path="--format",
            replace=force,
            way_out="use another --out, or --force to replace all of it",
            named=bool(formats),
        )
    for path in paths:
        click.echo(path)
    for note in delivery.notes:
        click.echo(f"note: {note}")
    for conversion in delivery.conversions:
        click.echo("\n".join(("", *conversion_lines(conversion))))
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
