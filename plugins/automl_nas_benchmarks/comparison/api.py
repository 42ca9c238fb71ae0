"""Comparing strategies from Python: `compare`, and the `Comparison` it returns."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

from automl_nas.errors import ConfigurationError, RunInterrupted, did_you_mean
from automl_nas_benchmarks.comparison import formats
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
"""Told how many searches are done, and of how many."""


@final
@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        findings: scores, ranks, tests and curves.
        records: every search, seed by seed.
        config: the resolved configuration.
        folder: where it is on record; None if it is not.
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
        """Return scores, ranks and tests as plain data: what ``result.json`` holds."""
        return formats.plain(self.findings)

    def write(self, folder: Path | str, *, plots: bool = True) -> Path:
        """Write the report's files into a folder, made if it is not there; return the path of the HTML page."""
        path = Path(folder)
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
    """Run strategies x benchmarks x seeds and compare what they find.

    Args:
        strategies: which ones; a mapping gives them labels.
        benchmarks: names, ``module:function``, or mappings such as ``{"table": "results.csv", "metric": "accuracy",
            "codes": "code"}``.
        seeds: searches of each strategy on each benchmark.
        evaluations: budget of a search.
        constraints: cost -> limit, e.g. ``{"flops": "<= 0.5 * largest"}``.
        objectives: ``accuracy``, and costs to be minimised; a mapping gives directions. With several, strategies are
            judged by the hypervolume.
        batch: how many trials a strategy is told at once.
        deduplicate: whether networks that compute the same function are evaluated once.
        first_seed: the first of the seeds.
        top: shares of the best networks whose first evaluation is looked for.
        judge: what ranks and tests compare: what was found at the ``final`` evaluation, on average over them
            (``anytime``), or how soon the last share of ``top`` was reached (``arrival``).
        alpha: probability of an error in the tests.
        out: a folder that remembers finished searches: a second call goes on where the first one stopped.
        workers: processes; 0: in this one. A script that uses processes needs ``if __name__ == "__main__":``.
        progress: told ``(done, total)`` after each search.

    Raises:
        ConfigurationError: an unknown name or a wrong setting, before any work.
        InfeasibleError: no network of a benchmark meets the constraints.
        RunDirectoryError: ``out`` holds something else, or searches of another configuration.
        EvaluationError: a strategy failed; what finished is on record.
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
    """Make the searches of a plan that are not on record, and summarise all.

    Args:
        plan: resolved.
        folder: where searches are recorded; None: nowhere.
        workers: see `compare`.
        progress: see `compare`.
        redo: labels of strategies whose searches on record are made anew.
        stop: asked now and then; true ends the work.
        warn: told of damage and changed versions; by default they are logged.

    Raises:
        RunInterrupted: ``stop`` said so; the message says how many searches are done.
    """
    for label in redo:
        if label not in plan.strategies:
            raise ConfigurationError(f"there is no strategy '{label}' to redo{did_you_mean(label, plan.strategies)}")
    plan.check()
    jobs = plan.jobs
    with _store(plan, folder, warn, redo) as (known, add):
        waiting = [job for job in jobs if job.key not in known]
        done = len(jobs) - len(waiting)
        if progress is not None:
            progress(done, len(jobs))
        # Whichever way it stops, what is done is counted below.
        with (
            contextlib.suppress(RunInterrupted),
            contextlib.closing(run_searches(plan, waiting, workers, stop)) as found,
        ):
            for record in found:
                add(record)
                done += 1
                if progress is not None:
                    progress(done, len(jobs))
        if done < len(jobs):
            raise RunInterrupted(f"{done} of {len(jobs)} searches are done")
        settings = plan.settings
        seeds = range(settings.first_seed, settings.first_seed + settings.seeds)
        benchmark_problems = {label: plan.benchmark_problem(label) for label in plan.benchmarks}
        findings = summarise(known, benchmark_problems, list(plan.strategies), seeds, settings)
        return Comparison(findings, tuple(known[job.key] for job in jobs), plan.config, folder)


Known = dict[tuple[str, str, int], SearchRecord]


@contextlib.contextmanager
def _store(
    plan: ComparisonPlan, folder: Path | None, warn: Callable[[str], object] | None, redo: Collection[str]
) -> Iterator[tuple[Known, Callable[[SearchRecord], object]]]:
    """Give what is known and a function that adds to it, in memory or in a folder."""
    if folder is None:
        known: Known = {}

        def add(record: SearchRecord) -> None:
            known[record.key] = record

        yield known, add
        return
    if warn is None:
        import logging

        warn = logging.getLogger(__name__).warning
    fingerprints = {label: plan.benchmark_problem(label).fingerprint for label in plan.benchmarks}
    with Records(folder, plan.config, fingerprints, warn, redo) as records:
        yield records.searches, records.add


def _specs(given: Sequence[Spec] | Mapping[str, Spec], objects: dict[str, Any], workers: int) -> list[Any]:
    if isinstance(given, str):
        raise ConfigurationError(f"give a list: ['{given}']", path="strategies")
    pairs: list[tuple[str | None, Any]]
    pairs = list(given.items()) if isinstance(given, Mapping) else [(None, item) for item in given]
    found = []
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
                    f"{item.__qualname__} cannot be imported by worker processes; put it into a module, or workers=0",
                    path="strategies",
                )
        found.append(spec if label is None else {**spec, "label": label})
    return found
