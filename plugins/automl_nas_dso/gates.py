"""Lambda: one scale for each edge, all in one Parameter, and which edges have been removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.space import Decision, Selection, Subset, Weighted


@final
class Gates:
    """The scale lambda of every edge of a space, and the edges that have not been removed.

    All scales are entries of one vector, so that one optimiser step and one gradient cover the whole network. A removed
    edge keeps its entry, which is 0 from then on.

    Args:
        decisions: of the space: a `Subset` for each target.
        device: where the Parameter is stored.

    Raises:
        ConfigurationError: a decision is not a `Subset`, or does not allow all of its options at once.

    Attributes:
        values: lambda, shape ``(number of edges,)``; 1 at first.
        edges: ``(decision, source)`` of each entry.
    """

    def __init__(self, decisions: Mapping[str, Decision], device: torch.device | str = "cpu") -> None:
        self._least: dict[str, int] = {}
        for name, decision in decisions.items():
            if not isinstance(decision, Subset):
                raise ConfigurationError(
                    f"dso searches edges, but the decision '{name}' is a {type(decision).__name__}, which takes one of "
                    f"{len(decision.options)} options; use a space of Subset decisions, such as dso or a ModuleSpace "
                    "of Dag modules",
                    path="space",
                )
            if decision.largest < len(decision.options):
                raise ConfigurationError(
                    f"dso begins with all edges, but the decision '{name}' allows at most {decision.largest} of its "
                    f"{len(decision.options)} options; remove its max",
                    path="space",
                )
            self._least[name] = decision.min
        self._options = {name: decision.options for name, decision in decisions.items()}
        self.edges = tuple((name, option) for name, options in self._options.items() for option in options)
        self.values = nn.Parameter(torch.ones(len(self.edges), device=device))
        self._present = torch.ones(len(self.edges), dtype=torch.bool)
        self._arrange()

    @property
    def present(self) -> Tensor:
        """Which edges have not been removed; boolean, shape ``(number of edges,)``, on the CPU."""
        return self._present

    @property
    def present_sources(self) -> Mapping[str, tuple[object, ...]]:
        """Decision -> the sources whose edges have not been removed."""
        return self._sources

    def selection(self, weights: Tensor | None) -> Selection:
        """Return a selection of the edges that have not been removed.

        Args:
            weights: one for each entry, shape ``(number of edges,)``; None: values without weights.
        """
        if weights is None:
            return dict(self._sources)  # type: ignore[arg-type]
        remaining = weights if self._places is None else weights[self._places]
        pieces = torch.split(remaining, self._lengths)
        weighted = {
            name: Weighted(self._sources[name], piece)  # type: ignore[arg-type]
            for name, piece in zip(self._weighted, pieces, strict=True)
        }
        return {name: weighted.get(name, ()) for name in self._sources}

    def sources_where(self, mask: Tensor) -> dict[str, tuple[object, ...]]:
        """Return decision -> the sources whose entries in a boolean vector are true."""
        flags = iter(mask.tolist())
        return {name: tuple([o for o in options if next(flags)]) for name, options in self._options.items()}

    def protected(self, sizes: Tensor) -> Tensor:
        """Return the edges that must remain: the n largest of each decision that requires at least n options.

        Args:
            sizes: one number for each entry, shape ``(number of edges,)``.

        Returns:
            A boolean vector of the same shape, on the CPU.
        """
        mask = torch.zeros(len(self.edges), dtype=torch.bool)
        if any(self._least.values()):
            ranked = sizes.cpu().masked_fill(~self._present, -1.0)
            start = 0
            for name, options in self._options.items():
                if self._least[name]:
                    order = ranked[start : start + len(options)].argsort(descending=True, stable=True)
                    mask[start + order[: self._least[name]]] = True
                start += len(options)
        return mask

    def split(self, weights: Tensor) -> dict[str, Tensor]:
        """Return decision -> its part of a vector, shape ``(number of options,)``."""
        lengths = [len(options) for options in self._options.values()]
        return dict(zip(self._options, torch.split(weights.detach(), lengths), strict=True))

    def named(self, weights: Tensor, mask: Tensor) -> dict[str, dict[str, float]]:
        """Return decision -> source -> number, where a boolean vector is true; decisions without any are omitted."""
        scales: dict[str, dict[str, float]] = {}
        for (name, source), weight, included in zip(self.edges, weights.tolist(), mask.tolist(), strict=True):
            if included:
                scales.setdefault(name, {})[str(source)] = weight
        return scales

    def mask(self, values: Mapping[str, object]) -> Tensor:
        """Return the boolean vector of an architecture's edges, on the CPU."""
        sources = {name: frozenset(_as_tuple(value)) for name, value in values.items()}
        return torch.tensor([source in sources.get(name, ()) for name, source in self.edges], dtype=torch.bool)

    def remove(self, mask: Tensor) -> None:
        """Permanently remove the edges where a boolean vector is true. The caller sets their entries to 0."""
        self._present &= ~mask.cpu()
        self._arrange()

    def _arrange(self) -> None:
        self._sources = self.sources_where(self._present)
        self._weighted = [name for name, sources in self._sources.items() if sources]
        self._lengths = [len(self._sources[name]) for name in self._weighted]
        whole = bool(self._present.all())
        self._places = None if whole else self._present.nonzero().flatten().to(self.values.device)

    def nan_edges(self) -> Sequence[tuple[str, object]]:
        """Return the edges whose lambda is NaN."""
        return [self.edges[place] for place in self.values.detach().isnan().nonzero().flatten().tolist()]


def _as_tuple(value: object) -> tuple[object, ...]:
    assert isinstance(value, tuple)
    return value
