"""What flows along the edges of a `Dag` in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from automl_nas.space.modules.choice import ResolvedChoice
from automl_nas.space.modules.dag.graph import INPUT
from automl_nas.space.modules.dag.matrix_sums import mix, project
from automl_nas.space.modules.weighted_sum import weighted_sum


@dataclass(frozen=True)
class Inflow:
    """What flows into one target.

    Attributes:
        target: a node or ``output``.
        sources: the live sources, in order.
        weights: one for each, shape ``(len(sources),)``; None: unweighted.
    """

    target: str
    sources: tuple[str, ...]
    weights: Tensor | None


Program = tuple[tuple[Inflow, ...], ...]
"""The live nodes, level after level."""


def inflow_of(target: str, sources: tuple[str, ...], taken: ResolvedChoice) -> Inflow:
    """Return what flows in when only some of what is taken is live; the live sources stand in the order taken."""
    weights = taken.weights
    if weights is not None and len(sources) != len(taken.options):
        places = {option: place for place, option in enumerate(taken.options)}
        weights = weights[[places[source] for source in sources]]
    return Inflow(target, sources, weights)


def pays_off(program: Program) -> bool:
    """Whether matrix products read and write fewer maps than sums edge by edge: in dense graphs they do.

    An edge by itself takes a product (a map read, one written) and a sum (two and one). A product of matrices reads
    each source and, for each level it comes from, each target, which it writes; before, maps are copied side by side.
    """
    one_by_one = products = 0
    levels: dict[str, int] = {INPUT: 0}
    for number, level in enumerate(program, start=1):
        weighted = [inflow for inflow in level if inflow.weights is not None]
        one_by_one += sum(5 * len(inflow.sources) - 3 for inflow in weighted)
        read = {levels[source] for inflow in weighted for source in inflow.sources}
        products += 2 * len(level) + 2 * len(weighted) * len(read)
        products += sum(place in read for place in levels.values())
        levels |= {inflow.target: number for inflow in level}
    return one_by_one > products


class Flow:
    """The maps of one forward pass, and sums of them.

    Args:
        x: the input.
        fused: keep the maps of a level side by side and make the weighted sums of a level by one matrix product. Only
            while all maps have the input's shape and type; unweighted sums are always made from left to right, as
            extracted networks do.
    """

    def __init__(self, x: Tensor, *, fused: bool) -> None:
        self._values = {INPUT: x}
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._like = x
        self._last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        self._names: list[tuple[str, ...]] = [(INPUT,)] if fused else []
        self._bundles: list[Tensor] = [self._pack([x])] if fused else []

    def add(self, names: Sequence[str], maps: Sequence[Tensor]) -> None:
        """Take the outputs of the nodes of a level."""
        self._values.update(zip(names, maps, strict=True))
        if not self._bundles:
            return
        if all(each.shape == self._like.shape and each.dtype == self._like.dtype for each in maps):
            self._names.append(tuple(names))
            self._bundles.append(self._pack(maps))
        else:
            self._names, self._bundles = [], []

    def into(self, level: Sequence[Inflow]) -> list[Tensor]:
        """Return what each target of a level reads."""
        if self._bundles and all(inflow.weights is not None for inflow in level):
            return self._mixed(level)
        return [self._sum(inflow) for inflow in level]

    def concatenated(self, inflow: Inflow) -> Tensor:
        """Return the maps that flow into a target, one after the other along the channels, unweighted."""
        terms = [self._values[source] for source in inflow.sources]
        return terms[0] if len(terms) == 1 else torch.cat(terms, dim=1)

    @property
    def channels_last(self) -> bool:
        """Whether `projected` can be used."""
        return self._last

    def projected(self, inflow: Inflow, weights: Tensor) -> Tensor:
        """Return the sum of a 1x1 convolution of each map that flows into a target, without concatenating them.

        Args:
            inflow: whose sources are read; their weights are in ``weights`` already.
            weights: shape ``(sources, channels out, channels in)``.
        """
        batch, _, height, width = self._like.shape
        names, bundles = self._names, self._bundles
        if not bundles:
            names = [(source,) for source in inflow.sources]
            bundles = [self._pack([self._values[source]]) for source in inflow.sources]
        places = {source: place for place, source in enumerate(inflow.sources)}
        rows = [[row for row, name in enumerate(own) if name in places] for own in names]
        order = [places[own[row]] for own, used in zip(names, rows, strict=True) for row in used]
        if order != sorted(order):
            weights = weights[order]
        read = [number for number, used in enumerate(rows) if used]
        total = project(weights, [rows[number] for number in read], [bundles[number] for number in read])
        return total.view(batch, height, width, -1).permute(0, 3, 1, 2)

    def _sum(self, inflow: Inflow) -> Tensor:
        if inflow.weights is not None:
            return weighted_sum([self._values[source] for source in inflow.sources], inflow.weights)
        if inflow.sources not in self._sums:
            self._sums[inflow.sources] = weighted_sum([self._values[source] for source in inflow.sources], None)
        return self._sums[inflow.sources]

    def _mixed(self, level: Sequence[Inflow]) -> list[Tensor]:
        read = {source for inflow in level for source in inflow.sources}
        numbers = [number for number, names in enumerate(self._names) if not read.isdisjoint(names)]
        columns = [name for number in numbers for name in self._names[number]]
        sums, passed = mix(_matrix(level, columns), [self._bundles[number] for number in numbers])
        for number, bundle in zip(numbers, passed, strict=True):
            self._bundles[number] = bundle
        return [self._unpack(each) for each in sums.unbind(0)]

    def _pack(self, maps: Sequence[Tensor]) -> Tensor:
        flat = [(each.permute(0, 2, 3, 1) if self._last else each).reshape(-1) for each in maps]
        return flat[0].unsqueeze(0) if len(flat) == 1 else torch.stack(flat)

    def _unpack(self, flat: Tensor) -> Tensor:
        shape = self._like.shape
        if not self._last:
            return flat.view(shape)
        return flat.view(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2)


def _matrix(level: Sequence[Inflow], columns: Sequence[str]) -> Tensor:
    """Return the weights of a level, one row for each target, 0 where there is no edge."""
    weights = torch.cat([inflow.weights for inflow in level if inflow.weights is not None])
    if all(list(inflow.sources) == list(columns) for inflow in level):
        return weights.view(len(level), len(columns))
    places = {name: column for column, name in enumerate(columns)}
    index = [row * len(columns) + places[source] for row, inflow in enumerate(level) for source in inflow.sources]
    whole = weights.new_zeros(len(level) * len(columns))
    return whole.index_copy(0, torch.tensor(index, device=weights.device), weights).view(len(level), -1)
