"""The lengths of stages that a time budget can shorten."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.stages import StagePlan
from automl_nas.run.estimate.estimate import RunEstimate, StageEstimate, strategy_class
from automl_nas.run.estimate.stage_clock import TRIALS
from automl_nas.strategy.base import Strategy

_TINY = 1e-9
"""Relative tolerance before rounding down: a share that stands for a whole number may be a rounding error below it."""


@dataclass(frozen=True)
class Change:
    """A setting that was shortened.

    Attributes:
        setting: such as ``stages.search.budget.trials``, as the option ``--set`` names it.
        written: its value in the configuration; None: no limit.
        used: its value in the run.
    """

    setting: str
    written: Any
    used: Any


class Length(ABC):
    """The length of a stage. Its work can be done in part.

    Args:
        estimate: of the stage as written, with a duration.
    """

    def __init__(self, estimate: StageEstimate) -> None:
        assert estimate.seconds is not None
        self.name, self._fixed, self._work = estimate.name, estimate.fixed, estimate.seconds - estimate.fixed

    def seconds(self, share: float) -> float:
        """Return the duration with at most a share of the work, from 0 to 1; 0: with the least work."""
        return self._fixed + self._work * self.shortened(share)[0]

    @abstractmethod
    def shortened(self, share: float) -> tuple[float, tuple[Change, ...]]:
        """Return the share that is done, above 0, and the changes for it. A larger share never gives less work."""


@final
class StrategyLength(Length):
    """The length of a stage whose strategy knows how to shorten it.

    Args:
        estimate: of the stage.
        stage: as written.
        strategy: its class; None: it cannot be shortened.
    """

    def __init__(self, estimate: StageEstimate, stage: StagePlan, strategy: type[Strategy] | None) -> None:
        super().__init__(estimate)
        self._settings, self._strategy = stage.settings.strategy, strategy

    def shortened(self, share: float) -> tuple[float, tuple[Change, ...]]:
        """See `Length.shortened`."""
        part = None
        if self._strategy is not None and share < 1:
            part = self._strategy.shortened(self._settings, max(share, _TINY))
        if part is None:
            return 1.0, ()
        changed = {**self._settings, **part.settings}
        return part.share, tuple(_differences(f"stages.{self.name}.strategy", self._settings, changed))


@final
class TrialsLength(Length):
    """The number of trials of a search.

    Args:
        estimate: of the stage.
        stage: as written.
        least: smallest number of trials.
    """

    def __init__(self, estimate: StageEstimate, stage: StagePlan, least: int) -> None:
        super().__init__(estimate)
        self._written, self._total = stage.settings.budget.trials, estimate.work or math.inf
        if pace := _pace(estimate):  # fewer than the configuration allows, if the stage has a limit in seconds
            self._total = min(self._total, max(1.0, self._work / pace))
        self._least = min(least, math.floor(self._total))

    def shortened(self, share: float) -> tuple[float, tuple[Change, ...]]:
        """See `Length.shortened`."""
        if share >= 1:
            return 1.0, ()
        count = max(math.floor(share * self._total * (1 + _TINY)), self._least)
        change = Change(f"stages.{self.name}.budget.trials", self._written, count)
        return count / self._total, () if count >= self._total else (change,)


@final
class FinalLength(Length):
    """The epochs of the final stage.

    Args:
        estimate: of the stage.
        recipe: of its trainings.
    """

    def __init__(self, estimate: StageEstimate, recipe: Recipe) -> None:
        super().__init__(estimate)
        self._recipe = recipe

    def shortened(self, share: float) -> tuple[float, tuple[Change, ...]]:
        """See `Length.shortened`."""
        shorter = self._recipe if share >= 1 else self._recipe.shortened(max(share, _TINY))
        changes = _differences("final.train", asdict(self._recipe), asdict(shorter))
        return shorter.epochs / self._recipe.epochs, tuple(changes)


@final
class EndlessSearch:
    """A search without a length of its own: it ends with its budget.

    Args:
        estimate: of the stage.
        least: smallest number of trials.

    Attributes:
        name: of the stage.
        least: its duration in seconds with the smallest number of trials.
    """

    def __init__(self, estimate: StageEstimate, least: int) -> None:
        self.name, self._fixed, self._trials, self._pace = estimate.name, estimate.fixed, least, _pace(estimate)
        self.least = self._fixed + least * self._pace

    def within(self, seconds: float) -> tuple[float, Change]:
        """Return the duration of the longest search within a time, but of the least one if it is longer."""
        count = max(self._trials, math.floor((seconds - self._fixed) / self._pace))
        return self._fixed + count * self._pace, Change(f"stages.{self.name}.budget.trials", None, count)


def lengths(plan: Plan, estimate: RunEstimate) -> list[Length | EndlessSearch]:
    """Return the lengths of the stages in order, with the final stage.

    Raises:
        ConfigurationError: a stage does not tell its work.
    """
    parts: list[Length | EndlessSearch] = []
    for stage, estimated in zip(plan.stages, estimate.stages, strict=False):
        top_k = plan.final.settings.retrained if plan.final is not None and plan.final.source == estimated.name else 1
        trials = estimated.unit == TRIALS
        if trials and estimated.seconds is None and estimated.pace:
            parts.append(EndlessSearch(estimated, top_k))
        elif estimated.seconds is None:
            raise ConfigurationError(
                "the time budget of the run cannot be shared out, since the strategy of the stage "
                f"'{estimated.name}' does not say how much it will do; set a budget for the stage",
                path=f"{stage.path}.budget",
            )
        elif trials:
            parts.append(TrialsLength(estimated, stage, top_k))
        else:
            parts.append(StrategyLength(estimated, stage, strategy_class(plan, stage)))
    if plan.final is not None:
        parts.append(FinalLength(estimate.stages[-1], plan.final.settings.train))
    return parts


def _pace(estimate: StageEstimate) -> float:
    return (estimate.pace or 0.0) / estimate.parallel


def _differences(prefix: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """Yield the settings that differ, those of nested mappings by themselves."""
    for key, value in after.items():
        old, new = _plain(before.get(key)), _plain(value)
        if isinstance(new, Mapping) and isinstance(old, Mapping):
            yield from _differences(f"{prefix}.{key}", old, new)
        elif new != old:
            yield Change(f"{prefix}.{key}", old, new)


def _plain(value: Any) -> Any:
    """Return a setting as a file has it: tuples are lists there."""
    return list(value) if isinstance(value, tuple) else value
