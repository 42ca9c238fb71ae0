"""How often each option was drawn, and how good the networks with it were."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from automl_nas.evaluation import State
from automl_nas.strategy import Trial

MOST_DECISIONS, MOST_OPTIONS = 60, 24
"""The largest numbers that a report lists."""


@dataclass(frozen=True)
class OptionTally:
    """One option of a decision.

    Attributes:
        option: as text.
        drawn: number of trials with it.
        mean: mean of the metric over those trials that have it; None if none has.
        share: number of trials with it, relative to the most frequent option.
        delivered: whether the best network has it.
    """

    option: str
    drawn: int
    mean: float | None
    share: float
    delivered: bool


def tally(
    trials: Sequence[Trial], metric: str, direction: str, best: object = None
) -> tuple[dict[str, list[OptionTally]], int]:
    """Return decision -> its options in order of their means, best first, and the number of decisions left out.

    Args:
        trials: of a stage.
        metric: the main objective.
        direction: ``maximize`` or ``minimize``.
        best: the architecture of the best network as a mapping; None: no network is feasible.
    """
    counts: dict[str, dict[str, int]] = {}
    sums: dict[str, dict[str, list[float]]] = {}
    for trial in trials:
        value = trial.values.get(metric) if trial.state is State.COMPLETE else None
        for name, chosen in trial.architecture.items():
            for option in chosen if isinstance(chosen, list | tuple) else (chosen,):
                key = as_text(option)
                decision = counts.setdefault(name, {})
                decision[key] = decision.get(key, 0) + 1
                if value is not None and math.isfinite(value):
                    sums.setdefault(name, {}).setdefault(key, []).append(value)
    sign = 1.0 if direction == "maximize" else -1.0
    result: dict[str, list[OptionTally]] = {}
    chosen_of = dict(best) if isinstance(best, dict) else {}
    for name, options in list(counts.items())[:MOST_DECISIONS]:
        means = {key: math.fsum(values) / len(values) for key, values in sums.get(name, {}).items()}
        own = chosen_of.get(name)
        delivered = {as_text(option) for option in (own if isinstance(own, list | tuple) else (own,))}
        delivered = delivered if name in chosen_of else set()
        ranked = sorted(options, key=lambda key: (-sign * means[key] if key in means else math.inf, -options[key], key))
        result[name] = [
            OptionTally(
                key,
                options[key],
                means.get(key),
                options[key] / max(options.values()),
                key in delivered,
            )
            for key in ranked[:MOST_OPTIONS]
        ]
    return result, max(0, len(counts) - MOST_DECISIONS)


def as_text(option: object) -> str:
    """Return an option as text."""
    return option if isinstance(option, str) else json.dumps(option)
