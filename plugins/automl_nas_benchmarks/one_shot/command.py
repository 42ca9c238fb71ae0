"""``automl-nas compare-one-shot``: compare one-shot methods on spaces whose networks have known true values."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli import debug_option, json_option, working_plugins
from automl_nas.errors import ConfigurationError, RunInterrupted

if TYPE_CHECKING:
    from automl_nas.strategy import Problem
    from automl_nas_benchmarks.one_shot.report import Report
    from automl_nas_benchmarks.one_shot.settings import OneShotPlan


@click.command("compare-one-shot", short_help="Compare one-shot methods on spaces with known true values.")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the runs and the report.")
@click.option("--seeds", type=click.IntRange(min=1), help="Number of runs of each method on each space.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of the configuration.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of runs at the same time, in processes with one thread each.",
)
@click.option("--report", "only_report", is_flag=True, help="Run nothing: report the runs that are complete.")
@click.option("--no-plots", is_flag=True, help="Draw no plot.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress on stderr, only warnings and errors.")
@json_option
@debug_option
def compare_one_shot(
    config: Path,
    out: Path,
    seeds: int | None,
    overrides: tuple[str, ...],
    workers: int,
    only_report: bool,
    no_plots: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compare one-shot methods on spaces whose networks have known true values: methods x spaces x seeds.

    CONFIG is an ordinary configuration with the sections `methods` (label: a strategy, or a list of stages), `spaces`
    and `seeds` instead of `stages`, `space` and `seed`. Each run is OUT/SPACE/METHOD/seed-N, an ordinary run; the same
    command again continues what was interrupted.

    The report is written to OUT: one_shot.json, one_shot.csv, history.csv and history.png.
    """
    from automl_nas.cli import Configuration, Override, quiet_libraries
    from automl_nas_benchmarks.one_shot.report import as_json as to_json, as_text, write_report
    from automl_nas_benchmarks.one_shot.settings import OneShotPlan
    from automl_nas_benchmarks.report_folder import check_report_folder

    registry = working_plugins().registry
    configuration = Configuration.read(config, overrides)
    if seeds is not None:
        configuration.set(Override(f"--seeds {seeds}", ("seeds",), seeds))
    with quiet_libraries():
        try:
            plan = OneShotPlan(configuration.value)
            problems = plan.check(registry)
            check_report_folder(out)
            failed = {} if only_report else _run(plan, configuration.value, out, workers, quiet)
        except ConfigurationError as error:
            raise configuration.locate(error) from error
        report = _report(plan, problems, out, failed)
    files = write_report(report, out, plots=not no_plots)
    if as_json:
        click.echo(json.dumps(to_json(report), indent=2))
        return
    for line in as_text(report):
        click.echo(line)
    click.echo(f"\nwritten: {', '.join(map(str, files))}")


def _run(plan: OneShotPlan, config: Mapping[str, Any], out: Path, workers: int, quiet: bool) -> dict[str, str]:
    """Run the cells that are not complete; return the failed ones."""
    from automl_nas.cli import Logs
    from automl_nas.run import StopFlag, progress_reporter
    from automl_nas_benchmarks.one_shot.cells import complete, run_cells

    cells = plan.cells
    left = [cell for cell in cells if not complete(cell.directory(out))]
    failed: dict[str, str] = {}
    done, flag, reporter = len(cells) - len(left), StopFlag(), progress_reporter(quiet)
    interrupted = RunInterrupted(f"stopped; the same command continues {shlex.quote(str(out))}")

    def show(text: str) -> None:
        if not quiet:
            click.echo(f"{done} of {len(cells)} runs are complete{text}", err=True)

    def run_all() -> None:
        nonlocal done
        show("")
        for cell, problem in run_cells(config, out, left, workers, lambda: flag.requested):
            directory = cell.directory(out)
            if problem:
                failed[str(directory)] = problem
                click.echo(f"warning: {directory} failed: {problem}", err=True)
            else:
                done += 1
                show(f": {directory}")

    try:
        if workers == 1:
            # The run in this process stops at its next safe point by itself.
            with Logs(reporter.warning):
                run_all()
        else:
            with flag.listening(lambda: None):
                run_all()
    except RunInterrupted:
        raise interrupted from None
    if flag.requested:
        raise interrupted
    return failed


def _report(
    plan: OneShotPlan, problems: Mapping[tuple[str, str], Problem], out: Path, failed: Mapping[str, str]
) -> Report:
    from automl_nas_benchmarks.one_shot.outcomes import FeasibleTable, outcome, results_of
    from automl_nas_benchmarks.one_shot.report import Report

    tables: dict[tuple[str, str], FeasibleTable] = {}
    for key, problem in problems.items():
        # Methods without a problem of their own share the table of the first one.
        same = (tables[other] for other in tables if other[0] == key[0] and problems[other] == problem)
        tables[key] = next(same, None) or FeasibleTable(plan.benchmarks[key[0]], problem)
    cells = plan.cells
    results = results_of(out, cells)
    outcomes = [outcome(cell, run, tables[cell.space, cell.method]) for cell, run in results.items()]
    failed = {**failed}
    for (cell, run), each in zip(results.items(), outcomes, strict=True):
        if each is None:
            failed[str(cell.directory(out))] = "; ".join(map(str, run.shortcomings)) or "it found no feasible network"
    order = {(cell.space, cell.method): place for place, cell in enumerate(cells[: len(problems)])}
    complete = sorted(
        (each for each in outcomes if each is not None),
        key=lambda each: (order[each.cell.space, each.cell.method], each.cell.seed),
    )
    first = {label: tables[label, next(iter(plan.methods))] for label in plan.spaces}
    return Report(complete, first, failed, len(cells) - len(results))
