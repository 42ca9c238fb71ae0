"""The commands ``automl-nas report`` and ``automl-nas compare``. Each imports what it needs when it is called."""

from __future__ import annotations

import json
from pathlib import Path

import click

from automl_nas.cli import debug_option, json_option


@click.command(short_help="Write an HTML report of a run.")
@click.argument("directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The HTML file (default: report.html in RUN).")
@debug_option
def report(directory: Path, out: Path | None) -> None:
    """Write one self-contained HTML file about the run directory RUN, complete or not.

    The file needs neither a network nor scripts. The run directory is only read, apart from the file itself, and
    nothing that only the run directory names is imported. An older report is replaced, any other file is not.
    """
    from automl_nas_report.run_page import run_page
    from automl_nas_report.writing import write_page

    path = out or directory / "report.html"
    write_page(path, run_page(directory))
    click.echo(f"report: {path}")


@click.command(short_help="Compare runs: results, costs and settings.")
@click.argument("directories", metavar="RUN RUN ...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write an HTML file instead of printing a table.")
@json_option
@debug_option
def compare(directories: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Compare the run directories RUN RUN ..., complete or not: results, costs and the settings that differ.

    The run directories are only read.
    """
    from automl_nas_report.comparison import Comparison
    from automl_nas_report.comparison_page import comparison_page
    from automl_nas_report.writing import write_page

    if len(directories) < 2:
        raise click.UsageError("a comparison needs at least two run directories")
    comparison = Comparison.read(directories)
    if out is not None:
        write_page(out, comparison_page(comparison))
        click.echo(f"comparison: {out}")
    elif as_json:
        click.echo(json.dumps(comparison.as_json(), indent=2, allow_nan=False, ensure_ascii=False))
    else:
        for line in comparison.as_text():
            click.echo(line)
