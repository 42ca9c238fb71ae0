"""The contract of the strategy that proposes listed architectures."""

from __future__ import annotations

from typing import ClassVar

from automl_nas.space.space import SearchSpace
from automl_nas.strategy import AskTellStrategy, Problem
from automl_nas.streams import stream
from automl_nas.testing import AskTellContract
from automl_nas_optuna.tuning.fixed_proposals import FixedProposals


class TestGiven(AskTellContract):
    """The list is drawn with the seed; results and constraints have no influence, nor have trials of others."""

    learns: ClassVar[bool] = False
    may_repeat: ClassVar[bool] = True
    may_violate: ClassVar[bool] = True
    trials: ClassVar[int] = 12
    search_length: ClassVar[int] = 30

    def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
        drawn = (space.sample(stream(seed, "listed", number)) for number in range(400))
        listed = {space.canonical(architecture): architecture.to_dict() for architecture in drawn}
        return FixedProposals(space, architectures=list(listed.values()))
