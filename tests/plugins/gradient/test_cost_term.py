"""The cost in the loss against numbers computed independently, and the temperatures of published schedules."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from automl_nas_gradient.estimators.gumbel import relaxed
from automl_nas_gradient.training.cost_term import expected_form, hinge_form, log_form
from automl_nas_gradient.training.settings import temperature

ALPHA = torch.tensor((0.5, -0.2, 0.1), dtype=torch.float64)
COSTS = torch.tensor((3.0, 7.0, 0.0), dtype=torch.float64)
FIXED = 5.0


def gradient(loss: Tensor, alpha: Tensor) -> list[float]:
    return torch.autograd.grad(loss, alpha, retain_graph=True)[0].tolist()  # type: ignore[no-any-return]


def test_the_forms_of_proxyless() -> None:
    """L = 2, reference 8; the loss of the images does not depend on alpha."""
    alpha = ALPHA.clone().requires_grad_()
    expected = FIXED + alpha.softmax(0) @ COSTS
    assert expected.item() == pytest.approx(7.9886386718, abs=1e-9)
    assert gradient(expected, alpha) == pytest.approx([0.0052431124, 0.9192755392, -0.9245186515], abs=1e-9)
    two = torch.tensor(2.0, dtype=torch.float64)
    logarithm = log_form(two, expected, 0.2, 0.3, 8.0)
    assert logarithm.item() == pytest.approx(0.3999179675, abs=1e-9)
    assert gradient(logarithm, alpha) == pytest.approx([3.78930e-5, 6.6437808e-3, -6.6816738e-3], abs=1e-9)
    linear = expected_form(two, expected, 0.1, 8.0)
    assert linear.item() == pytest.approx(1.9998579834, abs=1e-9)
    assert gradient(linear, alpha) == pytest.approx([6.55389e-5, 1.14909442e-2, -1.15564831e-2], abs=1e-9)


def test_the_form_of_fbnet() -> None:
    """The cost of the drawn weights at temperature 5, u = (0.3, 0.6, 0.8); dL/dweight = (1, -2, 0.5) at L = 2."""
    alpha = ALPHA.clone().requires_grad_()
    noise = -torch.log(-torch.log(torch.tensor((0.3, 0.6, 0.8), dtype=torch.float64)))
    weights = relaxed(alpha, noise, 5.0)
    slope = torch.tensor((1.0, -2.0, 0.5), dtype=torch.float64)
    images = 2.0 + slope @ (weights - weights.detach())
    cost = FIXED + weights @ COSTS
    assert cost.item() == pytest.approx(8.0746759383, abs=1e-9)
    loss = log_form(images, cost, 0.2, 0.6, None)
    assert loss.item() == pytest.approx(0.6222855486, abs=1e-9)
    assert torch.autograd.grad(loss, cost, retain_graph=True)[0].item() == pytest.approx(0.0221377251, abs=1e-9)
    assert gradient(loss, alpha) == pytest.approx([0.0209638841, -0.0308077671, 0.0098438830], abs=1e-9)


@pytest.mark.parametrize(("cost", "value", "slope"), [(12.0, 2.1, 0.05), (9.0, 2.0, 0.0)])
def test_a_hinge_has_no_gradient_within_the_limit(cost: float, value: float, slope: float) -> None:
    expected = torch.tensor(cost, requires_grad=True)
    loss = hinge_form(torch.tensor(2.0), expected, 0.5, 10.0)
    assert loss.item() == pytest.approx(value)
    assert torch.autograd.grad(loss, expected)[0].item() == pytest.approx(slope)


def test_the_temperature_of_gdas_ends_exactly() -> None:
    values = [temperature(epoch, 250, 10.0, 0.1) for epoch in range(250)]
    assert (values[0], values[-1]) == (10.0, 0.1)
    assert values[100] == pytest.approx(10 - 9.9 * 100 / 249)
    assert temperature(3, 5, 2.0, None) == temperature(0, 1, 2.0, 0.5) == 2.0


@pytest.mark.parametrize(("epoch", "value"), [(10, 3.1882), (45, 0.6600), (79, 0.1429), (89, 0.0911)])
def test_the_temperature_of_fbnet(epoch: int, value: float) -> None:
    """Four digits."""
    from automl_nas_gradient.strategy.fbnet import FbnetSetup

    setup = object.__new__(FbnetSetup)
    object.__setattr__(setup, "temperature", 5.0)
    object.__setattr__(setup, "temperature_factor", 0.956)
    assert setup.temperature_of(epoch) == pytest.approx(value, abs=5e-5)
