"""The commands of this plugin; what they need is imported inside of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from automl_nas.cli.common import debug_option, json_option, working_plugins
from automl_nas.cli.logs import quiet_libraries


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
    from automl_nas_costs.network.account import account_of_file, account_of_module
    from automl_nas_costs.network.find import find_network

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
    from automl_nas.cli.overrides import Override
    from automl_nas.errors import ConfigurationError

    found: dict[str, dict[str, Any]] = {}
    for text in overrides:
        override = Override.parse(text)
        if len(override.parts) != 2:
            raise ConfigurationError("write COST.SETTING=VALUE, such as latency_ms.threads=2", source=override.option)
        found.setdefault(override.parts[0], {})[override.parts[1]] = override.value
    return found
