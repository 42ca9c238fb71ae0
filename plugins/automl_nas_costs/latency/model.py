"""The cost model `latency_ms`: latency measured in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, final

from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.evaluation import MeasuredCost, Measurement
from automl_nas.space import Architecture, SearchSpace
from automl_nas.streams import stream_seed
from automl_nas_costs.latency.cache import USER, LatencyCache, from_json, key, to_json
from automl_nas_costs.latency.export import export
from automl_nas_costs.latency.graphs import fixed
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.latency.profile import by_module, node_times
from automl_nas_costs.latency.session import measure, sentences
from automl_nas_costs.latency.stability import SessionStats
from automl_nas_costs.network_builder import measurable_shape, network_of


@final
class LatencyMs(MeasuredCost):
    """Latency in ONNX Runtime, measured: the median of rounds of short bursts, with its interval.

    Every value takes an export of about half a second and a measurement of ``rounds * max(round_ms, burst_ms)`` ms,
    unless the same graph was measured before with the same options, processor and version of ONNX Runtime.

    Args:
        space: any search space that can build networks.
        seed: of the order in which networks are measured, and of the resampling behind the intervals.
        threads: CPU threads of each operator; operators run one after another.
        optimisation: ONNX Runtime's graph optimisation.
        provider: the execution provider, e.g. ``cpu`` or ``CUDAExecutionProvider``.
        batch: inputs at once; the latency is that of the whole batch.
        rounds: number of measurements of each network, at least 5.
        burst_ms: how long a network runs in one round, in ms; at least three runs.
        warmup_ms: how long it runs before the first round, in ms.
        round_ms: minimum time from the beginning of a round to that of the next, in ms, so that a short disturbance of
            the machine does not affect all rounds.
        clock: ``wall``; or ``cpu``, the processor time of this process, which leaves out the time of other programs.
        paired: whether each burst is between bursts of the control network, and counts by its ratio to them: for
            machines whose speed changes from second to second.
        cache: folder of measurements; ``user`` for the one in the user's cache folder, null for none.

    Raises:
        ConfigurationError: a setting out of range, a provider that is not installed, or a folder that cannot be used.
    """

    metric: ClassVar[str] = "latency_ms"
    unit: ClassVar[str] = "ms"
    noisy: ClassVar[bool] = True
    exported_suffix: ClassVar[str] = ".onnx"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        threads: int = 1,
        optimisation: Literal["none", "basic", "extended", "all"] = "all",
        provider: str = "cpu",
        batch: int = 1,
        rounds: int = 9,
        burst_ms: float = 30.0,
        warmup_ms: float = 60.0,
        round_ms: float = 200.0,
        clock: Literal["wall", "cpu"] = "wall",
        paired: bool = False,
        cache: str | None = USER,
    ) -> None:
        self._space, self._seed = space, seed
        self.options = LatencyOptions(
            threads=threads,
            optimisation=optimisation,
            provider=provider,
            batch=batch,
            rounds=rounds,
            burst_ms=burst_ms,
            warmup_ms=warmup_ms,
            round_ms=round_ms,
            clock=clock,
            paired=paired,
        )
        self._cache = LatencyCache(cache)
        self._measurements: dict[str, Measurement] = {}
        self._sessions = 0
        self._stats = SessionStats()

    def measurement(self, architecture: Architecture) -> Measurement:
        """Return the latency of an architecture's network with its interval; measured once.

        Raises:
            SpaceError: the network cannot be built, exported or run; names the operation and the module.
        """
        measurement = self._measurements.get(architecture.key)
        if measurement is None:
            model = self._exported(network_of(self._space, architecture))
            name = key(model, self.options)
            measurement = self._cache.get(name)
            if measurement is None:
                (measurement,) = self._measure([model], [f"the network of {architecture.key}"], self._stats)
                self._cache.put(name, measurement)
            self._measurements[architecture.key] = measurement
        return measurement

    def estimate(self, architecture: Architecture) -> float:
        """Return the measured latency in ms; see `measurement`."""
        return self.measurement(architecture).value

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return module path -> its share of the measured latency, as ONNX Runtime's profile divides it.

        Operators that are fused into a convolution count for the convolution; conversions of layout and operators
        outside of modules are listed under the empty path.

        Raises:
            SpaceError: as `measurement`.
        """
        total = self.measurement(architecture).value
        network = network_of(self._space, architecture)
        model = self._exported(network)
        parts = by_module(node_times(model, self.options), [name for name, _ in network.named_modules()], model)
        whole = sum(parts.values())
        return {path: total * part / whole for path, part in parts.items()} if whole else {"": total}

    def remarks(self, architecture: Architecture) -> Sequence[str]:
        """Return the interval, the options of the measurement, and whether the machine was unsteady.

        Raises:
            SpaceError: as `measurement`.
        """
        return sentences(self.measurement(architecture))

    def measure(self, networks: Sequence[nn.Module], input_shape: Sequence[int]) -> list[Measurement]:
        """Measure networks in one session, without the cache; see `MeasuredCost.measure`."""
        models = []
        for number, network in enumerate(networks):
            try:
                models.append(export(network, input_shape, batch=self.options.batch))
            except SpaceError as error:
                raise SpaceError(f"network {number}: {error}") from error
        return self._measure(models, [f"network {number}" for number in range(len(models))])

    def measure_files(self, paths: Sequence[Path]) -> list[Measurement]:
        """Measure ONNX files in one session, without the cache; a free batch is set to the setting `batch`.

        Raises:
            SpaceError: a file cannot be read or run, or has free dimensions other than the batch.
        """
        models = [fixed(Path(path), self.options.batch) for path in paths]
        return self._measure(models, [str(path) for path in paths])

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements of architectures, as plain data."""
        return {"measurements": {name: to_json(item) for name, item in self._measurements.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the measurements of `state_dict`, measuring none again."""
        self._measurements = {str(name): from_json(item) for name, item in state["measurements"].items()}

    def _measure(
        self, models: Sequence[bytes], names: Sequence[str], stats: SessionStats | None = None
    ) -> list[Measurement]:
        if not models:
            return []
        self._sessions += 1
        seed = stream_seed(self._seed, "latency/session", self._sessions)
        return measure(models, self.options, names=names, seed=seed, stats=stats)

    def _exported(self, network: nn.Module) -> bytes:
        return export(network, measurable_shape(self._space), batch=self.options.batch)
