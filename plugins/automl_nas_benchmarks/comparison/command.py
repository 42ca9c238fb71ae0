"""``automl-nas benchmark``: compare search strategies on benchmarks whose truth is known."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli import debug_option, json_option, working_plugins
from automl_nas.errors import ConfigurationError, RunInterrupted

if TYPE_CHECKING:
    from automl_nas.cli import Configuration

_CONSTRAINT = re.compile(r"\s*([A-Za-z][\w-]*)\s*(.*?)\s*")


@click.command(short_help="Compare search strategies on benchmarks whose truth is known.")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--strategies", metavar="LIST", help="What to compare, e.g. random,{name: aging, population: 20}.")
@click.option(
    "--strategy",
    "more",
    multiple=True,
    metavar="SPEC",
    help="One more strategy beside the others: a name, module:Class, or a mapping with settings.",
)
@click.option("--benchmarks", metavar="LIST", help="Where to compare; see --list.")
@click.option("--seeds", type=int, help="Searches of each strategy on each benchmark (100).")
@click.option("--evaluations", type=int, help="Budget of a search (300).")
@click.option("--batch", type=int, help="How many trials a strategy is told at once (1).")
@click.option("--repeats", is_flag=True, help="Let equal networks be evaluated again; they count.")
@click.option(
    "--constraint",
    "constraints",
    multiple=True,
    metavar="TEXT",
    help="A limit on a cost, e.g. 'flops <= 0.5 * largest'. May be repeated.",
)
@click.option("--objectives", metavar="LIST", help="accuracy and costs to minimise: judged by the hypervolume.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change any setting, e.g. top=[0.05].")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The folder for records and report; what is on record there is not done again (default: runs/benchmark-<n>).",
)
@click.option(
    "--redo",
    multiple=True,
    metavar="LABEL",
    help="Make the searches of a strategy anew, also with other settings. May be repeated.",
)
@click.option("--workers", type=click.IntRange(min=0), help="Processes; 0: none but this one (default: one a CPU).")
@click.option("--plots/--no-plots", default=True, help="Draw, which needs matplotlib (default), or leave plots out.")
@click.option("--list", "listing", is_flag=True, help="List the benchmarks that come with the plugin.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr, only warnings and errors.")
@json_option
@debug_option
def benchmark(
    config: Path | None,
    strategies: str | None,
    more: tuple[str, ...],
    benchmarks: str | None,
    seeds: int | None,
    evaluations: int | None,
    batch: int | None,
    repeats: bool,
    constraints: tuple[str, ...],
    objectives: str | None,
    overrides: tuple[str, ...],
    out: Path | None,
    redo: tuple[str, ...],
    workers: int | None,
    plots: bool,
    listing: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compare search strategies on benchmarks whose truth is known: strategies x benchmarks x seeds.

    The YAML file CONFIG holds what the options do; options go before it. Without CONFIG and with --out of an earlier
    call, that call's configuration is gone on with; more strategies, benchmarks or seeds can be added to it.
    """
    if listing:
        _list(as_json)
        return
    from automl_nas.cli import quiet_libraries
    from automl_nas_benchmarks.comparison.plots import check_matplotlib

    if plots:
        check_matplotlib()
    given = _configuration(config, out, overrides)
    plain: list[tuple[str, str, Any]] = []
    for name, text in (("strategies", strategies), ("benchmarks", benchmarks), ("objectives", objectives)):
        if text is not None:
            plain.append((name, f"--{name} {text}", _items(text, f"--{name} {text}")))
    for name, value in (("seeds", seeds), ("evaluations", evaluations), ("batch", batch)):
        if value is not None:
            plain.append((name, f"--{name} {value}", value))
    if repeats:
        plain.append(("deduplicate", "--repeats", False))
    if constraints:
        plain.append(("constraints", f"--constraint '{constraints[0]}'", dict(map(_constraint, constraints))))
    for name, option, value in plain:
        _set(given, name, option, value)
    for text in more:
        _add_strategy(given, text)
    try:
        with quiet_libraries():
            _run(given, out or _free_folder(config), redo, workers, plots, quiet, as_json)
    except ConfigurationError as error:
        raise given.locate(error) from error


def _configuration(config: Path | None, out: Path | None, overrides: Sequence[str]) -> Configuration:
    from automl_nas.cli import Configuration
    from automl_nas.run import Document
    from automl_nas_benchmarks.comparison.records import CONFIG

    if config is None and out is not None and (out / CONFIG).is_file():
        config = out / CONFIG
    if config is not None:
        return Configuration.read(config, overrides)
    given = Configuration({}, Document(None, "the command line"))
    from automl_nas.cli import Override

    for text in overrides:
        given.set(Override.parse(text))
    return given


def _set(given: Configuration, name: str, option: str, value: Any) -> None:
    from automl_nas.cli import Override

    given.set(Override(option, (name,), value))


def _items(text: str, option: str) -> list[Any]:
    """Read ``random,{name: aging, population: 20}`` as a YAML list."""
    from automl_nas.run import parse_yaml

    found = parse_yaml(f"[{text}]", option).value
    assert isinstance(found, list)
    return found


def _constraint(text: str) -> tuple[str, str]:
    found = _CONSTRAINT.fullmatch(text)
    if found is None or not found[2]:
        raise ConfigurationError(
            "write a cost and its limit, such as 'flops <= 0.5 * largest'", source=f"--constraint {text}"
        )
    return found[1], found[2]


def _add_strategy(given: Configuration, text: str) -> None:
    """Add a strategy; one of the same label, as a record may hold, gives way to it."""
    from automl_nas_benchmarks.comparison.settings import DEFAULT_STRATEGIES

    option = f"--strategy {text}"
    items = _items(text, option)
    if len(items) != 1:
        raise ConfigurationError("name one strategy, and repeat the option for another", source=option)
    before = given.value.get("strategies") or list(DEFAULT_STRATEGIES)
    _set(given, "strategies", option, [item for item in before if _label(item) != _label(items[0])] + items)


def _label(item: Any) -> str:
    from automl_nas_benchmarks.comparison.settings import short_label

    given = item if isinstance(item, dict) else {"name": item}
    return str(given.get("label") or short_label(str(given.get("name", ""))))


def _free_folder(config: Path | None) -> Path:
    stem = config.stem if config is not None else "benchmark"
    number = 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def _run(
    given: Configuration,
    folder: Path,
    redo: Sequence[str],
    workers: int | None,
    plots: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    from automl_nas.cli import duration
    from automl_nas.run import StopFlag
    from automl_nas_benchmarks.comparison.api import run
    from automl_nas_benchmarks.comparison.plan import ComparisonPlan
    from automl_nas_benchmarks.comparison.progress import shown
    from automl_nas_benchmarks.comparison.report import write_report

    begun = time.monotonic()
    # As `python -m` would: a strategy of one's own may lie in the current folder.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    plan = ComparisonPlan(given.value, working_plugins().registry)
    count = _processors() if workers is None else workers
    flag = StopFlag()
    try:
        with shown(quiet) as progress, flag.listening(progress.stopping):
            comparison = run(
                plan, folder, count, redo=redo, progress=progress, stop=lambda: flag.requested, warn=progress.warning
            )
    except RunInterrupted as error:
        raise RunInterrupted(f"{error}; to continue: automl-nas benchmark --out {shlex.quote(str(folder))}") from None
    page = write_report(folder, comparison.findings, comparison.config, plots=plots)
    if as_json:
        click.echo(json.dumps(comparison.to_json(), indent=2, allow_nan=False))
        return
    click.echo(str(comparison))
    click.echo(f"\nreport: {page}")
    click.echo(f"time: {duration(time.monotonic() - begun)}")


def _processors() -> int:
    # Those this process may use, where the system can tell.
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable is not None else os.cpu_count() or 1


def _list(as_json: bool) -> None:
    from automl_nas.cli import table
    from automl_nas_benchmarks.benchmark import BENCHMARKS

    if as_json:
        click.echo(json.dumps(BENCHMARKS, indent=2))
        return
    for line in table(["name", "what"], [[name, about] for name, about in BENCHMARKS.items()], left=2):
        click.echo(line)
