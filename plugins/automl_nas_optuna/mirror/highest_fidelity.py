"""Which trials of a run are of a lower fidelity than its best ones: `HighestFidelities`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from automl_nas.plugin import Registry
from automl_nas.strategy import Trial


@final
class HighestFidelities:
    """Tells trials of the highest fidelity of their stage from others, whose results must not be compared with them.

    A strategy may say which fidelities it asks for (`automl_nas.strategy.Strategy.fidelities`). For others the highest
    is that of the trials so far, and may rise.

    Args:
        stages: the resolved sections of the stages.
        registry: the strategies.
    """

    def __init__(self, stages: Sequence[Mapping[str, Any]], registry: Registry) -> None:
        self._registry = registry
        asked = {stage["name"]: self._fidelities(stage["strategy"]) for stage in stages}
        self._highest = {name: max(fidelities) for name, fidelities in asked.items() if fidelities}
        self._seen: dict[str, float] = {}

    def see(self, trial: Trial) -> None:
        """Note the fidelity of a recorded trial."""
        self._seen[trial.stage] = max(self._seen.get(trial.stage, 0.0), trial.effective_fidelity)

    def is_lower(self, trial: Trial) -> bool:
        """Whether a trial that was noted is of a lower fidelity than others of its stage are, or will be."""
        return trial.effective_fidelity < self._highest.get(trial.stage, self._seen[trial.stage])

    def _fidelities(self, spec: Mapping[str, Any]) -> tuple[float, ...]:
        """Return the fidelities for which a strategy, or one inside its settings, is known to ask."""
        if spec["name"] not in self._registry.names("strategies"):  # a Python object of the run
            return ()
        produced = self._registry.get("strategies", spec["name"]).load()
        own: tuple[float, ...] = getattr(produced, "fidelities", lambda settings: ())(spec)
        inner = [value for value in spec.values() if isinstance(value, Mapping) and isinstance(value.get("name"), str)]
        return own or tuple(fidelity for each in inner for fidelity in self._fidelities(each))
