"""Comparing strategies from Python: `compare`, and the `Comparison` it returns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

from automl_nas.errors import ConfigurationError, EvaluationError, RunInterrupted, did_you_mean
from automl_nas.run import disk_errors
from automl_nas_benchmarks.comparison import formats
from automl_nas_benchmarks.comparison.benchmark_problem import LISTED
from automl_nas_benchmarks.comparison.findings import ALL, Findings
from automl_nas_benchmarks.comparison.plan import ComparisonPlan
from automl_nas_benchmarks.comparison.plots import check_matplotlib, difference_figure, figures, regret_figure, svg_uri
from automl_nas_benchmarks.comparison.records import Records
from automl_nas_benchmarks.comparison.report import fragments, write_report
from automl_nas_benchmarks.comparison.search import SearchRecord
from automl_nas_benchmarks.comparison.search_workers import run_searches
from automl_nas_benchmarks.comparison.settings import DEFAULT_BENCHMARKS, DEFAULT_STRATEGIES
from automl_nas_benchmarks.comparison.strategy_loader import reference
from automl_nas_benchmarks.comparison.summary import summarise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from automl_nas.strategy import Strategy

Spec: TypeAlias = "str | Mapping[str, Any] | type[Strategy] | Callable[..., Strategy]"
"""A strategy: its name, ``module:Class``, a mapping with settings, or the class (or a function) itself."""

Progress: TypeAlias = Callable[[int, int], object]
"""Called with the number of finished searches and the number of all searches."""


@final
@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        findings: scores, ranks, tests and curves.
        records: the record of every search, seed by seed.
        config: the resolved configuration.
        folder: the folder of the records; None if the searches were not recorded.
    """

    findings: Findings
    records: tuple[SearchRecord, ...] = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)
    folder: Path | None = None

    def __str__(self) -> str:
        return "\n".join(formats.text(self.findings))

    def regret_figure(self, benchmark: str) -> Figure:
        """Return the curves on one benchmark; see `plots.regret_figure`."""
        return regret_figure(self.findings, benchmark)

    def difference_figure(self, scope: str = ALL) -> Figure:
        """Return the critical-difference diagram; see `plots.difference_figure`."""
        return difference_figure(self.findings, scope)

    def to_json(self) -> dict[str, Any]:
        """Return scores, ranks and tests as JSON values, as in ``result.json``."""
        return formats.to_json(self.findings)

    def write(self, folder: Path | str, *, plots: bool = True) -> Path:
        """Write the files of the report to a folder, which is created if needed; return the path of the HTML page.

        Raises:
            RunFailedError: the folder cannot be written.
        """
        path = Path(folder)
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return write_report(path, self.findings, self.config, plots=plots)

    def _repr_html_(self) -> str:
        try:
            check_matplotlib()
        except ConfigurationError:
            return "\n".join(fragments(self.findings, {}))
        images = {name: svg_uri(figure) for name, figure in figures(self.findings).items()}
        return "\n".join(fragments(self.findings, images))


def compare(
    strategies: Sequence[Spec] | Mapping[str, Spec] = DEFAULT_STRATEGIES,
    benchmarks: Sequence[str | Mapping[str, Any]] = DEFAULT_BENCHMARKS,
    *,
    seeds: int = 100,
    evaluations: int = 300,
    constraints: Mapping[str, str] | None = None,
    objectives: Sequence[str] | Mapping[str, str] = ("accuracy",),
    batch: int = 1,
    deduplicate: bool = True,
    first_seed: int = 0,
    top: Sequence[float] = (0.01, 0.001),
    judge: Literal["final", "anytime", "arrival"] = "final",
    alpha: float = 0.05,
    out: Path | str | None = None,
    workers: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Run strategies x benchmarks x seeds and compare the results.

    Args:
        strategies: the strategies to compare; the keys of a mapping are their labels.
        benchmarks: names, ``module:function``, or mappings such as ``{"table": "results.csv", "metric": "accuracy",
            "codes": "code"}``.
        seeds: number of searches of each strategy on each benchmark.
        evaluations: number of evaluations of each search.
        constraints: cost -> limit, e.g. ``{"flops": "<= 0.5 * largest"}``.
        objectives: ``accuracy``, and costs to be minimised; the values of a mapping are directions. With several
            objectives, strategies are compared by the hypervolume.
        batch: number of trials that a strategy receives at once.
        deduplicate: whether networks that compute the same function are evaluated once.
        first_seed: seed of the first search; the other seeds follow it.
        top: shares of the best networks; the comparison reports after how many evaluations a search reaches them.
        judge: what ranks and tests compare: the result after the last evaluation (``final``), the mean over all
            evaluations (``anytime``), or the evaluations until the last share of ``top`` is reached (``arrival``).
        alpha: significance level of the tests.
        out: folder in which finished searches are recorded; a later call with the same folder continues there.
        workers: number of worker processes; 0: run the searches in this process. A script that uses worker processes
            needs ``if __name__ == "__main__":``.
        progress: called with ``(done, total)`` after each search.

    Raises:
        ConfigurationError: a name is unknown or a setting is invalid; raised before any search.
        InfeasibleError: no network of a benchmark meets the constraints.
        RunDirectoryError: ``out`` holds other files, or searches of another configuration.
        EvaluationError: a strategy failed, or no search on any benchmark evaluated a feasible network; the finished
            searches are recorded.
    """
    from automl_nas.run import complete_manager

    objects: dict[str, Any] = {}
    config = {
        "strategies": _specs(strategies, objects, workers),
        "benchmarks": list(benchmarks),
        "seeds": seeds,
        "first_seed": first_seed,
        "evaluations": evaluations,
        "batch": batch,
        "deduplicate": deduplicate,
        "constraints": dict(constraints or {}),
        "objectives": dict(objectives) if isinstance(objectives, Mapping) else list(objectives),
        "top": list(top),
        "judge": judge,
        "alpha": alpha,
    }
    plan = ComparisonPlan(config, complete_manager().registry, objects)
    return run(plan, None if out is None else Path(out), workers, progress=progress)


def run(
    plan: ComparisonPlan,
    folder: Path | None,
    workers: int,
    *,
    progress: Progress | None = None,
    redo: Collection[str] = (),
    stop: Callable[[], bool] = lambda: False,
    warn: Callable[[str], object] | None = None,
) -> Comparison:
    """Run the searches of a comparison that are not recorded yet, and summarise all of them.

    Args:
        plan: the resolved comparison.
        folder: folder in which searches are recorded; None: they are not recorded.
        workers: see `compare`.
        progress: see `compare`.
        redo: labels of strategies whose recorded searches are run again.
        stop: called repeatedly; if it returns true, no more searches are run.
        warn: called with warnings of damaged records and changed versions; None: they are logged.

    Raises:
        RunInterrupted: ``stop`` returned true; the message contains the number of finished searches.
        EvaluationError: a strategy failed, or no search on any benchmark has a result.
    """
    for label in redo:
        if label not in plan.strategies:
            raise ConfigurationError(
                f"--redo: the comparison has no strategy '{label}'{did_you_mean(label, plan.strategies)}"
            )
    plan.check()
    jobs = plan.jobs
    with _store(plan, folder, warn, redo) as (records, add):
        pending = [job for job in jobs if job.key not in records]
        done = len(jobs) - len(pending)
        if progress is not None:
            progress(done, len(jobs))
        # After an interruption the finished searches are counted below.
        with (
            contextlib.suppress(RunInterrupted),
            contextlib.closing(run_searches(plan, pending, workers, stop)) as finished,
        ):
            for record in finished:
                add(record)
                done += 1
                if progress is not None:
                    progress(done, len(jobs))
        if done < len(jobs):
            raise RunInterrupted(f"{done} of {len(jobs)} searches are done")
        settings = plan.settings
        seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
        benchmark_problems = {label: plan.benchmark_problem(label) for label in plan.benchmarks}
        findings = summarise(records, benchmark_problems, list(plan.strategies), seeds, settings)
        check_results(findings, findings.empty == findings.benchmarks)
        return Comparison(findings, tuple(records[job.key] for job in jobs), plan.config, folder)


def check_results(findings: Findings, no_result: bool) -> None:
    """Raise an error if a comparison has no result.

    Args:
        findings: the findings.
        no_result: whether it has none.

    Raises:
        EvaluationError: it has none; the message names the benchmarks on which no search evaluated a feasible network.
    """
    if not no_result:
        return
    names = ", ".join(f"'{name}'" for name in findings.empty)
    scores = [score for score in findings.scores if score.benchmark in findings.empty]
    failed, error = sum(score.failed for score in scores), next((s.error for s in scores if s.error), "")
    reason = f"; {failed:,} of {sum(s.evaluations for s in scores):,} evaluations failed, the first: {error}"
    hint = (
        f"; if the table lacks most combinations, set the constraint {LISTED}: '>= 1' (--constraint '{LISTED} >= 1')"
        if failed
        else ""
    )
    raise EvaluationError(
        f"no search on {names} evaluated a feasible network, so there is no result{reason if failed else ''}{hint}"
    )


SearchRecords = dict[tuple[str, str, int], SearchRecord]
"""(strategy, benchmark, seed) -> record."""


@contextlib.contextmanager
def _store(
    plan: ComparisonPlan, folder: Path | None, warn: Callable[[str], object] | None, redo: Collection[str]
) -> Iterator[tuple[SearchRecords, Callable[[SearchRecord], object]]]:
    """Yield the recorded searches and a function that adds one, in memory or in a folder."""
    if folder is None:
        in_memory: SearchRecords = {}

        def add(record: SearchRecord) -> None:
            in_memory[record.key] = record

        yield in_memory, add
        return
    if warn is None:
        import logging

        warn = logging.getLogger(__name__).warning
    fingerprints = {label: plan.benchmark_problem(label).fingerprint for label in plan.benchmarks}
    with Records(folder, plan.config, fingerprints, warn, redo) as recorded:
        yield recorded.searches, recorded.add


def _specs(strategies: Sequence[Spec] | Mapping[str, Spec], objects: dict[str, Any], workers: int) -> list[Any]:
    """Return the strategies as a configuration contains them; add classes and functions to ``objects``."""
    if isinstance(strategies, str):
        raise ConfigurationError(f"must be a list: ['{strategies}']", path="strategies")
    pairs: list[tuple[str | None, Any]]
    pairs = list(strategies.items()) if isinstance(strategies, Mapping) else [(None, item) for item in strategies]
    specs = []
    for label, item in pairs:
        spec: dict[str, Any]
        if isinstance(item, Mapping):
            spec = dict(item)
        elif isinstance(item, str):
            spec = {"name": item}
        else:
            name = reference(item)
            objects[name] = item
            spec = {"name": name, "label": item.__name__}
            if workers and (item.__module__ == "__main__" or "<locals>" in item.__qualname__):
                raise ConfigurationError(
                    f"{item.__qualname__} cannot be imported by worker processes; move it to a module, or set "
                    "workers=0",
                    path="strategies",
                )
        specs.append(spec if label is None else {**spec, "label": label})
    return specs
