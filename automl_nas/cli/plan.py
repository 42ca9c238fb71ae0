"""``automl-nas plan``."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from automl_nas.cli.common import debug_option, json_option, working_plugins
from automl_nas.cli.logs import quiet_libraries
from automl_nas.cli.overrides import Configuration
from automl_nas.cli.text import table
from automl_nas.errors import ConfigurationError
from automl_nas.run.number_text import duration, exact

if TYPE_CHECKING:
    from automl_nas.run.estimate.estimate import RunEstimate
    from automl_nas.run.estimate.feasibility import Feasibility


@click.command(short_help="Show how long a run will take, its memory, and how much of the space is feasible.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, e.g. stages.search.budget.trials=10.",
)
@click.option("--resolved", is_flag=True, help="Also print the configuration with all defaults.")
@json_option
@debug_option
def plan(config: Path, overrides: tuple[str, ...], resolved: bool, as_json: bool) -> None:
    """Show what the run of the YAML file CONFIG will take, without doing it.

    The first steps of each stage are done in a temporary directory, to measure their speed; the estimates hold for
    this machine as it is now. CONFIG is checked as by `automl-nas run`.
    """
    from automl_nas.run.estimate.budget import share_out
    from automl_nas.run.estimate.estimate import estimate_plan

    configuration = Configuration.read(config, overrides)
    registry = working_plugins().registry
    with quiet_libraries():
        from automl_nas.run.configuration.resolver import make_plan

        begun = time.perf_counter()
        try:
            resolved_plan = make_plan(configuration.value, registry)
            estimate = estimate_plan(resolved_plan, message=lambda text: click.echo(text, err=True))
            if not as_json:
                for line in estimate_text(estimate, resolved=resolved):
                    click.echo(line)
            budget = resolved_plan.config.get("budget")
            shares = None
            if budget is not None and budget["shortened"] is None:
                shares = share_out(resolved_plan, estimate, budget["minutes"], time.perf_counter() - begun)
        except ConfigurationError as error:
            raise configuration.locate(error) from error
    if as_json:
        shared = None if shares is None else {"shortened": shares.to_record(), "seconds": dict(shares.stages)}
        click.echo(json.dumps({**estimate.to_json(), "budget": shared}, indent=2, ensure_ascii=False))
    elif shares is not None:
        click.echo("\n" + "\n".join(shares.lines()))


def estimate_text(estimate: RunEstimate, *, resolved: bool = False) -> list[str]:
    """Return an estimate as lines of text.

    Args:
        estimate: of a run.
        resolved: whether the resolved configuration comes first.
    """
    from automl_nas.run.record.yaml import dump_yaml

    lines = [*dump_yaml(estimate.config).splitlines(), ""] if resolved else []
    lines.append(
        f"space: {estimate.config['space']['name']}, {estimate.decisions} decisions, {whole(estimate.size)} "
        "architectures"
    )
    for part in estimate.feasibilities:
        lines += _feasibility(part, named=len(estimate.feasibilities) > 1)
    rows = [["(checks)", "", "", "", duration(estimate.preparation)]]
    for stage in estimate.stages:
        work = "unknown" if stage.work is None else f"{exact(stage.work)} {stage.unit}"
        pace = "" if stage.pace is None else f"{stage.pace * 1000:,.4g} ms"
        seconds = "unknown" if stage.seconds is None else duration(stage.seconds)
        rows.append([stage.name, work if stage.unit else "", pace, f"{exact(stage.measured)}", seconds])
    total = "unknown" if estimate.seconds is None else duration(estimate.seconds)
    rows.append(["total", "", "", "", total])
    lines += ["", *table(["stage", "work", "each", "measured on", "estimate"], rows)]
    if estimate.seconds is None:
        lines.append("unknown: the strategy does not say how much it will do; set a budget for the stage")
    if estimate.memory is not None:
        lines += ["", f"memory: {estimate.memory / 2**20:,.0f} MiB of the process"]
        if estimate.device_memory is not None:
            lines.append(f"memory of {estimate.device}: {estimate.device_memory / 2**20:,.0f} MiB of tensors")
    return lines


def _feasibility(part: Feasibility, *, named: bool) -> list[str]:
    lines = []
    title = f"feasible in stage '{part.stage}'" if named else "feasible"
    if part.limits:
        if part.count is not None:
            amount = f"{_percent(part.share)}, {whole(part.count)} architectures (exact)"
        else:
            low, high = part.interval
            amount = f"{_percent(part.share)} of {exact(part.samples)} drawn architectures"
            amount += f" [{_percent(low)}, {_percent(high)}]"
        lines.append(f"{title}: {amount}: {', '.join(part.limits)}")
    else:
        lines.append(f"{title}: all, since no cost has a limit")
    if part.omitted:
        lines.append(f"  not counted, since they are measured: {', '.join(part.omitted)}")
    rows = []
    for cost in part.costs:
        if cost.smallest is None or cost.largest is None:
            rows.append([cost.name, cost.unit, "", "", "not measured"])
        else:
            method = "exact" if cost.exact else "of drawn architectures"
            rows.append([cost.name, cost.unit, exact(cost.smallest), exact(cost.largest), method])
    return [*lines, *table(["cost", "unit", "smallest", "largest", ""], rows, left=2)] if rows else lines


def whole(count: int) -> str:
    """Return a whole number with all digits up to 15 digits, else as a power of ten."""
    return exact(count) if count < 10**15 else f"{Decimal(count):.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
