"""The dominant eigenvalue against the dense Hessian, and the stopping rule of R-DARTS against worked series."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from automl_nas_gradient.collapse import DominantEigenvalue, largest_eigenvalue
from automl_nas_gradient.collapse.eigenvalue import stop_epoch


@pytest.mark.parametrize("size", [(2, 5), (7, 9)], ids=["dense", "lanczos"])
def test_the_eigenvalue_is_that_of_the_dense_hessian(size: tuple[int, int]) -> None:
    """The tolerance is that of the Lanczos iteration, 1e-4."""
    torch.manual_seed(1)
    mix = torch.randn(size[0] * size[1], 20, dtype=torch.float64)

    def loss(values: torch.Tensor) -> torch.Tensor:
        return torch.tanh(values.softmax(1).flatten() @ mix).square().sum()

    alpha = nn.Parameter(torch.randn(size, dtype=torch.float64))
    hessian = torch.autograd.functional.hessian(loss, alpha.detach())
    assert isinstance(hessian, torch.Tensor)
    expected = torch.linalg.eigvalsh(hessian.reshape(alpha.numel(), -1))[-1].item()
    used = torch.ones(size, dtype=torch.bool)
    assert largest_eigenvalue(loss(alpha), alpha, used) == pytest.approx(expected, rel=1e-4)
    assert largest_eigenvalue(loss(alpha), alpha, used, 1e-3) == pytest.approx(expected + 1e-3, rel=1e-4)


def stops(series: list[float], ratio: float = 1.3) -> tuple[int, int] | None:
    """Return the epoch in which a search with measurements in epochs 0, 2, 4, ... ends, and the one it returns."""
    for count in range(1, len(series) + 1):
        target = stop_epoch(series[:count], 2, ratio)
        if target is not None:
            return 2 * (count - 1), target
    return None


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ([0.10 + 0.01 * i for i in range(10)] + [0.2 * 1.15**i for i in range(6)], (24, 12)),
        ([0.1] * 30, None),
        ([0.1] * 12 + [0.3] * 5, (24, 12)),
        ([1.0678**i for i in range(20)], (22, 10)),
        ([1.0677**i for i in range(20)], None),
    ],
)
def test_the_rule_of_the_authors_code(series: list[float], expected: tuple[int, int] | None) -> None:
    """A geometric series ends the search if its factor exceeds 1.3^(1/4) = 1.06779, in epoch 22 at the earliest."""
    assert stops(series) == expected


def test_the_observer_measures_every_second_epoch_and_resumes() -> None:
    series = iter([0.1] * 12 + [0.3] * 5)
    observer = DominantEigenvalue(lambda: next(series), 2, 1.3)
    seen = {epoch: observer.observe(epoch, None) for epoch in range(1, 24)}  # type: ignore[arg-type]
    assert [epoch for epoch, (value, _) in seen.items() if value is not None] == list(range(1, 24, 2))
    assert all(stop is None for _, stop in seen.values())
    resumed = DominantEigenvalue(lambda: next(series), 2, 1.3)
    resumed.load_state_dict(observer.state_dict())
    assert resumed.observe(24, None) == (None, None)  # type: ignore[arg-type]
    value, stop = resumed.observe(25, None)  # type: ignore[arg-type]
    assert value == 0.3
    assert stop is not None
    # After epoch 24 of the authors, who count from 0, alpha after epoch 12 is restored: 13 finished epochs.
    assert stop.epoch == 13
