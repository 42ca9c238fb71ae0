"""Accelerated proximal gradient in Nesterov's form: `APGNAG`, an optimiser whose zeros are exact."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeAlias, overload

import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError, did_you_mean

Nonnegative: TypeAlias = Literal["none", "prox", "clamp"]
Tensors: TypeAlias = tuple[Tensor, ...]
NONNEGATIVE: tuple[Nonnegative, ...] = ("none", "prox", "clamp")


class APGNAG(torch.optim.Optimizer):
    """Minimise ``f(x) + gamma * ||x||_1`` by proximal gradient steps with Nesterov's momentum.

    For each parameter x with velocity v (0 at first), step size lr and momentum mu, which is mu' in the step before::

        z = x - lr * grad f(x)
        s = S(z)                          S(z) = sign(z) * max(|z| - lr * gamma, 0)
        v = (s - x) + mu' * v             the step from the last s to this one
        x = s + mu * v

    This is FISTA; the momentum of a step is read from the parameter group, where a schedule may set it. The parameter x
    holds the point that looks ahead, as in Nesterov's method: APG-NAG (Huang & Wang 2017, arXiv 1707.01213, section 3;
    Zhang et al. 2018, arXiv 1811.01567). Both s (`iterate`) and x converge to the solution; an entry of x is exactly 0
    from the second consecutive step on in which S gives 0. With gamma 0 and a constant momentum it is
    ``torch.optim.SGD(nesterov=True)`` at a constant learning rate. It is stable on a quadratic of largest curvature L
    while ``lr * L < (2 + 2 mu) / (1 + 2 mu)``. An entry without gradient moves by ``lr * gamma / (1 - mu)`` a step.

    A parameter without gradient (None) does not change. NaN stays NaN; it never becomes 0. Sparse and complex
    parameters are not supported.

    Args:
        params: parameters or parameter groups, as for every torch optimiser; groups may have their own settings.
        lr: step size.
        momentum: mu, at least 0 and below 1.
        gamma: weight of the penalty; `set_gamma` sets it for one parameter, also element by element.
        nonnegative: ``none``: S is two-sided; ``prox``: ``S(z) = max(z - lr * gamma, 0)``, the exact proximal step of
            the penalty with x >= 0 (x itself may fall below 0 for a step, when it looks ahead; s does not become
            negative); ``clamp``: two-sided, then ``x = max(x, 0)``, which is not exact (v is not adjusted).

    Raises:
        ConfigurationError: a setting is out of its range, or a parameter is complex.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]],
        lr: float = 0.1,
        *,
        momentum: float = 0.9,
        gamma: float = 0.0,
        nonnegative: Nonnegative = "none",
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "gamma": gamma, "nonnegative": nonnegative})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with their own settings; see `torch.optim.Optimizer.add_param_group`.

        Raises:
            ConfigurationError: a setting is out of its range, or a parameter is complex.
        """
        _check({**self.defaults, **param_group})
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if not parameter.is_floating_point():
                del self.param_groups[-1]
                raise ConfigurationError(f"APGNAG needs real parameters, not {parameter.dtype}", path="params")

    def set_gamma(self, parameter: Tensor, gamma: float | Tensor | None) -> None:
        """Set the penalty of one parameter from the next step on; it is part of the optimiser's state.

        Args:
            parameter: a parameter of this optimiser.
            gamma: a number; a tensor of the parameter's shape with the penalty of each element (infinity keeps the
                element at 0); or None: the group's penalty.

        Raises:
            ConfigurationError: the parameter is not in this optimiser, the shape is wrong, or a value is negative or
                NaN.
        """
        if not any(parameter is mine for group in self.param_groups for mine in group["params"]):
            raise ConfigurationError("the parameter does not belong to this optimiser", path="parameter")
        if gamma is None:
            self.state[parameter].pop("gamma", None)
            return
        penalties = torch.as_tensor(gamma, dtype=parameter.dtype, device=parameter.device)
        if penalties.dim() and penalties.shape != parameter.shape:
            raise ConfigurationError(
                f"gamma has the shape {tuple(penalties.shape)}, the parameter {tuple(parameter.shape)}", path="gamma"
            )
        if not bool((penalties >= 0).all()):
            raise ConfigurationError("gamma must be at least 0 everywhere", path="gamma")
        self.state[parameter]["gamma"] = penalties.expand(parameter.shape).clone()

    def gamma(self, parameter: Tensor) -> float | Tensor:
        """Return the penalty of a parameter: its own (a tensor) or its group's (a number)."""
        own = self.state[parameter].get("gamma") if parameter in self.state else None
        return self._group(parameter)["gamma"] if own is None else own  # type: ignore[no-any-return]

    def iterate(self, parameter: Tensor) -> Tensor:
        """Return s, the sparse result of S in the last step; the parameter itself is the point that looks ahead.

        It is the parameter without ``mu * v``: exactly where s is 0, up to rounding elsewhere. With ``clamp`` it is
        the parameter itself.
        """
        group = self._group(parameter)
        ahead: Tensor | None = self.state[parameter].get("look_ahead") if parameter in self.state else None
        if ahead is None or group["nonnegative"] == "clamp":
            return parameter.detach().clone()
        return parameter.detach() - ahead

    def forget(self, parameter: Tensor, where: Tensor) -> None:
        """Set elements of a parameter and of its velocity to 0; they remain 0 while their gradient is 0.

        Args:
            parameter: a parameter of this optimiser.
            where: a boolean tensor of the parameter's shape.
        """
        with torch.no_grad():
            parameter.masked_fill_(where, 0.0)
            ahead = self.state.get(parameter, {}).get("look_ahead")
            if ahead is not None:
                ahead.masked_fill_(where, 0.0)

    def scale(self, parameter: Tensor, factors: Tensor) -> None:
        """Multiply the elements of a parameter, and what it looks ahead, by positive numbers; zeros of s stay exact.

        Args:
            parameter: a parameter of this optimiser.
            factors: of the parameter's shape.
        """
        with torch.no_grad():
            parameter.mul_(factors)
            ahead = self.state.get(parameter, {}).get("look_ahead")
            if ahead is not None:
                ahead.mul_(factors)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make one step.

        Args:
            closure: computes the loss and the gradients again; its value is returned.

        Raises:
            RuntimeError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            for own in (False, True):
                part = [p for p in moved if ("gamma" in self.state[p]) is own]
                if part:
                    self._move(part, group, own)
        return loss

    def _move(self, points: list[Tensor], group: dict[str, Any], own: bool) -> None:
        # The state holds mu * v with the momentum of that step, since a schedule may change the momentum.
        rate, momentum, nonnegative = group["lr"], group["momentum"], group["nonnegative"]
        gradients = [p.grad for p in points if p.grad is not None]
        if any(g.is_sparse for g in gradients):
            raise RuntimeError("APGNAG does not support sparse gradients")
        for p in points:
            if "look_ahead" not in self.state[p]:
                self.state[p]["look_ahead"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        ahead = [self.state[p]["look_ahead"] for p in points]
        targets = torch._foreach_sub(points, torch._foreach_mul(gradients, rate))
        if own:
            thresholds = torch._foreach_mul([self.state[p]["gamma"] for p in points], rate)
            shrink = _one_sided if nonnegative == "prox" else _two_sided
            sparse = shrink(targets, thresholds)
        else:
            threshold = rate * group["gamma"]
            sparse = (_one_sided_evenly if nonnegative == "prox" else _two_sided_evenly)(targets, threshold)
        # Separate operations, no fused multiply-add: only then does (0 - mu * v) + mu * v give exactly 0.
        torch._foreach_add_(ahead, torch._foreach_sub(sparse, points))
        torch._foreach_mul_(ahead, momentum)
        torch._foreach_copy_(points, torch._foreach_add(sparse, ahead))
        if nonnegative == "clamp":
            torch._foreach_clamp_min_(points, 0.0)

    def _group(self, parameter: Tensor) -> dict[str, Any]:
        for group in self.param_groups:
            if any(parameter is mine for mine in group["params"]):
                return group
        raise ConfigurationError("the parameter does not belong to this optimiser", path="parameter")


def _two_sided(points: Tensors, thresholds: Tensors) -> Tensors:
    # z minus z clamped to [-a, a]: inside the interval this is z - z = +0 (sign * magnitude would give -0).
    inside = torch._foreach_clamp_max(points, thresholds)
    torch._foreach_clamp_min_(inside, torch._foreach_neg(thresholds))
    return torch._foreach_sub(points, inside)


def _two_sided_evenly(points: Tensors, threshold: float) -> Tensors:
    inside = torch._foreach_clamp_max(points, threshold)
    torch._foreach_clamp_min_(inside, -threshold)
    return torch._foreach_sub(points, inside)


def _one_sided(points: Tensors, thresholds: Tensors) -> Tensors:
    shifted = torch._foreach_sub(points, thresholds)
    torch._foreach_clamp_min_(shifted, 0.0)
    return torch._foreach_add(shifted, 0.0)  # -0 + 0 is +0


def _one_sided_evenly(points: Tensors, threshold: float) -> Tensors:
    shifted = torch._foreach_sub(points, threshold)
    torch._foreach_clamp_min_(shifted, 0.0)
    return torch._foreach_add(shifted, 0.0)


def alive(values: Tensor) -> Tensor:
    """Return where values are not exactly 0, boolean; NaN counts as 0."""
    return (values != 0) & ~values.isnan()


def _check(group: dict[str, Any]) -> None:
    if not 0 < group["lr"] < math.inf:
        raise ConfigurationError(f"lr must be positive, not {group['lr']}", path="lr")
    if not 0 <= group["momentum"] < 1:
        raise ConfigurationError(f"momentum must be at least 0 and below 1, not {group['momentum']}", path="momentum")
    if not 0 <= group["gamma"] < math.inf:
        raise ConfigurationError(f"gamma must be finite and at least 0, not {group['gamma']}", path="gamma")
    if group["nonnegative"] not in NONNEGATIVE:
        raise ConfigurationError(
            f"unknown nonnegative {group['nonnegative']!r}{did_you_mean(str(group['nonnegative']), NONNEGATIVE)}",
            path="nonnegative",
        )
