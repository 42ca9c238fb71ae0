"""The Hoyer ratio and kept norms against published numbers, closed forms and autograd; sensitivity against removal."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from automl_nas_dso.gamma.penalty_shape import HoyerRatio, NodeNorm
from automl_nas_dso.gamma.sensitivity_pruner import DECAY, SensitivityPruner
from automl_nas_dso.optimiser import APGNAG

W = [-1.2, -0.4, 0.05, 0.6, 1.5]


def vector(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_both_parts_are_the_gradient_of_the_hoyer_ratio() -> None:
    """The gradient of ``||w||_1 / ||w||_2`` at W, from its closed form, to eight digits."""
    w = vector(W)
    thresholds, pull = HoyerRatio([0] * 5).terms(w, torch.ones_like(w) / math.sqrt(5))
    expected = vector([0.03325278, -0.31373276, 0.46553894, 0.22698638, -0.16337236])
    torch.testing.assert_close(thresholds * w.sign() + pull, expected, rtol=0, atol=1e-8)


def test_each_node_has_its_ratio_and_each_edge_its_gamma() -> None:
    nodes = [0, 0, 0, 1, 1, 2, 2, 2, 2]
    generator = torch.Generator().manual_seed(0)
    values, gammas = (torch.randn(9, generator=generator, dtype=torch.float64) for _ in range(2))
    values.requires_grad_()
    gammas = gammas.abs()
    total = torch.zeros((), dtype=torch.float64)
    for node in range(3):
        own = [place for place, each in enumerate(nodes) if each == node]
        total = total + math.sqrt(len(own)) * (gammas[own] * values[own].abs()).sum() / values[own].norm()
    (expected,) = torch.autograd.grad(total, values)
    ratio = HoyerRatio(nodes)
    thresholds, pull = ratio.terms(values, gammas)
    torch.testing.assert_close(thresholds * values.detach().sign() + pull, expected)
    radial = [float(expected[place] @ values.detach()[place]) for place in ([0, 1, 2], [3, 4], [5, 6, 7, 8])]
    assert radial == pytest.approx([0, 0, 0], abs=1e-12)
    ones = torch.ones(9, dtype=torch.float64)
    torch.testing.assert_close(ratio.terms(ones, gammas)[0], gammas)


@pytest.mark.parametrize(
    ("weight", "expected", "objective"),
    [
        (0.5, [-1.19622944, -0.19330743, 0, 0.44403793, 1.57232520], 0.8745815214),
        (1.0, [-1.11471749, 0, 0, 0.14348370, 1.60033438], 1.6558641975),
    ],
)
def test_proximal_steps_reach_the_proximal_operator(weight: float, expected: list[float], objective: float) -> None:
    """The minimum of ``0.5 ||x - W||^2 + weight * H(x)``, found by enumeration of the supports; zeros are exact."""
    w = vector(W)
    x = torch.nn.Parameter(w.clone())
    ratio, optimiser = HoyerRatio([0] * 5), APGNAG([x], 0.1, momentum=0.5)
    gammas = torch.full_like(w, weight / math.sqrt(5))
    for _ in range(400):
        thresholds, pull = ratio.terms(x, gammas)
        optimiser.set_gamma(x, thresholds)
        x.grad = x.detach() - w + pull
        optimiser.step()
    found = optimiser.iterate(x)
    torch.testing.assert_close(found, vector(expected), rtol=0, atol=1e-7)
    assert [value == 0 for value in found.tolist()] == [value == 0 for value in expected]
    value = 0.5 * (found - w).square().sum() + weight * found.abs().sum() / found.norm()
    assert value.item() == pytest.approx(objective, abs=1e-9)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_steps_with_a_kept_norm_reach_the_minimum_on_the_sphere(momentum: float) -> None:
    """``-a x + g ||x||_1`` on the sphere ``||x|| = sqrt(5)`` is smallest at the soft threshold of a, scaled to it."""
    a, gamma = vector([1.2, 0.4, 0.05, 0.6, 1.5]), 0.5
    x = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    norm, optimiser = NodeNorm([0] * 5), APGNAG([x], 0.05, momentum=momentum, gamma=gamma, nonnegative="prox")
    for _ in range(800):
        x.grad = -a
        optimiser.step()
        optimiser.scale(x, norm.factors(optimiser.iterate(x)))
    left = (a - gamma).clamp_min(0.0)
    found = optimiser.iterate(x)
    torch.testing.assert_close(found, left * math.sqrt(5) / left.norm(), rtol=0, atol=1e-7)
    assert [value == 0 for value in found.tolist()] == [False, True, True, False, False]


def test_each_node_keeps_its_own_norm() -> None:
    values = vector([3.0, 0.0, 4.0, 0.0, 0.0, 0.5])
    factors = NodeNorm([0, 0, 0, 1, 1, 2]).factors(values)
    torch.testing.assert_close(factors, vector([math.sqrt(3) / 5] * 3 + [1.0, 1.0, 2.0]))
    assert NodeNorm([0, 0]).factors(torch.ones(2)).dtype == torch.float32


def test_a_node_without_any_scale_stays_at_zero() -> None:
    thresholds, pull = HoyerRatio([0, 0, 1]).terms(vector([0.0, 0.0, 2.0]), vector([0.3, 0.4, 0.5]))
    assert thresholds.tolist() == pytest.approx([0.3, 0.4, 0.25])
    assert pull.tolist() == pytest.approx([0, 0, -0.25])


def test_sensitivity_is_the_change_of_the_loss_without_the_edge() -> None:
    """For a loss that is linear in lambda it is exact: ``|lambda_e * c_e|``, and noise averages out."""
    slopes, values = vector([3.0, -0.1, 0.5, -2.0]), vector([0.2, 1.0, -1.5, 0.01])
    pruner = SensitivityPruner(4)
    noise = vector([5.0, -5.0, 5.0, 5.0])
    for step in range(600):
        pruner.observe(slopes + (noise if step % 2 else -noise))
    # What is left of alternating noise in a moving average: (1 - decay) / (1 + decay) of it.
    left = (1 - DECAY) / (1 + DECAY) * 5.0
    torch.testing.assert_close(pruner.sensitivities(values), (slopes * values).abs(), rtol=0, atol=left * 1.5 + 1e-4)


def test_the_least_sensitive_edges_go_until_the_share_is_met() -> None:
    pruner = SensitivityPruner(5)
    pruner.observe(vector([3.0, 1.0, 2.0, 5.0, 4.0]))
    values = torch.ones(5, dtype=torch.float64)
    costs = vector([10, 10, 10, 10, 60])

    def share(living: Tensor) -> float:
        return float(costs[living].sum() / 100)

    living = torch.ones(5, dtype=torch.bool)
    assert pruner.survivors(values, living, share, 1.0).tolist() == [True] * 5
    assert pruner.survivors(values, living, share, 0.8).tolist() == [True, False, False, True, True]
    living = torch.tensor([True, True, True, False, True])  # 90 %; the next two in the order cost 10 % each
    assert pruner.survivors(values, living, share, 0.75).tolist() == [True, False, False, False, True]
    assert pruner.survivors(values, living, share, 0.1).tolist() == [False] * 5
