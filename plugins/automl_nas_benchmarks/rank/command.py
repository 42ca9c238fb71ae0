"""``automl-nas rank``: measure how well a supernet ranks networks with known true values."""

from __future__ import annotations

import copy
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli import debug_option, json_option, working_plugins
from automl_nas.errors import ConfigurationError, RunInterrupted

if TYPE_CHECKING:
    from automl_nas.cli import Configuration
    from automl_nas.run import Result
    from automl_nas_benchmarks.benchmark import Benchmark

DEFAULTS = {"nasbench201": "nasbench201-cifar10", "nasbench_macro": "nasbench_macro"}
"""Name of a space -> the benchmark with the true values of its networks."""


@click.command(short_help="Measure how well a supernet ranks networks with known true values.")
@click.argument("sources", nargs=-1, type=click.Path(path_type=Path), metavar="[CONFIG | RUN...]")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the runs and the report.")
@click.option("--space", help="Without CONFIG: the space, nasbench201 or nasbench_macro, or YAML with settings.")
@click.option("--task", help="Without CONFIG: the task, a name or YAML: '{name: npz, path: images.npz}'.")
@click.option(
    "--strategy",
    default="single_path",
    show_default=True,
    help="Without CONFIG: the strategy that trains the supernet.",
)
@click.option(
    "--count",
    type=click.IntRange(min=3),
    default=300,
    show_default=True,
    help="Without CONFIG: number of networks in the sample.",
)
@click.option(
    "--benchmark",
    help="The true values: a name, or '{table: FILE, metric: ...}' (default: the space's own, CIFAR-10).",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Number of runs, with consecutive seeds."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting of the configuration.")
@click.option(
    "--top",
    multiple=True,
    type=click.IntRange(min=1),
    default=(10,),
    show_default=True,
    help="k of precision at k and best rank at k. May be repeated.",
)
@click.option(
    "--resamples", type=click.IntRange(min=1), default=1000, show_default=True, help="Resamples of the bootstrap."
)
@click.option("--no-plots", is_flag=True, help="Draw no plot.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress on stderr, only warnings and errors.")
@json_option
@debug_option
def rank(
    sources: tuple[Path, ...],
    out: Path | None,
    space: str | None,
    task: str | None,
    strategy: str,
    count: int,
    benchmark: str | None,
    seeds: int,
    overrides: tuple[str, ...],
    top: tuple[int, ...],
    resamples: int,
    no_plots: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train a supernet, score a sample of its space with it, and compare the scores with the true values.

    CONFIG is an ordinary configuration. Each of its stages with the strategy `survey` scores a sample; other stages
    with an evaluator are searches, and the networks they choose are compared as well. The runs are OUT/seed-0,
    OUT/seed-1, ...; the same command again continues them. With complete run directories instead of CONFIG, it compares
    these and runs nothing.

    The report is written to OUT: ranking.json, ranking.csv, scores.csv and ranking.png.
    """
    from automl_nas.cli import Override, quiet_libraries
    from automl_nas_benchmarks.rank.report import as_json as to_json, as_text, make_report, write_report
    from automl_nas_benchmarks.rank.study import Study, open_runs
    from automl_nas_benchmarks.report_folder import check_report_folder

    working_plugins()
    finished = any(source.is_dir() for source in sources)
    if finished and overrides:
        raise click.UsageError("--set needs a configuration; these are complete runs")
    with quiet_libraries():
        if finished:
            if out is not None:
                check_report_folder(out)
            runs: Sequence[Result] = open_runs(sources)
        else:
            configuration = _configuration(sources, space, task, strategy, count)
            for text in overrides:
                configuration.set(Override.parse(text))
            if out is None:
                raise click.UsageError("--out is missing: the folder of the runs and the report")
            try:
                check_report_folder(out)
                _check(configuration.value, _benchmark(benchmark, configuration.value.get("space")))
                runs = _run_all(configuration.value, out, seeds, quiet)
            except ConfigurationError as error:
                raise configuration.locate(error) from error
        true_values = _benchmark(benchmark, runs[0].plan.config["space"])
        report = make_report(Study(true_values, runs), top=top, resamples=resamples)
    files = write_report(report, out, plots=not no_plots) if out is not None else []
    if as_json:
        click.echo(json.dumps(to_json(report), indent=2))
        return
    for line in as_text(report):
        click.echo(line)
    if files:
        click.echo(f"\nwritten: {', '.join(map(str, files))}")


def _configuration(
    sources: Sequence[Path], space: str | None, task: str | None, strategy: str, count: int
) -> Configuration:
    """Return the configuration of a file, or one from the options."""
    from automl_nas.cli import Configuration
    from automl_nas.run import Document, parse_yaml

    if len(sources) > 1:
        raise click.UsageError("give one CONFIG, or complete run directories only")
    if sources:
        if space is not None or task is not None:
            raise click.UsageError("--space and --task are for use without CONFIG; change one with --set space=...")
        return Configuration.read(sources[0])
    if space is None or task is None:
        raise click.UsageError("give a CONFIG, or --space and --task, or complete run directories")
    parsed = {
        name: parse_yaml(text, f"--{name}").value
        for name, text in (("space", space), ("task", task), ("strategy", strategy))
    }
    survey = {"name": "survey", "count": count}
    stages: list[dict[str, Any]] = [{"name": "supernet", "strategy": parsed["strategy"]}]
    for name, images in (("recalibrated", 1024), ("running_statistics", 0)):
        evaluator = {"name": "supernet_weights", "weights": "supernet", "recalibration_images": images}
        stages.append({"name": name, "strategy": survey, "evaluator": evaluator})
    value = {"space": parsed["space"], "task": parsed["task"], "stages": stages, "final": None}
    return Configuration(value, Document(None, "the options"))


def _benchmark(option: str | None, space: object) -> Benchmark:
    """Return the benchmark of the option, a name or a YAML mapping; without the option, the default of the space."""
    from automl_nas.run import parse_yaml
    from automl_nas_benchmarks.comparison.benchmark_loader import make_benchmark, resolve_benchmark

    if option is None:
        name = space.get("name") if isinstance(space, Mapping) else space
        if name not in DEFAULTS:
            raise click.UsageError(f"--benchmark is missing: the true values of the networks of the space {name!r}")
        option = DEFAULTS[str(name)]
    spec = parse_yaml(option, "--benchmark").value
    if isinstance(spec, str):
        spec = {"name": spec}
    if not isinstance(spec, Mapping) or ("name" in spec) == ("table" in spec):
        raise click.UsageError("--benchmark must be a name, or a mapping such as '{table: mine.csv, metric: accuracy}'")
    return make_benchmark(resolve_benchmark(spec, "benchmark"), "benchmark")


def _check(config: Mapping[str, Any], benchmark: Benchmark) -> None:
    """Check, before any run, that the runs can be compared with the benchmark."""
    from automl_nas.run import complete_manager, make_plan
    from automl_nas_benchmarks.rank.study import check_comparable

    # On the CPU, where the plan does not measure which settings of the runtime are fastest.
    check_comparable(make_plan({**config, "runtime": {"device": "cpu"}}, complete_manager().registry), benchmark)


def _run_all(config: Mapping[str, Any], out: Path, seeds: int, quiet: bool) -> list[Result]:
    """Start, continue, or read the runs of all seeds."""
    from automl_nas.cli import Logs
    from automl_nas.run import progress_reporter, search

    first = config.get("seed", 0)
    results = []
    for seed in range(first, first + seeds):
        reporter = progress_reporter(quiet)
        directory = out / f"seed-{seed}"
        if not quiet:
            click.echo(f"run {seed - first + 1} of {seeds}: {directory}", err=True)
        settings = {**copy.deepcopy(dict(config)), "seed": seed}
        try:
            with Logs(reporter.warning):
                handlers = reporter.handlers
                results.append(search(settings, out=directory, resume=True, handlers=handlers, progress="none"))
        except RunInterrupted:
            raise RunInterrupted(f"stopped; the same command continues {shlex.quote(str(out))}") from None
    return results
