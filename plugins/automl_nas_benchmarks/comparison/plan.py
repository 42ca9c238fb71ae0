"""A resolved comparison: its searches, and how each one is run, in this process or in a worker process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any, final

from automl_nas.errors import ConfigurationError
from automl_nas.plugin import Registry
from automl_nas.run import read_settings
from automl_nas.streams import stream_seed
from automl_nas_benchmarks.comparison.benchmark_loader import TABLE, make_benchmark, resolve_benchmark
from automl_nas_benchmarks.comparison.benchmark_problem import BenchmarkProblem
from automl_nas_benchmarks.comparison.search import SearchJob, SearchRecord, run_search
from automl_nas_benchmarks.comparison.settings import ComparisonSettings, Entry, entries
from automl_nas_benchmarks.comparison.strategy_loader import StrategyFactory, StrategyLoader


@final
class ComparisonPlan:
    """All searches of a comparison.

    Args:
        raw: the configuration as a user wrote it, or a resolved one: resolving twice changes nothing.
        registry: the components that plugins registered.
        objects: ``module:Class`` -> strategy classes that cannot be imported.

    Attributes:
        settings: the checked settings.
        strategies: label -> resolved entry.
        benchmarks: label -> resolved entry.

    Raises:
        ConfigurationError: a name is unknown (the message offers the nearest one), a setting is invalid, or two entries
            have the same label.
    """

    def __init__(
        self, raw: Mapping[str, Any], registry: Registry, objects: Mapping[str, StrategyFactory] | None = None
    ) -> None:
        self.settings = read_settings(ComparisonSettings, raw, owner="a comparison")
        self._strategy_loader = StrategyLoader(registry, objects)
        self.strategies: dict[str, Entry] = {}
        for entry in entries(self.settings.strategies, "strategies"):
            spec = self._strategy_loader.resolve(entry.spec, entry.path)
            self.strategies[entry.label] = Entry(entry.label, spec, entry.path)
        self.benchmarks: dict[str, Entry] = {}
        for entry in entries(self.settings.benchmarks, "benchmarks", TABLE):
            spec = resolve_benchmark(entry.spec, entry.path)
            self.benchmarks[entry.label] = Entry(entry.label, spec, entry.path)
        self._benchmark_problems: dict[str, BenchmarkProblem] = {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, as plain data."""
        config = asdict(self.settings)
        for name, section in (("strategies", self.strategies), ("benchmarks", self.benchmarks)):
            config[name] = [{"label": entry.label, **entry.spec} for entry in section.values()]
        return config

    @property
    def jobs(self) -> list[SearchJob]:
        """All searches, seed by seed: at any moment all strategies have finished about the same seeds."""
        first = self.settings.first_seed
        return [
            SearchJob(strategy, benchmark, seed)
            for seed in range(first, first + self.settings.seeds)
            for benchmark in self.benchmarks
            for strategy in self.strategies
        ]

    def benchmark_problem(self, label: str) -> BenchmarkProblem:
        """Return a benchmark with its problem; it is constructed once."""
        if label not in self._benchmark_problems:
            entry = self.benchmarks[label]
            benchmark = make_benchmark(entry.spec, entry.path)
            self._benchmark_problems[label] = BenchmarkProblem(label, benchmark, self.settings)
        return self._benchmark_problems[label]

    def check(self) -> None:
        """Construct every strategy for every benchmark, and check that each benchmark has a feasible network.

        Raises:
            ConfigurationError: a constructor refuses a setting, or needs a collaborator that a table cannot supply.
            InfeasibleError: no network of a benchmark meets the constraints.
        """
        for label in self.benchmarks:
            benchmark_problem = self.benchmark_problem(label)
            benchmark_problem.threshold(1.0)
            for entry in self.strategies.values():
                self._strategy(entry, benchmark_problem, self.settings.first_seed)

    def search(self, job: SearchJob, stop: Callable[[], bool] = lambda: False) -> SearchRecord:
        """Run one search.

        The strategy's seed depends on the seed of the search and on the benchmark; it is the same for all strategies.

        Raises:
            EvaluationError: the strategy failed; see `run_search`.
            RunInterrupted: ``stop`` returned true.
        """
        benchmark_problem = self.benchmark_problem(job.benchmark)
        strategy = self._strategy(self.strategies[job.strategy], benchmark_problem, job.seed)
        return run_search(benchmark_problem, strategy, job, self.settings, stop)

    def _strategy(self, entry: Entry, benchmark_problem: BenchmarkProblem, seed: int) -> Any:
        strategy_seed = stream_seed(seed, f"benchmark/{benchmark_problem.label}")
        try:
            return self._strategy_loader.construct(
                entry.spec, benchmark_problem.space, benchmark_problem.problem, strategy_seed, entry.path
            )
        except ConfigurationError as error:
            if error.path:
                raise
            raise ConfigurationError(error.message, path=entry.path) from error
