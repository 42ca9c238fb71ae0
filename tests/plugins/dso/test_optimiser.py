"""The optimiser: against scikit-learn's Lasso, torch's SGD, closed forms and brute arithmetic."""

from __future__ import annotations

import copy
import io
import itertools
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas_dso.optimiser import APGNAG, NONNEGATIVE, alive

FORMS = list(NONNEGATIVE)


def parameter(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.nn.Parameter(torch.tensor(values, dtype=dtype))


def regression(seed: int) -> tuple[Tensor, Tensor]:
    """Return 200 correlated observations of 30 variables, 8 of which matter, with positive and negative effects."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(200, 30)) + 0.5 * rng.normal(size=(200, 1))
    effects = np.zeros(30)
    effects[:8] = rng.normal(size=8) * 2
    return torch.from_numpy(inputs), torch.from_numpy(inputs @ effects + 0.3 * rng.normal(size=200))


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_solves_the_lasso(positive: bool, seed: int) -> None:
    inputs, targets = regression(seed)
    alpha = 0.15
    model = Lasso(alpha, fit_intercept=False, positive=positive, tol=1e-14, max_iter=100_000)
    expected = torch.from_numpy(model.fit(inputs.numpy(), targets.numpy()).coef_)

    largest = torch.linalg.eigvalsh(inputs.T @ inputs / len(inputs))[-1].item()
    x = parameter(*[1.0] * 30)
    optimiser = APGNAG([x], 1 / largest, gamma=alpha, nonnegative="prox" if positive else "none")
    for _ in range(400):
        x.grad = inputs.T @ (inputs @ x.detach() - targets) / len(inputs)
        optimiser.step()
    # scikit-learn stops at a duality gap of 1e-14 of the squared norm, which is worth about 1e-9 in a coefficient.
    torch.testing.assert_close(x.detach(), expected, rtol=0, atol=1e-8)
    assert torch.equal(alive(x.detach()), expected != 0)
    assert 0 < int(alive(x.detach()).sum()) < 30
    torch.testing.assert_close(optimiser.iterate(x), expected, rtol=0, atol=1e-8)


def test_without_penalty_it_is_sgd_with_nesterovs_momentum() -> None:
    generator = torch.Generator().manual_seed(0)
    mine = [
        torch.nn.Parameter(torch.randn(shape, dtype=torch.float64, generator=generator)) for shape in [(3, 4), (5,)]
    ]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in mine]
    ours = APGNAG(mine, 0.05, momentum=0.9)
    sgd = torch.optim.SGD(theirs, 0.05, momentum=0.9, nesterov=True)
    for _ in range(200):
        for optimiser, parameters in ((ours, mine), (sgd, theirs)):
            optimiser.zero_grad()
            sum(((p**4).sum() + p.sin().sum()) for p in parameters).backward()  # type: ignore[union-attr]
            optimiser.step()
    for p, q in zip(mine, theirs, strict=True):
        # The same numbers in another order of operations: a few units in the last place of values below 1.
        torch.testing.assert_close(p, q, rtol=0, atol=1e-14)


@pytest.mark.parametrize("form", ["none", "prox"])
def test_a_momentum_schedule_is_the_papers(form: Literal["none", "prox"]) -> None:
    """Step t is y_t = s_t + mu_t (s_t - s_{t-1}), s_t = S(y_{t-1} - lr grad f(y_{t-1})), here with mu_t = t / (t + 3).

    This recursion has no velocity: the paper's v_t = s_t - y_{t-1} + mu_{t-1} v_{t-1} is s_t - s_{t-1}.
    """
    curvature = torch.tensor([4.0, 1.0, 0.25, 0.5], dtype=torch.float64)
    solution = torch.tensor([1.0, -2.0, 3.0, 0.05], dtype=torch.float64)
    rate, gamma = 0.2, 0.1
    x = parameter(1.0, 1.0, 1.0, 1.0)
    optimiser = APGNAG([x], rate, gamma=gamma, nonnegative=form)
    y = last = x.detach().clone()
    for t in range(1, 61):
        z = y - rate * curvature * (y - solution)
        s = (z - rate * gamma).clamp_min(0) if form == "prox" else z.sign() * (z.abs() - rate * gamma).clamp_min(0)
        y, last = s + t / (t + 3) * (s - last), s
        x.grad = curvature * (x.detach() - solution)
        optimiser.param_groups[0]["momentum"] = t / (t + 3)
        if t == 30:  # the momentum of the last step is part of the state
            optimiser.load_state_dict(copy.deepcopy(optimiser.state_dict()))
        optimiser.step()
        torch.testing.assert_close(x.detach(), y, rtol=0, atol=1e-12)
        optimiser.param_groups[0]["momentum"] = 0.123  # `iterate` speaks of the last step
        torch.testing.assert_close(optimiser.iterate(x), s, rtol=0, atol=1e-12)


def by_hand(
    x: list[float], gradients: list[list[float]], rate: float, momentum: float, gamma: list[float], form: str
) -> list[list[float]]:
    """Do the equations of the paper in Python's floats, which are doubles."""
    path, v = [], [0.0] * len(x)
    for gradient in gradients:
        for i in range(len(x)):
            z = x[i] - rate * gradient[i]
            a = rate * gamma[i]
            s = max(z - a, 0.0) if form == "prox" else math.copysign(max(abs(z) - a, 0.0), z)
            v[i] = s - x[i] + momentum * v[i]
            x[i] = s + momentum * v[i]
            if form == "clamp":
                x[i] = max(x[i], 0.0)
        path.append(list(x))
    return path


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("own", [False, True])
def test_it_is_the_papers_equations(form: Any, own: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    gradients = (0.3 * torch.randn(60, 5, generator=generator, dtype=torch.float64)).tolist()
    gamma = [0.1, 0.2, 0.0, 1.0, 0.05] if own else [0.1] * 5
    start = [1.0, 0.5, -0.2, 0.0, 2.0]
    x = parameter(*start)
    optimiser = APGNAG([x], 0.2, momentum=0.7, gamma=0.1, nonnegative=form)
    if own:
        optimiser.set_gamma(x, torch.tensor(gamma, dtype=torch.float64))
    seen = []
    for gradient in gradients:
        x.grad = torch.tensor(gradient, dtype=torch.float64)
        optimiser.step()
        seen.append(x.detach().tolist())
    # Rounding of z - clamp(z) against |z| - a: the last place of values up to 2, carried on 60 times.
    np.testing.assert_allclose(seen, by_hand(start, gradients, 0.2, 0.7, gamma, form), rtol=0, atol=1e-14)


@pytest.mark.parametrize("form", ["prox", "clamp"])
@pytest.mark.parametrize(
    ("rate", "gamma", "momentum", "dtype"),
    # The first is the published case; in doubles it ends within rounding of exactly 0 at step 1009.
    [(0.1, 1e-3, 0.9, torch.float32), (0.1, 1e-2, 0.8, torch.float64), (0.03, 0.05, 0.0, torch.float64)],
)
def test_how_long_a_useless_edge_lives(
    form: Any, rate: float, gamma: float, momentum: float, dtype: torch.dtype
) -> None:
    def position(t: int) -> float:
        """Sum the velocities: v_t = -rate * gamma * (1 - momentum^t) / (1 - momentum)."""
        geometric = momentum * (1 - momentum**t) / (1 - momentum)
        return 1 - rate * gamma * (t - geometric) / (1 - momentum)

    first = next(t for t in itertools.count(1) if position(t) <= 1e-9)
    assert gamma != 1e-3 or first == 1009
    x = parameter(1.0, dtype=dtype)
    optimiser = APGNAG([x], rate, momentum=momentum, gamma=gamma, nonnegative=form)
    zero = []
    for step in range(1, first + 20):
        x.grad = torch.zeros_like(x)
        optimiser.step()
        zero += [step] if optimiser.iterate(x).item() == 0 else []
        # x looks ahead: it is below 0 for the step in which s arrives, unless it is clamped or has no momentum.
        assert (x.item() == 0) is (step >= first + (form == "prox" and momentum > 0))
    assert zero == list(range(first, first + 20))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("own", [False, True])
def test_zeros_are_positive_and_stay(form: Any, own: bool) -> None:
    values = [*itertools.chain(*([v, -v] for v in (0.0, 1e-3, 0.37, 1.0, 5e-324)))]
    x = parameter(*values)
    optimiser = APGNAG([x], 0.1, gamma=0.05, nonnegative=form)
    if own:
        optimiser.set_gamma(x, torch.full_like(x, 0.05))
    for gradient in [torch.zeros_like(x)] * 300 + [-torch.zeros_like(x)] * 3:
        x.grad = gradient
        optimiser.step()
    assert x.detach().tolist() == [0.0] * len(values)
    assert not torch.signbit(x).any()
    if form != "clamp":
        assert optimiser.state[x]["look_ahead"].tolist() == [0.0] * len(values)


def test_an_entry_of_x_is_zero_from_the_second_step_in_which_s_is() -> None:
    """The point of doing (s - x) + mu * v in separate operations, with numbers that round."""
    generator = torch.Generator().manual_seed(2)
    x = torch.nn.Parameter(torch.rand(1000, generator=generator))
    optimiser = APGNAG([x], 0.1, momentum=0.9)
    x.grad = 0.1 * torch.randn(1000, generator=generator)
    for _ in range(3):
        optimiser.step()
    optimiser.set_gamma(x, math.inf)
    x.grad = torch.zeros(1000)
    optimiser.step()
    assert x.detach().count_nonzero() > 900  # it looks ahead of s = 0 by mu * v
    assert optimiser.iterate(x).count_nonzero() == 0
    optimiser.step()
    assert x.detach().count_nonzero() == 0


@pytest.mark.parametrize("form", FORMS)
def test_nan_spreads_and_is_not_alive(form: Any) -> None:
    x = parameter(math.nan, 1.0, 0.0)
    optimiser = APGNAG([x], 0.1, gamma=0.01, nonnegative=form)
    for gradient in ([0.0, math.nan, 0.0], [0.0, 0.0, 0.0]):
        x.grad = torch.tensor(gradient, dtype=torch.float64)
        optimiser.step()
    assert x.isnan().tolist() == [True, True, False]
    assert alive(x.detach()).tolist() == [False, False, False]
    assert alive(torch.tensor([1.0, -0.0, -2.0, math.inf])).tolist() == [True, False, True, True]


def grows(product: float, momentum: float) -> bool:
    x = parameter(1.0)
    optimiser = APGNAG([x], product, momentum=momentum)  # f = x^2 / 2, so L = 1
    for _ in range(600):
        x.grad = x.detach().clone()
        optimiser.step()
    return abs(x.item()) > 1


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_it_is_stable_up_to_the_bound(momentum: float) -> None:
    bound = (2 + 2 * momentum) / (1 + 2 * momentum)
    assert not grows(0.99 * bound, momentum)
    assert grows(1.01 * bound, momentum)


@pytest.mark.parametrize("own", [False, True])
def test_a_stored_state_continues_bit_for_bit(own: bool) -> None:
    def make() -> tuple[list[Tensor], APGNAG]:
        points = [parameter(1.0, -0.5), parameter(0.3, 0.2, 0.1, dtype=torch.float32)]
        optimiser = APGNAG([{"params": points[:1], "gamma": 0.3}, {"params": points[1:], "lr": 0.2}], 0.1, gamma=0.01)
        if own:
            optimiser.set_gamma(points[1], torch.tensor([0.0, 0.5, math.inf]))
        return points, optimiser

    def advance(points: list[Tensor], optimiser: APGNAG, steps: range) -> None:
        for step in steps:
            for point in points:
                point.grad = torch.sin(point.detach() * 7 + step)
            optimiser.step()

    whole = make()
    advance(*whole, range(20))
    first = make()
    advance(*first, range(9))
    file = io.BytesIO()
    torch.save({"points": first[0], "optimiser": first[1].state_dict()}, file)
    file.seek(0)
    stored = torch.load(file, weights_only=True)
    points, _ = make()
    second = points, APGNAG([{"params": points[:1]}, {"params": points[1:]}], 0.7)
    for point, value in zip(points, stored["points"], strict=True):
        point.data.copy_(value)
    second[1].load_state_dict(stored["optimiser"])
    advance(*second, range(9, 20))
    assert all(map(torch.equal, whole[0], second[0]))
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole[1].state.values(), second[1].state.values(), strict=True)
        for a, b in zip(a.values(), b.values(), strict=True)
    )


def test_groups_closures_and_parameters_without_gradient() -> None:
    one, two, three = parameter(1.0), parameter(1.0), parameter(1.0)
    optimiser = APGNAG([one], 0.1, momentum=0.0, gamma=1.0)
    optimiser.add_param_group({"params": [two, three], "gamma": 0.0})

    def closure() -> float:
        optimiser.zero_grad()
        loss = one.sum() + 2 * two.sum()
        loss.backward()
        return loss.item()

    assert optimiser.step(closure) == 3.0
    assert one.item() == pytest.approx(1 - 0.1 - 0.1)
    assert two.item() == pytest.approx(1 - 0.2)
    assert three.item() == 1.0
    assert torch.optim.lr_scheduler.StepLR(optimiser, 1, gamma=0.5).get_last_lr() == [0.1, 0.1]
    assert copy.deepcopy(optimiser).param_groups[1]["gamma"] == 0.0


def test_gamma_can_be_changed_at_any_time() -> None:
    x = parameter(1.0, 1.0)
    optimiser = APGNAG([x], 1.0, momentum=0.0, gamma=0.25)
    moves = []
    for gamma in (0.125, torch.tensor([0.0, 0.5]), None):
        optimiser.set_gamma(x, gamma)
        before = x.detach().clone()
        x.grad = torch.zeros_like(x)
        optimiser.step()
        moves.append((before - x.detach()).tolist())
    assert moves == [[0.125, 0.125], [0.0, 0.5], [0.25, 0.25]]
    assert optimiser.gamma(x) == 0.25


def test_forgotten_elements_stay_at_zero() -> None:
    x = parameter(1.0, 1.0)
    optimiser = APGNAG([x], 0.1, gamma=1e-3)
    for step in range(6):
        if step == 3:
            optimiser.forget(x, torch.tensor([True, False]))
        x.grad = torch.tensor([0.5 if step < 3 else 0.0, 0.5], dtype=torch.float64)
        optimiser.step()
    assert x[0].item() == 0.0
    assert x[1].item() != 0.0


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "lr": (lambda: APGNAG([parameter(1.0)], 0.0), "lr"),
    "momentum": (lambda: APGNAG([parameter(1.0)], momentum=1.0), "momentum"),
    "gamma": (lambda: APGNAG([parameter(1.0)], gamma=-1e-3), "gamma"),
    "infinite gamma": (lambda: APGNAG([parameter(1.0)], gamma=math.inf), "gamma"),
    "form": (lambda: APGNAG([parameter(1.0)], nonnegative="prx"), "nonnegative"),  # type: ignore[arg-type]
    "group": (lambda: APGNAG([{"params": [parameter(1.0)], "gamma": math.nan}]), "gamma"),
    "complex": (lambda: APGNAG([torch.zeros(1, dtype=torch.complex64)]), "params"),
    "shape": (lambda: _set(torch.ones(3)), "gamma"),
    "NaN": (lambda: _set(torch.tensor([0.0, math.nan])), "gamma"),
    "stranger": (lambda: APGNAG([parameter(1.0)]).set_gamma(parameter(1.0), 1.0), "parameter"),
    "another stranger": (lambda: APGNAG([parameter(1.0)]).iterate(parameter(1.0)), "parameter"),
}


def _set(gamma: Tensor) -> None:
    x = parameter(1.0, 2.0)
    APGNAG([x]).set_gamma(x, gamma)


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_named(case: str) -> None:
    call, path = MISTAKES[case]
    with pytest.raises(ConfigurationError) as caught:
        call()
    assert caught.value.path == path


def test_sparse_gradients_are_refused() -> None:
    table = torch.nn.Embedding(4, 2, sparse=True)
    optimiser = APGNAG(table.parameters())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="sparse"):
        optimiser.step()


@pytest.mark.slow
@pytest.mark.process
def test_it_is_found_in_the_package_without_importing_torch_before() -> None:
    code = (
        "import sys, automl_nas_dso; before = 'torch' in sys.modules; automl_nas_dso.APGNAG; "
        "sys.exit(before or 'APGNAG' not in dir(automl_nas_dso))"
    )
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0
