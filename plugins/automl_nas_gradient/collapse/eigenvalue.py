"""The dominant eigenvalue of the Hessian of the validation loss in alpha (R-DARTS, Zela et al. 2020, 1909.09656)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from automl_nas.space import Architecture
from automl_nas_gradient.collapse.observers import CollapseObserver, Stop

WINDOW = 5
"""Measurements of a mean."""
DISTANCE = 4
"""Measurements between the two means that are compared."""
WAIT = 10
"""The earliest epoch to which a search is set back."""
_DENSE = 32  # entries of alpha up to which the whole Hessian is computed
_TOLERANCE = 1e-4  # relative; the ratio at which a search ends has two digits


def largest_eigenvalue(loss: Tensor, alpha: Tensor, used: Tensor, weight_decay: float = 0.0) -> float:
    """Return the largest eigenvalue of the Hessian of a loss in alpha, with the weight decay on its diagonal.

    Args:
        loss: a scalar with a graph.
        alpha: a leaf.
        used: which entries of alpha count; boolean, in its shape.
        weight_decay: of alpha; the L2 penalty is a part of the loss.
    """
    gradient = torch.autograd.grad(loss, alpha, create_graph=True)[0][used]
    size = gradient.numel()

    def product(vector: Tensor) -> Tensor:
        return torch.autograd.grad(gradient, alpha, vector, retain_graph=True, materialize_grads=True)[0][used]

    if not gradient.requires_grad:
        return weight_decay
    if size <= _DENSE:
        unit = torch.eye(size, dtype=alpha.dtype, device=alpha.device)
        hessian = torch.stack([product(row) for row in unit]).double()
        return float(torch.linalg.eigvalsh((hessian + hessian.T) / 2)[-1]) + weight_decay
    return _lanczos(product, size, alpha) + weight_decay


def _lanczos(product: Callable[[Tensor], Tensor], size: int, alpha: Tensor) -> float:
    from scipy.sparse.linalg import LinearOperator, eigsh

    def apply(vector: Any) -> Any:
        return product(torch.as_tensor(vector).to(alpha).flatten()).double().cpu().numpy()

    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)
    # A fixed start: the result is a function of the network and the images.
    start = np.random.default_rng(0).standard_normal(size)
    values = eigsh(operator, k=1, which="LA", v0=start, tol=_TOLERANCE, return_eigenvectors=False)
    return float(values[0])


def stop_epoch(eigenvalues: Sequence[float], every: int, ratio: float) -> int | None:
    """Return the epoch to which a search is set back after a series of measurements; None: it goes on.

    The mean over `WINDOW` measurements is centred. It is compared with the mean `DISTANCE` measurements earlier.

    Args:
        eigenvalues: one for each ``every`` epochs, from epoch 0 on.
        every: epochs between two measurements.
        ratio: the factor at which the search ends.
    """
    if len(eigenvalues) < WINDOW + DISTANCE:
        return None
    centre = (len(eigenvalues) - 1 - WINDOW // 2) * every
    target = centre - DISTANCE * every
    if target < WAIT:
        return None
    now = float(np.mean(eigenvalues[-WINDOW:]))
    before = float(np.mean(eigenvalues[-WINDOW - DISTANCE : -DISTANCE]))
    return target if before > 0 and now / before > ratio else None


@final
class DominantEigenvalue(CollapseObserver):
    """Measures the dominant eigenvalue every few epochs; a sharp rise precedes the collapse to skip connections.

    Args:
        measure: computes the eigenvalue now.
        every: epochs between two measurements.
        ratio: the factor at which the search ends; None: it does not end.
    """

    name = "eigenvalue"

    def __init__(self, measure: Callable[[], float], every: int, ratio: float | None) -> None:
        self._measure, self._every, self._ratio = measure, every, ratio
        self._eigenvalues: list[float] = []

    def observe(self, epoch: int, derived: Architecture) -> tuple[float | None, Stop | None]:
        """Return the eigenvalue in the epochs in which it is measured, and a stop after a sharp rise."""
        # Epochs are counted from 0 in R-DARTS: the first measurement follows the first epoch.
        if (epoch - 1) % self._every:
            return None, None
        self._eigenvalues.append(self._measure())
        target = None if self._ratio is None else stop_epoch(self._eigenvalues, self._every, self._ratio)
        if target is None:
            return self._eigenvalues[-1], None
        reason = f"the dominant eigenvalue has grown by more than {self._ratio} within {DISTANCE} measurements"
        return self._eigenvalues[-1], Stop(target + 1, reason)

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements."""
        return {"eigenvalues": self._eigenvalues}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the measurements."""
        self._eigenvalues = list(state["eigenvalues"])
