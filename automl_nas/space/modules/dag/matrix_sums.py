"""Weighted sums of many maps as matrix products, for training: one pass over the maps for a whole level of a graph.

A bundle holds maps of one shape, each laid flat: shape ``(maps, elements)``. Backward passes are made of differentiable
operations, so second derivatives can be taken.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Of a sum over the elements of a map: BLAS is twice as fast on many short sums as on a few long ones.
_CHUNK = 1024


class _Mix(torch.autograd.Function):
    """``Lambda @ [bundles]``; also hands the bundles on, so that what their next readers send back is added to.

    Otherwise each reader of a bundle would make a gradient of its own, and autograd would add them up.
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
        found = [
            _accumulate(other, part.t(), grad) if needed else None
            for other, part, needed in zip(later, _split(weights, bundles), needs, strict=True)
        ]
        to_weights = torch.cat([_inner(grad, bundle) for bundle in bundles], dim=1) if needs_weights else None
        return to_weights, *found


class _Project(torch.autograd.Function):
    """``sum_k maps[k] @ weights[k].T``, the maps being rows of bundles, each seen as ``(positions, channels)``."""

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
        pieces = torch.split(weights, [len(own) for own in ctx.rows])
        found = [
            _to_bundle(grad, piece, own, bundle) if needed else None
            for piece, own, bundle, needed in zip(pieces, ctx.rows, bundles, needs, strict=True)
        ]
        to_weights = None
        if needs_weights:
            to_weights = torch.stack([torch.mm(grad.t(), each) for each in _maps(weights, ctx.rows, bundles)])
        return to_weights, None, *found


def mix(weights: Tensor, bundles: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the weighted sums, shape ``(sums, elements)``, and the bundles for the next reader.

    Args:
        weights: shape ``(sums, maps in all bundles)``.
        bundles: each of shape ``(maps, elements)``; use those returned from now on.
    """
    with _exact(bundles[0]):
        total, *passed = _apply(_Mix, weights.to(bundles[0].dtype), *bundles)
    return total, passed


def project(weights: Tensor, rows: Sequence[Sequence[int]], bundles: Sequence[Tensor]) -> Tensor:
    """Return the sum of a linear map of each of some maps, shape ``(positions, channels out)``.

    Args:
        weights: shape ``(number of these maps, channels out, channels in)``.
        rows: for each bundle which of its maps are read, in the order of ``weights``.
        bundles: each of shape ``(maps, positions * channels in)``, channels last.
    """
    with _exact(bundles[0]):
        result: Tensor = _apply(_Project, weights.to(bundles[0].dtype), rows, *bundles)
    return result


def _exact(like: Tensor) -> contextlib.AbstractContextManager[object]:
    # The maps' own precision: autocast would round maps of float32 on their way. Not every device knows autocast.
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
    # Nobody else holds it: it was made by the backward pass of the only reader of the bundle that was handed on.
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
    return [bundle[row].reshape(-1, channels) for bundle, own in zip(bundles, rows, strict=True) for row in own]


def _to_bundle(grad: Tensor, weights: Tensor, rows: Sequence[int], bundle: Tensor) -> Tensor:
    found = torch.bmm(grad.expand(len(rows), *grad.shape), weights).view(len(rows), -1)
    if len(rows) == len(bundle):
        return found
    whole = torch.zeros_like(bundle)
    whole[list(rows)] = found
    return whole
