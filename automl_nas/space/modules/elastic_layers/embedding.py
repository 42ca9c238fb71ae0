"""Embeddings of searched width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.space.architecture import Scalar, Value
from automl_nas.space.decisions import Decision
from automl_nas.space.modules.choice import ChoiceModule, ModuleResolver, ResolvedChoice
from automl_nas.space.modules.copying import shallow_copy
from automl_nas.space.modules.elastic_layers.widths import OutputWidth


@final
class ElasticEmbedding(ChoiceModule, nn.Embedding):
    """A table of vectors for integer tokens whose width may be searched; the first entries of each vector are used.

    Args:
        num_embeddings: the number of tokens.
        embedding_dim: a number, an increasing sequence of numbers, or option -> number; see `ElasticLinear`.
        padding_idx: as in ``nn.Embedding``.
        name: the name of the decision; None: the module's path.

    Raises:
        SpaceError: a width is missing, not a whole number, or below 1.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int | Sequence[int] | Mapping[Scalar, int],
        padding_idx: int | None = None,
        name: str | None = None,
    ) -> None:
        width = OutputWidth(embedding_dim, "an ElasticEmbedding")
        nn.Embedding.__init__(self, num_embeddings, width.largest, padding_idx)
        self._init_choice(name)
        self._output = width
        self._active = None if width.decisions() else width.largest

    def decisions(self) -> Mapping[str, Decision]:
        """Return the decision about the width, if there are several widths."""
        return self._output.decisions()

    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return the table with its width set."""
        twin = shallow_copy(self)
        assert isinstance(twin, ElasticEmbedding)
        twin._active = self._output.of(self._output.selected(choices, self.path))
        return twin

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a plain ``nn.Embedding`` with copies of the entries in use."""
        width = self._output.of(self._output.selected(choices, self.path))
        with torch.device("meta"):
            plain = nn.Embedding(self.num_embeddings, width, self.padding_idx)
        plain.weight = nn.Parameter(self.weight[:, :width].detach().clone(), self.weight.requires_grad)
        return plain.train(self.training)

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return the width."""
        return values, ()

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove widths from the decision; the weights keep their shape, so that they stay the same Parameters."""
        self._output.prune_to(live)

    def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]
        """Return the first entries of the tokens' vectors."""
        if self._active is None:
            self.raise_unresolved()
        return F.embedding(tokens, self.weight[:, : self._active], self.padding_idx)
