"""Runs the cells of a comparison: each is an ordinary run in its own directory, which is continued if it exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from automl_nas.errors import RunFailedError
from automl_nas_benchmarks.job_workers import run_jobs
from automl_nas_benchmarks.one_shot.settings import Cell, OneShotPlan
from automl_nas_benchmarks.one_shot.work import FILE, WorkMeter

if TYPE_CHECKING:
    from automl_nas.plugin import Handlers

Answer: TypeAlias = "tuple[Cell, str]"
"""A cell, and why its run failed; empty if it is complete."""


def complete(directory: Path) -> bool:
    """Return whether a run has its result."""
    from automl_nas.run import RunDirectory

    return RunDirectory(directory).result.is_file()


def run_cells(
    config: Mapping[str, Any], out: Path, cells: Sequence[Cell], workers: int, stop: Callable[[], bool]
) -> Iterator[Answer]:
    """Run cells and yield each as it ends, in any order. A run that fails does not end the comparison.

    Args:
        config: the configuration of the comparison.
        out: the folder of the runs.
        cells: those that are not complete.
        workers: number of processes; with one, its run is in this process.
        stop: called repeatedly; if it returns true, the processes are killed. Their runs continue at their last
            checkpoints.

    Raises:
        UserError: a run cannot begin or continue.
        RunInterrupted: the run in this process was interrupted.
    """
    handler = partial(_cell_handler, dict(config), out)
    if workers == 1:
        yield from map(handler(), cells)
    else:
        yield from run_jobs(handler, cells, workers, name="automl-nas compare-one-shot", stop=stop)


def _cell_handler(config: Mapping[str, Any], out: Path) -> Callable[[Cell], Answer]:
    return partial(_run_cell, OneShotPlan(config), out)


def _run_cell(plan: OneShotPlan, out: Path, cell: Cell) -> Answer:
    from automl_nas.run import search

    directory = cell.directory(out)
    meter = WorkMeter(directory / FILE)
    handlers: Handlers = meter.handlers
    with meter.counting():
        try:
            search(plan.config(cell), out=directory, resume=True, handlers=handlers, progress="none")
        except RunFailedError as error:
            return cell, str(error)
    return cell, ""
