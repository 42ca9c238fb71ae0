"""One forward pass of a `Dag`: the maps it computes, and the weighted sums that flow along the edges.

The first half is the bookkeeping: what each node reads (`Inflow`), which nodes run (`Program`), the maps computed so
far (`ForwardPass`). The second half is the mathematics: in dense graphs all weighted sums of a level are one matrix
product (`mix`), and a 1x1 convolution of a concatenation is a sum of matrix products (`project`). Both have backward
passes of differentiable operations, so second derivatives can be taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from automl_nas.space.modules.choice import ResolvedChoice
from automl_nas.space.modules.dag.graph import INPUT
from automl_nas.space.modules.weighted_sum import weighted_sum

# Inner products of maps are summed in chunks of so many elements: BLAS is twice as fast on many short sums as on a
# few long ones.
_CHUNK = 1024


@dataclass(frozen=True)
class Inflow:
    """What one target reads.

    Attributes:
        target: a node or ``output``.
        sources: the live sources, in order.
        weights: one for each source, shape ``(len(sources),)``; None: unweighted.
    """

    target: str
    sources: tuple[str, ...]
    weights: Tensor | None


Program = tuple[tuple[Inflow, ...], ...]
"""The live nodes, level after level."""


def live_inflow(target: str, sources: tuple[str, ...], choice: ResolvedChoice) -> Inflow:
    """Return what a target reads when only some of the selected sources are live.

    Args:
        target: a node or ``output``.
        sources: the live sources, in the order of ``choice.options``.
        choice: all selected sources, with their weights.
    """
    weights = choice.weights
    if weights is not None and len(sources) != len(choice.options):
        positions = {option: position for position, option in enumerate(choice.options)}
        weights = weights[[positions[source] for source in sources]]
    return Inflow(target, sources, weights)


def matrix_products_pay_off(program: Program) -> bool:
    """Whether matrix products read and write fewer maps than sums edge by edge, as they do in dense graphs.

    Edge by edge, each edge is a product (one map read, one written) and a sum (two read, one written). A matrix product
    reads each source once for each target, for each level the source comes from, and writes each target; before that,
    the maps of a level are copied side by side.
    """
    one_by_one = products = 0
    levels: dict[str, int] = {INPUT: 0}
    for number, level in enumerate(program, start=1):
        weighted = [inflow for inflow in level if inflow.weights is not None]
        one_by_one += sum(5 * len(inflow.sources) - 3 for inflow in weighted)
        read = {levels[source] for inflow in weighted for source in inflow.sources}
        products += 2 * len(level) + 2 * len(weighted) * len(read)
        products += sum(source_level in read for source_level in levels.values())
        levels |= {inflow.target: number for inflow in level}
    return one_by_one > products


class ForwardPass:
    """The maps of one forward pass, and sums of them.

    Args:
        x: the input.
        fused: keep the maps of a level side by side and compute the weighted sums of a level by one matrix product.
            This ends at the first map whose shape or type differs from the input's. Unweighted sums are always computed
            from left to right, as in extracted networks.
    """

    def __init__(self, x: Tensor, *, fused: bool) -> None:
        self._maps = {INPUT: x}
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._like = x
        self._channels_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        # For each level that is fused: the names of its maps, and the maps as one bundle, shape (maps, elements).
        self._names: list[tuple[str, ...]] = [(INPUT,)] if fused else []
        self._bundles: list[Tensor] = [self._pack([x])] if fused else []

    @property
    def channels_last(self) -> bool:
        """Whether the input is in channels-last memory format, as `projected` requires."""
        return self._channels_last

    def add(self, names: Sequence[str], maps: Sequence[Tensor]) -> None:
        """Add the outputs of the nodes of a level."""
        self._maps.update(zip(names, maps, strict=True))
        if not self._bundles:
            return
        if all(each.shape == self._like.shape and each.dtype == self._like.dtype for each in maps):
            self._names.append(tuple(names))
            self._bundles.append(self._pack(maps))
        else:
            self._names, self._bundles = [], []

    def sums(self, level: Sequence[Inflow]) -> list[Tensor]:
        """Return for each target of a level the (weighted) sum of its sources."""
        if self._bundles and all(inflow.weights is not None for inflow in level):
            return self._mixed(level)
        return [self._sum(inflow) for inflow in level]

    def concatenated(self, inflow: Inflow) -> Tensor:
        """Return the sources of a target, concatenated along the channels and unweighted."""
        terms = [self._maps[source] for source in inflow.sources]
        return terms[0] if len(terms) == 1 else torch.cat(terms, dim=1)

    def projected(self, inflow: Inflow, weights: Tensor) -> Tensor:
        """Return the sum of a 1x1 convolution of each source of a target, without concatenating the sources.

        Args:
            inflow: whose sources are read; ``weights`` already contains their weights.
            weights: shape ``(sources, channels out, channels in)``.
        """
        batch, _, height, width = self._like.shape
        names, bundles = self._names, self._bundles
        if not bundles:
            names = [(source,) for source in inflow.sources]
            bundles = [self._pack([self._maps[source]]) for source in inflow.sources]
        positions = {source: position for position, source in enumerate(inflow.sources)}
        rows = [[row for row, name in enumerate(bundled) if name in positions] for bundled in names]
        order = [positions[bundled[row]] for bundled, used in zip(names, rows, strict=True) for row in used]
        if order != sorted(order):
            weights = weights[order]
        read = [number for number, used in enumerate(rows) if used]
        total = project(weights, [rows[number] for number in read], [bundles[number] for number in read])
        return total.view(batch, height, width, -1).permute(0, 3, 1, 2)

    def _sum(self, inflow: Inflow) -> Tensor:
        if inflow.weights is not None:
            return weighted_sum([self._maps[source] for source in inflow.sources], inflow.weights)
        if inflow.sources not in self._sums:
            self._sums[inflow.sources] = weighted_sum([self._maps[source] for source in inflow.sources], None)
        return self._sums[inflow.sources]

    def _mixed(self, level: Sequence[Inflow]) -> list[Tensor]:
        read = {source for inflow in level for source in inflow.sources}
        numbers = [number for number, names in enumerate(self._names) if not read.isdisjoint(names)]
        columns = [name for number in numbers for name in self._names[number]]
        sums, passed_on = mix(_weight_matrix(level, columns), [self._bundles[number] for number in numbers])
        for number, bundle in zip(numbers, passed_on, strict=True):
            self._bundles[number] = bundle
        return [self._unpack(each) for each in sums.unbind(0)]

    def _pack(self, maps: Sequence[Tensor]) -> Tensor:
        flat = [(each.permute(0, 2, 3, 1) if self._channels_last else each).reshape(-1) for each in maps]
        return flat[0].unsqueeze(0) if len(flat) == 1 else torch.stack(flat)

    def _unpack(self, flat: Tensor) -> Tensor:
        shape = self._like.shape
        if not self._channels_last:
            return flat.view(shape)
        return flat.view(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2)


def _weight_matrix(level: Sequence[Inflow], columns: Sequence[str]) -> Tensor:
    """Return the weights of a level, one row for each target, 0 where an edge is missing."""
    weights = torch.cat([inflow.weights for inflow in level if inflow.weights is not None])
    if all(list(inflow.sources) == list(columns) for inflow in level):
        return weights.view(len(level), len(columns))
    positions = {name: column for column, name in enumerate(columns)}
    index = [row * len(columns) + positions[source] for row, inflow in enumerate(level) for source in inflow.sources]
    matrix = weights.new_zeros(len(level) * len(columns))
    return matrix.index_copy(0, torch.tensor(index, device=weights.device), weights).view(len(level), -1)


def mix(weights: Tensor, bundles: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return weighted sums of maps, shape ``(sums, elements)``, and the bundles for the next reader.

    Args:
        weights: shape ``(sums, maps in all bundles)``.
        bundles: maps laid flat, each bundle of shape ``(maps, elements)``. From now on, use the bundles returned.
    """
    with _without_autocast(bundles[0]):
        total, *passed_on = _apply(_Mix, weights.to(bundles[0].dtype), *bundles)
    return total, passed_on


def project(weights: Tensor, rows: Sequence[Sequence[int]], bundles: Sequence[Tensor]) -> Tensor:
    """Return the sum of a linear map of each of some maps, shape ``(positions, channels out)``.

    Args:
        weights: shape ``(number of these maps, channels out, channels in)``.
        rows: for each bundle which of its maps are read, in the order of ``weights``.
        bundles: each of shape ``(maps, positions * channels in)``, channels last.
    """
    with _without_autocast(bundles[0]):
        result: Tensor = _apply(_Project, weights.to(bundles[0].dtype), rows, *bundles)
    return result


class _Mix(torch.autograd.Function):
    """``Lambda @ [bundles]``; also passes the bundles on, so that gradients of later readers are added in place.

    If each reader used the original bundle, each would allocate a gradient of its own, and autograd would add them up.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, *bundles: Tensor) -> tuple[Tensor, ...]:
        parts = _split(weights, bundles)
        total = torch.mm(parts[0], bundles[0])
        for part, bundle in zip(parts[1:], bundles[1:], strict=True):
            total.addmm_(part, bundle)
        ctx.save_for_backward(weights, *bundles)
        ctx.set_materialize_grads(False)
        return total, *bundles

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        grad, *later = grads
        if grad is None:
            return None, *later
        weights, *bundles = ctx.saved_tensors
        needs_weights, *needs = ctx.needs_input_grad
        to_bundles = [
            _accumulate(other, part.t(), grad) if needed else None
            for other, part, needed in zip(later, _split(weights, bundles), needs, strict=True)
        ]
        to_weights = torch.cat([_inner(grad, bundle) for bundle in bundles], dim=1) if needs_weights else None
        return to_weights, *to_bundles


class _Project(torch.autograd.Function):
    """``sum_k maps[k] @ weights[k].T``; the maps are rows of bundles, each viewed as ``(positions, channels)``."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, rows: Sequence[Sequence[int]], *bundles: Tensor) -> Tensor:
        maps = _maps(weights, rows, bundles)
        total = torch.mm(maps[0], weights[0].t())
        for weight, each in zip(weights[1:].unbind(0), maps[1:], strict=True):
            total.addmm_(each, weight.t())
        ctx.save_for_backward(weights, *bundles)
        ctx.rows = rows
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        weights, *bundles = ctx.saved_tensors
        needs_weights, _, *needs = ctx.needs_input_grad
        pieces = torch.split(weights, [len(used) for used in ctx.rows])
        to_bundles = [
            _to_bundle(grad, piece, used, bundle) if needed else None
            for piece, used, bundle, needed in zip(pieces, ctx.rows, bundles, needs, strict=True)
        ]
        to_weights = None
        if needs_weights:
            to_weights = torch.stack([torch.mm(grad.t(), each) for each in _maps(weights, ctx.rows, bundles)])
        return to_weights, None, *to_bundles


def _without_autocast(like: Tensor) -> contextlib.AbstractContextManager[object]:
    # Sums keep the maps' precision: autocast would round float32 maps. Not every device supports autocast.
    return contextlib.nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)


def _apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    return function.apply(*args)  # type: ignore[no-untyped-call]


def _split(weights: Tensor, bundles: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.split(weights, [len(bundle) for bundle in bundles], dim=1)


def _accumulate(other: Tensor | None, weights: Tensor, grad: Tensor) -> Tensor:
    if other is None:
        return torch.mm(weights, grad)
    if torch.is_grad_enabled():
        return torch.addmm(other, weights, grad)
    # In place: `other` was allocated by the backward pass of the only reader of the bundle that was passed on.
    return other.addmm_(weights, grad)


def _inner(first: Tensor, second: Tensor) -> Tensor:
    """Return ``first @ second.T`` for few long rows."""
    elements = first.shape[1]
    if elements % _CHUNK:
        return torch.mm(first, second.t())
    left = first.reshape(len(first), -1, _CHUNK).transpose(0, 1)
    right = second.reshape(len(second), -1, _CHUNK).permute(1, 2, 0)
    return torch.bmm(left, right).sum(0)


def _maps(weights: Tensor, rows: Sequence[Sequence[int]], bundles: Sequence[Tensor]) -> list[Tensor]:
    channels = weights.shape[2]
    return [bundle[row].reshape(-1, channels) for bundle, used in zip(bundles, rows, strict=True) for row in used]


def _to_bundle(grad: Tensor, weights: Tensor, rows: Sequence[int], bundle: Tensor) -> Tensor:
    read = torch.bmm(grad.expand(len(rows), *grad.shape), weights).view(len(rows), -1)
    if len(rows) == len(bundle):
        return read
    result = torch.zeros_like(bundle)
    result[list(rows)] = read
    return result
