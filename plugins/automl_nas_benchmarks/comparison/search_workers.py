"""Runs searches in worker processes, or in this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from automl_nas_benchmarks.comparison.plan import ComparisonPlan
from automl_nas_benchmarks.comparison.search import SearchJob, SearchRecord
from automl_nas_benchmarks.job_workers import run_jobs


def run_searches(
    plan: ComparisonPlan, jobs: Sequence[SearchJob], workers: int, stop: Callable[[], bool] = lambda: False
) -> Generator[SearchRecord, None, None]:
    """Run searches and yield the record of each as it finishes, in any order.

    Args:
        plan: the comparison that the searches are part of.
        jobs: the searches to run.
        workers: number of worker processes, each with one thread; 0: run the searches in this process.
        stop: called repeatedly; if it returns true, the iteration ends and unfinished searches are lost.

    Raises:
        EvaluationError: a search failed. The searches that other workers finished at the same time were yielded before.
        RunInterrupted: ``stop`` returned true during a search in this process.
    """
    if workers == 0:
        for job in jobs:
            yield plan.search(job, stop)
        return
    yield from run_jobs(
        partial(_search_handler, dict(plan.config)), jobs, workers, name="automl-nas benchmark", stop=stop
    )


def _search_handler(config: dict[str, Any]) -> Callable[[SearchJob], SearchRecord]:
    """Resolve the configuration in the worker process and return its search function."""
    from automl_nas.run import complete_manager

    return ComparisonPlan(config, complete_manager().registry).search
