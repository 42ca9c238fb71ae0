"""What a study over searches is: its YAML file as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from automl_nas.cli import Configuration, Override
from automl_nas.errors import ConfigurationError
from automl_nas.plugin import join
from automl_nas.run import Document, read_settings, read_yaml
from automl_nas_optuna.samplers import Sampler

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Parameter:
    """The values of one setting: ``options``, or numbers from ``low`` to ``high``.

    Attributes:
        options: any values; what is no number, text or bool is told to Optuna as text.
        low: the smallest number; whole numbers are tried where ``low``, ``high`` and ``step`` are whole.
        high: the largest.
        step: distance between numbers; null: 1 for whole numbers, none for others.
        log: whether ratios count instead of differences.
    """

    options: list[Any] | None = None
    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        if self.options is not None:
            if not self.options:
                raise ConfigurationError("at least one option is needed", path="options")
            if (self.low, self.high, self.step, self.log) != (None, None, None, False):
                raise ConfigurationError("a parameter has options, or low and high")
            return
        if self.low is None or self.high is None:
            raise ConfigurationError("write options: [...], or low: and high:")
        if self.low > self.high:
            raise ConfigurationError(f"low ({self.low}) is above high ({self.high})", path="low")
        if self.log and (self.low <= 0 or self.step not in (None, 1)):
            raise ConfigurationError("with log, low must be positive and there is no step", path="log")

    @property
    def distribution(self) -> BaseDistribution:
        """As Optuna's; options are told by their place."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.options is not None:
            return CategoricalDistribution([shown_option(option) for option in self.options])
        low, high, step = self.low, self.high, self.step
        if isinstance(low, int) and isinstance(high, int) and (step is None or isinstance(step, int)):
            return IntDistribution(low, high, log=self.log, step=step or 1)
        assert low is not None
        assert high is not None
        return FloatDistribution(float(low), float(high), log=self.log, step=None if step is None else float(step))

    def value(self, told: Any) -> Any:
        """Return the value of the setting for what Optuna tells."""
        if self.options is None:
            return told
        return next(option for option in self.options if shown_option(option) == told)


def shown_option(option: Any) -> str:
    """Return an option as the text by which Optuna knows it."""
    import json

    return option if isinstance(option, str) else json.dumps(option)


@dataclass(frozen=True)
class StudySettings:
    """A study over searches.

    Attributes:
        configuration: of the runs: the path of a file, as seen from the study's, or the configuration itself.
        parameters: setting, as in ``--set`` -> its values.
        joint: the stage whose architecture is a parameter too: each run evaluates that one architecture; null: none.
        objectives: metric or cost of the best trial of a run, or a path in ``result.json`` -> ``maximize`` or
            ``minimize``; empty: the main objective of the runs.
        trials: how many parameter values are tried.
        repeats: runs for each of them, with seeds of their own; their mean counts.
        sampler: of Optuna.
        seed: of the sampler, and of the first repeat of each run; the next ones have seed + 1, seed + 2, ...
        storage: of Optuna; null: a journal file in the study's directory.
        name: of the study in the storage; null: the name of its directory.
        max_failures: so many failed trials in a row end the study.
    """

    configuration: Any
    parameters: dict[str, Parameter] = field(default_factory=dict)
    joint: str | None = None
    objectives: dict[str, Literal["maximize", "minimize"]] = field(default_factory=dict)
    trials: int = 20
    repeats: int = 1
    sampler: Any = "tpe"
    seed: int = 0
    storage: str | None = None
    name: str | None = None
    max_failures: int = 5

    def __post_init__(self) -> None:
        for name in ("trials", "repeats", "max_failures"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"must be at least 1, not {getattr(self, name)}", path=name)
        if self.seed < 0:
            raise ConfigurationError(f"must not be negative, but is {self.seed}", path="seed")
        if not self.parameters and self.joint is None:
            raise ConfigurationError("there is nothing to tune: name settings and their values", path="parameters")


class StudyFile:
    """A study as its file describes it.

    Args:
        path: of the file.

    Attributes:
        settings: what it says.
        sampler: of Optuna.

    Raises:
        ConfigurationError: with the line and the way out.
    """

    def __init__(self, path: Path) -> None:
        document = read_yaml(path)
        try:
            self.settings = read_settings(StudySettings, document.value or {}, owner="a study")
            self.sampler = _sampler(self.settings.sampler)
            self._base, self._document = self._configuration(path, document)
            for name, parameter in self.settings.parameters.items():
                self._try(name, parameter)
        except ConfigurationError as error:
            if error.source:
                raise
            where = document.where(error.path) if error.path else str(path)
            raise ConfigurationError(error.message, path=error.path, source=where) from error

    def given(self, values: Mapping[str, Any]) -> Configuration:
        """Return the configuration of a run with these values of its settings."""
        made = Configuration(dict(self._base), self._document)
        for name, value in values.items():
            made.set(_override(name, value))
        return made

    def _configuration(self, path: Path, document: Document) -> tuple[dict[str, Any], Document]:
        given = self.settings.configuration
        if isinstance(given, str):
            found = Configuration.read(path.parent / given)
            return found.value, read_yaml(path.parent / given)
        if not isinstance(given, dict):
            raise ConfigurationError("must be the path of a configuration, or a mapping", path="configuration")
        return given, Document(given, str(path))

    def _try(self, name: str, parameter: Parameter) -> None:
        try:
            self.given({name: parameter.options[0] if parameter.options else parameter.low})
        except ConfigurationError as error:
            raise ConfigurationError(error.message, path=join("parameters", name)) from None


def _override(name: str, value: Any) -> Override:
    import json

    made = Override.parse(f"{name}=null")
    return Override(f"{name}={json.dumps(value)}", made.parts, value)


def _sampler(spec: Any) -> Sampler:
    from automl_nas.plugin import from_config

    given = from_config(spec, path="sampler")
    try:
        return read_settings(Sampler, given, "sampler")
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=error.path or "sampler") from None
