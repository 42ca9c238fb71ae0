"""``automl-nas cost``: what networks cost, before anything is trained.

A target that is no configuration goes to the command `OF_A_NETWORK`, which a plugin may add: the core knows no library
of networks and no file format of theirs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli.common import debug_option, json_option, working_plugins
from automl_nas.cli.logs import quiet_libraries
from automl_nas.cli.overrides import Configuration
from automl_nas.errors import ConfigurationError, InfeasibleError

if TYPE_CHECKING:
    from automl_nas.plugin.registry import Registry
    from automl_nas.run.configuration.plan import Plan


OF_A_NETWORK = "network-cost"
"""The plugin's command that takes over; its arguments are ``target`` and options of the same names as here."""


@click.command(short_help="Show what an architecture, the extremes of a space, or a network cost.")
@click.argument("target")
@click.option(
    "--architecture",
    "wanted",
    metavar="JSON|@FILE|CODES",
    help="A JSON object of decisions, a file that holds one (architecture.json, say), the numbers of the options in "
    "the order of the decisions (2,1,0,3), or: smallest, largest.",
)
@click.option(
    "--by-layer",
    is_flag=True,
    help="Show the cost of each module (of the largest network, if no --architecture is given).",
)
@click.option("--latency", is_flag=True, help="Measure the latency too, which takes seconds for each network.")
@click.option("--input-shape", metavar="C,H,W", help="The shape of one input; only for a PyTorch network.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting, e.g. space.num_classes=100."
)
@json_option
@debug_option
@click.pass_context
def cost(
    ctx: click.Context,
    target: str,
    wanted: str | None,
    by_layer: bool,
    latency: bool,
    input_shape: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show every cost of an architecture, and of the smallest and the largest one, of the space in the file TARGET.

    Costs are those of the network that is delivered. Nothing is trained. TARGET may also be a network: a model of
    torchvision by name, package.module:Class, or an ONNX file.
    """
    from automl_nas.cli.costs import account

    if not _is_configuration(target):
        if wanted is not None:
            raise click.UsageError("--architecture needs a configuration, which has a space")
        ctx.invoke(
            _command_of_a_network(ctx),
            target=target,
            input_shape=input_shape,
            latency=latency,
            by_layer=by_layer,
            overrides=overrides,
            as_json=as_json,
        )
        return
    if input_shape is not None:
        raise click.UsageError("--input-shape is for a PyTorch network; use --set space.input_shape=[3,32,32]")
    registry = working_plugins().registry
    given = Configuration.read(Path(target), overrides)
    with quiet_libraries():
        try:
            plan, problem = _plan(given.value, registry)
            asked = wanted or ("largest" if by_layer or latency else None)
            found = account(plan, asked, by_layer=by_layer, latency=latency)
        except ConfigurationError as error:
            raise given.locate(error) from error
    if problem:
        click.echo(f"warning: {problem}", err=True)
    click.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False) if as_json else "\n".join(found.as_text()))


def _is_configuration(target: str) -> bool:
    path = Path(target)
    return path.suffix in (".yaml", ".yml", ".json") or (path.is_file() and path.suffix != ".onnx")


def _command_of_a_network(ctx: click.Context) -> click.Command:
    group = ctx.parent.command if ctx.parent is not None else None
    found = group.get_command(ctx.parent, OF_A_NETWORK) if isinstance(group, click.Group) and ctx.parent else None
    if found is None:
        raise ConfigurationError(
            f"'{ctx.params['target']}' is no configuration file, and no plugin that works knows the costs of single "
            "networks; see: automl-nas plugins"
        )
    return found


def _plan(raw: Mapping[str, Any], registry: Registry) -> tuple[Plan, str]:
    """Resolve a configuration; if its constraints cannot be met, without them, and the second value says why."""
    from automl_nas.run.configuration.resolver import make_plan

    try:
        return make_plan(raw, registry), ""
    except InfeasibleError as error:
        free = copy.deepcopy(dict(raw))
        for section in (free, *(free.get("stages") or [])):
            if section.get("problem"):
                section["problem"].pop("constraints", None)
        return make_plan(free, registry), str(error)
