"""The architecture parameters alpha: one row for each decision, all rows in one Parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor, nn

from automl_nas.space import Decision, Selection

Form: TypeAlias = Literal["softmax", "sigmoid", "fixed"]
"""How the weights of a decision come from its row: a softmax over the options, a sigmoid for each option, or all
options with weight 1 and without parameters."""


@final
class ArchitectureParameters:
    """Alpha of all decisions, as the rows of one matrix.

    One matrix makes a softmax, a penalty and a step of the optimiser single operations for the whole network. Rows of
    decisions with fewer options are padded; the padding has probability 0 and stays 0.

    Args:
        decisions: of the space.
        forms: decision name -> how its weights are made.
        device: where the Parameter is stored.

    Attributes:
        values: alpha, shape ``(rows, largest number of options)``; 0 at first.
        mask: which entries belong to an option; boolean, in the same shape.
        names: the decision of each row.
    """

    def __init__(
        self, decisions: Mapping[str, Decision], forms: Mapping[str, Form], device: torch.device | str = "cpu"
    ) -> None:
        self._decisions, self._device = dict(decisions), torch.device(device)
        self.names = tuple(name for name in decisions if forms[name] != "fixed")
        self.sizes = tuple(len(decisions[name].options) for name in self.names)
        widest = max(self.sizes, default=1)
        mask = torch.zeros(len(self.names), widest, dtype=torch.bool)
        for row, size in enumerate(self.sizes):
            mask[row, :size] = True
        self.mask = mask.to(device)
        self._padded = not bool(mask.all())
        self.sigmoid = torch.tensor([[forms[name] == "sigmoid"] for name in self.names], device=device)
        self.has_sigmoid = any(forms[name] == "sigmoid" for name in self.names)
        self.values = nn.Parameter(torch.zeros(len(self.names), widest, device=device))
        self._fixed = [name for name in decisions if forms[name] == "fixed"]

    @property
    def option_counts(self) -> dict[str, int]:
        """Decision -> number of options, of all decisions."""
        return {name: len(decision.options) for name, decision in self._decisions.items()}

    def initialise(self, std: float) -> None:
        """Draw alpha from N(0, std^2), with the global generator of the CPU."""
        drawn = torch.randn(self.values.shape, dtype=self.values.dtype) * std
        with torch.no_grad():
            self.values.copy_(drawn.to(self.values.device).masked_fill_(~self.mask, 0.0))

    def masked(self, values: Tensor | None = None) -> Tensor:
        """Return alpha with -inf in the padding."""
        values = self.values if values is None else values
        return values.masked_fill(~self.mask, -torch.inf) if self._padded else values

    def log_probabilities(self, temperature: float = 1.0) -> Tensor:
        """Return the log-probability of each option: log softmax of ``alpha / temperature``, or log sigmoid."""
        scaled = self.masked() / temperature
        result = torch.log_softmax(scaled, dim=1)
        return torch.where(self.sigmoid, nn.functional.logsigmoid(scaled), result) if self.has_sigmoid else result

    def probabilities(self, temperature: float = 1.0) -> Tensor:
        """Return the probability of each option, 0 in the padding; see `log_probabilities`."""
        scaled = self.masked() / temperature
        result = torch.softmax(scaled, dim=1)
        return torch.where(self.sigmoid, torch.sigmoid(scaled), result) if self.has_sigmoid else result

    def entropy(self) -> Tensor:
        """Return the mean entropy of the rows, in nats: of a categorical or of independent Bernoulli variables."""
        # From log-probabilities: the derivative of p ln p in p is infinite where p rounds to 0.
        logs = self.log_probabilities().masked_fill(~self.mask, 0.0)
        result = -logs.exp() * logs
        if self.has_sigmoid:
            others = nn.functional.logsigmoid(-self.values)
            result = torch.where(self.sigmoid, result - others.exp() * others, result)
        result = result.masked_fill(~self.mask, 0.0)
        total: Tensor = result.sum() / max(len(self.names), 1)
        return total

    def selection(self, weights: Tensor) -> dict[str, Tensor]:
        """Return a selection that computes all options with the weights of a matrix in the shape of `values`."""
        pieces: dict[str, Tensor] = {}
        for name, size, row in zip(self.names, self.sizes, weights.unbind(0), strict=True):
            pieces[name] = row if size == row.shape[0] else row[:size]
        for name in self._fixed:
            pieces[name] = weights.new_ones(len(self._decisions[name].options))
        return {name: pieces[name] for name in self._decisions}

    def fixed(self, weights: Tensor) -> Selection:
        """Return the part of a selection for the decisions without parameters."""
        return {name: weights.new_ones(len(self._decisions[name].options)) for name in self._fixed}

    def split(self, matrix: Tensor) -> dict[str, Tensor]:
        """Return decision -> its row of a matrix, without the padding."""
        rows = matrix.detach().unbind(0)
        return {name: row[:size] for name, size, row in zip(self.names, self.sizes, rows, strict=True)}

    def not_finite(self) -> list[str]:
        """Return the decisions with a NaN or an infinity in alpha."""
        bad = (~self.values.detach().isfinite()).any(dim=1).tolist()
        return [name for name, flag in zip(self.names, bad, strict=True) if flag]
