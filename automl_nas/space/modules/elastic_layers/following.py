"""What elastic layers without a decision have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from automl_nas.space.architecture import Scalar, Value
from automl_nas.space.decisions import Decision
from automl_nas.space.modules.choice import ChoiceModule, ModuleResolver, ResolvedChoice


class FollowingLayer(ChoiceModule):
    """A layer whose sizes follow its input: it has no decision, and is its own view. Abstract: `extract` is left."""

    def decisions(self) -> Mapping[str, Decision]:
        """Return an empty mapping: the sizes follow the input."""
        return {}

    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return the layer itself."""
        return self

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return an empty mapping and no children: the layer has no decision."""
        return {}, ()

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Do nothing: the layer has no decision."""
