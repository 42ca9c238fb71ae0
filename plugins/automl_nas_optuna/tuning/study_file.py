"""`StudyFile`: the YAML file that describes a study over searches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from automl_nas.cli import Configuration, Override
from automl_nas.errors import ConfigurationError
from automl_nas.plugin import join
from automl_nas.run import Document, read_settings, read_yaml
from automl_nas_optuna.storages import refuse_password
from automl_nas_optuna.strategy.samplers import Sampler

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Parameter:
    """The values of one setting: ``options``, or numbers from ``low`` to ``high``.

    Attributes:
        options: any values; Optuna receives those that are not strings as JSON strings.
        low: the smallest number; if ``low``, ``high`` and ``step`` are integers, all values are integers.
        high: the largest number.
        step: the distance between numbers; null: 1 for integers, and any number for others.
        log: whether the numbers are sampled on a logarithmic scale.
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
                raise ConfigurationError("a parameter has either options, or low and high")
            return
        if self.low is None or self.high is None:
            raise ConfigurationError("write options: [...], or low: and high:")
        if self.low > self.high:
            raise ConfigurationError(f"low ({self.low}) is above high ({self.high})", path="low")
        if self.log and (self.low <= 0 or self.step not in (None, 1)):
            raise ConfigurationError("with log, low must be positive, and step must be 1 or absent", path="log")

    @property
    def distribution(self) -> BaseDistribution:
        """The distribution of the parameter in the study."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.options is not None:
            return CategoricalDistribution([option_string(option) for option in self.options])
        low, high, step = self.low, self.high, self.step
        if isinstance(low, int) and isinstance(high, int) and (step is None or isinstance(step, int)):
            return IntDistribution(low, high, log=self.log, step=step or 1)
        assert low is not None
        assert high is not None
        return FloatDistribution(float(low), float(high), log=self.log, step=None if step is None else float(step))

    def value(self, parameter_value: Any) -> Any:
        """Return the value of the setting for a value of the parameter in the study."""
        if self.options is None:
            return parameter_value
        return next(option for option in self.options if option_string(option) == parameter_value)


def option_string(option: Any) -> str:
    """Return the string that stands for an option in the study."""
    import json

    return option if isinstance(option, str) else json.dumps(option)


@dataclass(frozen=True)
class StudySettings:
    """A study over searches.

    Attributes:
        configuration: the configuration of the runs, or the path of its file relative to the study file.
        parameters: setting, written as in ``--set`` -> its values.
        joint: a stage whose architecture is also a parameter: each run evaluates this one architecture; null: no stage.
        objectives: metric or cost of the best trial of a run, or a path in ``result.json`` -> ``maximize`` or
            ``minimize``; empty: the main objective of the runs.
        trials: the number of trials.
        repeats: the number of runs of each trial, with different seeds; the trial's value is their mean.
        sampler: the sampler of the study; see `Sampler`.
        seed: the seed of the sampler and of the first run of each trial; further runs have seed + 1, seed + 2, ...
        storage: see `open_storage`; null: a journal file in the study's directory.
        name: the name of the study in the storage; null: the name of its directory.
        max_failures: the number of consecutive failed trials after which the study is aborted.
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
                raise ConfigurationError(f"must be at least 1, got {getattr(self, name)}", path=name)
        if self.seed < 0:
            raise ConfigurationError(f"must not be negative, got {self.seed}", path="seed")
        if not self.parameters and self.joint is None:
            raise ConfigurationError(
                "there is nothing to tune; list settings and their values, or set joint", path="parameters"
            )


class StudyFile:
    """A study file, read and checked.

    Args:
        path: the path of the YAML file.

    Attributes:
        settings: the settings of the study.
        sampler: the sampler of the study.

    Raises:
        ConfigurationError: a setting is invalid; the message contains its line.
    """

    def __init__(self, path: Path) -> None:
        document = read_yaml(path)
        try:
            self.settings = read_settings(StudySettings, document.value or {}, owner="a study")
            self.sampler = _sampler(self.settings.sampler)
            self._base, self._document = self._read_configuration(path, document)
            for path_of_text, text in _texts(self._base):
                # The study contains the configuration of its runs, too.
                refuse_password(text, path=path_of_text)
            for name, parameter in self.settings.parameters.items():
                self._check_path(name, parameter)
        except ConfigurationError as error:
            if error.source:
                raise
            where = document.where(error.path) if error.path else str(path)
            raise ConfigurationError(error.message, path=error.path, source=where) from error

    def configuration(self, values: Mapping[str, Any]) -> Configuration:
        """Return the configuration of a run with these values of settings."""
        configuration = Configuration(dict(self._base), self._document)
        for name, value in values.items():
            configuration.set(_override(name, value))
        return configuration

    def _read_configuration(self, path: Path, document: Document) -> tuple[dict[str, Any], Document]:
        configuration = self.settings.configuration
        if isinstance(configuration, str):
            file = path.parent / configuration
            return Configuration.read(file).value, read_yaml(file)
        if not isinstance(configuration, dict):
            raise ConfigurationError("must be the path of a configuration, or a mapping", path="configuration")
        return configuration, Document(configuration, str(path))

    def _check_path(self, name: str, parameter: Parameter) -> None:
        try:
            self.configuration({name: parameter.options[0] if parameter.options else parameter.low})
        except ConfigurationError as error:
            raise ConfigurationError(error.message, path=join("parameters", name)) from None


def _texts(value: Any, path: str = "configuration") -> Iterator[tuple[str, str]]:
    """Yield path and content of all strings in plain data."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, join(path, str(key)))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _texts(item, f"{path}[{position}]")


def _override(name: str, value: Any) -> Override:
    import json

    parts = Override.parse(f"{name}=null").parts
    return Override(f"{name}={json.dumps(value)}", parts, value)


def _sampler(spec: Any) -> Sampler:
    from automl_nas.plugin import from_config

    settings = from_config(spec, path="sampler")
    try:
        return read_settings(Sampler, settings, "sampler")
    except ConfigurationError as error:
        raise ConfigurationError(error.message, path=error.path or "sampler") from None
