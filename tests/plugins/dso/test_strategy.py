"""The search: against a loop written by hand, interrupted anywhere, across a prune, and with bad input."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import ConfigurationError, DivergedError, RunFailedError
from automl_nas.evaluation.artifacts import Artifacts
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Batch
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.space.modules.choice import OneOf
from automl_nas.space.modules.dag.module import Dag
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.space.selection import Weighted
from automl_nas.space.space import SupernetSpace
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.streams import stream_seed
from automl_nas.testing.artifacts import MemoryArtifacts
from automl_nas.testing.services import SimulatedServices, finished
from automl_nas.testing.states import same, stored
from automl_nas.testing.strategies import StrategyContract
from automl_nas.testing.toys import ToyTask
from automl_nas_dso.gamma.penalty_travel import penalty_travel
from automl_nas_dso.gamma.sparsity_controller import SparsityController
from automl_nas_dso.live_structure import LiveShares, LiveStructure
from automl_nas_dso.optimiser import APGNAG
from automl_nas_dso.space import DsoSpace
from automl_nas_dso.strategy import DSO
from automl_nas_dso.strategy.progress import warn_if_missed

PROBLEM = Problem({"accuracy": "maximize"})
RECIPE = Recipe(epochs=4, learning_rate=0.1, schedule="constant", nesterov=True, weight_decay=1e-3)
SETTINGS: dict[str, Any] = {
    "train": RECIPE,
    "pretrain_epochs": 1,
    "prune_epochs": None,
    "iterations_per_step": 4,
    "lambda_learning_rate": 0.004,
    "lambda_momentum": 0.5,
}
"""5 iterations in an epoch of 80 images, of which lambda gets 3 batches: 20 iterations, 15 steps of lambda."""


@cache
def small_space(**settings: Any) -> DsoSpace:
    settings = {"levels": 2, "operations": ("sep3", "max3"), "sharing": "full", "blocks": (1, 1), **settings}
    return DsoSpace(num_classes=3, input_shape=(1, 4, 4), width=4, **settings)


def one_block() -> DsoSpace:
    return small_space(blocks=(1,))


@cache
def graph_space() -> ModuleSpace:
    """Return a space that is no `EdgeSpace`: one graph in an ordinary module."""

    def network() -> nn.Module:
        nodes = {name: nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()) for name in "ab"}
        edges = {"a": ("input",), "b": ("input", "a"), "output": ("a", "b")}
        graph = Dag(nodes, edges, shortcut=nn.Identity(), name="graph")
        return nn.Sequential(nn.Conv2d(1, 4, 1), graph, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

    return ModuleSpace(network, input_shape=(1, 4, 4))


def make_task() -> ToyTask:
    return ToyTask(train=80, search=48)


def make(
    space: SupernetSpace | None = None, artifacts: Artifacts | None = None, task: ToyTask | None = None, **settings: Any
) -> DSO:
    settings = {"seed": 5, **SETTINGS, **settings}
    return DSO(
        space or small_space(),
        task or make_task(),
        Runtime(device="cpu"),
        artifacts or MemoryArtifacts(),
        settings.pop("problem", PROBLEM),
        **settings,
    )


def doomed(strategy: DSO, *targets: str) -> DSO:
    """Let edges be nearly dead under a penalty that takes no other to 0 in 15 steps.

    What dies does not hang on rounding: the penalty is 5 and gradients are clipped at 2, so a step is 0.024 to 0.056.

    Args:
        strategy: fresh.
        targets: parts of names of decisions, all of whose edges are to die; none: every third edge.
    """
    edges = enumerate(strategy._gates.edges)
    places = [
        place for place, (name, _) in edges if any(t in name for t in targets) or (not targets and place % 3 == 0)
    ]
    with torch.no_grad():
        strategy._gates.values[places] = 0.05
    strategy._gamma = 5.0
    strategy._penalise()
    return strategy


def services() -> SimulatedServices:
    def judge(number: int, proposal: Proposal) -> Trial:
        return finished(PROBLEM, number, proposal, {})

    return SimulatedServices(judge)


def run(strategy: DSO, simulated: SimulatedServices | None = None) -> SimulatedServices:
    simulated = simulated or services()
    while not strategy.done:
        strategy.step(simulated)
    return simulated


def logged(simulated: SimulatedServices, name: str) -> list[float]:
    return [values[name] for _, values in simulated.logged if name in values]


class TestContract(StrategyContract):
    steps = 5

    def make(self, seed: int) -> DSO:
        return doomed(make(one_block(), seed=seed, gamma=0, prune_epochs=1))

    def services(self) -> SimulatedServices:
        return services()


class TestContractWithATarget(TestContract):
    def make(self, seed: int) -> DSO:
        return doomed(make(one_block(), seed=seed, sparsity={"edges": 0.9}))


class TestContractBySensitivity(TestContract):
    def make(self, seed: int) -> DSO:
        return make(one_block(), seed=seed, sparsity={"edges": 0.6}, ranking="sensitivity", gamma_every=1)


class TestContractWithoutBlocks(TestContract):
    def make(self, seed: int) -> DSO:
        return doomed(make(graph_space(), seed=seed, gamma=0, lambda_split="train", nonnegative="none"))


@pytest.mark.parametrize("weight_steps", [1, 2])
def test_it_is_what_a_hand_written_loop_does(weight_steps: int) -> None:
    space, task, artifacts = small_space(), make_task(), MemoryArtifacts()
    simulated = run(doomed(make(space, artifacts, gamma=0, weight_steps=weight_steps, clip=0.05)))

    runtime = Runtime(device="cpu")
    with runtime.seeded(5, "init"):
        network = runtime.place(space.build_supernet()).train()
    for dag in [module for module in network.modules() if isinstance(module, Dag) and module.decisions()]:
        for norm in [module for module in dag.nodes.modules() if isinstance(module, nn.BatchNorm2d)]:
            norm.weight.requires_grad_(False)
    sides = ([p for p in network.parameters() if p.dim() > 1], [p for p in network.parameters() if p.dim() == 1])
    weights = torch.optim.SGD(
        [{"params": sides[0], "weight_decay": 1e-3}, {"params": sides[1]}], lr=0.1, momentum=0.9, nesterov=True
    )
    lambdas = {name: nn.Parameter(torch.ones(len(d.options))) for name, d in space.decisions.items()}
    with torch.no_grad():
        for place, (name, source) in enumerate((n, o) for n, d in space.decisions.items() for o in d.options):
            lambdas[name][space.decisions[name].position(source)] = 0.05 if place % 3 == 0 else 1.0
    penalised = APGNAG(lambdas.values(), 0.004, momentum=0.5, gamma=5.0, nonnegative="prox")

    def loss(batch: Batch, searching: bool) -> Tensor:
        selection = {
            name: Weighted(d.options, lambdas[name] if searching else torch.ones(len(d.options)))
            for name, d in space.decisions.items()
        }
        return F.cross_entropy(network(batch[0].to(memory_format=torch.channels_last), selection), batch[1])

    def search() -> Iterator[Batch]:
        for epoch in range(9):
            yield from task.batches("search", epoch, stream_seed(5, "lambda/data"))

    images = search()
    for epoch in range(4):
        for place, batch in enumerate(task.batches("train", epoch, stream_seed(5, "data"))):
            network.zero_grad()
            loss(batch, epoch >= 1).backward()
            torch.nn.utils.clip_grad_value_(network.parameters(), 0.05)
            weights.step()
            searched = 5 * (epoch - 1) + place
            if epoch >= 1 and searched % weight_steps == weight_steps - 1:
                penalised.zero_grad()
                loss(next(images), True).backward()
                for each in lambdas.values():
                    # A parameter without gradient would not be penalised either.
                    each.grad = torch.zeros_like(each) if each.grad is None else each.grad.clamp(-0.05, 0.05)
                penalised.step()
    # The same products in another order: one vector of lambdas, split; folded projections; unweighted in phase 1.
    for name, values in lambdas.items():
        torch.testing.assert_close(artifacts.stored["lambda"][name], penalised.iterate(values), rtol=0, atol=2e-5)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(artifacts.stored["weights"][name], value, rtol=1e-3, atol=1e-4)
    (proposal,) = simulated.submitted
    expected = {
        name: tuple(o for o, value in zip(d.options, penalised.iterate(lambdas[name]).tolist(), strict=True) if value)
        for name, d in space.decisions.items()
    }
    assert proposal.architecture == space.canonical(space.validate(expected))


def test_stopped_anywhere_it_ends_the_same() -> None:
    """Compare state, artifacts, trial and log, after every step: in both phases, before and after a prune."""
    settings: dict[str, Any] = {"space": one_block(), "prune_epochs": 1, "gamma": 0}
    whole, uninterrupted = MemoryArtifacts(), services()
    strategy, states = doomed(make(artifacts=whole, **settings)), []
    while not strategy.done:
        strategy.step(uninterrupted)
        states.append(stored(strategy.state_dict()))
    removed = [int((~state["present"]).sum()) for state in states]
    assert removed[0] == 0
    assert removed[-1] > 0
    for stop in range(1, len(states)):
        parts, again = MemoryArtifacts(), services()
        resumed = make(artifacts=parts, **settings)
        resumed.load_state_dict(states[stop - 1])
        run(resumed, again)
        assert same(stored(resumed.state_dict()), states[-1]), stop
        assert same(parts.stored, whole.stored)
        assert again.submitted == uninterrupted.submitted
        assert again.logged == uninterrupted.logged[len(uninterrupted.logged) - len(again.logged) :]


def test_the_steps_length_changes_nothing() -> None:
    results = []
    for length in (1, 7):
        artifacts = MemoryArtifacts()
        settings = {"gamma": 0, "prune_epochs": 1, "gamma_every": 2, "iterations_per_step": length}
        simulated = run(doomed(make(one_block(), artifacts, **settings)))
        results.append((artifacts.stored, simulated.submitted))
    assert all(same(stored_, results[0][0]) and submitted == results[0][1] for stored_, submitted in results[1:])


def test_what_is_left_computes_the_same_alone() -> None:
    """After a search with removal: restricted supernet, whole supernet with these weights, and extracted network."""
    space, artifacts = small_space(blocks=(2, 1)), MemoryArtifacts()
    strategy = doomed(make(space, artifacts, gamma=0, prune_epochs=1), "block1.output", "block2.sep3_2")
    simulated = run(strategy)
    (proposal,) = simulated.submitted
    dead = [block.path for block in space.blocks if not block.live(proposal.architecture)]
    assert dead == ["stage1.block1", "stage2.block1"]
    assert proposal.architecture["stage1.block2.sep3_2"] == ()
    supernet = space.build_supernet()
    supernet.load_state_dict(artifacts.stored["weights"])
    trained = strategy._supernet
    selection = {}
    for name, decision in space.decisions.items():
        live = proposal.architecture[name]
        assert isinstance(live, tuple)
        places = [decision.position(source) for source in live]
        selection[name] = Weighted(live, artifacts.stored["lambda"][name][places])
        assert proposal.info["lambda"].get(name, {}) == dict(  # type: ignore[attr-defined]
            zip(live, selection[name].tensor.tolist(), strict=True)
        )
    # Where no edge is left the restricted supernet has no such decision any more.
    some = {name: weighted for name, weighted in selection.items() if name in trained.decisions}
    x = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for mode in (False, True):
        extracted = supernet.train(mode).extract(selection)
        outputs = [trained.train(mode)(x, some), supernet(x, selection), extracted(x)]
        for other in outputs[1:]:
            # Weights folded into the projection before or after the copy.
            torch.testing.assert_close(outputs[0], other, rtol=1e-5, atol=1e-6)


def test_removal_keeps_the_optimisers_state() -> None:
    strategy = doomed(make(gamma=0, iterations_per_step=1), "stage1.block1.output")
    simulated = services()
    for _ in range(16):
        strategy.step(simulated)
    training = strategy._training
    buffers = {p: state["momentum_buffer"].clone() for p, state in training._optimizer.state.items()}
    strategy._prune(strategy._sizes() > 0)
    left = list(strategy._supernet.parameters())
    assert 0 < len(left) < len(buffers)
    state = training._optimizer.state
    assert {p for p in left if p in buffers} == set(state)
    assert all(torch.equal(state[p]["momentum_buffer"], buffers[p]) for p in state)
    assert int((training.penalised.iterate(strategy._gates.values) != 0).sum()) == int(strategy._gates.present.sum())


def test_lambda_is_alone_in_phase_2_and_still_in_phase_1() -> None:
    simulated = run(doomed(make(gamma=0, iterations_per_step=5)))
    assert [step for step, values in simulated.logged if "lambda_loss" in values] == [10, 15, 20]
    assert [step for step, values in simulated.logged if "live_edges" in values] == [10, 15, 20]
    assert logged(simulated, "epoch") == [2, 3, 4]
    assert logged(simulated, "live_edges")[-1] < len(small_space().edges) == 24
    assert logged(simulated, "gamma") == [5.0] * 3
    keys = {"epoch", "gamma", "live_edges", "sparsity", "dead_blocks", "flops_left", "memory_access_left"}
    assert set(next(values for _, values in simulated.logged if "epoch" in values)) == keys


class Watched(ToyTask):
    """Records which batches are asked for."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.asked: list[tuple[str, int]] = []

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        self.asked.append((split, epoch))
        return super().batches(split, epoch, seed, start)


@pytest.mark.parametrize(
    ("settings", "search", "expected"),
    [
        # 15 steps of lambda over 3 batches, over 7, and over the 5 of train; 7 steps over 3.
        ({}, 55, [("search", epoch) for epoch in range(5)]),
        ({}, 127, [("search", 0), ("search", 1), ("search", 2)]),
        ({"lambda_split": "train"}, 48, [("train", 0), ("train", 1), ("train", 2)]),
        ({"weight_steps": 2}, 48, [("search", 0), ("search", 1), ("search", 2)]),
    ],
)
def test_splits_of_any_size_have_their_own_epochs(
    settings: dict[str, Any], search: int, expected: list[tuple[str, int]]
) -> None:
    task = Watched(train=89, search=search)
    run(make(one_block(), task=task, gamma=0, **settings))
    weights = [("train", epoch) for epoch in range(4)]
    assert sorted(task.asked) == sorted(weights + expected)


def test_lambda_and_weights_are_trained_on_different_batches_of_one_split() -> None:
    strategy = make(lambda_split="train")
    first, second = strategy._training._weights.take(0), strategy._training._search.take(0)
    assert not torch.equal(first[0], second[0])


def test_without_penalty_all_edges_stay_and_lambda_moves_all_the_same() -> None:
    artifacts = MemoryArtifacts()
    (proposal,) = run(make(one_block(), artifacts, gamma=0, prune_epochs=1)).submitted
    assert proposal.info["live_edges"] == proposal.info["edges"] == 12
    assert any(bool((values != 1).any()) for values in artifacts.stored["lambda"].values())


def test_a_decision_that_must_keep_an_option_keeps_its_largest() -> None:
    space = small_space(gate_reductions=True)
    (proposal,) = run(doomed(make(space, gamma=0, prune_epochs=1), "reduction")).submitted
    assert len(proposal.architecture["stage2.reduction.output"]) == 1  # type: ignore[arg-type]
    assert proposal.info["live_edges"] == 25


def test_tied_edges_live_and_die_together() -> None:
    space, artifacts = small_space(sharing="share"), MemoryArtifacts()
    simulated = run(doomed(make(space, artifacts, gamma=0), "sep3_2"))
    (proposal,) = simulated.submitted
    assert len(artifacts.stored["lambda"]) == 5
    assert proposal.architecture["block.sep3_2"] == ()
    # The three edges into that operation and the one out of it, in both blocks.
    assert logged(simulated, "live_edges")[-1] == proposal.info["live_edges"] == 24 - 2 * 4


def test_a_target_is_reached_and_kept() -> None:
    train = Recipe(epochs=12, learning_rate=0.1, schedule="constant", nesterov=True)
    simulated = run(make(sparsity={"edges": 0.7}, train=train, lambda_learning_rate=0.3))
    left = [1 - value for value in logged(simulated, "sparsity")]
    assert 0 < left[-1] <= 0.7
    # From then on neither death nor revival.
    assert len(set(left[next(i for i, value in enumerate(left) if value <= 0.7) :])) == 1
    assert logged(simulated, "gamma")[-1] == 0


def test_a_target_is_reached_by_removing_the_least_sensitive_edges() -> None:
    simulated = run(make(sparsity={"edges": 0.5}, ranking="sensitivity", gamma_every=1))
    left = [1 - value for value in logged(simulated, "sparsity")]
    assert 0 < left[-1] <= 0.5
    assert left == sorted(left, reverse=True)
    assert set(logged(simulated, "gamma")) == {0}


def test_a_relative_penalty_removes_edges_and_continues_where_it_was() -> None:
    settings: dict[str, Any] = {"space": one_block(), "prune_epochs": 1, "gamma": 0, "penalty": "hoyer"}
    whole = doomed(make(**settings))
    simulated, states = services(), []
    while not whole.done:
        whole.step(simulated)
        states.append(stored(whole.state_dict()))
    assert 0 < simulated.submitted[0].info["live_edges"] < simulated.submitted[0].info["edges"]
    resumed = make(**settings)
    resumed.load_state_dict(states[len(states) // 2])
    run(resumed)
    assert same(stored(resumed.state_dict()), states[-1])


@pytest.mark.parametrize("penalty", ["l1", "hoyer"])
def test_edges_die_while_nodes_keep_their_norm(penalty: str) -> None:
    strategy = doomed(make(space=one_block(), prune_epochs=1, gamma=0, penalty=penalty, keep_norm=True))
    simulated = run(strategy)
    assert 0 < simulated.submitted[0].info["live_edges"] < simulated.submitted[0].info["edges"]
    scales = strategy._gates.split(strategy._training.penalised.iterate(strategy._gates.values))
    norms = [(scale.norm().item(), math.sqrt(len(scale))) for scale in scales.values() if bool(scale.any())]
    assert norms
    assert [norm for norm, _ in norms] == pytest.approx([root for _, root in norms], rel=1e-5)


def test_a_target_that_is_missed_is_said(caplog: pytest.LogCaptureFixture) -> None:
    controller = SparsityController({"edges": 0.5}, steps=100, momentum=0.9)
    for edges in (10, 12):
        warn_if_missed(LiveShares(edges, {"edges": edges / 20}, (), (), empty=False), controller)
    assert caplog.text.count("\n") == 1
    assert "60.0 % of edges remain, but the target was 50.0 %" in caplog.text


def test_too_large_a_penalty_is_said_when_all_is_dead() -> None:
    with pytest.raises(
        RunFailedError, match=r"all blocks are dead after epoch 2.*epoch of phase 2: 24, 0\. gamma is 50"
    ):
        run(make(gamma=50))


def test_a_dead_stage_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    strategy = make(gamma=0, iterations_per_step=5)
    simulated = services()
    strategy.step(simulated)
    strategy.step(simulated)
    with torch.no_grad():
        strategy._training.penalised.forget(
            strategy._gates.values, torch.tensor([name.startswith("stage2") for name, _ in strategy._gates.edges])
        )
    strategy._prune(strategy._sizes() > 0)
    with caplog.at_level(logging.WARNING):
        run(strategy, simulated)
    assert caplog.text.count("all blocks of 'stage2' are dead after epoch 3") == 1
    assert caplog.text.count("are dead") == 1
    assert "24, 24, 12" in caplog.text


def test_too_small_a_penalty_is_refused_before_the_run() -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"the 15 steps .* moves 0\.0079 of the way from 1 to 0 .* at least 0\.13, better 0\.25",
    ):
        make(gamma=1e-3, lambda_learning_rate=None, lambda_momentum=0.9)


def test_lambda_that_is_not_a_number_is_named() -> None:
    strategy = make(gamma=0, pretrain_epochs=0)
    with torch.no_grad():
        strategy._gates.values[1] = float("nan")
    with pytest.raises(DivergedError, match=r"NaN|nan"):
        run(strategy)
    strategy = make(gamma=0, pretrain_epochs=0)
    with torch.no_grad():
        strategy._gates.values[0] = float("nan")
    with pytest.raises(DivergedError, match=r"lambda became NaN .* on 1 edges, the first from 'input' to 'stage1"):
        strategy._training.losses()


def test_a_loss_that_diverges_is_named() -> None:
    with pytest.raises(DivergedError, match=r"loss became \w+ at iteration \d+ .*lower train.learning_rate"):
        run(make(train=Recipe(epochs=4, learning_rate=1e30, schedule="constant"), lambda_learning_rate=0.1, clip=None))


def _chain() -> ModuleSpace:
    return ModuleSpace(
        lambda: nn.Sequential(OneOf([nn.Conv2d(1, 2, 1), nn.Conv2d(1, 2, 3, padding=1)], name="kernel")),
        input_shape=(1, 4, 4),
    )


@pytest.mark.parametrize(
    ("settings", "path", "message"),
    [
        ({"space": _chain()}, "space", "the decision 'kernel' is a Choice"),
        (
            {"space": graph_space(), "gamma_schedule": "adaptive_flops"},
            "gamma_schedule",
            "knows the costs of its edges",
        ),
        ({"space": graph_space(), "sparsity": {"flops": 0.5}}, "sparsity", "set a share of edges"),
        ({"gamma_schedule": "adaptive_latency"}, "latency", "has no cost 'latency_ms'"),
        ({"sparsity": {"flopz": 0.5}}, "sparsity", "did you mean 'flops'"),
        ({"sparsity": {"flops": 1.5}}, "sparsity.flops", "between 0 and 1"),
        ({"sparsity": {}}, "sparsity", "set one measure"),
        ({"sparsity": {"flops": 0.5}, "gamma": 0.1}, "gamma", "remove the setting gamma"),
        ({"gamma": -1.0}, "gamma", "at least 0"),
        ({"gamma_every": 0}, "gamma_every", "at least 1"),
        ({"prune_epochs": 0}, "prune_epochs", "at least 1"),
        ({"iterations_per_step": 0}, "iterations_per_step", "at least 1"),
        ({"pretrain_epochs": 4}, "pretrain_epochs", "smaller than train.epochs \\(4\\)"),
        ({"weight_steps": 0}, "weight_steps", "at least 1"),
        ({"weight_steps": 99}, "weight_steps", "lambda would have no step.* 15 iterations"),
        ({"lambda_learning_rate": 0.0}, "lambda_learning_rate", "positive"),
        ({"lambda_momentum": 1.0}, "lambda_momentum", "below 1"),
        ({"clip": 0.0}, "clip", "positive"),
        ({"lambda_weight_decay": -1.0}, "lambda_weight_decay", "at least 0"),
        ({"lambda_weight_decay": 0.1, "keep_norm": True}, "keep_norm", "remove one of both"),
        ({"ranking": "sensitivity"}, "ranking", "set sparsity"),
        ({"ranking": "sensitivity", "penalty": "hoyer", "sparsity": {"edges": 0.5}}, "penalty", "has no penalty"),
        ({"task": ToyTask(train=80, search=15)}, "task.batch_size", "'search'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        make(**settings)
    assert caught.value.path == path


def test_a_shortened_search_keeps_its_phases_and_the_penalty_travel() -> None:
    recipe = Recipe(epochs=240, schedule="constant")
    settings = {"train": asdict(recipe), "pretrain_epochs": 120, "prune_epochs": 10, "gamma": 1e-3}
    for share in (1e-9, 0.02, 0.33, 0.5, 1.0):
        shortened = DSO.shortened(settings, share)
        epochs, pretraining = shortened.settings["train"]["epochs"], shortened.settings["pretrain_epochs"]
        assert shortened.share == epochs / 240 <= max(share, 2 / 240)
        assert abs(pretraining - epochs / 2) <= 0.5
        assert shortened.settings["prune_epochs"] == max(1, round(10 * epochs / 240))
        # 0.1 * gamma * steps / (1 - 0.9), with 100 steps an epoch; the momentum of the first steps is the difference.
        travel = penalty_travel(shortened.settings["gamma"], [0.1] * (100 * (epochs - pretraining)), 0.9)
        assert travel == pytest.approx(penalty_travel(1e-3, [0.1] * (100 * 120), 0.9), rel=0.1)
    alone = DSO.shortened({**settings, "pretrain_epochs": 0, "prune_epochs": None, "gamma": "auto"}, 1e-9)
    assert alone.settings.keys() == {"train"}
    assert alone.settings["train"]["epochs"] == 1


@pytest.mark.parametrize("target", [{"edges": 0.4}, {"flops": 0.3}, {"memory_access": 0.6}])
def test_the_expected_architecture_has_the_share_of_the_target(target: dict[str, float]) -> None:
    space = small_space(levels=4)
    ((measure, share),) = target.items()
    strategy = make(space, sparsity=target)
    expected = strategy.expected(7)
    assert expected is not None
    structure = LiveStructure(space)
    assert structure.live(expected) == expected
    assert share - 0.1 <= structure.count(expected).shares[measure] <= share
    assert strategy.expected(7) == expected != strategy.expected(8)


@pytest.mark.parametrize(("k", "share"), [(1.0, 1.0), (2.0, 0.25), (5.0, 0.04), (23.0, 0.04)])
def test_without_a_target_the_penalty_travel_says_what_is_expected(k: float, share: float) -> None:
    """k = 2 and 5 left 0.24 and 0.04 of 384 edges on CIFAR-10 (docs/results/sparsity.md, which edges stay)."""
    space = small_space(levels=4)
    automatic = make(space)
    strategy = make(space, gamma=automatic._gamma * k / 2)
    expected = strategy.expected(7)
    assert expected is not None
    counted = LiveStructure(space).count(expected)
    # The network has to be alive, so a small space keeps more than 4 % of its edges.
    assert not counted.empty
    assert share - 0.1 <= counted.shares["edges"] <= share + 0.1
