"""``automl-nas export``: the network of a complete run in more formats."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli.common import debug_option, working_plugins
from automl_nas.cli.logs import quiet_libraries
from automl_nas.errors import RunDirectoryError

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
@click.option("--force", is_flag=True, help="Replace files that exist and differ.")
@debug_option
def export(directory: Path, formats: tuple[str, ...], out: Path | None, force: bool) -> None:
    """Export the trained network that the complete run in DIR delivered."""
    from automl_nas.run.api import open_run
    from automl_nas.run.record.yaml import parse_yaml

    registry = working_plugins().registry
    wanted = [
        registry.resolve("exporters", parse_yaml(text, f"--format {text}").value, path="--format")
        for text in formats or registry.names("exporters")
    ]
    with quiet_libraries():
        for path in _export(open_run(directory), wanted, out or directory / "export", force):
            click.echo(path)


def _export(result: Result, wanted: list[dict[str, Any]], folder: Path, force: bool) -> list[Path]:
    """Write a network in several formats into a folder; nothing in it is replaced unless it is the same, or forced."""
    from automl_nas.evaluation.exporter import Delivery
    from automl_nas.run.final.assembly import describe
    from automl_nas.run.record.atomic_files import disk_errors
    from automl_nas.space.architecture import Architecture
    from automl_nas.streams import stream_seed

    plan = result.plan
    network = result.load_trained()  # raises if the run trained none
    record = result.data["final"]["networks"][result.data["final"]["chosen"]]
    measured = {key: record[key] for key in ("costs", "test", "test_interval")}
    description = describe(plan, measured, record.get("space"))
    delivery = Delivery(network, Architecture(record["architecture"]), plan.final_space.input_shape, description)
    exporters = [
        plan.components.construct("exporters", spec, plan.collaborators(), stream_seed(plan.seed, "final"), "--format")
        for spec in wanted
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"cannot make the folder {folder}: {error.strerror}") from error
    # Beside their places first: an exporter replaces what is there, and only whole files move.
    with disk_errors(folder), tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as temporary:
        made = [path for exporter in exporters for path in exporter.export(delivery, Path(temporary))]
        places = {path: folder / path.relative_to(temporary) for path in dict.fromkeys(made)}
        differing = [
            str(place) for path, place in places.items() if place.exists() and place.read_bytes() != path.read_bytes()
        ]
        if differing and not force:
            raise RunDirectoryError(f"would replace {', '.join(differing)}; give another --out, or --force to replace")
        for path, place in places.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
    return list(places.values())
