"""The expected cost of the cells of DARTS: against sums over pairs of edges, and as the only loss of a search."""

from __future__ import annotations

import random
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.problem import Problem
from automl_nas_gradient.deriving import Deriver, DeriveSettings
from automl_nas_gradient.space import DartsSpace
from automl_nas_gradient.space.operations import OPERATIONS
from automl_nas_gradient.space.supernet import KINDS, NODES, inputs_name, operation_name
from automl_nas_gradient.strategy.darts import Darts
from automl_nas_gradient.strategy.proxyless import Proxyless
from automl_nas_gradient.training.settings import CostTerm

SPACE = DartsSpace(channels=2, layers=3, input_shape=(1, 4, 4), num_classes=3)
STEM = 7.0


class EdgeCost(CostModel):
    """A number for each operation of each edge, summed over the edges that nodes read."""

    metric = "edges"
    unit = "units"

    def __init__(self) -> None:
        rng = random.Random(1)
        self.edges = {
            operation_name(kind, source, node): {operation: rng.uniform(1, 9) for operation in OPERATIONS}
            for kind in KINDS
            for node in NODES
            for source in range(node)
        }

    def breakdown(self, architecture: Architecture) -> dict[str, float]:
        active = SPACE.active(architecture)
        return {"stem": STEM, **{name: row[str(active[name])] for name, row in self.edges.items() if name in active}}


class Squared(EdgeCost):
    """Not a sum over edges."""

    metric = "squared"

    def estimate(self, architecture: Architecture) -> float:
        return sum(self.breakdown(architecture).values()) ** 2


def problem_with(model: CostModel) -> Problem:
    return Problem({"accuracy": "maximize"}, [], {model.metric: TabulatedCost(model, SPACE)})


def cost_of(joint: Mapping[str, object], edges: Mapping[str, Mapping[str, float]]) -> float:
    return sum(edges[name][str(operation)] for name, operation in joint.items() if name in edges)


def over_pairs(weights: Mapping[str, Tensor], edges: Mapping[str, Mapping[str, float]]) -> float:
    """Return the expectation by the mass and the mean cost of each edge instead of a sum over joint values."""
    total = STEM
    for kind in KINDS:
        for node in NODES:
            kept = weights[inputs_name(kind, node)].tolist()
            mass, cost = [], []
            for source in range(node):
                name = operation_name(kind, source, node)
                row = {o: w for o, w in zip(OPERATIONS, weights[name].tolist(), strict=True) if o != "none"}
                mass.append(kept[source] * sum(row.values()))
                cost.append(sum(w * edges[name][o] for o, w in row.items()) / sum(row.values()))
            pairs = list(combinations(range(node), 2))
            whole = sum(mass[i] * mass[j] for i, j in pairs)
            total += sum(mass[i] * mass[j] / whole * (cost[i] + cost[j]) for i, j in pairs)
    return total


def test_the_expectation_and_its_gradient() -> None:
    model = EdgeCost()
    expectation = Deriver(SPACE, problem_with(model), DeriveSettings()).expectation("edges")
    torch.manual_seed(0)
    weights = {
        name: torch.randn(len(decision.options), dtype=torch.float64).softmax(0).requires_grad_()
        for name, decision in SPACE.decisions.items()
    }
    expected = expectation(weights)
    assert expected.item() == pytest.approx(
        over_pairs(weights, model.edges), rel=1e-9
    )  # costs are found by least squares
    fields = {"normal.4", "normal.1>4", "reduce.0>2"}
    gradients = torch.autograd.grad(expected, [weights[name] for name in sorted(fields)])
    step = 1e-6
    for name, gradient in zip(sorted(fields), gradients, strict=True):
        for place in range(len(gradient)):
            sides = []
            for sign in (1, -1):
                moved = {key: value.detach().clone() for key, value in weights.items()}
                moved[name][place] += sign * step
                sides.append(over_pairs(moved, model.edges))
            # Central differences: an error of about step^2, and rounding of 1e-14 / step.
            assert gradient[place].item() == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5, abs=1e-6)


def test_descent_along_the_cost_alone_derives_cheap_cells() -> None:
    """In float32, without edge weights. Edges are chosen early, so the cheapest cells need not be reached."""
    model = EdgeCost()
    deriver = Deriver(SPACE, problem_with(model), DeriveSettings())
    expectation = deriver.expectation("edges")
    alpha = {name: torch.zeros(len(d.options), requires_grad=True) for name, d in SPACE.decisions.items()}
    edges = [values for name, values in alpha.items() if ">" in name]
    optimizer = torch.optim.Adam(edges, lr=0.3)
    for _ in range(60):
        weights = {name: a.softmax(0) if ">" in name else torch.ones_like(a) for name, a in alpha.items()}
        optimizer.zero_grad()
        expectation(weights).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    scores = {name: (a.log_softmax(0) if ">" in name else torch.zeros_like(a)).tolist() for name, a in alpha.items()}
    cheapest = STEM
    for kind in KINDS:
        for node in NODES:
            rows = [model.edges[operation_name(kind, source, node)] for source in range(node)]
            cheapest += sum(sorted(min(v for o, v in row.items() if o != "none") for row in rows)[:2])
    assert expectation.smallest == pytest.approx(cheapest, rel=1e-9)
    rng = random.Random(0)
    joint = list(SPACE.groups().values())
    drawn = [sum(cost_of(rng.choice(values), model.edges) for values in joint) for _ in range(1000)]
    assert cheapest <= model.estimate(deriver(scores)[0].architecture) < STEM + min(drawn)


@pytest.mark.parametrize("kind", [Darts, Proxyless])
def test_strategies_have_the_cost_in_their_loss(make: Any, run: Any, kind: Any) -> None:
    """All weights of a step, and the two options of ProxylessNAS, whose other weights are 0."""
    from automl_nas.evaluation.training.recipe import Recipe
    from automl_nas.testing.toys import ToyTask

    task = ToyTask(train=16, search=16, batch_size=8)
    settings: dict[str, Any] = {"edge_weights": True} if kind is Darts else {"pretrain_epochs": 0, "weight_steps": 1}
    settings |= {"space": SPACE, "task": task, "train": Recipe(epochs=1, learning_rate=0.05)}
    strategy = make(kind, problem=problem_with(EdgeCost()), cost=CostTerm("edges"), **settings)
    assert run(strategy).info["exact"]


def test_a_cost_that_is_no_sum_over_edges_is_refused(make: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no expectation.*a limit on 'squared' is met by the derived network"):
        make(Darts, space=SPACE, problem=problem_with(Squared()), cost=CostTerm("squared"))
