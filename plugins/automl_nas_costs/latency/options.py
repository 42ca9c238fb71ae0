"""How latency is measured: `LatencyOptions`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from automl_nas.errors import ConfigurationError
from automl_nas_costs.latency.engine import OPTIMISATIONS, provider_name
from automl_nas_costs.latency.measurement_rounds import CLOCKS

LEAST_ROUNDS = 5
"""With fewer rounds the interval of a median covers the true one in less than 90 % of cases: 1 - 2 * 0.5**rounds."""


@dataclass(frozen=True)
class LatencyOptions:
    """How latency is measured.

    Attributes:
        threads: CPU threads of each operator; operators run one after another.
        optimisation: ONNX Runtime's graph optimisation: ``none``, ``basic``, ``extended`` or ``all``.
        provider: the execution provider, e.g. ``cpu`` or ``CUDAExecutionProvider``.
        batch: inputs at once; the latency is that of the whole batch.
        rounds: number of measurements of each network, at least 5.
        burst_ms: how long a network runs in one round, in ms; at least three runs.
        warmup_ms: how long it runs before the first round, in ms.
        clock: ``wall``, or ``cpu`` for the processor time of this process. The latter leaves out the time of other
            programs, for machines that are never idle; it is a latency only with one thread on the CPU.
        round_ms: minimum time from the beginning of a round to that of the next, in ms.
        paired: whether each burst is between bursts of the control network, and counts by its ratio to them: for
            machines whose speed changes from second to second.

    Raises:
        ConfigurationError: a value out of range, or a provider that is not installed.
    """

    threads: int = 1
    optimisation: str = "all"
    provider: str = "cpu"
    batch: int = 1
    rounds: int = 9
    burst_ms: float = 30.0
    warmup_ms: float = 60.0
    round_ms: float = 200.0
    clock: str = "wall"
    paired: bool = False

    def __post_init__(self) -> None:
        for name, least in (("threads", 1), ("batch", 1), ("rounds", LEAST_ROUNDS)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"must be at least {least}, not {getattr(self, name)}", path=name)
        for name in ("burst_ms", "warmup_ms", "round_ms"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigurationError(f"must be a time in ms, 0 or more, not {value!r}", path=name)
        if self.optimisation not in OPTIMISATIONS:
            raise ConfigurationError(
                f"must be one of {', '.join(OPTIMISATIONS)}, not {self.optimisation!r}", path="optimisation"
            )
        try:
            provider_name(self.provider)
        except ValueError as error:
            raise ConfigurationError(str(error), path="provider") from None
        if self.clock not in CLOCKS:
            raise ConfigurationError(f"must be one of {', '.join(CLOCKS)}, not {self.clock!r}", path="clock")
        if self.clock == "cpu" and (self.threads > 1 or not provider_name(self.provider).startswith("CPU")):
            raise ConfigurationError(
                "processor time is a latency only with one thread on the CPU; use clock: wall", path="clock"
            )

    def as_dict(self) -> dict[str, Any]:
        """Return the options as plain data, the provider with its full name."""
        return {**asdict(self), "provider": provider_name(self.provider)}

    def text(self) -> str:
        """Return the options that change the measured value, in words."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        clock = ", processor time" if self.clock == "cpu" else ""
        paired = ", paired with the control" if self.paired else ""
        return (
            f"{provider_name(self.provider)}, {threads}, batch {self.batch}, optimisation {self.optimisation}{clock}"
            f"{paired}"
        )
