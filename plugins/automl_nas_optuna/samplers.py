"""Which samplers there are, how one is made, and what it leaves behind."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from automl_nas.errors import ConfigurationError, did_you_mean

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

SamplerName = Literal["tpe", "gp", "nsgaii", "nsgaiii", "cmaes", "qmc", "random", "brute_force"]

_SUPPLIED = ("seed", "constraints_func")  # by the strategy
_PLAIN = {"int": int, "float": (int, float), "bool": bool, "str": str, "None": type(None)}


@dataclass(frozen=True)
class Traits:
    """What has to be known of a sampler to use it well.

    Attributes:
        path: ``package.module:Class``.
        fresh: it is made anew for every proposal; otherwise its generators are seeded anew, which is the same and
            takes a fiftieth of the time.
        sequence: its seed names a sequence that goes through the whole search, so it stays the same.
        replay: what it keeps cannot be stored as plain data, so a resumed search asks for all proposals again.
        several: it takes several objectives.
        ordered: it models ordered decisions only; there must be at least one.
        measured: it can be used with constraints on metrics. Constraints on costs never depend on the sampler.
        population: it waits for so many results before it goes on, so the result of a network that it suggests again
            is told again. Models of densities and surfaces are led astray by that (the documentation has numbers).
        requires: the distribution it needs beside Optuna.
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
    requires: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)


_QUIET = {"warn_independent_sampling": False}
KNOWN: Mapping[str, Traits] = MappingProxyType(
    {
        "tpe": Traits("optuna.samplers:TPESampler", fresh=False),
        # Its last fit is where the next one starts, and is kept in the object: made anew, it has no such memory.
        "gp": Traits("optuna.samplers:GPSampler", defaults=_QUIET),
        "nsgaii": Traits("optuna.samplers:NSGAIISampler", fresh=False, population=True),
        "nsgaiii": Traits("optuna.samplers:NSGAIIISampler", fresh=False, population=True),
        # Its optimiser is a pickle in the attributes of trials.
        "cmaes": Traits(
            "optuna.samplers:CmaEsSampler",
            replay=True,
            several=False,
            ordered=True,
            measured=False,
            population=True,
            requires="cmaes",
            defaults=_QUIET,
        ),
        # Without scrambling all seeds give one sequence.
        "qmc": Traits("optuna.samplers:QMCSampler", sequence=True, defaults={**_QUIET, "scramble": True}),
        "random": Traits("optuna.samplers:RandomSampler", fresh=False),
        "brute_force": Traits("optuna.samplers:BruteForceSampler", fresh=False),
    }
)
"""Short name -> what is known. A sampler given by its path is made anew for each proposal, and resumed by replay."""


@dataclass(frozen=True)
class Sampler:
    """A sampler and its settings.

    Attributes:
        name: one of ``tpe``, ``gp``, ``nsgaii``, ``nsgaiii``, ``cmaes``, ``qmc``, ``random``, ``brute_force``, or the
            class of any other sampler as ``package.module:Class``.
        settings: of its constructor, by name; the seed and constraints come from the run.

    Raises:
        ConfigurationError: an unknown sampler or setting, with the nearest name; a value the sampler refuses; a
            library that is missing or too old.
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
            raise ConfigurationError(f"'{self.name}' refuses its settings: {error}", path="settings") from error

    @property
    def traits(self) -> Traits:
        """What is known of it."""
        if self.name in KNOWN:
            return KNOWN[self.name]
        from optuna.samplers import BaseGASampler

        return Traits(self.name, replay=True, population=issubclass(self._load(self.name), BaseGASampler))

    @property
    def accepted(self) -> tuple[str, ...]:
        """The settings that a configuration can hold, in the order of the constructor."""
        return tuple(name for name, kinds in self._parameters().items() if _holds(kinds) and name not in _SUPPLIED)

    def make(self, seed: int, sequence: int = 0) -> BaseSampler:
        """Return a new sampler.

        Args:
            seed: of its generators, below 2^32.
            sequence: the seed of a sequence that goes through the whole search, below 2^32.
        """
        traits = self.traits
        keywords: dict[str, Any] = {**traits.defaults, **self.settings, "seed": seed}
        if traits.sequence:
            from optuna.samplers import RandomSampler

            keywords |= {"seed": sequence, "independent_sampler": RandomSampler(seed=seed)}
        with warnings.catch_warnings():
            from optuna.exceptions import ExperimentalWarning

            warnings.simplefilter("ignore", ExperimentalWarning)
            made: BaseSampler = self._load(traits.path)(**keywords)
        return made

    def _load(self, path: str) -> Any:
        from optuna.samplers import BaseSampler

        module, colon, names = path.partition(":")
        if not colon:
            raise ConfigurationError(
                f"unknown sampler '{self.name}'{did_you_mean(self.name, KNOWN)}; any other one is given by its class, "
                "'package.module:Class'",
                path="name",
            )
        try:
            found: Any = importlib.import_module(module)
            for part in names.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(f"cannot import the sampler '{path}': {error}", path="name") from error
        if not (isinstance(found, type) and issubclass(found, BaseSampler)) or inspect.isabstract(found):
            raise ConfigurationError(
                f"'{path}' is no sampler: it must be a class derived from BaseSampler", path="name"
            )
        return found

    def _parameters(self) -> dict[str, str]:
        signature = inspect.signature(self._load(self.traits.path).__init__)
        kept = (item for item in list(signature.parameters.values())[1:] if item.kind is not item.VAR_POSITIONAL)
        return {item.name: str(item.annotation) for item in kept if item.kind is not item.VAR_KEYWORD}

    def _check_settings(self) -> None:
        if (library := self.traits.requires) and importlib.util.find_spec(library) is None:
            raise ConfigurationError(
                f"the sampler '{self.name}' needs the library '{library}': pip install {library}", path="name"
            )
        parameters = self._parameters()
        if "seed" not in parameters:
            raise ConfigurationError(
                f"the sampler '{self.name}' takes no seed, so a search with it could not be repeated", path="name"
            )
        for name, value in self.settings.items():
            where = f"settings.{name}"
            if name in _SUPPLIED:
                raise ConfigurationError(f"'{name}' is supplied by the run: leave it out", path=where)
            if name not in parameters:
                raise ConfigurationError(
                    f"the sampler '{self.name}' has no setting '{name}'{did_you_mean(name, self.accepted)} "
                    f"(it accepts: {', '.join(self.accepted) or 'none'})",
                    path=where,
                )
            kinds = parameters[name]
            if not _holds(kinds):
                raise ConfigurationError(
                    f"'{name}' takes a Python object ({kinds}), which no configuration can hold; derive a sampler "
                    "with it fixed and give its class",
                    path=where,
                )
            if not _fits(value, kinds):
                raise ConfigurationError(f"must be {kinds}, not {value!r}", path=where)


def sampler_of(given: str | Sampler) -> Sampler:
    """Return a sampler that may be given by its name alone.

    Raises:
        ConfigurationError: as `Sampler`.
    """
    if isinstance(given, Sampler):
        return given
    try:
        return Sampler(given)
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path="sampler") from error


def require_optuna() -> None:
    """Check the version of Optuna.

    Raises:
        ConfigurationError: it is older than 5, whose trials carry their constraints themselves.
    """
    import optuna

    if int(optuna.__version__.partition(".")[0]) < 5:
        raise ConfigurationError(
            f"Optuna {optuna.__version__} is too old: trials have constraints of their own since version 5; "
            "pip install 'optuna>=5'"
        )


def _holds(kinds: str) -> bool:
    """Whether a configuration can hold an annotation, judged by its text: names of plain types and dicts of them."""
    names = kinds.replace("'", "").split(" | ")
    return all(name in _PLAIN or name.startswith(("dict[", "list[", "Mapping[", "Sequence[")) for name in names) and (
        "Trial" not in kinds and "Callable" not in kinds
    )


def _fits(value: Any, kinds: str) -> bool:
    names = kinds.replace("'", "").split(" | ")
    if any(name not in _PLAIN for name in names):
        return True
    if isinstance(value, bool):
        return "bool" in names
    return any(isinstance(value, _PLAIN[name]) for name in names)  # type: ignore[arg-type]


def reseed(sampler: BaseSampler, seed: int) -> bool:
    """Seed a sampler's generators as its constructor would; return whether all of them were found.

    A generator without a seed asks the operating system for one, which takes longer than all else a constructor does.
    Optuna's own `reseed_rng` seeds at random.
    """
    import numpy as np
    from optuna.samplers import BaseSampler

    found = False
    for name in ("_rng", "_random_sampler", "_independent_sampler"):
        part = getattr(sampler, name, None)
        if isinstance(part, BaseSampler):
            if not reseed(part, seed):
                return False
            found = True
        elif part is not None:
            generator = getattr(part, "rng", None)
            if not isinstance(generator, np.random.RandomState):
                return False
            generator.seed(seed)
            found = True
    return found


assert set(KNOWN) == set(get_args(SamplerName))
