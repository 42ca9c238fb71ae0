"""Weights and gradients of every estimator against closed forms, with numbers computed independently.

The example has alpha = (0.5, -0.2, 0.1) and dL/dweight = (1, -2, 0.5); its gradients were computed with numpy.
"""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from automl_nas.space.decisions import Choice, Decision, Subset
from automl_nas.space.selection import Weighted
from automl_nas_gradient.estimators import GumbelSoftmax, Softmax, StraightThroughGumbel
from automl_nas_gradient.parameters import ArchitectureParameters

ALPHA, UPSTREAM = (0.5, -0.2, 0.1), (1.0, -2.0, 0.5)
DECISIONS: dict[str, Decision] = {"a": Choice(("x", "y", "z"))}
DIGITS = 1e-9  # the numbers have ten digits


def alpha_of(decisions: dict[str, Decision], rows: list[tuple[float, ...]], **forms: str) -> ArchitectureParameters:
    alpha = ArchitectureParameters(decisions, {name: forms.get(name, "softmax") for name in decisions})  # type: ignore[misc]
    alpha.values = torch.nn.Parameter(alpha.values.detach().double())
    with torch.no_grad():
        for row, values in enumerate(rows):
            alpha.values[row, : len(values)] = torch.tensor(values, dtype=torch.float64)
    return alpha


@pytest.fixture
def alpha() -> ArchitectureParameters:
    return alpha_of(DECISIONS, [ALPHA])


def gradient(alpha: ArchitectureParameters, weights: Tensor) -> list[float]:
    loss = (weights * torch.tensor(UPSTREAM, dtype=torch.float64)).sum()
    return torch.autograd.grad(loss, alpha.values)[0][0].tolist()  # type: ignore[no-any-return]


def fixed_noise(*u: float) -> object:
    """Let the uniform random numbers be given ones."""
    drawn = torch.tensor([u], dtype=torch.float64)
    return patch("automl_nas_gradient.estimators.base.uniform", lambda shape, like: drawn)


def close(values: object, expected: object, tolerance: float = DIGITS) -> None:
    torch.testing.assert_close(
        torch.as_tensor(values, dtype=torch.float64),
        torch.as_tensor(expected, dtype=torch.float64),
        rtol=0.0,
        atol=tolerance,
    )


def test_softmax(alpha: ArchitectureParameters) -> None:
    weights = Softmax(alpha).draw(1.0).selection["a"]
    assert isinstance(weights, Tensor)
    close(weights.detach(), (0.4614876234, 0.2291679717, 0.3093444050))
    close(gradient(alpha, weights), (0.3886538549, -0.4945041224, 0.1058502674))


@pytest.mark.parametrize(
    ("temperature", "weights", "expected"),
    [
        (1.0, (0.1727973224, 0.2022436406, 0.6249590370), (0.1588371028, -0.4208264558, 0.2619893530)),
        (5.0, (0.3007371467, 0.3103520712, 0.3889107821), (0.0676966297, -0.1163502712, 0.0486536415)),
        (0.1, (2.6112e-6, 1.25958e-5, 0.9999847929), (1.3057e-5, -3.148918e-4, 3.018348e-4)),
    ],
)
def test_gumbel_softmax(
    alpha: ArchitectureParameters, temperature: float, weights: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    with fixed_noise(0.3, 0.6, 0.8):  # type: ignore[attr-defined]
        drawn = GumbelSoftmax(alpha).draw(temperature).selection["a"]
    assert isinstance(drawn, Tensor)
    close(drawn.detach(), weights)
    close(gradient(alpha, drawn), expected)


@pytest.mark.parametrize(
    ("computed", "expected"),
    [
        ("all", (0.033672267, -0.0617114766, 0.0280392096)),
        ("sampled", (0.0053995624, 0.0063196995, -0.011719262)),
    ],
)
def test_straight_through(alpha: ArchitectureParameters, computed: str, expected: tuple[float, ...]) -> None:
    """Option 3 of three is drawn; outputs (1,2), (-1,1), (0.5,2) and upstream gradient (0.3, -0.1)."""
    outputs = torch.tensor([[1.0, 2.0], [-1.0, 1.0], [0.5, 2.0]], dtype=torch.float64)
    upstream = torch.tensor([0.3, -0.1], dtype=torch.float64)
    with fixed_noise(0.3, 0.6, 0.8):  # type: ignore[attr-defined]
        estimator = StraightThroughGumbel(alpha, DECISIONS, computed)  # type: ignore[arg-type]
        selected = estimator.draw(1.0).selection["a"]
    if computed == "sampled":
        assert isinstance(selected, Weighted)
        assert selected.value == "z"
        assert selected.tensor.item() == 1.0
        result = selected.tensor * outputs[2]
    else:
        assert isinstance(selected, Tensor)
        assert selected.tolist() == [0.0, 0.0, 1.0]
        result = selected @ outputs
    (result @ upstream).backward()  # type: ignore[no-untyped-call]
    assert alpha.values.grad is not None
    close(alpha.values.grad[0], expected)


def test_draws_have_the_probabilities_of_the_softmax(alpha: ArchitectureParameters) -> None:
    """The Gumbel-max trick; 4 standard deviations of 8,000 draws are below 0.0224."""
    many: dict[str, Decision] = {f"d{number}": Choice(("x", "y", "z")) for number in range(8_000)}
    repeated = alpha_of(many, [])
    with torch.no_grad():
        repeated.values.copy_(alpha.values.expand_as(repeated.values))
    torch.manual_seed(0)
    path = StraightThroughGumbel(repeated, many).path(0.1)
    shares = [sum(value == option for value in path.values()) / len(path) for option in ("x", "y", "z")]
    close(shares, (0.4614876234, 0.2291679717, 0.3093444050), 0.0224)


def test_noise_is_finite_where_torch_rand_is_zero() -> None:
    from automl_nas_gradient.estimators.base import gumbel_noise

    like = torch.zeros(1, 3)
    for value in (0.0, 1 - 2**-24):
        with patch("torch.rand", lambda shape, dtype, value=value: torch.full(shape, value, dtype=dtype)):
            assert bool(gumbel_noise(like.shape, like).isfinite().all())


def test_rows_of_different_lengths_are_independent() -> None:
    """Padding takes no probability and gets no gradient."""
    decisions: dict[str, Decision] = {"a": Choice(("x", "y", "z")), "b": Choice((1, 2)), "c": Subset(("p", "q", "r"))}
    alpha = alpha_of(decisions, [ALPHA, (0.3, -0.4), (2.0, 0.0, -1.0)], c="sigmoid")
    selection = Softmax(alpha).draw(1.0).selection
    weights = {name: row for name, row in selection.items() if isinstance(row, Tensor)}
    close(weights["b"].detach(), torch.softmax(torch.tensor([0.3, -0.4], dtype=torch.float64), 0), 1e-15)
    close(weights["c"].detach(), torch.sigmoid(torch.tensor([2.0, 0.0, -1.0], dtype=torch.float64)), 1e-15)
    (weights["a"][0] + weights["b"][0] ** 2 + alpha.entropy()).backward()  # type: ignore[no-untyped-call]
    assert alpha.values.grad is not None
    assert alpha.values.grad[1, 2].item() == 0.0
    assert bool(alpha.values.grad.isfinite().all())
    rows = [torch.distributions.Categorical(logits=torch.tensor(values)).entropy() for values in (ALPHA, (0.3, -0.4))]
    rows += [torch.distributions.Bernoulli(logits=torch.tensor([2.0, 0.0, -1.0])).entropy().sum()]
    close(alpha.entropy().detach(), torch.stack(rows).sum() / 3, 1e-6)
    assert Softmax(alpha).scores()["c"] == [2.0, 0.0, -1.0]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_temperature_divides_alpha(alpha: ArchitectureParameters, temperature: float) -> None:
    weights = Softmax(alpha).draw(temperature).selection["a"]
    assert isinstance(weights, Tensor)
    close(weights.detach(), torch.softmax(torch.tensor(ALPHA, dtype=torch.float64) / temperature, 0), 1e-15)
