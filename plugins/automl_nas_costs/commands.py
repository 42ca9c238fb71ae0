"""The commands `network-cost`, `bundle` and `collect`, which import their modules when they are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from automl_nas.cli import debug_option, json_option, quiet_libraries, working_plugins


@click.command(name="network-cost", short_help="Show the costs of one network: `automl-nas cost` for networks.")
@click.argument("target")
@click.option(
    "--input-shape", metavar="C,H,W", help="The shape of one input without the batch, e.g. 3,224,224 (PyTorch only)."
)
@click.option("--latency", is_flag=True, help="Measure the latency in ONNX Runtime, too, which takes seconds.")
@click.option("--by-layer", is_flag=True, help="Show the cost of each module (of each node of an ONNX file).")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of a cost, e.g. latency_ms.threads=2 or flops.convention=flops, or an argument of the network's "
    "class: network.width=0.5.",
)
@json_option
@debug_option
def network_cost(
    target: str, input_shape: str | None, latency: bool, by_layer: bool, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Show the costs of the network TARGET: a model of torchvision, package.module:Class, or an ONNX file.

    `automl-nas cost` does the same for every target that is not a configuration.
    """
    from automl_nas_costs.network.cost_report import CostRequest, costs_of_file, costs_of_module
    from automl_nas_costs.network.locate_network import find_network

    settings = _settings(overrides)
    arguments = settings.pop("network", {})
    registry = working_plugins().registry
    shape = _shape(input_shape)
    request = CostRequest(settings, latency, by_layer)
    with quiet_libraries():
        if target.endswith(".onnx"):
            report = costs_of_file(Path(target), registry, request)
        else:
            network = find_network(target, arguments, shape)
            report = costs_of_module(network, registry, request)
    click.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False) if as_json else "\n".join(report.as_text()))


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise click.BadParameter(f"'{text}' is not a shape; write 3,224,224", param_hint="--input-shape") from None


def _settings(overrides: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    from automl_nas.cli import Override
    from automl_nas.errors import ConfigurationError

    settings: dict[str, dict[str, Any]] = {}
    for text in overrides:
        override = Override.parse(text)
        if len(override.parts) != 2:
            raise ConfigurationError("write COST.SETTING=VALUE, such as latency_ms.threads=2", source=override.option)
        settings.setdefault(override.parts[0], {})[override.parts[1]] = override.value
    return settings


@click.command(short_help="Write a folder that measures latencies on another device.")
@click.argument("targets", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder; new or empty.")
@click.option("--samples", type=click.IntRange(min=0), help="Random architectures of a configuration (100).")
@click.option(
    "--architecture",
    "architectures",
    multiple=True,
    metavar="JSON|@FILE|CODES",
    help="An architecture of a configuration.",
)
@click.option("--input-shape", metavar="C,H,W", help="The shape of one input of PyTorch networks.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="latency_ms.SETTING=VALUE, e.g. latency_ms.threads=4; or a setting of the configuration.",
)
@debug_option
def bundle(
    targets: tuple[str, ...],
    out: Path,
    samples: int | None,
    architectures: tuple[str, ...],
    input_shape: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Write a folder that measures TARGETS on another device: one configuration, or any number of networks.

    There, `python run.py` needs only Python 3.9, numpy and onnxruntime; it writes results.json, which `automl-nas
    collect` converts to a table. A network is a model of torchvision, package.module:Class, or an ONNX file.
    """
    from automl_nas_costs.bundle.gather import of_configuration, of_networks
    from automl_nas_costs.bundle.write import write_bundle

    own = [text for text in overrides if text.partition(".")[0].strip() in ("latency_ms", "network")]
    with quiet_libraries():
        if any(Path(target).suffix in (".yaml", ".yml") for target in targets):
            if len(targets) > 1:
                raise click.UsageError("name one configuration, or networks")
            rest = [text for text in overrides if text not in own]
            content = of_configuration(
                Path(targets[0]), working_plugins().registry, rest, _settings(tuple(own)), samples, architectures
            )
        else:
            if architectures or samples is not None:
                raise click.UsageError("--samples and --architecture need a configuration, which has a space")
            content = of_networks(targets, _shape(input_shape), _settings(overrides))
        write_bundle(content, out)
    click.echo(f"{len(content.models)} networks in {out}; run there: python run.py")


@click.command(short_help="Convert the results of a bundle to a table.")
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--results", type=click.Path(path_type=Path), help="The file of results (default: BUNDLE/results.json).")
@click.option("--out", type=click.Path(path_type=Path), help="Write the table here: JSON, a row for each network.")
@json_option
@debug_option
def collect(folder: Path, results: Path | None, out: Path | None, as_json: bool) -> None:
    """Read the results of `python run.py` in the folder BUNDLE, show them, and write them as a table.

    The table of a configuration's architectures can be used as a cost: {name: cost_predictor, file: {path: TABLE}}.
    """
    from automl_nas.cli import table
    from automl_nas_costs.bundle.collect import collect as read, write_rows

    collection = read(folder, results)
    rows = collection.rows()
    if out is not None:
        write_rows(rows, out)
    if as_json:
        shown = {
            "networks": rows,
            "space": collection.space,
            "options": dict(collection.options),
            "environment": dict(collection.environment),
            "notes": list(collection.notes),
        }
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    measured = [(item.name, item.measurement) for item in collection.networks if item.measurement is not None]
    lines = [[name, f"{m.value:.4g}", f"{m.low:.4g} to {m.high:.4g}"] for name, m in measured]
    where = collection.environment.get("processor", "nowhere"), collection.environment.get("runtime", "")
    click.echo("\n".join([f"device: {where[0]}, {where[1]}", "", *table(["network", "ms", "interval"], lines)]))
    for note in collection.notes:
        click.echo(f"note: {note}", err=True)
    if out is not None:
        click.echo(f"\n{len(rows)} rows in {out}")
