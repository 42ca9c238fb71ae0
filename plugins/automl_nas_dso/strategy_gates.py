"""Lambda: one number for each edge, in one Parameter, and which edges are still there."""

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

    All lambdas are entries of one vector, so that one optimiser step, one gradient and one look at the zeros serve the
    whole network. An edge that was removed keeps its entry, which is 0 from then on.

    Args:
        decisions: of the space: a `Subset` for each target.
        device: where lambda lives.

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
                    f"dso weights edges, but the decision '{name}' is a {type(decision).__name__}, which takes one of "
                    f"{len(decision.options)} options; it needs a space of Subset decisions, such as dso or one made "
                    "of Dag modules",
                    path="space",
                )
            if decision.largest < len(decision.options):
                raise ConfigurationError(
                    f"dso begins with all edges, but the decision '{name}' allows {decision.largest} of its "
                    f"{len(decision.options)} options; leave max out",
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
    def kept(self) -> Mapping[str, tuple[object, ...]]:
        """Decision -> the sources that have not been removed."""
        return self._kept

    def selection(self, weights: Tensor | None) -> Selection:
        """Return the edges that have not been removed, with weights or without.

        Args:
            weights: one for each entry, or None.
        """
        if weights is None:
            return dict(self._kept)  # type: ignore[arg-type]
        picked = weights if self._places is None else weights[self._places]
        pieces = torch.split(picked, self._lengths)
        weighted = {
            name: Weighted(self._kept[name], piece)  # type: ignore[arg-type]
            for name, piece in zip(self._weighted, pieces, strict=True)
        }
        return {name: weighted.get(name, ()) for name in self._kept}

    def chosen(self, mask: Tensor) -> dict[str, tuple[object, ...]]:
        """Return decision -> the sources where a boolean vector is true."""
        flags = iter(mask.tolist())
        return {name: tuple([o for o in options if next(flags)]) for name, options in self._options.items()}

    def protected(self, sizes: Tensor) -> Tensor:
        """Return the edges that must stay, because a decision demands a number of options: its largest.

        Args:
            sizes: one number for each entry.

        Returns:
            A boolean vector, on the CPU.
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
        """Return decision -> its part of a vector, one number for each option."""
        lengths = [len(options) for options in self._options.values()]
        return dict(zip(self._options, torch.split(weights.detach(), lengths), strict=True))

    def named(self, weights: Tensor, mask: Tensor) -> dict[str, dict[str, float]]:
        """Return decision -> source -> number, where a boolean vector is true; decisions without any are left out."""
        found: dict[str, dict[str, float]] = {}
        for (name, source), weight, kept in zip(self.edges, weights.tolist(), mask.tolist(), strict=True):
            if kept:
                found.setdefault(name, {})[str(source)] = weight
        return found

    def mask(self, values: Mapping[str, object]) -> Tensor:
        """Return the boolean vector of an architecture's edges, on the CPU."""
        taken = {name: frozenset(_sources(value)) for name, value in values.items()}
        return torch.tensor([source in taken.get(name, ()) for name, source in self.edges], dtype=torch.bool)

    def remove(self, mask: Tensor) -> None:
        """Remove edges for good: where a boolean vector is true. Their entries are the caller's to set to 0."""
        self._present &= ~mask.cpu()
        self._arrange()

    def _arrange(self) -> None:
        self._kept = self.chosen(self._present)
        self._weighted = [name for name, sources in self._kept.items() if sources]
        self._lengths = [len(self._kept[name]) for name in self._weighted]
        whole = bool(self._present.all())
        self._places = None if whole else self._present.nonzero().flatten().to(self.values.device)

    def nan_edges(self) -> Sequence[tuple[str, object]]:
        """Return the edges whose lambda is NaN."""
        return [self.edges[place] for place in self.values.detach().isnan().nonzero().flatten().tolist()]


def _sources(value: object) -> tuple[object, ...]:
    assert isinstance(value, tuple)
    return value
