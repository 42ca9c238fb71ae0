"""The commands of this plugin; what they need is imported inside of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from automl_nas.cli import debug_option, json_option, quiet_libraries, working_plugins


@click.command(name="network-cost", short_help="Show what one network costs: `automl-nas cost` for networks.")
@click.argument("target")
@click.option(
    "--input-shape", metavar="C,H,W", help="The shape of one input without the batch, e.g. 3,224,224 (PyTorch only)."
)
@click.option("--latency", is_flag=True, help="Measure the latency in ONNX Runtime too, which takes seconds.")
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
    """Show what the network TARGET costs: a model of torchvision, package.module:Class, or an ONNX file.

    `automl-nas cost` does the same for everything that is no configuration.
    """
    from automl_nas_costs.network.cost_report import account_of_file, account_of_module
    from automl_nas_costs.network.locate_network import find_network

    settings = _settings(overrides)
    arguments = settings.pop("network", {})
    registry = working_plugins().registry
    shape = _shape(input_shape)
    with quiet_libraries():
        if target.endswith(".onnx"):
            found = account_of_file(Path(target), registry, settings, latency=latency, by_layer=by_layer)
        else:
            network = find_network(target, arguments, shape)
            found = account_of_module(network, registry, settings, latency=latency, by_layer=by_layer)
    click.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False) if as_json else "\n".join(found.as_text()))


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise click.BadParameter(f"'{text}' is no shape; write 3,224,224", param_hint="--input-shape") from None


def _settings(overrides: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    from automl_nas.cli import Override
    from automl_nas.errors import ConfigurationError

    found: dict[str, dict[str, Any]] = {}
    for text in overrides:
        override = Override.parse(text)
        if len(override.parts) != 2:
            raise ConfigurationError("write COST.SETTING=VALUE, such as latency_ms.threads=2", source=override.option)
        found.setdefault(override.parts[0], {})[override.parts[1]] = override.value
    return found


@click.command(short_help="Write a folder that measures latencies on another device.")
@click.argument("targets", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The folder; new or empty.")
@click.option("--samples", type=click.IntRange(min=0), help="Random architectures of a configuration (100).")
@click.option(
    "--architecture", "wanted", multiple=True, metavar="JSON|@FILE|CODES", help="An architecture of a configuration."
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
    wanted: tuple[str, ...],
    input_shape: str | None,
    overrides: tuple[str, ...],
) -> None:
    """Write a folder that measures TARGETS on another device: one configuration, or any number of networks.

    There, `python run.py` needs only Python 3.9, numpy and onnxruntime; it writes results.json, which `automl-nas
    collect` turns into a table. A network is a model of torchvision, package.module:Class, or an ONNX file.
    """
    from automl_nas_costs.bundle.gather import of_configuration, of_networks
    from automl_nas_costs.bundle.write import write_bundle

    own = [text for text in overrides if text.partition(".")[0].strip() in ("latency_ms", "network")]
    with quiet_libraries():
        if any(Path(target).suffix in (".yaml", ".yml") for target in targets):
            if len(targets) > 1:
                raise click.UsageError("give one configuration, or networks")
            rest = [text for text in overrides if text not in own]
            made = of_configuration(
                Path(targets[0]), working_plugins().registry, rest, _settings(tuple(own)), samples, wanted
            )
        else:
            if wanted or samples is not None:
                raise click.UsageError("--samples and --architecture need a configuration, which has a space")
            made = of_networks(targets, _shape(input_shape), _settings(overrides))
        write_bundle(made, out)
    click.echo(f"{len(made.models)} networks in {out}; run there: python run.py")


@click.command(short_help="Turn the results of a bundle into a table.")
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--results", type=click.Path(path_type=Path), help="The file of results (default: BUNDLE/results.json).")
@click.option("--out", type=click.Path(path_type=Path), help="Write the table here: JSON, a row for each network.")
@json_option
@debug_option
def collect(folder: Path, results: Path | None, out: Path | None, as_json: bool) -> None:
    """Read what `python run.py` measured in the folder BUNDLE, show it, and write it as a table.

    The table of a configuration's architectures serves as a cost: {name: cost_predictor, file: {path: TABLE}}.
    """
    from automl_nas.cli import table
    from automl_nas_costs.bundle.collect import collect as read, write_rows

    found = read(folder, results)
    rows = found.rows()
    if out is not None:
        write_rows(rows, out)
    if as_json:
        shown = {
            "networks": rows,
            "space": found.space,
            "options": dict(found.options),
            "environment": dict(found.environment),
            "notes": list(found.notes),
        }
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    measured = [(item.name, item.measurement) for item in found.networks if item.measurement is not None]
    lines = [[name, f"{m.value:.4g}", f"{m.low:.4g} to {m.high:.4g}"] for name, m in measured]
    where = found.environment.get("processor", "nowhere"), found.environment.get("runtime", "")
    click.echo("\n".join([f"device: {where[0]}, {where[1]}", "", *table(["network", "ms", "interval"], lines)]))
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    if out is not None:
        click.echo(f"\n{len(rows)} rows in {out}")
