"""Networks that runs measured before they delivered one, kept for later tables and predictors: `LearnedNetworks`."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Sequence
from typing import final

from automl_nas.errors import SpaceError
from automl_nas.evaluation import Measurement, corner
from automl_nas.space import Architecture, SearchSpace
from automl_nas_costs.blocks.structure import text_of
from automl_nas_costs.latency.cache import LatencyCache
from automl_nas_costs.latency.engine import environment
from automl_nas_costs.latency.measurement_rounds import DRIFT_LIMIT, METHOD
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.network_builder import networks_of
from automl_nas_costs.prediction.samples import Sample

_log = logging.getLogger(__name__)


@final
class LearnedNetworks:
    """Measured networks of one space in a folder of the latency cache, one file for each.

    All have the same space, options, processor and version of ONNX Runtime. The last measurement of an architecture
    replaces earlier ones. Networks of a session in which the machine was not steady are not kept, since they would make
    later models worse, unless their bursts were paired with those of the control network.

    Args:
        space: of the networks.
        options: how they are measured; None if that is unknown, then nothing is kept.
        folder: of the latency cache; ``user`` for the user's cache folder, None to keep and read nothing.

    Raises:
        ConfigurationError: the folder cannot be used.
    """

    def __init__(self, space: SearchSpace, options: LatencyOptions | None, folder: str | None) -> None:
        self._space, self._options = space, options
        self._root = LatencyCache(folder if options is not None else None).folder
        self._opened: LatencyCache | None = None

    def keep(self, networks: Sequence[tuple[Architecture, Measurement]]) -> None:
        """Write the measurements of a session; log a warning if the folder cannot be written to."""
        if self._options is None or self._root is None:
            return
        steady = [
            (architecture, measurement)
            for architecture, measurement in networks
            if self._options.paired or measurement.details["control"]["drift"] <= DRIFT_LIMIT
        ]
        if len(steady) < len(networks):
            unsteady = f"{len(networks) - len(steady)} of {len(networks)}"
            _log.info("%s measured networks are not kept for later runs: the machine was not steady", unsteady)
        try:
            cache = self._cache()
            for architecture, measurement in steady:
                details = {"architecture": architecture.to_dict(), "control": dict(measurement.details["control"])}
                name = hashlib.sha256(architecture.key.encode()).hexdigest()
                value, low, high = measurement.value, measurement.low, measurement.high
                cache.put(name, Measurement(value, low, high, measurement.confidence, details))
        except OSError as error:
            _log.warning("the measured networks are not kept for later runs: %s", error)

    def samples(self, control_ms: float, *, without: Collection[Architecture] = ()) -> list[Sample]:
        """Return the networks with their latency in ms, converted to another session.

        The speed of a machine differs from day to day, so each latency counts by its ratio to the control network's
        latency in its own session.

        Args:
            control_ms: the control network's latency in the other session.
            without: architectures that were measured there.
        """
        samples: list[Sample] = []
        if self._root is None:
            return samples
        cache = self._cache()
        for name in cache.names():
            item = cache.get(name)
            if item is None:
                continue
            try:
                architecture = self._space.validate(item.details["architecture"])
                value = item.value * control_ms / float(item.details["control"]["value"])
            except (SpaceError, KeyError, TypeError, ZeroDivisionError) as error:
                _log.warning("a measurement in %s is left out: %s", cache.folder, error)
                continue
            if architecture not in without:
                samples.append(Sample(architecture, value))
        return samples

    def _cache(self) -> LatencyCache:
        if self._opened is None:
            assert self._options is not None
            assert self._root is not None
            self._opened = LatencyCache(str(self._root / "learned" / _key(self._space, self._options)))
        return self._opened


def _key(space: SearchSpace, options: LatencyOptions) -> str:
    """Return what the networks of one folder have in common, as a SHA-256.

    Two spaces are taken to be the same if their decisions are, and their networks of all first and of all last options.
    """
    ends = [corner(space.decisions, first=first) for first in (True, False)]
    ends = [space.exclusions.nearest(end) or end for end in ends]
    parts = {
        "method": METHOD,
        "space": f"{type(space).__module__}.{type(space).__qualname__}",
        "decisions": {name: repr(decision) for name, decision in space.decisions.items()},
        "input_shape": list(space.input_shape),
        "networks": [text_of(network, {}) for network in networks_of(space, ends)],
        "options": options.as_dict(),
        "environment": environment(options.provider),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
