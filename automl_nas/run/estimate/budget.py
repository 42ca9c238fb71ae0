"""Sharing out a time budget: the stages of a run are shortened alike until its estimate fits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from automl_nas.errors import ConfigurationError
from automl_nas.run.configuration.context import RunContext
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.sections import BudgetSettings
from automl_nas.run.configuration.shortened import with_used_values
from automl_nas.run.configuration.stages import StagePlan, check_stage, final_settings
from automl_nas.run.estimate.estimate import RunEstimate
from automl_nas.run.estimate.lengths import Change, EndlessSearch, Length, lengths
from automl_nas.run.number_text import duration, exact

MARGIN = 0.2
"""The share of the time that is left free: a run may take 25 % longer than an estimate of 0.8 of the time."""

_HALVINGS = 40
"""Halvings of the interval in which the common share is: 1e-12 of it is left."""


@dataclass(frozen=True)
class Shares:
    """How a time budget is shared out.

    Attributes:
        changes: the settings that are shortened; empty: the run fits as it is written.
        stages: stage -> its estimated duration in seconds after the changes.
    """

    changes: tuple[Change, ...]
    stages: Mapping[str, float]

    def to_record(self) -> dict[str, dict[str, Any]]:
        """Return setting -> its values, as ``budget.shortened`` of the resolved configuration has them."""
        return {change.setting: {"written": change.written, "used": change.used} for change in self.changes}

    def lines(self) -> list[str]:
        """Return in words what is shortened, and the estimate."""
        parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in self.stages.items())
        total = duration(sum(self.stages.values()))
        return [
            *(f"time budget: {text}" for text in self._changes()),
            f"time budget: {'' if self.changes else 'nothing is shortened; '}estimate {total} ({parts})",
        ]

    def _changes(self) -> list[str]:
        return [f"{change.setting} {_text(change.written)} -> {_text(change.used)}" for change in self.changes]

    def refused(self, stage: str, error: ConfigurationError) -> ConfigurationError:
        """Return the error for a stage that refuses its shortened settings."""
        return ConfigurationError(
            f"too few: the stage '{stage}' refuses the settings that fit ({', '.join(self._changes())}): {error}",
            path="budget.minutes",
        )


def share_out(plan: Plan, estimate: RunEstimate, minutes: float, elapsed: float) -> Shares:
    """Share out a time budget among the stages.

    All stages do the same share of their work, the largest with which the estimate fits into the budget less a margin
    (`MARGIN`), as far as their lengths allow: epochs and trials are whole numbers. What is then left is used by single
    stages, first by the one that does the smallest share of its work. A search without a length of its own gets an
    equal part of the time (the time by the number of stages), and what the other stages leave.

    Args:
        plan: as written.
        estimate: of the plan.
        minutes: the budget.
        elapsed: seconds of the budget that have passed.

    Raises:
        ConfigurationError: even the shortest run does not fit, or a stage does not tell its work.
    """
    parts = lengths(plan, estimate)
    available = (60 * minutes - elapsed) * (1 - MARGIN)
    ended = [part for part in parts if isinstance(part, Length)]
    endless = [part for part in parts if isinstance(part, EndlessSearch)]
    least = {part.name: part.seconds(0.0) if isinstance(part, Length) else part.least for part in parts}
    if sum(least.values()) > available:
        raise _too_few(minutes, elapsed, least)
    reserved = sum(max(part.least, available / len(parts)) for part in endless)
    common = _largest_share(ended, available - reserved)
    shares = {part.name: common for part in ended}
    seconds, changes = {part.name: part.seconds(common) for part in ended}, list[Change]()
    for part in [] if endless else sorted(ended, key=lambda part: part.shortened(common)[0]):
        others = sum(seconds.values()) - seconds[part.name]
        shares[part.name] = max(common, _largest_share([part], available - others))
        seconds[part.name] = part.seconds(shares[part.name])
    for part in ended:
        changes += part.shortened(shares[part.name])[1]
    left = available - sum(seconds.values())
    for search in endless:
        seconds[search.name], change = search.within(left / len(endless))
        changes.append(change)
    return Shares(tuple(changes), {part.name: seconds[part.name] for part in parts})


def shared_plan(plan: Plan, shares: Shares) -> Plan:
    """Return the plan with the changes, which its configuration records.

    Raises:
        ConfigurationError: a component refuses its shortened settings.
    """
    config = with_used_values(plan.config, shares.to_record())
    config["budget"] = {**config["budget"], "shortened": shares.to_record()}
    context = RunContext(plan.components, plan.seed, False, plan.task, plan.space, plan.final_space)
    stages = []
    for stage, section in zip(plan.stages, config["stages"], strict=True):
        changed = _with_section(stage, section)
        if changed != stage:
            try:
                check_stage(changed, context, plan.runtime)
            except ConfigurationError as error:
                raise shares.refused(stage.settings.name, error) from error
        stages.append(changed)
    final = plan.final and replace(plan.final, settings=final_settings(config["final"]))
    return replace(plan, config=config, stages=tuple(stages), final=final)


def _with_section(stage: StagePlan, section: Mapping[str, Any]) -> StagePlan:
    budget = BudgetSettings(**section["budget"])
    return replace(stage, settings=replace(stage.settings, strategy=section["strategy"], budget=budget))


def _too_few(minutes: float, elapsed: float, least: Mapping[str, float]) -> ConfigurationError:
    needed = _round_up((sum(least.values()) / (1 - MARGIN) + elapsed) / 60)
    stages = ", ".join(f"{name} {duration(seconds)}" for name, seconds in least.items())
    return ConfigurationError(
        f"{minutes:g} minutes are too few for the shortest run (estimate of its stages: {stages}; before them "
        f"{duration(elapsed)}); with a margin of {MARGIN:.0%}, at least {needed:g} minutes are needed on this machine",
        path="budget.minutes",
    )


def _largest_share(parts: Sequence[Length], available: float) -> float:
    """Return the largest share with which the parts fit into the available seconds; 0 if none does."""

    def fits(share: float) -> bool:
        return sum(part.seconds(share) for part in parts) <= available

    if fits(1.0):
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _round_up(minutes: float) -> float:
    """Return two significant digits, rounded up."""
    scale = 10.0 ** (math.floor(math.log10(minutes)) - 1)
    return round(math.ceil(minutes / scale - 1e-9) * scale, 6)


def _text(value: Any) -> str:
    if value is None:
        return "no limit"
    return exact(value) if isinstance(value, int | float) else str(value)
