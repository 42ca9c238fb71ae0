"""The second-order gradient of DARTS against a scalar worked by hand, and against autograd through the virtual step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.evaluation.training.fit import make_optimizer
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas_gradient.training.unrolled import finite_difference, unrolled_gradient, virtual_step


def scalar() -> tuple[nn.Parameter, nn.Parameter, Callable[[], Tensor], Callable[[], Tensor]]:
    """Return w, alpha, L_train = (w - 2a)^2/2 + 0.1 w^2 a and L_val = (w - 1)^2/2 + 0.2 a w at w = 0.5, a = 0.3."""
    w = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    a = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
    return w, a, lambda: (w - 2 * a) ** 2 / 2 + 0.1 * w**2 * a, lambda: (w - 1) ** 2 / 2 + 0.2 * a * w


@pytest.mark.parametrize("hessian", ["exact", "finite_difference"])
@pytest.mark.parametrize(
    ("momentum", "decay", "buffer", "expected"),
    [(0.0, 0.0, None, 0.01913), (0.9, 3e-4, 0.05, 0.01736915)],
)
def test_the_scalar_example(hessian: str, momentum: float, decay: float, buffer: float | None, expected: float) -> None:
    """The losses are quadratic in w, so the central difference has no error but rounding."""
    w, a, train, validation = scalar()
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=momentum, weight_decay=decay)
    if buffer is not None:
        optimizer.state[w]["momentum_buffer"] = torch.tensor(buffer, dtype=torch.float64)
    gradient, loss = unrolled_gradient(a, optimizer, train, validation, hessian=hessian, reduce=_nothing)  # type: ignore[arg-type]
    assert gradient.item() == pytest.approx(expected, abs=1e-8)
    moved = 0.507 if buffer is None else 0.502485
    assert loss.item() == pytest.approx((moved - 1) ** 2 / 2 + 0.06 * moved, abs=1e-12)
    assert w.item() == 0.5
    assert w.grad is None


class TinySupernet(nn.Module):
    """Two blocks of three smooth options, weighted by a softmax over rows of alpha."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleList((nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1), nn.Identity())) for _ in range(2)
        )
        self.norm = nn.BatchNorm2d(3)
        self.linear = nn.Linear(3, 4)

    def forward(self, x: Tensor, alpha: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        for options, weights in zip(self.blocks, alpha.softmax(1), strict=True):
            x = torch.tanh(self.norm(sum(w * option(x) for w, option in zip(weights, options, strict=True))))
        outputs: Tensor = self.linear(x.mean((2, 3)))
        return outputs


Losses = tuple[TinySupernet, nn.Parameter, torch.optim.Optimizer, Callable[[], Tensor], Callable[[], Tensor]]


@pytest.fixture
def tiny(request: pytest.FixtureRequest) -> Losses:
    torch.manual_seed(0)
    network = TinySupernet().double()
    alpha = nn.Parameter(torch.randn(2, 3, dtype=torch.float64))
    images, labels = torch.randn(2, 8, 1, 5, 5, dtype=torch.float64), torch.randint(4, (2, 8))
    recipe = Recipe(learning_rate=0.3, weight_decay=0.02, nesterov=getattr(request, "param", False))
    optimizer = make_optimizer(network, recipe)

    def loss(part: int) -> Callable[[], Tensor]:
        return lambda: F.cross_entropy(network(images[part], alpha), labels[part])

    for _ in range(2):  # momentum buffers
        optimizer.zero_grad()
        loss(0)().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network, alpha, optimizer, loss(0), loss(1)


@pytest.mark.parametrize("tiny", [False, True], indirect=True, ids=["momentum", "nesterov"])
def test_the_exact_gradient_is_autograd_through_the_unrolled_step(tiny: Losses) -> None:
    network, alpha, optimizer, train, validation = tiny
    gradient, value = unrolled_gradient(alpha, optimizer, train, validation, hessian="exact", reduce=_nothing)
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    names = {id(p): name for name, p in network.named_parameters()}
    grads = torch.autograd.grad(train(), weights, create_graph=True)
    moved: dict[str, Tensor] = {}
    start = 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            change = grads[start] + group["weight_decay"] * parameter
            velocity = 0.9 * optimizer.state[parameter]["momentum_buffer"] + change
            step = change + 0.9 * velocity if group["nesterov"] else velocity
            moved[names[id(parameter)]] = parameter - 0.3 * step
            start += 1
    # The loss of the second half, with the moved weights in the place of the network's own.
    cell = validation.__closure__
    assert cell is not None
    captured = dict(zip(validation.__code__.co_freevars, (each.cell_contents for each in cell), strict=True))
    outputs = torch.func.functional_call(network, moved, (captured["images"][1], alpha))
    loss = F.cross_entropy(outputs, captured["labels"][1])
    expected = torch.autograd.grad(loss, alpha)[0]
    assert value.item() == pytest.approx(loss.item(), abs=1e-12)
    # Double precision, sums of a few hundred terms.
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-10)


def test_the_virtual_step_is_the_next_step_of_the_optimiser(tiny: Losses) -> None:
    _, _, optimizer, train, _ = tiny
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad()
    train().backward()  # type: ignore[no-untyped-call]
    moved = virtual_step(optimizer, [p.grad for p in weights])
    optimizer.step()
    for weight, value in zip(weights, moved, strict=True):
        torch.testing.assert_close(weight.detach(), value, rtol=0, atol=1e-15)


def test_the_finite_difference_is_its_formula(tiny: Losses) -> None:
    """The published e = 0.01 / ||v|| over all weights together, computed here with gradients at moved copies."""
    network, alpha, optimizer, train, validation = tiny
    before = [p.detach().clone() for p in network.parameters()]
    gradient, _ = unrolled_gradient(alpha, optimizer, train, validation, hessian="finite_difference", reduce=_nothing)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    moved = virtual_step(optimizer, torch.autograd.grad(train(), weights))
    start = [p.detach().clone() for p in weights]
    with torch.no_grad():
        for p, value in zip(weights, moved, strict=True):
            p.copy_(value)
    first, *v = torch.autograd.grad(validation(), [alpha, *weights])
    epsilon = 0.01 / torch.cat([part.flatten() for part in v]).norm()
    sides = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, own, part in zip(weights, start, v, strict=True):
                p.copy_(own + sign * epsilon * part)
        sides.append(torch.autograd.grad(train(), alpha)[0])
    expected = first - 0.3 * (sides[0] - sides[1]) / (2 * epsilon)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


def test_the_finite_difference_approaches_the_exact_product(tiny: Losses, monkeypatch: pytest.MonkeyPatch) -> None:
    """On this smooth network the central difference has an error of order e^2: a tenth of e, a hundredth of it."""
    _, alpha, optimizer, train, validation = tiny
    exact, _ = unrolled_gradient(alpha, optimizer, train, validation, hessian="exact", reduce=_nothing)
    errors = []
    for length in (0.1, 0.01):
        monkeypatch.setattr("automl_nas_gradient.training.unrolled.PERTURBATION", length)
        approximate, _ = unrolled_gradient(
            alpha, optimizer, train, validation, hessian="finite_difference", reduce=_nothing
        )
        errors.append((approximate - exact).norm().item())
    assert errors[1] == pytest.approx(errors[0] / 100, rel=0.05)


def test_a_direction_of_zeros_has_no_second_term() -> None:
    w = nn.Parameter(torch.ones(2))
    alpha = nn.Parameter(torch.ones(3))
    assert finite_difference(alpha, [w], [torch.zeros(2)], lambda: (w.sum() * alpha).sum()).tolist() == [0.0] * 3


def _nothing(tensors: object) -> None:
    """There is one process."""
