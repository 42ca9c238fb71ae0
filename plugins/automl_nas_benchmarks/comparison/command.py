"""``automl-nas benchmark``: compare search strategies on benchmarks with known true values."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli import debug_option, json_option, working_plugins
from automl_nas.errors import ConfigurationError, RunInterrupted

if TYPE_CHECKING:
    from automl_nas.cli import Configuration

_CONSTRAINT = re.compile(r"\s*([A-Za-z][\w-]*)\s*(.*?)\s*")


@dataclass(frozen=True)
class _Options:
    """How the command runs a comparison and shows it, from the options that are not settings of the comparison."""

    redo: tuple[str, ...]
    workers: int | None
    plots: bool
    quiet: bool
    as_json: bool


@click.command(short_help="Compare search strategies on benchmarks with known true values.")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--strategies", metavar="LIST", help="What to compare, e.g. random,{name: aging, population: 20}.")
@click.option(
    "--strategy",
    "more",
    multiple=True,
    metavar="SPEC",
    help="An additional strategy: a name, module:Class, or a mapping with settings.",
)
@click.option("--benchmarks", metavar="LIST", help="Where to compare; see --list.")
@click.option("--seeds", type=int, help="Number of searches of each strategy on each benchmark (100).")
@click.option("--evaluations", type=int, help="Number of evaluations of each search (300).")
@click.option("--batch", type=int, help="Number of trials that a strategy receives at once (1).")
@click.option("--repeats", is_flag=True, help="Evaluate repeated networks again, and count them.")
@click.option(
    "--constraint",
    "constraints",
    multiple=True,
    metavar="TEXT",
    help="A limit on a cost, e.g. 'flops <= 0.5 * largest'. May be repeated.",
)
@click.option(
    "--objectives", metavar="LIST", help="accuracy and costs to minimise; strategies are compared by the hypervolume."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change any setting, e.g. top=[0.05].")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of records and report; searches recorded there are not run again (default: runs/benchmark-<n>).",
)
@click.option(
    "--redo",
    multiple=True,
    metavar="LABEL",
    help="Run the searches of a strategy again, also with changed settings. May be repeated.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="Worker processes; 0: run in this process (default: one for each CPU).",
)
@click.option("--plots/--no-plots", default=True, help="Draw plots, which needs matplotlib (default), or not.")
@click.option("--list", "listing", is_flag=True, help="List the benchmarks of the plugin.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress on stderr, only warnings and errors.")
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
    """Compare search strategies on benchmarks with known true values: strategies x benchmarks x seeds.

    The YAML file CONFIG contains the same settings as the options; options override it. Without CONFIG, --out with the
    folder of an earlier call continues that comparison; strategies, benchmarks and seeds can be added.
    """
    if listing:
        _list(as_json)
        return
    from automl_nas.cli import Override, quiet_libraries
    from automl_nas_benchmarks.comparison.plots import check_matplotlib

    if plots:
        check_matplotlib()
    configuration = _configuration(config, out, overrides)
    settings: list[tuple[str, str, Any]] = []
    for name, text in (("strategies", strategies), ("benchmarks", benchmarks), ("objectives", objectives)):
        if text is not None:
            settings.append((name, f"--{name} {text}", _items(text, f"--{name} {text}")))
    for name, value in (("seeds", seeds), ("evaluations", evaluations), ("batch", batch)):
        if value is not None:
            settings.append((name, f"--{name} {value}", value))
    if repeats:
        settings.append(("deduplicate", "--repeats", False))
    if constraints:
        settings.append(("constraints", f"--constraint '{constraints[0]}'", dict(map(_constraint, constraints))))
    for name, option, value in settings:
        configuration.set(Override(option, (name,), value))
    for text in more:
        _add_strategy(configuration, text)
    try:
        with quiet_libraries():
            _run(configuration, out or _free_folder(config), _Options(redo, workers, plots, quiet, as_json))
    except ConfigurationError as error:
        raise configuration.locate(error) from error


def _configuration(config: Path | None, out: Path | None, overrides: Sequence[str]) -> Configuration:
    """Read CONFIG, or the recorded configuration of ``out``; without either, start with an empty configuration."""
    from automl_nas.cli import Configuration, Override
    from automl_nas.run import Document
    from automl_nas_benchmarks.comparison.records import CONFIG

    if config is None and out is not None and (out / CONFIG).is_file():
        config = out / CONFIG
    if config is not None:
        return Configuration.read(config, overrides)
    configuration = Configuration({}, Document(None, "the command line"))
    for text in overrides:
        configuration.set(Override.parse(text))
    return configuration


def _items(text: str, option: str) -> list[Any]:
    """Read ``random,{name: aging, population: 20}`` as a YAML list."""
    from automl_nas.run import parse_yaml

    items = parse_yaml(f"[{text}]", option).value
    assert isinstance(items, list)
    return items


def _constraint(text: str) -> tuple[str, str]:
    match = _CONSTRAINT.fullmatch(text)
    if match is None or not match[2]:
        raise ConfigurationError(
            "must be a cost and its limit, such as 'flops <= 0.5 * largest'", source=f"--constraint {text}"
        )
    return match[1], match[2]


def _add_strategy(configuration: Configuration, text: str) -> None:
    """Add a strategy. It replaces one with the same label, for instance of the recorded configuration."""
    from automl_nas.cli import Override
    from automl_nas_benchmarks.comparison.settings import DEFAULT_STRATEGIES

    option = f"--strategy {text}"
    items = _items(text, option)
    if len(items) != 1:
        raise ConfigurationError("name one strategy, and repeat the option for another", source=option)
    configured = configuration.value.get("strategies") or list(DEFAULT_STRATEGIES)
    others = [item for item in configured if _label(item) != _label(items[0])]
    configuration.set(Override(option, ("strategies",), others + items))


def _label(item: Any) -> str:
    from automl_nas_benchmarks.comparison.settings import short_label

    spec = item if isinstance(item, dict) else {"name": item}
    return str(spec.get("label") or short_label(str(spec.get("name", ""))))


def _free_folder(config: Path | None) -> Path:
    stem = config.stem if config is not None else "benchmark"
    number = 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def _run(configuration: Configuration, folder: Path, options: _Options) -> None:
    """Run the comparison, write its report and print it."""
    from automl_nas.run import StopFlag, duration
    from automl_nas_benchmarks.comparison.api import check_results, run
    from automl_nas_benchmarks.comparison.plan import ComparisonPlan
    from automl_nas_benchmarks.comparison.progress import comparison_progress
    from automl_nas_benchmarks.comparison.report import write_report

    begun = time.monotonic()
    # As `python -m` does: a user's own strategy may be in the current folder.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    plan = ComparisonPlan(configuration.value, working_plugins().registry)
    workers = _processors() if options.workers is None else options.workers
    flag = StopFlag()
    try:
        with comparison_progress(options.quiet) as progress, flag.listening(progress.stopping):
            comparison = run(
                plan,
                folder,
                workers,
                redo=options.redo,
                progress=progress,
                stop=lambda: flag.requested,
                warn=progress.warning,
            )
    except RunInterrupted as error:
        raise RunInterrupted(f"{error}; to continue: automl-nas benchmark --out {shlex.quote(str(folder))}") from None
    page = write_report(folder, comparison.findings, comparison.config, plots=options.plots)
    if options.as_json:
        click.echo(json.dumps(comparison.to_json(), indent=2, allow_nan=False))
    else:
        click.echo(str(comparison))
        click.echo(f"\nreport: {page}")
        click.echo(f"time: {duration(time.monotonic() - begun)}")
    check_results(comparison.findings, bool(comparison.findings.empty))


def _processors() -> int:
    # The processors that this process may use, where the system has this information.
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
