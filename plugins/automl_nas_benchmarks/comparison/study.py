"""A comparison, resolved: which searches there are, and how each is made, in this process or in another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, final

from automl_nas.errors import ConfigurationError
from automl_nas.plugin import Registry
from automl_nas.run import read_settings
from automl_nas.streams import stream_seed
from automl_nas_benchmarks.comparison.benchmark_problem import BenchmarkProblem
from automl_nas_benchmarks.comparison.benchmarks import TABLE, make_benchmark, resolve_benchmark
from automl_nas_benchmarks.comparison.candidates import Candidates, Maker
from automl_nas_benchmarks.comparison.search import SearchRecord, run_search
from automl_nas_benchmarks.comparison.settings import ComparisonSettings, Entry, entries


@dataclass(frozen=True)
class Job:
    """One search to be made.

    Attributes:
        strategy: its label.
        benchmark: its label.
        seed: of the search.
    """

    strategy: str
    benchmark: str
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """As the record of the search has it."""
        return self.strategy, self.benchmark, self.seed

    def __str__(self) -> str:
        return f"'{self.strategy}' on '{self.benchmark}' with seed {self.seed}"


@final
class Study:
    """All searches of a comparison.

    Args:
        raw: the configuration as a user wrote it, or a resolved one: resolving twice changes nothing.
        registry: of what plugins registered.
        objects: ``module:Class`` -> strategy classes that cannot be imported.

    Attributes:
        settings: what was asked for.
        strategies: label -> resolved entry.
        benchmarks: label -> resolved entry.

    Raises:
        ConfigurationError: a name is unknown (the nearest is offered), a setting is wrong, or a label stands twice.
    """

    def __init__(self, raw: Mapping[str, Any], registry: Registry, objects: Mapping[str, Maker] | None = None) -> None:
        self.settings = read_settings(ComparisonSettings, raw, owner="a comparison")
        self._candidates = Candidates(registry, objects)
        self.strategies: dict[str, Entry] = {}
        for entry in entries(self.settings.strategies, "strategies"):
            spec = self._candidates.resolve(entry.spec, entry.path)
            self.strategies[entry.label] = Entry(entry.label, spec, entry.path)
        self.benchmarks: dict[str, Entry] = {}
        for entry in entries(self.settings.benchmarks, "benchmarks", TABLE):
            spec = resolve_benchmark(entry.spec, entry.path)
            self.benchmarks[entry.label] = Entry(entry.label, spec, entry.path)
        self._grounds: dict[str, BenchmarkProblem] = {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, as plain data."""
        config = asdict(self.settings)
        for name, found in (("strategies", self.strategies), ("benchmarks", self.benchmarks)):
            config[name] = [{"label": entry.label, **entry.spec} for entry in found.values()]
        return config

    @property
    def jobs(self) -> list[Job]:
        """All searches, seed by seed, so that what is done at any moment is a fair sample of the whole."""
        first = self.settings.first_seed
        return [
            Job(strategy, benchmark, seed)
            for seed in range(first, first + self.settings.seeds)
            for benchmark in self.benchmarks
            for strategy in self.strategies
        ]

    def ground(self, label: str) -> BenchmarkProblem:
        """Return a benchmark with its problem; it is made once."""
        if label not in self._grounds:
            entry = self.benchmarks[label]
            benchmark = make_benchmark(entry.spec, entry.path)
            self._grounds[label] = BenchmarkProblem(label, benchmark, self.settings)
        return self._grounds[label]

    def check(self) -> None:
        """Construct every strategy for every benchmark, and see that each benchmark can be solved.

        Raises:
            ConfigurationError: a constructor refuses a setting, or needs what a table cannot give.
            InfeasibleError: no network of a benchmark meets the constraints.
        """
        for label in self.benchmarks:
            ground = self.ground(label)
            ground.threshold(1.0)
            for entry in self.strategies.values():
                self._strategy(entry, ground, self.settings.first_seed)

    def search(self, job: Job, stop: Callable[[], bool] = lambda: False) -> SearchRecord:
        """Make one search.

        The strategy's seed is a function of the search's seed and the benchmark, the same for all strategies.

        Raises:
            EvaluationError: the strategy failed; see `run_search`.
            RunInterrupted: ``stop`` said so.
        """
        ground = self.ground(job.benchmark)
        strategy = self._strategy(self.strategies[job.strategy], ground, job.seed)
        settings = self.settings
        return run_search(
            ground,
            strategy,
            label=job.strategy,
            seed=job.seed,
            evaluations=settings.evaluations,
            batch=settings.batch,
            deduplicate=settings.deduplicate,
            stop=stop,
        )

    def _strategy(self, entry: Entry, ground: BenchmarkProblem, seed: int) -> Any:
        own = stream_seed(seed, f"benchmark/{ground.label}")
        try:
            return self._candidates.construct(entry.spec, ground.space, ground.problem, own, entry.path)
        except ConfigurationError as error:
            if error.path:
                raise
            raise ConfigurationError(error.message, path=entry.path) from error
