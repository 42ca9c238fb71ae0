"""`Sampler`: Optuna's samplers with their settings, and the properties of each that matter to a search."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from automl_nas.errors import ConfigurationError, did_you_mean
from automl_nas.plugin import import_reference, join
from automl_nas.run import read_settings
from automl_nas_optuna.optuna_version import require_optuna

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

SamplerName = Literal[
    "tpe", "gp", "nsgaii", "nsgaiii", "cmaes", "qmc", "random", "brute_force", "grid", "partial_fixed"
]

_SUPPLIED = ("seed", "constraints_func")  # the strategy supplies them
_FIXED, _BASE = "fixed_params", "base_sampler"  # the settings of `partial_fixed`
_WAITING = ("n_startup_trials", "population_size", "popsize")  # settings of samplers: results that they wait for
_PLAIN = {"int": int, "float": (int, float), "bool": bool, "str": str, "None": type(None)}


@dataclass(frozen=True)
class SamplerTraits:
    """Properties of a sampler that a search depends on.

    Attributes:
        path: ``package.module:Class``.
        fresh: a new object is constructed for every proposal. Otherwise the generators of one object are reseeded,
            which has the same effect and takes a fiftieth of the time.
        sequence: the seed selects a sequence that runs through the whole search, so it stays the same.
        replay: its state cannot be stored as plain data, so a resumed search asks for all proposals again.
        several: supports several objectives.
        ordered: models ordered decisions only; the space must have at least one.
        measured: supports constraints on metrics. Constraints on costs do not depend on the sampler.
        population: waits for a number of results before it continues, so the result of a network that it suggests
            again is passed to it again. For models of densities and surfaces that would be misleading (the
            documentation contains numbers).
        grid: it enumerates the values of all parameters, which the run supplies.
        requires: the distribution that it needs in addition to Optuna.
        defaults: settings that differ from Optuna's defaults.
    """

    path: str
    fresh: bool = True
    sequence: bool = False
    replay: bool = False
    several: bool = True
    ordered: bool = False
    measured: bool = True
    population: bool = False
    grid: bool = False
    requires: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)


MAX_GRID = 100_000
"""The maximum number of points of a grid."""

_QUIET = {"warn_independent_sampling": False}
SAMPLERS: Mapping[str, SamplerTraits] = MappingProxyType(
    {
        "tpe": SamplerTraits("optuna.samplers:TPESampler", fresh=False),
        # The object stores its last fit and starts the next one from there; a fresh object has no such state.
        "gp": SamplerTraits("optuna.samplers:GPSampler", defaults=_QUIET),
        "nsgaii": SamplerTraits("optuna.samplers:NSGAIISampler", fresh=False, population=True),
        "nsgaiii": SamplerTraits("optuna.samplers:NSGAIIISampler", fresh=False, population=True),
        # It stores its optimiser as a pickle in attributes of trials.
        "cmaes": SamplerTraits(
            "optuna.samplers:CmaEsSampler",
            replay=True,
            several=False,
            ordered=True,
            measured=False,
            population=True,
            requires="cmaes",
            defaults=_QUIET,
        ),
        # Without scrambling, all seeds give the same sequence.
        "qmc": SamplerTraits("optuna.samplers:QMCSampler", sequence=True, defaults={**_QUIET, "scramble": True}),
        "random": SamplerTraits("optuna.samplers:RandomSampler", fresh=False),
        "brute_force": SamplerTraits("optuna.samplers:BruteForceSampler", fresh=False),
        # It stores its search space in attributes of trials.
        "grid": SamplerTraits("optuna.samplers:GridSampler", fresh=False, replay=True, grid=True),
        # Its other traits are those of its base sampler.
        "partial_fixed": SamplerTraits("optuna.samplers:PartialFixedSampler"),
    }
)
"""Short name -> traits. A sampler configured by its path is fresh for each proposal and is resumed by replay."""


@dataclass(frozen=True)
class Sampler:
    """A sampler and its settings.

    Attributes:
        name: one of ``tpe``, ``gp``, ``nsgaii``, ``nsgaiii``, ``cmaes``, ``qmc``, ``random``, ``brute_force``,
            ``grid``, ``partial_fixed``, or the class of any other sampler as ``package.module:Class``.
        settings: arguments of the constructor by name; the run supplies the seed, the constraints and the grid. The
            setting ``base_sampler`` of ``partial_fixed`` is a name, or a mapping with ``name`` and ``settings``.

    Raises:
        ConfigurationError: the sampler or a setting is unknown (the message suggests the nearest name), the sampler
            rejects a value, or a library is missing or too old.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_optuna()
        self._check_settings()
        try:
            self.make(0)
        except (TypeError, ValueError) as error:
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(f"'{self.name}' rejects its settings: {error}", path="settings") from error

    @property
    def traits(self) -> SamplerTraits:
        """The properties of the sampler."""
        if self.name == "partial_fixed":
            return replace(self.base.traits, path=SAMPLERS[self.name].path, fresh=True)
        if self.name in SAMPLERS:
            return SAMPLERS[self.name]
        from optuna.samplers import BaseGASampler

        return SamplerTraits(self.name, replay=True, population=issubclass(self._load(self.name), BaseGASampler))

    @property
    def base(self) -> Sampler:
        """The sampler of the parameters that `partial_fixed` does not fix.

        Raises:
            ConfigurationError: as in `Sampler`.
        """
        spec = self.settings.get(_BASE, "tpe")
        try:
            return Sampler(spec) if isinstance(spec, str) else read_settings(Sampler, spec, owner="'base_sampler'")
        except ConfigurationError as error:
            raise ConfigurationError(error.message, path=join(f"settings.{_BASE}", error.path)) from error

    @property
    def enough(self) -> int:
        """The number of results that it waits for before it learns: of random trials, or of a population.

        Samplers that have no such setting, or need one result only, are given those of TPE and GP.
        """
        if self.name == "partial_fixed":
            return self.base.enough
        signature = inspect.signature(self._load(self.traits.path).__init__).parameters
        defaults = {name: item.default for name, item in signature.items()}
        numbers = [{**defaults, **self.settings}.get(name) for name in _WAITING]
        return max([number for number in numbers if isinstance(number, int) and number > 1], default=10)

    @property
    def fixed(self) -> Mapping[str, Any]:
        """What `partial_fixed` fixes: name -> value; empty for other samplers."""
        return self.settings.get(_FIXED, {}) if self.name == "partial_fixed" else {}

    @property
    def accepted(self) -> tuple[str, ...]:
        """The names of the settings that a configuration can contain, in the order of the constructor."""
        return tuple(
            name
            for name, annotation in self._parameters().items()
            if _configurable(annotation) and name not in _SUPPLIED
        )

    def make(
        self, seed: int, sequence: int = 0, distributions: Mapping[str, BaseDistribution] | None = None
    ) -> BaseSampler:
        """Return a new sampler.

        Args:
            seed: the seed of its generators, below 2^32.
            sequence: the seed of the sequence that runs through the whole search, below 2^32.
            distributions: of all parameters, which a grid enumerates.

        Raises:
            ConfigurationError: the grid is too large, or a parameter has infinitely many values.
        """
        traits = self.traits
        if self.name == "partial_fixed":
            base = self.base.make(
                seed, sequence, {k: v for k, v in (distributions or {}).items() if k not in self.fixed}
            )
            return self._construct(traits, {_FIXED: dict(self.fixed), "base_sampler": base})
        keywords: dict[str, Any] = {**traits.defaults, **self.settings, "seed": seed}
        if traits.sequence:
            from optuna.samplers import RandomSampler

            keywords |= {"seed": sequence, "independent_sampler": RandomSampler(seed=seed)}
        if traits.grid:
            # Optuna shuffles the points of the grid with the seed, and stores their positions.
            keywords |= {"seed": sequence, "search_space": grid_of(distributions or {})}
        return self._construct(traits, keywords)

    def _construct(self, traits: SamplerTraits, keywords: Mapping[str, Any]) -> BaseSampler:
        with warnings.catch_warnings():
            from optuna.exceptions import ExperimentalWarning

            warnings.simplefilter("ignore", ExperimentalWarning)
            sampler: BaseSampler = self._load(traits.path)(**keywords)
        return sampler

    def _load(self, path: str) -> Any:
        from optuna.samplers import BaseSampler

        if ":" not in path:
            raise ConfigurationError(
                f"unknown sampler '{self.name}'{did_you_mean(self.name, SAMPLERS)}; write any other one as "
                "'package.module:Class'",
                path="name",
            )
        try:
            if self.name in SAMPLERS:  # a class of Optuna's, not one that the configuration names
                module, _, name = path.partition(":")
                cls: Any = getattr(importlib.import_module(module), name)
            else:
                cls = import_reference(path, path="name")
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(f"cannot import the sampler '{path}': {error}", path="name") from error
        if not (isinstance(cls, type) and issubclass(cls, BaseSampler)) or inspect.isabstract(cls):
            raise ConfigurationError(
                f"'{path}' is not a sampler: it must be a concrete subclass of optuna.samplers.BaseSampler", path="name"
            )
        return cls

    def _parameters(self) -> dict[str, str]:
        signature = inspect.signature(self._load(self.traits.path).__init__)
        parameters = list(signature.parameters.values())[1:]  # without self
        return {
            item.name: str(item.annotation)
            for item in parameters
            if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)
        }

    def _check_settings(self) -> None:
        if (library := self.traits.requires) and importlib.util.find_spec(library) is None:
            raise ConfigurationError(
                f"the sampler '{self.name}' needs the library '{library}': pip install {library}", path="name"
            )
        parameters = self._parameters()
        if self.name == "partial_fixed":
            self._check_fixed()
            return
        if "seed" not in parameters:
            raise ConfigurationError(
                f"the sampler '{self.name}' has no parameter 'seed', so a search with it could not be repeated",
                path="name",
            )
        for name, value in self.settings.items():
            where = f"settings.{name}"
            if name in _SUPPLIED or (name == "search_space" and self.traits.grid):
                raise ConfigurationError(f"'{name}' is supplied by the run; remove it", path=where)
            if name not in parameters:
                raise ConfigurationError(
                    f"the sampler '{self.name}' has no setting '{name}'{did_you_mean(name, self.accepted)} "
                    f"(it accepts: {', '.join(self.accepted) or 'none'})",
                    path=where,
                )
            annotation = parameters[name]
            if not _configurable(annotation):
                raise ConfigurationError(
                    f"'{name}' takes a Python object ({annotation}), which a configuration cannot contain; write a "
                    "subclass of the sampler that sets it, and use this class",
                    path=where,
                )
            if not _matches(value, annotation):
                raise ConfigurationError(f"must be {annotation}, not {value!r}", path=where)

    def _check_fixed(self) -> None:
        for name in self.settings:
            if name not in (_FIXED, _BASE):
                raise ConfigurationError(
                    f"the sampler 'partial_fixed' has no setting '{name}'{did_you_mean(name, (_FIXED, _BASE))} (it "
                    f"accepts: {_FIXED}, {_BASE})",
                    path=f"settings.{name}",
                )
        if not isinstance(self.settings.get(_FIXED), Mapping):
            raise ConfigurationError("write the fixed values: {name: value, ...}", path=f"settings.{_FIXED}")
        if self.base.traits.grid:
            raise ConfigurationError("a grid cannot be the base sampler: use brute_force", path=f"settings.{_BASE}")


def grid_of(distributions: Mapping[str, BaseDistribution]) -> dict[str, list[Any]]:
    """Return all values of parameters: name -> values.

    Raises:
        ConfigurationError: a parameter has infinitely many values, or the grid has more than `MAX_GRID` points.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    grid: dict[str, list[Any]] = {}
    for name, distribution in distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            grid[name] = list(distribution.choices)
        elif isinstance(distribution, IntDistribution):
            grid[name] = list(range(distribution.low, distribution.high + 1, distribution.step))
        elif isinstance(distribution, FloatDistribution) and distribution.step is not None:
            count = round((distribution.high - distribution.low) / distribution.step) + 1
            grid[name] = [distribution.low + number * distribution.step for number in range(count)]
        else:
            raise ConfigurationError(f"a grid needs a step, and '{name}' has none", path="sampler")
    if (size := math.prod(map(len, grid.values()))) > MAX_GRID:
        raise ConfigurationError(
            f"the grid has {size:.3g} points, and Optuna lists all of them in memory: at most {MAX_GRID:,}; use "
            "brute_force, or random",
            path="sampler",
        )
    return grid


def to_sampler(sampler: str | Sampler) -> Sampler:
    """Return a sampler; a string is the name of one without settings.

    Raises:
        ConfigurationError: as in `Sampler`.
    """
    if isinstance(sampler, Sampler):
        return sampler
    try:
        return Sampler(sampler)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path="sampler") from error


def _configurable(annotation: str) -> bool:
    """Return whether a configuration can contain values of this annotation: plain types, and dicts and lists."""
    names = annotation.replace("'", "").split(" | ")
    return all(name in _PLAIN or name.startswith(("dict[", "list[", "Mapping[", "Sequence[")) for name in names) and (
        "Trial" not in annotation and "Callable" not in annotation
    )


def _matches(value: Any, annotation: str) -> bool:
    names = annotation.replace("'", "").split(" | ")
    if any(name not in _PLAIN for name in names):
        return True
    if isinstance(value, bool):
        return "bool" in names
    return any(isinstance(value, _PLAIN[name]) for name in names)  # type: ignore[arg-type]


def reseed(sampler: BaseSampler, seed: int) -> bool:
    """Seed a sampler's generators as its constructor does; return False if a generator is of an unknown kind.

    Optuna's own `reseed_rng` uses random seeds. Constructing a new sampler is slower, mainly because each generator is
    first seeded by the operating system.
    """
    import numpy as np
    from optuna.samplers import BaseSampler

    reseeded = False
    for name in ("_rng", "_random_sampler", "_independent_sampler"):
        part = getattr(sampler, name, None)
        if isinstance(part, BaseSampler):
            if not reseed(part, seed):
                return False
            reseeded = True
        elif part is not None:
            generator = getattr(part, "rng", None)
            if not isinstance(generator, np.random.RandomState):
                return False
            generator.seed(seed)
            reseeded = True
    return reseeded


assert set(SAMPLERS) == set(get_args(SamplerName))
