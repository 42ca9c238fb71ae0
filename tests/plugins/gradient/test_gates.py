"""Binary gates and Dirichlet weights against closed forms, enumeration and numbers computed independently.

The example has alpha = (0.5, -0.2, 0.1); numbers with ten digits were computed with numpy.
"""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from automl_nas.space.decisions import Choice, Decision
from automl_nas.space.selection import Weighted
from automl_nas_gradient.estimators import BinaryGates, DirichletWeights
from automl_nas_gradient.estimators.dirichlet import concentration
from automl_nas_gradient.estimators.gates import gates
from automl_nas_gradient.parameters import ArchitectureParameters

ALPHA = (0.5, -0.2, 0.1)
CHOICE: dict[str, Decision] = {"a": Choice(("x", "y", "z"))}


def alpha_of(decisions: dict[str, Decision], *rows: tuple[float, ...]) -> ArchitectureParameters:
    alpha = ArchitectureParameters(decisions, dict.fromkeys(decisions, "softmax"))
    alpha.values = torch.nn.Parameter(alpha.values.detach().double())
    with torch.no_grad():
        for row, values in enumerate(rows):
            alpha.values[row, : len(values)] = torch.tensor(values, dtype=torch.float64)
    return alpha


def close(values: Tensor, expected: object, tolerance: float = 1e-9) -> None:
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(values.detach().double(), wanted, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("active", [0, 1, 2])
def test_the_gradient_of_all_gates(active: int) -> None:
    """b = (0.4, -0.1, 0.25); the gradient does not depend on which gate is open, except through b."""
    alpha = alpha_of(CHOICE, ALPHA)
    opened = gates(alpha.probabilities(), torch.tensor([[active]]))
    assert opened[0].tolist() == [float(place == active) for place in range(3)]
    (opened[0] @ torch.tensor((0.4, -0.1, 0.25), dtype=torch.float64)).backward()  # type: ignore[no-untyped-call]
    assert alpha.values.grad is not None
    close(alpha.values.grad[0], (0.0742928834, -0.0776912317, 0.0033983483))


def drawn_pair(alpha: ArchitectureParameters, pair: tuple[int, int], active: int) -> BinaryGates:
    """Let the noise of the pair, and of the open gate, be such that they are drawn."""
    first = torch.full((1, 3), -50.0, dtype=torch.float64)
    first[0, list(pair)] = 50.0
    second = torch.tensor([[50.0 * (place == active) for place in pair]], dtype=torch.float64)
    noise = iter((first, second))
    estimator = BinaryGates(alpha, CHOICE)
    with patch("automl_nas_gradient.estimators.gates.gumbel_noise", lambda shape, like: next(noise)):
        selected = estimator.draw(1.0).selection["a"]
    assert isinstance(selected, Weighted)
    assert selected.value == ("x", "z")
    assert selected.tensor.tolist() == [float(place == active) for place in pair]
    (selected.tensor @ torch.tensor((0.4, 0.25), dtype=torch.float64)).backward()  # type: ignore[no-untyped-call]
    return estimator


def test_two_paths_and_a_step_of_gradient_descent() -> None:
    alpha = alpha_of(CHOICE, ALPHA)
    estimator = drawn_pair(alpha, (0, 2), 0)
    assert alpha.values.grad is not None
    close(alpha.values.grad[0], (0.0360391119, 0.0, -0.0360391119))
    before = alpha.values.detach().clone()
    with torch.no_grad():
        alpha.values -= 0.1 * alpha.values.grad
    estimator.stepped(before)
    close(alpha.values[0], (0.4971011679, -0.2, 0.1043089903))
    close(alpha.probabilities()[0, 1], 0.2291679717)


def test_two_paths_and_a_step_of_adam() -> None:
    alpha = alpha_of(CHOICE, ALPHA)
    optimizer = torch.optim.Adam([alpha.values], lr=1e-3, betas=(0.0, 0.999))
    estimator = drawn_pair(alpha, (0, 2), 2)
    before = alpha.values.detach().clone()
    optimizer.step()
    estimator.stepped(before)
    close(alpha.values[0], (0.499196895, -0.2, 0.1011968944))


def test_pairs_are_drawn_without_replacement() -> None:
    """Pairs and open gates of 8,000 decisions; 4 standard deviations are below 0.0224."""
    many: dict[str, Decision] = {f"d{number}": Choice((0, 1, 2)) for number in range(8_000)}
    alpha = alpha_of(many)
    with torch.no_grad():
        alpha.values.copy_(torch.tensor(ALPHA, dtype=torch.float64).expand_as(alpha.values))
    torch.manual_seed(0)
    selection = BinaryGates(alpha, many).draw(1.0).selection
    pairs: Counter[object] = Counter()
    opened: Counter[object] = Counter()
    for selected in selection.values():
        assert isinstance(selected, Weighted)
        pairs[selected.value] += 1
        opened[selected.options[int(selected.tensor.argmax())]] += 1
    shares = [pairs[pair] / len(many) for pair in combinations(range(3), 2)]
    close(torch.tensor(shares), (0.3335895483, 0.4717982606, 0.1946121911), 0.0224)
    close(torch.tensor([opened[o] / len(many) for o in range(3)]), (0.5053602538, 0.1935077654, 0.3011319808), 0.0224)


def test_rows_of_different_lengths() -> None:
    """A decision of one option has one path; padding is never drawn, and nobody else's alpha moves."""
    decisions: dict[str, Decision] = {"a": Choice(("x",)), "b": Choice(("x", "y")), "c": Choice(tuple(range(5)))}
    alpha = alpha_of(decisions, (0.3,), (0.1, -0.1), (1.0, 0.0, 0.5, -1.0, 0.2))
    estimator = BinaryGates(alpha, decisions)
    torch.manual_seed(1)
    for _ in range(20):
        draw = estimator.draw(1.0)
        sizes = [len(s.options) for s in draw.selection.values() if isinstance(s, Weighted)]
        assert sizes == [1, 2, 2]
        before = alpha.values.detach().clone()
        with torch.no_grad():
            alpha.values += torch.randn_like(alpha.values)
        estimator.stepped(before)
        assert bool(alpha.values.isfinite().all())
        close(alpha.values[0, 0], before[0, 0])
        moved = (alpha.values[2] != before[2]).sum().item()
        assert moved == 2
        close(alpha.values.exp().sum(1)[2], before.exp().sum(1)[2], 1e-12)


BETA = (1.5, 0.8187307531, 1.1)


def test_the_dirichlet_distribution() -> None:
    alpha = alpha_of(CHOICE, ALPHA)
    close(concentration(alpha.values)[0], BETA)
    estimator = DirichletWeights(alpha, kl=1.0)
    close(estimator.mean()[0], (0.4387593257, 0.2394838354, 0.3217568389))
    penalty = estimator.penalty()
    assert penalty is not None
    close(penalty, 0.1481412958)
    close(torch.autograd.grad(penalty, alpha.values)[0][0], (0.3252881383, -0.4456921733, 0.0012169529))
    assert DirichletWeights(alpha).penalty() is None


def test_the_pathwise_gradient_has_the_mean_of_the_closed_form() -> None:
    """d E[w . d] / d alpha = ELU'(alpha) (d - m . d) / S, of 10,000 decisions; 5 standard errors are below 0.04."""
    many: dict[str, Decision] = {f"d{number}": Choice((0, 1, 2)) for number in range(10_000)}
    alpha = alpha_of(many)
    with torch.no_grad():
        alpha.values.copy_(torch.tensor(ALPHA, dtype=torch.float64).expand_as(alpha.values))
    torch.manual_seed(0)
    weights = torch.stack(
        [row for row in DirichletWeights(alpha).draw(1.0).selection.values() if isinstance(row, Tensor)]
    )
    close(weights.sum(1), torch.ones(len(many)), 1e-12)
    close(weights.mean(0), (0.4387593257, 0.2394838354, 0.3217568389), 0.015)
    close(weights.var(0), (0.0557285776, 0.0412180190, 0.0493873439), 0.005)
    (weights @ torch.tensor((1.0, -2.0, 0.5), dtype=torch.float64)).sum().backward()  # type: ignore[no-untyped-call]
    assert alpha.values.grad is not None
    close(alpha.values.grad.mean(0), (0.2572094702, -0.5078662031, 0.1109563616), 0.04)
