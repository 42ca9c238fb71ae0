"""How a search advances: problems, trials, strategies, and wrappers of ask-and-tell strategies.

Names load on first use: importing this package does not import torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_nas._lazy import lazy_names

if TYPE_CHECKING:
    from automl_nas.strategy.ask_tell import AskTellStrategy as AskTellStrategy, Preparation as Preparation
    from automl_nas.strategy.base import Phase as Phase, Services as Services, Strategy as Strategy
    from automl_nas.strategy.feasible_sampler import FeasibleSampler as FeasibleSampler
    from automl_nas.strategy.front import spread_front as spread_front
    from automl_nas.strategy.problem import (
        Constraint as Constraint,
        Direction as Direction,
        Problem as Problem,
        parse_constraint as parse_constraint,
    )
    from automl_nas.strategy.racing import Race as Race, beaten_by as beaten_by
    from automl_nas.strategy.trial import Proposal as Proposal, Trial as Trial
    from automl_nas.strategy.wrappers import Deduplicate as Deduplicate, Filter as Filter, Retry as Retry

_HOMES = {
    "base": (
        "Phase",
        "Services",
        "Strategy",
    ),
    "ask_tell": (
        "AskTellStrategy",
        "Preparation",
    ),
    "front": ("spread_front",),
    "problem": (
        "Constraint",
        "Direction",
        "Problem",
        "parse_constraint",
    ),
    "racing": (
        "Race",
        "beaten_by",
    ),
    "trial": (
        "Proposal",
        "Trial",
    ),
    "wrappers": (
        "Deduplicate",
        "Filter",
        "Retry",
    ),
    "feasible_sampler": ("FeasibleSampler",),
}

__all__, __getattr__, __dir__ = lazy_names(__name__, _HOMES)
