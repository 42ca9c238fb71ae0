"""Networks that runs measured before they delivered one, kept for later tables and predictors: `LearnedNetworks`."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, final

from automl_nas.errors import SpaceError
from automl_nas.evaluation import Measurement, corner
from automl_nas.space import Architecture, SearchSpace
from automl_nas_costs.latency.cache import LatencyCache
from automl_nas_costs.latency.engine import environment
from automl_nas_costs.latency.measurement_rounds import DRIFT_LIMIT, METHOD
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.network_builder import networks_of
from automl_nas_costs.prediction.blocks import text_of

_log = logging.getLogger(__name__)


@final
class LearnedNetworks:
    """Measured networks of one space, kept beside the cache of measurements, one file for each.

    They are those of the same space, options, processor and version of ONNX Runtime. Of an architecture that was
    measured more than once the last measurement is kept. A session in which the machine was not steady is worth less
    than it costs to mix it with others, so its networks are not kept, unless its bursts were paired with the control's.

    Args:
        space: of the networks.
        options: how they are measured; None: in a way that is not known here, so nothing is kept.
        folder: that of the cache; ``user`` stands for the user's cache folder, None keeps nothing and knows nothing.

    Raises:
        ConfigurationError: the folder cannot be used.
    """

    def __init__(self, space: SearchSpace, options: LatencyOptions | None, folder: str | None) -> None:
        self._space, self._options = space, options
        self._cache = LatencyCache(folder if options is not None else None)
        self._opened: LatencyCache | None = None

    def keep(self, known: Sequence[tuple[Architecture, Measurement]]) -> None:
        """Keep measurements of a session; a folder that cannot be written to is said and is no error."""
        if self._cache.folder is None or self._options is None:
            return
        steady = [
            (architecture, found)
            for architecture, found in known
            if self._options.paired or found.details["control"]["drift"] <= DRIFT_LIMIT
        ]
        if len(steady) < len(known):
            left = f"{len(known) - len(steady)} of {len(known)}"
            _log.info("%s measured networks are not kept for later runs: the machine was not steady", left)
        try:
            kept = self._folder()
            for architecture, found in steady:
                details = {"architecture": architecture.to_dict(), "control": dict(found.details["control"])}
                name = hashlib.sha256(architecture.key.encode()).hexdigest()
                kept.put(name, Measurement(found.value, found.low, found.high, found.confidence, details))
        except OSError as error:
            _log.warning("what was measured is not kept for later runs: %s", error)

    def known(self, control_ms: float, *, but: Collection[Architecture] = ()) -> list[tuple[Architecture, float]]:
        """Return networks and their latency in ms, as they would be in another session.

        Machines are faster on one day than on another, so each counts by its ratio to the control of its session.

        Args:
            control_ms: the control's latency in the other session.
            but: architectures that were measured there.
        """
        found: list[tuple[Architecture, float]] = []
        if self._cache.folder is None:
            return found
        kept = self._folder()
        for name in kept.names():
            item = kept.get(name)
            if item is None:
                continue
            try:
                architecture = self._space.validate(item.details["architecture"])
                value = item.value * control_ms / float(item.details["control"]["value"])
            except (SpaceError, KeyError, TypeError, ZeroDivisionError) as error:
                _log.warning("a measurement kept in %s is left out: %s", kept.folder, error)
                continue
            if architecture not in but:
                found.append((architecture, value))
        return found

    def _folder(self) -> LatencyCache:
        if self._opened is None:
            folder = self._cache.folder
            if folder is None:
                self._opened = LatencyCache(None)
            else:
                assert self._options is not None
                self._opened = LatencyCache(str(folder / "learned" / _key(self._space, self._options)))
        return self._opened


def as_rows(known: Sequence[tuple[Architecture, float]]) -> list[dict[str, Any]]:
    """Return networks and their values as plain data."""
    return [{"architecture": architecture.to_dict(), "value": value} for architecture, value in known]


def from_rows(rows: Sequence[Mapping[str, Any]], space: SearchSpace) -> list[tuple[Architecture, float]]:
    """Invert `as_rows`.

    Raises:
        SpaceError: an architecture is not of the space.
    """
    return [(space.validate(row["architecture"]), float(row["value"])) for row in rows]


def said(measured: int, learned: int) -> str:
    """Return on how many networks something rests: ``20 networks of this session and 3 learned from earlier runs``."""
    here = f"{measured} networks of this session"
    return f"{here} and {learned} learned from earlier runs" if learned else here


def _key(space: SearchSpace, options: LatencyOptions) -> str:
    """Return what networks have in common that may be put together, as a SHA-256.

    Two spaces are the same if their decisions are, and their networks of all first and of all last options.
    """
    ends = [corner(space.decisions, first=first) for first in (True, False)]
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
