"""The supernet of `from_model`: the whole network, whose weights all narrower networks share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import final

import torch
from torch import Tensor, nn

from automl_nas.channels import Narrowing, Plan
from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space import Decision, Ordinal, Scalar, Selection, Supernet, Value
from automl_nas_elastic.planning import Planner


@final
class ElasticSupernet(Supernet):
    """The whole network; a narrower network uses slices of its weights.

    Args:
        network: the whole network.
        narrowing: makes narrower networks.
        planner: says what an architecture keeps.

    Attributes:
        network: the whole network. Called itself, it is the largest network.
    """

    def __init__(self, network: nn.Module, narrowing: Narrowing, planner: Planner) -> None:
        super().__init__()
        self.network = network
        self._narrowing, self._planner = narrowing, planner
        self._decisions: dict[str, Decision] = {name: each.decision for name, each in planner.options.items()}

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> the decision with the live options."""
        return self._decisions

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        """Run the selected network; see `Supernet.forward`. Running statistics are updated in their slices."""
        network, sliced = self._narrowing.view(self.network, self._plan(selection))
        outputs: Tensor = network(x)
        if self.training and sliced:
            with torch.no_grad():
                for each in sliced:
                    each.write_back()
        return outputs

    def extract(self, selection: Selection) -> nn.Module:
        """Return the selected network with copies of its weights, in classes of the model; see `Supernet.extract`."""
        return self._narrowing.extract(self.network, self._plan(selection))

    def restrict(self, live: Mapping[str, Collection[Scalar]]) -> None:
        """Leave options out of the decisions; weights stay, since narrower tensors would be other Parameters."""
        shrunk = dict(self._decisions)
        for name, options in live.items():
            if name not in shrunk:
                raise SpaceError(f"the supernet has no decision '{name}'{did_you_mean(name, shrunk)}")
            decision = shrunk[name]
            try:
                places = sorted({decision.position(option) for option in options})
            except SpaceError as error:
                raise SpaceError(f"decision '{name}': {error}") from None
            if not places:
                raise SpaceError(f"decision '{name}': at least one option must stay live")
            shrunk[name] = Ordinal(tuple(decision.options[place] for place in places))
        self._decisions = shrunk

    def _plan(self, selection: Selection) -> Plan:
        return self._planner.plan(self._values(selection))

    def _values(self, selection: Selection) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for name, decision in self._decisions.items():
            if name not in selection:
                raise SpaceError(f"the selection lacks the decision '{name}'; it must name all {len(self._decisions)}")
            try:
                values[name] = decision.validate(selection[name])
            except SpaceError as error:
                raise SpaceError(f"decision '{name}': {error}") from None
        for name in selection:
            if name not in values:
                raise SpaceError(f"the supernet has no decision '{name}'{did_you_mean(name, values)}")
        return values
