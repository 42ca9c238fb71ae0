"""``automl-nas cost``: what networks cost, before anything is trained."""

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
    from automl_nas.run.plan import Plan


@click.command(short_help="Show what an architecture and the extremes of a space cost.")
@click.argument("config", type=click.Path(path_type=Path))
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
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting, e.g. space.num_classes=100."
)
@json_option
@debug_option
def cost(config: Path, wanted: str | None, by_layer: bool, overrides: tuple[str, ...], as_json: bool) -> None:
    """Show every cost of an architecture, and of the smallest and the largest one, of the space in the file CONFIG.

    Costs are those of the network that is delivered. Nothing is trained.
    """
    from automl_nas.cli.costs import account

    registry = working_plugins().registry
    given = Configuration.read(config, overrides)
    with quiet_libraries():
        try:
            plan, problem = _plan(given.value, registry)
            found = account(plan, wanted or ("largest" if by_layer else None), by_layer=by_layer)
        except ConfigurationError as error:
            raise given.locate(error) from error
    if problem:
        click.echo(f"warning: {problem}", err=True)
    click.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False) if as_json else "\n".join(found.as_text()))


def _plan(raw: Mapping[str, Any], registry: Registry) -> tuple[Plan, str]:
    """Resolve a configuration; if its constraints cannot be met, without them, and the second value says why."""
    from automl_nas.run.plan import make_plan

    try:
        return make_plan(raw, registry), ""
    except InfeasibleError as error:
        free = copy.deepcopy(dict(raw))
        for section in (free, *(free.get("stages") or [])):
            if section.get("problem"):
                section["problem"].pop("constraints", None)
        return make_plan(free, registry), str(error)
