"""The networks of a bundle: architectures of a configuration, or networks by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas.cli import Configuration, read_architecture
from automl_nas.errors import ConfigurationError, SpaceError, did_you_mean
from automl_nas.space import Architecture, encode
from automl_nas.streams import stream
from automl_nas_costs.bundle.write import Bundle, BundledModel
from automl_nas_costs.latency.export import export
from automl_nas_costs.latency.graphs import fixed
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.network.locate_network import find_network
from automl_nas_costs.network_builder import network_of, preserve_rng

if TYPE_CHECKING:
    from automl_nas.plugin import Registry
    from automl_nas.space import SearchSpace

SAMPLES = 100
"""Default number of architectures: that of the samples to which a predictor is fitted by default."""

_TRIES = 20  # draws for each architecture, before a small space is taken to be exhausted

Settings = Mapping[str, Mapping[str, Any]]


def of_configuration(
    path: Path,
    registry: Registry,
    overrides: Sequence[str],
    settings: Settings,
    samples: int | None,
    architectures: Sequence[str],
) -> Bundle:
    """Return a bundle of architectures of a configuration's final space.

    Args:
        path: of the configuration.
        registry: of components.
        overrides: of its settings.
        settings: ``latency_ms`` -> its settings.
        samples: number of architectures that are drawn; None: `SAMPLES`, or 0 if ``architectures`` are given.
        architectures: as `automl_nas.cli.read_architecture` reads them.

    Raises:
        ConfigurationError: the configuration is invalid.
        SpaceError: an architecture is not of the space, or its network cannot be exported.
    """
    from automl_nas.run import make_plan

    options = _options(settings)
    configuration = Configuration.read(path, overrides)
    try:
        plan = make_plan(configuration.value, registry)
    except ConfigurationError as error:
        raise configuration.locate(error) from error
    space = plan.final_space
    count = (0 if architectures else SAMPLES) if samples is None else samples
    named = [read_architecture(text, space) for text in architectures]
    models = []
    for architecture in dict.fromkeys([*named, *_draw(space, count, plan.seed)]):
        model = export(network_of(space, architecture), space.input_shape, batch=options.batch)
        codes = ",".join(map(str, encode(architecture, space.decisions)))
        models.append(BundledModel(model, codes, architecture.to_dict()))
    return Bundle(models, options, plan.config["space"], plan.seed)


def of_networks(targets: Sequence[str], input_shape: tuple[int, ...] | None, settings: Settings) -> Bundle:
    """Return a bundle of networks: models of torchvision, ``package.module:Class``, ONNX files.

    Args:
        targets: the networks.
        input_shape: of PyTorch networks that are not torchvision's.
        settings: ``latency_ms`` -> its settings, ``network`` -> arguments of classes.

    Raises:
        UserError: a network is not found or cannot be exported.
    """
    options = _options(settings)
    models = []
    for target in targets:
        if target.endswith(".onnx"):
            models.append(BundledModel(fixed(Path(target), options.batch), target))
            continue
        network = find_network(target, settings.get("network", {}), input_shape)
        with preserve_rng():
            try:
                models.append(BundledModel(export(network.make(), network.input_shape, batch=options.batch), target))
            except SpaceError as error:
                raise SpaceError(f"{target}: {error}") from error
    return Bundle(models, options)


def _draw(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    rng = stream(seed, "bundle/samples")
    drawn: dict[Architecture, None] = {}
    for _ in range(_TRIES * count):
        if len(drawn) == min(count, space.size):
            break
        drawn[space.sample(rng)] = None
    return list(drawn)


def _options(settings: Settings) -> LatencyOptions:
    names = tuple(LatencyOptions.__dataclass_fields__)
    for name in settings:
        if name not in ("latency_ms", "network"):
            raise ConfigurationError(f"a bundle has no setting '{name}'{did_you_mean(name, ('latency_ms', 'network'))}")
    options = settings.get("latency_ms", {})
    for name in options:
        if name not in names:
            raise ConfigurationError(
                f"latency_ms has no setting '{name}'{did_you_mean(name, names)}", path="latency_ms"
            )
    try:
        return LatencyOptions(**options)
    except TypeError as error:
        raise ConfigurationError(f"a setting has the wrong type: {error}", path="latency_ms") from None
