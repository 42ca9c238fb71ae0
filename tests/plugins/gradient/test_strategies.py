"""The strategies: contracts, a loop written by hand, limits, early stops, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from plugins.gradient.conftest import build, simulated
from torch import nn
from torch.nn import functional as F

from automl_nas.errors import ConfigurationError, DivergedError, InfeasibleError
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.space.modules.choice import OneOf
from automl_nas.space.modules.dag.module import Dag
from automl_nas.space.modules.elastic_layers.convolution import ElasticConv2d
from automl_nas.space.modules.elastic_layers.linear import ElasticLinear
from automl_nas.space.modules.elastic_layers.normalisation import ElasticBatchNorm2d
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.strategy.problem import Problem, parse_constraint
from automl_nas.streams import stream_seed
from automl_nas.testing.services import SimulatedServices
from automl_nas.testing.states import same, stored
from automl_nas.testing.strategies import StrategyContract
from automl_nas.testing.toys import ToyCost, ToyTask
from automl_nas_gradient.collapse import CollapseSettings
from automl_nas_gradient.deriving import DeriveSettings
from automl_nas_gradient.strategy.darts import Darts
from automl_nas_gradient.strategy.drnas import Drnas
from automl_nas_gradient.strategy.fbnet import Fbnet
from automl_nas_gradient.strategy.gdas import Gdas
from automl_nas_gradient.strategy.proxyless import Proxyless
from automl_nas_gradient.training.settings import AlphaRecipe, CostTerm

Make = Callable[..., Any]
FAST = AlphaRecipe(learning_rate=0.3)
"""A learning rate with which alpha moves within 15 steps."""

SHORT = Recipe(epochs=2, learning_rate=0.05, schedule="cosine", weight_decay=1e-3, clip_norm=5.0)
VARIANTS: dict[str, tuple[type, dict[str, Any]]] = {
    "darts": (Darts, {"alpha": AlphaRecipe(learning_rate=0.3, entropy=0.1), "final_temperature": 0.5}),
    "darts_joint": (Darts, {"optimisation": "joint", "pretrain_epochs": 1}),
    "darts_difference": (Darts, {"order": "second"}),
    "darts_exact": (Darts, {"order": "second", "hessian": "exact", "collapse": CollapseSettings(eigenvalue_every=1)}),
    "gdas": (Gdas, {"alpha": FAST, "weight_steps": 2}),
    "proxyless": (
        Proxyless,
        {"alpha": AlphaRecipe(learning_rate=0.3, beta1=0.0), "pretrain_epochs": 1, "weight_steps": 2},
    ),
    "fbnet": (Fbnet, {"alpha": FAST, "pretrain_epochs": 1, "weight_steps": 1}),
    "drnas": (Drnas, {"alpha": FAST, "kl": 1e-2}),
}


class Variant(StrategyContract):
    steps = 4  # three of training, one that proposes
    variant: str

    def make(self, seed: int) -> Any:
        kind, settings = VARIANTS[self.variant]
        return build(kind, seed=seed, train=SHORT, **settings)

    def services(self) -> SimulatedServices:
        return simulated()


for _name in VARIANTS:
    _title = "Test" + _name.title().replace("_", "")
    globals()[_title] = type(_title, (Variant,), {"variant": _name, "__module__": __name__})


def limited(space: Any, text: str) -> Problem:
    return Problem(
        {"accuracy": "maximize"},
        [parse_constraint("toy_cost", text)],
        {"toy_cost": TabulatedCost(ToyCost(space), space)},
    )


@pytest.mark.parametrize("optimisation", ["bilevel", "joint"])
def test_the_supernet_and_alpha_are_what_a_hand_written_loop_trains(
    make: Make, run: Make, space: ModuleSpace, artifacts: Any, optimisation: str
) -> None:
    """Both sides compute the same operations in the same order: weights and alpha are bit-equal."""
    task = ToyTask(train=80, search=48)
    run(make(Darts, task=task, artifacts=artifacts, optimisation=optimisation, alpha=FAST))

    runtime = Runtime(device="cpu")
    with runtime.seeded(5, "init"):
        network = runtime.place(space.build_supernet()).train()
    with runtime.seeded(5, "alpha"):
        alpha = nn.Parameter(1e-3 * torch.randn(2, 3))
    sides = ([p for p in network.parameters() if p.dim() > 1], [p for p in network.parameters() if p.dim() == 1])
    optimizer = torch.optim.SGD(
        [{"params": sides[0], "weight_decay": 1e-3}, {"params": sides[1], "weight_decay": 0.0}], lr=0.05, momentum=0.9
    )
    adam = torch.optim.Adam([alpha], lr=0.3, betas=(0.5, 0.999), weight_decay=1e-3)
    search = (batch for epoch in range(9) for batch in task.batches("search", epoch, stream_seed(5, "alpha/data")))

    def loss(batch: Any, weights: Any) -> Any:
        images, labels = batch
        selection = dict(zip(space.decisions, weights.softmax(1).unbind(0), strict=True))
        return F.cross_entropy(network(images.to(memory_format=torch.channels_last), selection), labels)

    iteration = 0
    for epoch in range(3):
        for batch in task.batches("train", epoch, stream_seed(5, "data")):
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * 0.5 * (1 + math.cos(math.pi * iteration / 15))
            if optimisation == "bilevel":
                alpha.grad = torch.autograd.grad(loss(next(search), alpha), alpha)[0]
                adam.step()
            optimizer.zero_grad()
            alpha.grad = None
            loss(batch, alpha if optimisation == "joint" else alpha.detach()).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            if optimisation == "joint":
                adam.step()
            iteration += 1
    saved = artifacts.stored["weights"]
    assert all(torch.equal(saved[name], value) for name, value in network.state_dict().items())
    assert torch.equal(torch.stack(list(artifacts.stored["alpha"].values())), alpha.detach())


def test_a_step_of_gdas_computes_one_option(make: Make, space: ModuleSpace) -> None:
    strategy = make(Gdas, iterations_per_step=1)
    calls: list[str] = []
    for name, module in strategy._supernet.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, output, name=name: calls.append(name))
    strategy._training.advance()
    # The stem and one convolution for each of two decisions, once for the weights and once for alpha.
    assert len(calls) == 6


def test_a_step_of_proxyless_computes_one_path_and_two(make: Make) -> None:
    strategy = make(Proxyless, iterations_per_step=1, pretrain_epochs=0, weight_steps=1)
    calls: list[str] = []
    for name, module in strategy._supernet.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, args, output, name=name: calls.append(name))
    strategy._training.advance()
    # The stem twice; one convolution for each of two decisions for the weights, and two for alpha.
    assert len(calls) == 2 + 2 + 4


@pytest.mark.parametrize("kind", [Darts, Gdas, Proxyless, Fbnet, Drnas])
@pytest.mark.parametrize("limit", ["<= 0", "<= 1", "3..3"])
def test_the_derived_network_meets_the_limit(make: Make, run: Make, space: ModuleSpace, kind: Any, limit: str) -> None:
    problem = limited(space, limit)
    proposal = run(make(kind, problem=problem, alpha=FAST, derive=DeriveSettings(top=3), pretrain_epochs=1))
    assert problem.feasible(proposal.architecture)
    assert proposal.info["exact"]
    assert all(problem.feasible(space.validate(each["architecture"])) for each in proposal.info.get("top", []))


def test_the_proposal_is_the_best_of_the_saved_probabilities(
    make: Make, run: Make, space: ModuleSpace, artifacts: Any
) -> None:
    proposal = run(make(Darts, alpha=FAST, artifacts=artifacts, derive=DeriveSettings(top=4)))
    alpha = artifacts.stored["alpha"]
    logs = {name: row.double().log_softmax(0) for name, row in alpha.items()}
    best = {name: space.decisions[name].options[int(row.argmax())] for name, row in logs.items()}
    assert dict(proposal.architecture) == best
    assert proposal.info["log_probability"] == pytest.approx(float(sum(row.max() for row in logs.values())), abs=1e-5)
    sums = [each["log_probability"] for each in proposal.info["top"]]
    assert len(sums) == 4
    assert sums == sorted(sums, reverse=True)
    assert proposal.info["history"][0]["epoch"] == 1


class Above(ToyCost):
    """A toy cost from 3 on."""

    def breakdown(self, architecture: Any) -> Any:
        return {**super().breakdown(architecture), "base": 3.0}


def test_a_cost_in_the_loss_makes_cheap_options_probable(make: Make, run: Make, space: ModuleSpace) -> None:
    """With a heavy weight the loss of the images is negligible, and the cheapest network is derived."""
    problem = Problem({"accuracy": "maximize"}, [], {"toy_cost": TabulatedCost(Above(space), space)})
    for form in ("expected", "log"):
        cost = CostTerm("toy_cost", form=form, weight=1e3, reference=3.0 if form == "expected" else None)  # type: ignore[arg-type]
        assert set(run(make(Darts, problem=problem, alpha=FAST, cost=cost)).architecture.values()) == {"k1"}
    cost = CostTerm("toy_cost", form="hinge", weight=1e3)
    strategy = make(Darts, problem=limited(space, "<= 1"), alpha=FAST, cost=cost)
    run(strategy)
    alpha = strategy._estimator.alpha
    expectation = strategy._setup.cost_in_loss.expected.of(alpha.selection(alpha.probabilities().detach()))
    assert expectation.item() < 1.5  # 2 at equal probabilities; below the limit of 1 the term has no gradient


def test_the_share_of_skips_ends_the_search(make: Make, run: Make, services: Make) -> None:
    """Every option counts as a skip connection, so the search ends after the first epoch of alpha."""
    collapse = CollapseSettings(skip_options=("k1", "k3", "k5"), stop_skip_share=0.5)
    strategy, observed = make(Darts, collapse=collapse), services()
    proposal = run(strategy, observed)
    assert strategy._training.iteration == 5
    assert "skip connections" in proposal.info["stopped"]["reason"]
    assert [values["skip_share"] for _, values in observed.logged if "skip_share" in values] == [1.0]


def test_a_stopped_search_resumes(make: Make, run: Make, services: Make) -> None:
    collapse = CollapseSettings(skip_options=("k1", "k3", "k5"), stop_skip_share=0.5)
    first = make(Darts, collapse=collapse, alpha=FAST)
    first.step(services())
    first.step(services())
    resumed = make(Darts, collapse=collapse, alpha=FAST)
    resumed.load_state_dict(stored(first.state_dict()))
    assert run(first) == run(resumed)
    assert same(stored(first.state_dict()), stored(resumed.state_dict()))


def graph_space() -> ModuleSpace:
    def network() -> nn.Module:
        nodes = {name: nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.Tanh()) for name in "ab"}
        edges = {"a": ("input",), "b": ("input", "a"), "output": ("a", "b")}
        graph = Dag(nodes, edges, shortcut=nn.Identity(), name="graph")
        return nn.Sequential(nn.Conv2d(1, 4, 1), graph, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    return ModuleSpace(network, input_shape=(1, 4, 4))


def test_edges_of_a_graph_have_weights(make: Make, run: Make, artifacts: Any) -> None:
    """Sigmoid gates: the most probable subset has the edges whose alpha is positive."""
    proposal = run(make(Darts, space=graph_space(), artifacts=artifacts, edge_weights=True, alpha=FAST))
    space = graph_space()
    expected = {
        name: tuple(o for o, a in zip(decision.options, artifacts.stored["alpha"][name].tolist(), strict=True) if a > 0)
        for name, decision in space.decisions.items()
    }
    assert proposal.architecture == space.validate(expected)


@pytest.mark.parametrize("kind", [Darts, Drnas])
def test_a_subset_without_weights_is_refused(make: Make, kind: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"no weights for the decision 'graph\.a', a Subset"):
        make(kind, space=graph_space())


def test_widths_are_refused(make: Make) -> None:
    def network() -> nn.Module:
        return nn.Sequential(
            ElasticConv2d(1, (2, 4), 3, padding=1, name="width"),
            ElasticBatchNorm2d(4),
            OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh()}, name="activation"),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            ElasticLinear(4, 3),
        )

    space = ModuleSpace(network, input_shape=(1, 4, 4))
    with pytest.raises(ConfigurationError, match=r"'width' takes values only, as do depths, widths.*single_path"):
        make(Darts, space=space)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Darts, {"optimisation": "joint", "order": "second"}, "no virtual step"),
        (Darts, {"order": "second", "train": Recipe(epochs=3, optimizer="adamw")}, "that of sgd, not of adamw"),
        (Proxyless, {"optimisation": "joint", "pretrain_epochs": 0}, "joint optimisation is not possible"),
        (Fbnet, {"temperature_factor": 1.5, "pretrain_epochs": 0}, "above 0 and at most 1, not 1.5"),
        (Drnas, {"kl": math.nan}, "at least 0, not nan"),
        (Darts, {"temperature": 0.0}, "must be positive, not 0.0"),
        (Gdas, {"final_temperature": -1.0}, "must be positive, not -1.0"),
        (Darts, {"pretrain_epochs": 3}, r"smaller than train.epochs \(3\)"),
        (Darts, {"weight_steps": 16}, "alpha would have no step"),
        (Darts, {"iterations_per_step": 0}, "at least 1, not 0"),
        (Darts, {"train": Recipe(epochs=3, patience=1)}, "darts does not support"),
        (Darts, {"cost": CostTerm("latency")}, r"the problem has no cost 'latency' \(its costs: none\)"),
    ],
)
def test_bad_settings_are_refused(make: Make, kind: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(kind, **settings)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AlphaRecipe(learning_rate=0.0), "must be positive"),
        (lambda: AlphaRecipe(beta1=1.0), "below 1, not 1.0"),
        (lambda: AlphaRecipe(weight_decay=math.nan), "at least 0, not nan"),
        (lambda: AlphaRecipe(entropy=math.inf), "finite"),
        (lambda: CostTerm("flops", reference=1.0), "above 1"),
        (lambda: CostTerm("flops", form="hinge", reference=2.0), "leave it out"),
        (lambda: CostTerm("flops", weight=-1.0), "at least 0"),
        (lambda: DeriveSettings(top=0), "at least 1"),
        (lambda: CollapseSettings(stop_skip_share=1.5), "between 0 and 1"),
        (lambda: CollapseSettings(stop_eigenvalue_ratio=1.3), "set eigenvalue_every"),
        (lambda: CollapseSettings(eigenvalue_every=1, stop_eigenvalue_ratio=1.0), "above 1"),
        (lambda: CollapseSettings(eigenvalue_every=0), "at least 1"),
    ],
)
def test_bad_nested_settings_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()


def test_a_hinge_needs_a_limit(make: Make, space: ModuleSpace) -> None:
    problem = Problem({"accuracy": "maximize"}, [], {"toy_cost": TabulatedCost(ToyCost(space), space)})
    with pytest.raises(ConfigurationError, match="needs an upper limit of 'toy_cost'"):
        make(Darts, problem=problem, cost=CostTerm("toy_cost", form="hinge"))


def test_a_logarithm_needs_costs_above_one(make: Make, space: ModuleSpace) -> None:
    problem = Problem({"accuracy": "maximize"}, [], {"toy_cost": TabulatedCost(ToyCost(space), space)})
    with pytest.raises(ConfigurationError, match="the smallest 'toy_cost' is 0"):
        make(Darts, problem=problem, cost=CostTerm("toy_cost", form="log"))


def test_a_limit_that_nothing_meets_is_an_error_before_the_training(make: Make, space: ModuleSpace) -> None:
    with pytest.raises(InfeasibleError, match="no architecture has toy_cost"):
        make(Darts, problem=limited(space, "<= -1"))


def test_nan_in_alpha_is_reported_with_the_decision(make: Make, run: Make) -> None:
    strategy = make(Gdas)
    with torch.no_grad():
        strategy._estimator.alpha.values[1, 2] = math.nan
    with pytest.raises(DivergedError, match=r"alpha (became NaN|loss became nan).*(d1|step of alpha)"):
        run(strategy)
