"""The second-order gradient of DARTS: of the validation loss after one virtual step of the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

Hessian: TypeAlias = Literal["finite_difference", "exact"]

PERTURBATION = 0.01
"""The length of the perturbation of the weights in the finite difference (DARTS, section 2.3, footnote 2)."""


def unrolled_gradient(
    alpha: Tensor,
    optimizer: torch.optim.Optimizer,
    train_loss: Callable[[], Tensor],
    validation_loss: Callable[[], Tensor],
    *,
    hessian: Hessian,
    reduce: Callable[[Sequence[Tensor]], None],
) -> tuple[Tensor, Tensor]:
    """Return the gradient of ``L_val(w', alpha)`` with respect to alpha, and the value of ``L_val``.

    w' is what the next step of the optimiser makes of the weights w (Liu et al. 2019, equations 6 to 8)::

        w'       = w - xi (mu buf + dL_train/dw + lambda w)
        gradient = dL_val(w', alpha)/dalpha - xi d/dalpha <dL_train(w, alpha)/dw, v>,   v = dL_val(w', alpha)/dw'

    The weights are the same, bit for bit, afterwards.

    Args:
        alpha: the architecture parameters, a leaf.
        optimizer: SGD of the weights, with its momentum.
        train_loss: computes the training loss with the present weights and alpha.
        validation_loss: computes the loss of alpha with the present weights and alpha.
        hessian: ``finite_difference``: the published approximation of the second term, by two more gradients at
            ``w + e v`` and ``w - e v`` with ``e = 0.01 / ||v||``; ``exact``: the Hessian-vector product.
        reduce: replaces tensors by their means over data-parallel processes (`Runtime.reduce`), so that w' and v are
            those of the whole batches. The returned gradient is this process's part: the mean over the processes is the
            gradient.
    """
    weights = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    gradients = _gradients(train_loss(), weights)
    reduce(gradients)
    with replaced(weights, virtual_step(optimizer, gradients)):
        loss = validation_loss()
        first, *direction = torch.autograd.grad(loss, [alpha, *weights], materialize_grads=True)
    reduce(direction)
    product = _exact_product if hessian == "exact" else finite_difference
    return first - _factor(optimizer) * product(alpha, weights, direction, train_loss), loss.detach()


def virtual_step(optimizer: torch.optim.Optimizer, gradients: Sequence[Tensor]) -> list[Tensor]:
    """Return the weights after the next step of SGD.

    Args:
        optimizer: SGD; it is not changed.
        gradients: one for each parameter that requires a gradient, in the order of the optimiser.
    """
    moved: list[Tensor] = []
    rest = iter(gradients)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if not parameter.requires_grad:
                continue
            value = parameter.detach()
            change = next(rest) + group["weight_decay"] * value
            buffer = optimizer.state[parameter].get("momentum_buffer") if parameter in optimizer.state else None
            velocity = change if buffer is None else group["momentum"] * buffer + change
            ahead = change + group["momentum"] * velocity if group["nesterov"] else velocity
            moved.append(value - group["lr"] * ahead)
    return moved


def _factor(optimizer: torch.optim.Optimizer) -> float:
    """Return by how much the next step changes a weight, relative to a change of its gradient; the same for all."""
    group = optimizer.param_groups[0]
    return float(group["lr"] * (1 + group["momentum"]) if group["nesterov"] else group["lr"])


def finite_difference(
    alpha: Tensor, weights: Sequence[nn.Parameter], direction: Sequence[Tensor], train_loss: Callable[[], Tensor]
) -> Tensor:
    """Return ``[dL(w + e v)/dalpha - dL(w - e v)/dalpha] / 2e`` with ``e = 0.01 / ||v||`` (equation 8).

    Args:
        alpha: the architecture parameters.
        weights: w.
        direction: v; its norm over all weights together sets e.
        train_loss: L.
    """
    norm = float(torch.stack([part.double().square().sum() for part in direction]).sum().sqrt())
    if norm == 0.0:
        return torch.zeros_like(alpha)
    epsilon = PERTURBATION / norm
    sides: list[Tensor] = []
    for sign in (1.0, -1.0):
        with replaced(weights, [w.detach() + sign * epsilon * v for w, v in zip(weights, direction, strict=True)]):
            sides.append(torch.autograd.grad(train_loss(), alpha, materialize_grads=True)[0])
    return (sides[0] - sides[1]) / (2 * epsilon)


def _exact_product(
    alpha: Tensor, weights: Sequence[nn.Parameter], direction: Sequence[Tensor], train_loss: Callable[[], Tensor]
) -> Tensor:
    """Return ``d/dalpha <dL/dw, v>`` by a second backward pass through the gradient."""
    gradients = torch.autograd.grad(train_loss(), weights, create_graph=True, allow_unused=True)
    products = [(g * v).sum() for g, v in zip(gradients, direction, strict=True) if g is not None and g.requires_grad]
    if not products:
        return torch.zeros_like(alpha)
    return torch.autograd.grad(torch.stack(products).sum(), alpha, materialize_grads=True)[0]


def _gradients(loss: Tensor, weights: Sequence[nn.Parameter]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, weights, materialize_grads=True))


@contextlib.contextmanager
def replaced(weights: Sequence[nn.Parameter], values: Sequence[Tensor]) -> Iterator[None]:
    """Give parameters other values for a while. The old tensors are put back, so nothing is rounded."""
    before = [weight.data for weight in weights]
    for weight, value in zip(weights, values, strict=True):
        weight.data = value
    try:
        yield
    finally:
        for weight, data in zip(weights, before, strict=True):
            weight.data = data
