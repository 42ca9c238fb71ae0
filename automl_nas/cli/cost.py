"""``automl-nas cost``: the command. The costs are collected and printed by `automl_nas.cli.space_costs`.

If the target is not a configuration, the command `NETWORK_COST` is called, which a plugin may add: the core reads
neither libraries nor file formats of networks.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli.common import debug_option, json_option, trust_option, working_plugins
from automl_nas.cli.logs import quiet_libraries
from automl_nas.cli.overrides import Configuration
from automl_nas.errors import ConfigurationError, InfeasibleError

if TYPE_CHECKING:
    from automl_nas.plugin.registry import Registry
    from automl_nas.run.configuration.plan import Plan


NETWORK_COST = "network-cost"
"""The plugin command for single networks; its parameters are ``target`` and options with the same names as here."""


@click.command(short_help="Show the costs of an architecture, of the extremes of a space, or of a network.")
@click.argument("target")
@click.option(
    "--architecture",
    "architecture",
    metavar="JSON|@FILE|CODES",
    help="A JSON object of decisions, a file with one (e.g. architecture.json), the numbers of the options in the "
    "order of the decisions (e.g. 2,1,0,3), or: smallest, largest.",
)
@click.option(
    "--by-layer",
    is_flag=True,
    help="Show the cost of each module (of the largest network without --architecture).",
)
@click.option("--latency", is_flag=True, help="Also measure the latency, which takes seconds for each network.")
@click.option("--input-shape", metavar="C,H,W", help="The shape of one input, for a PyTorch network.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting, e.g. space.num_classes=100."
)
@json_option
@trust_option
@debug_option
@click.pass_context
def cost(
    ctx: click.Context,
    target: str,
    architecture: str | None,
    by_layer: bool,
    latency: bool,
    input_shape: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    trust: bool,
) -> None:
    """Show all costs of an architecture, and the smallest and largest costs, in the space of the configuration TARGET.

    The costs are those of the delivered network. Nothing is trained. TARGET may also be a network: the name of a
    torchvision model, package.module:Class, or an ONNX file.
    """
    from automl_nas.cli.space_costs import space_costs
    from automl_nas.plugin.references import consent

    if not _is_configuration(target):
        if architecture is not None:
            raise click.UsageError("--architecture needs a configuration with a space; TARGET is a network")
        ctx.invoke(
            _network_command(ctx),
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
    configuration = Configuration.read(Path(target), overrides)
    with quiet_libraries():
        try:
            with consent(Path(target).parent, trust=trust or not _is_in_run_directory(Path(target))):
                plan, infeasible = _plan(configuration.value, registry)
            default = "largest" if by_layer or latency else None
            report = space_costs(plan, architecture or default, by_layer=by_layer, latency=latency)
        except ConfigurationError as error:
            raise configuration.locate(error) from error
    if infeasible:
        click.echo(f"warning: {infeasible}", err=True)
    click.echo(json.dumps(report.as_json(), indent=2, ensure_ascii=False) if as_json else "\n".join(report.as_text()))


def _is_configuration(target: str) -> bool:
    path = Path(target)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # such as a name that is too long: reading it tells
        is_file = False
    return path.suffix in (".yaml", ".yml", ".json") or (is_file and path.suffix != ".onnx")


def _is_in_run_directory(config: Path) -> bool:
    """Whether a configuration is that of a run directory, which may come from somebody else."""
    from automl_nas.run.record.directory import RunDirectory

    directory = RunDirectory(config.parent)
    own = (directory.environment, directory.identity, directory.trials, directory.result)
    return config.name == directory.config.name and any(path.exists() for path in own)


def _network_command(ctx: click.Context) -> click.Command:
    group = ctx.parent.command if ctx.parent is not None else None
    command = group.get_command(ctx.parent, NETWORK_COST) if isinstance(group, click.Group) and ctx.parent else None
    if command is None:
        raise ConfigurationError(
            f"'{ctx.params['target']}' is not a configuration file (.yaml, .yml or .json), and the command for single "
            f"networks, {NETWORK_COST}, is not available; see: automl-nas plugins"
        )
    return command


def _plan(raw: Mapping[str, Any], registry: Registry) -> tuple[Plan, str]:
    """Return the plan of a configuration and an empty string.

    If its constraints cannot be met, return the plan without constraints, and the error message.
    """
    from automl_nas.run.configuration.resolver import make_plan

    try:
        return make_plan(raw, registry), ""
    except InfeasibleError as error:
        unconstrained = copy.deepcopy(dict(raw))
        for section in (unconstrained, *(unconstrained.get("stages") or [])):
            if section.get("problem"):
                section["problem"].pop("constraints", None)
        return make_plan(unconstrained, registry), str(error)
