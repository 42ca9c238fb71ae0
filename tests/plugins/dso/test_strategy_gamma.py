"""Gamma: what it does to a useless edge, its schedules against costs counted elsewhere, the controller in a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.space.architecture import Architecture
from automl_nas.streams import stream
from automl_nas_costs.models import Flops
from automl_nas_dso.gamma.edge_factors import make_factors
from automl_nas_dso.gamma.penalty_travel import automatic, check_reach, penalty_travel
from automl_nas_dso.gamma.sparsity_controller import SparsityController
from automl_nas_dso.gates import Gates
from automl_nas_dso.live_structure import LiveStructure
from automl_nas_dso.optimiser import APGNAG
from automl_nas_dso.space import DsoSpace


def useless(gamma: float, rates: list[float], momentum: float) -> float:
    """Return where an edge without gradient is at the end, going down from far above 0."""
    x = torch.nn.Parameter(torch.full((1,), 100.0, dtype=torch.float64))
    optimiser = APGNAG([x], 1.0, momentum=momentum, gamma=gamma)
    for rate in rates:
        optimiser.param_groups[0]["lr"] = rate
        x.grad = torch.zeros_like(x)
        optimiser.step()
    return optimiser.iterate(x).item()


@pytest.mark.parametrize("rates", [[0.1] * 440, [0.1 * (1 - i / 300) for i in range(300)], [0.5]])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_what_a_penalty_does_is_predicted(rates: list[float], momentum: float) -> None:
    k = penalty_travel(0.01, rates, momentum)
    assert useless(0.01, rates, momentum) == pytest.approx(100 - k, abs=1e-9)
    assert penalty_travel(automatic(rates, momentum), rates, momentum) == pytest.approx(2)
    check_reach(1.001 * 0.01 / k, rates, momentum)
    check_reach(0, rates, momentum)
    with pytest.raises(
        ConfigurationError, match=rf"too small: in the {len(rates)} steps .* moves 1 of the way .*, so no edge"
    ):
        check_reach(0.999 * 0.01 / k, rates, momentum)


def test_the_papers_runs_in_these_terms() -> None:
    """120 epochs of 195 batches of CIFAR-10, gamma 1e-3: k = lr * gamma * steps / (1 - momentum) = 23."""
    assert penalty_travel(1e-3, [0.1] * 120 * 195, 0.9) == pytest.approx(0.1 * 1e-3 * 120 * 195 / 0.1, rel=1e-3)


def make(schedule: Any, space: DsoSpace, **settings: Any) -> tuple[Gates, Any]:
    gates = Gates(space.decisions)
    settings = {"reference": "block", "latency": "latency_ms", "models": {}, **settings}
    return gates, make_factors(schedule, gates, LiveStructure(space), **settings)


def by_edge(gates: Gates, factors: Tensor) -> dict[tuple[str, object], float]:
    return dict(zip(gates.edges, factors.tolist(), strict=True))


@cache
def small(**settings: Any) -> DsoSpace:
    arguments = {"input_shape": (3, 8, 8), "blocks": (1, 1), "width": 4, "levels": 2, "sharing": "full", **settings}
    return DsoSpace(**arguments)


def everything(space: DsoSpace) -> Architecture:
    return Architecture({name: decision.options for name, decision in space.decisions.items()})


@pytest.mark.parametrize("sharing", ["full", "share"])
def test_adaptive_flops_are_those_counted_by_tracing(sharing: str) -> None:
    space = small(sharing=sharing)
    gates, factors = make("adaptive_flops", space)
    full = Flops(space).breakdown(everything(space))
    assert set(factors(everything(space)).tolist()) == {1.0}
    for number in range(3):
        live = space.canonical(space.sample(stream(number, "live")))
        counted = Flops(space).breakdown(live)

        def block(parts: Mapping[str, float], path: str) -> float:
            # The shortcut of a block never dies; the ratio does not include it.
            return sum(n for name, n in parts.items() if name.startswith(f"{path}.") and ".shortcut" not in name)

        paths = [each.path for each in space.blocks]
        for (name, _), factor in by_edge(gates, factors(live)).items():
            own = paths if sharing == "share" else [name.rpartition(".")[0]]
            expected = sum(block(counted, path) for path in own) / sum(block(full, path) for path in own)
            assert factor == pytest.approx(expected, abs=1e-12)


def test_adaptive_mac_has_the_published_ratios() -> None:
    """At 16 x 16 with 96 channels: the second stage of the CIFAR-10 network."""
    gates, factors = make("adaptive_mac", DsoSpace(blocks=(1, 1), sharing="full"))
    values = by_edge(gates, factors(everything(DsoSpace(blocks=(1, 1), sharing="full"))))
    second = {name.rpartition(".")[2]: factor for (name, _), factor in values.items() if name.startswith("stage2")}
    published = {"sep3_3": 0.986, "sep5_3": 1.0, "avg3_3": 0.447, "max3_3": 0.447, "output": 0.448}
    assert {name: round(second[name], 3) for name in published} == published


def test_the_largest_access_cost_may_be_the_networks() -> None:
    space = small()
    ((gates, block), (_, network)) = (make("adaptive_mac", space, reference=which) for which in ("block", "network"))
    live = everything(space)
    one, other = by_edge(gates, block(live)), by_edge(gates, network(live))
    largest = [max(cost.memory_access for cost in each.costs.values()) for each in space.blocks]
    ratio = [largest[number] / max(largest) for number in range(2)]
    assert min(ratio) < 1 == max(ratio)
    for edge, factor in one.items():
        number = int(edge[0].startswith("stage2"))
        assert other[edge] == pytest.approx(factor * ratio[number])


def separable(size: int, kernel: int, channels: int) -> int:
    """The memory access of a separable convolution, h w (c1 + c2) + weights for each of its two layers."""
    return 4 * size**2 * channels + kernel**2 * channels + channels**2


def test_the_access_costs_may_be_divided_by_their_total() -> None:
    """In closed form for one level of four operations in each of two blocks: 8 x 8 x 4, then 4 x 4 x 8."""
    space = small(levels=1)
    gates, factors = make("adaptive_mac", space, reference="total")
    stages = {"stage1": (8, 4), "stage2": (4, 8)}
    costs: dict[str, dict[str, int]] = {}
    for stage, (size, channels) in stages.items():
        pool = 2 * size**2 * channels
        separables = {f"sep{kernel}": separable(size, kernel, channels) for kernel in (3, 5)}
        costs[stage] = {**separables, "avg3": pool, "max3": pool, "output": pool + channels}
    total = sum(sum(own.values()) + 3 * own["output"] for own in costs.values())  # four edges to each output
    values = by_edge(gates, factors(everything(space)))
    assert len(values) == 2 * (4 + 4)
    for (name, _), factor in values.items():
        target = name.rpartition(".")[2].split("_")[0]
        assert factor == pytest.approx(costs[name.split(".")[0]][target] / total, rel=1e-12), name
    assert factors.largest == pytest.approx(costs["stage1"]["sep5"] / total)
    # The edge with the largest factor has the penalty travel of `auto`, and decides whether gamma is large enough.
    rates = [0.1] * 200
    gamma = automatic(rates, 0.9, factors.largest)
    assert penalty_travel(gamma * factors.largest, rates, 0.9) == pytest.approx(2)
    check_reach(0.51 * gamma, rates, 0.9, factors.largest)
    with pytest.raises(ConfigurationError, match=r"moves 0\.98 of the way"):
        check_reach(0.49 * gamma, rates, 0.9, factors.largest)


class Latency(CostModel):
    """An invented latency: an operation takes as many ms as a table gives, a block's projection 4."""

    metric: ClassVar[str] = "latency_ms"
    unit: ClassVar[str] = "ms"

    def __init__(self, space: DsoSpace, times: Mapping[str, float]) -> None:
        self._space, self._times = space, times

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        parts = {"stem.0.0": 9.0}
        for block in self._space.blocks:
            live = block.live(architecture)
            parts |= {f"{block.path}.nodes.{node}.0": self._times[node] for node in live if node != "output"}
            parts |= {f"{block.path}.projection": 4.0} if live else {}
        return parts


def test_adaptive_latency_is_what_a_removal_saves() -> None:
    """One block: a reads the input; b reads the input and a; both lead to the output."""
    space = small(blocks=(1,), operations=("sep3",))
    times = {"sep3_1": 1.0, "sep3_2": 3.0}
    gates, factors = make("adaptive_latency", space, models={"latency_ms": Latency(space, times)})
    path = space.blocks[0].path
    edge = {
        "input-a": (f"{path}.sep3_1", "input"),
        "input-b": (f"{path}.sep3_2", "input"),
        "a-b": (f"{path}.sep3_2", "sep3_1"),
        "a-out": (f"{path}.output", "sep3_1"),
        "b-out": (f"{path}.output", "sep3_2"),
    }
    values = by_edge(gates, factors(everything(space)))
    # Without a-out, a still feeds b: half of the projection goes. Without b-out, b goes too. Without input-a, a goes.
    saved = {"input-a": 1 + 2, "input-b": 0, "a-b": 0, "a-out": 2, "b-out": 3 + 2}
    assert {name: values[edge[name]] for name in edge} == pytest.approx({n: 0.5 + 0.1 * s for n, s in saved.items()})

    # a-out and input-b are dead: a chain, of which every edge takes all with it.
    chain = {f"{path}.sep3_1": ("input",), f"{path}.sep3_2": ("sep3_1",), f"{path}.output": ("sep3_2",)}
    assert set(factors(Architecture(chain)).tolist()) == {0.5}


class Elsewhere(CostModel):
    metric: ClassVar[str] = "latency_ms"
    unit: ClassVar[str] = "ms"

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {"features.0": 1.0}


def test_a_latency_that_knows_no_operation_is_refused() -> None:
    space = small(blocks=(1,), operations=("sep3",))
    _, factors = make("adaptive_latency", space, models={"latency_ms": Elsewhere()})
    with pytest.raises(ConfigurationError, match=r"contains none of the operations .*nodes\.sep3_1") as caught:
        factors(everything(space))
    assert caught.value.path == "latency"


class Noisy(Latency):
    """The same, measured: every measurement gives something else, and they are counted."""

    noisy: ClassVar[bool] = True
    measured = 0

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        self.measured += 1
        return {path: value * self.measured for path, value in super().breakdown(architecture).items()}


def test_what_is_measured_is_measured_once_and_kept() -> None:
    space = small(blocks=(1,), operations=("sep3",))
    model = Noisy(space, {"sep3_1": 1.0, "sep3_2": 3.0})
    gates, factors = make("adaptive_latency", space, models={"latency_ms": model})
    path = space.blocks[0].path
    full = everything(space)
    assert model.measured == 0
    _, exact = make("adaptive_latency", space, models={"latency_ms": Latency(space, {"sep3_1": 1.0, "sep3_2": 3.0})})
    assert torch.equal(factors(full), exact(full))

    # Without the edge from input to b: a takes 1 + 3 and the projection with it, b 3 and half of the projection.
    live = Architecture(
        {f"{path}.sep3_1": ("input",), f"{path}.sep3_2": ("sep3_1",), f"{path}.output": full[f"{path}.output"]}
    )
    values = by_edge(gates, factors(live))
    saved = {"input-a": 1 + 3 + 4, "a-b": 3 + 2, "a-out": 2, "b-out": 3 + 2}
    names = {
        "input-a": (f"{path}.sep3_1", "input"),
        "a-b": (f"{path}.sep3_2", "sep3_1"),
        "a-out": (f"{path}.output", "sep3_1"),
        "b-out": (f"{path}.output", "sep3_2"),
    }
    assert {name: values[names[name]] for name in names} == pytest.approx(
        {name: 0.5 + 0.5 * (value - 2) / (8 - 2) for name, value in saved.items()}
    )
    assert model.measured == 1

    _, resumed = make("adaptive_latency", space, models={"latency_ms": model})
    resumed.load_state_dict(factors.state_dict())
    assert torch.equal(resumed(live), factors(live))
    assert model.measured == 1


def test_a_latency_measured_in_onnx_runtime_says_what_operations_take() -> None:
    pytest.importorskip("onnxruntime")
    from automl_nas_costs.latency.model import LatencyMs

    space = small(blocks=(1,), operations=("sep5", "avg3"))
    model = LatencyMs(space, rounds=5, burst_ms=0, warmup_ms=0, round_ms=0, cache=None)
    _, factors = make("adaptive_latency", space, models={"latency_ms": model})
    values = factors(everything(space))
    assert values.min() == 0.5
    assert values.max() == 1.0
    measured = factors.state_dict()["measured"]
    block = space.blocks[0]
    for node in block.operations:
        assert sum(value for path, value in measured.items() if path.startswith(f"{block.path}.nodes.{node}")) > 0


class Edges:
    """A model of training: each edge has a quadratic loss, with noise; half of the edges are hardly needed."""

    def __init__(self, count: int, strongest: float, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        spread = torch.randn(count, generator=self._generator, dtype=torch.float64).exp()
        self.pull = strongest * spread / spread.max()
        self._noise = float(self.pull.mean())
        self.values = torch.nn.Parameter(torch.ones(count, dtype=torch.float64))

    def gradient(self) -> Tensor:
        noise = torch.randn(len(self.pull), generator=self._generator, dtype=torch.float64)
        return self.pull * (self.values.detach() - 1) + self._noise * noise


@pytest.mark.parametrize("target", [0.8, 0.4, 0.1])
@pytest.mark.parametrize("strongest", [0.01, 0.3])
def test_the_controller_reaches_its_target_by_the_weakest_edges(target: float, strongest: float) -> None:
    """What an edge is worth spans a factor of a hundred; the gamma that would do differs by thirty between cases."""
    steps, momentum, rate = 800, 0.9, 0.1
    edges = Edges(150, strongest, seed=1)
    optimiser = APGNAG([edges.values], rate, momentum=momentum, nonnegative="prox")
    controller = SparsityController({"edges": target}, steps=steps, momentum=momentum)
    gamma = controller.first(rate)
    present = torch.ones(150, dtype=torch.bool)
    ones = torch.ones(150, dtype=torch.float64)
    begun: int | None = None
    for step in range(1, steps + 1):
        optimiser.param_groups[0]["gamma"] = gamma
        edges.values.grad = torch.where(present, edges.gradient(), 0.0)
        optimiser.step()
        if step % controller.interval or controller.reached:
            continue
        sizes = optimiser.iterate(edges.values)
        gamma = controller.update(
            sizes, ones, gamma=gamma, rate=rate, step=step, share=lambda alive: float(alive.double().mean())
        )
        present &= controller.lasting
        optimiser.forget(edges.values, ~present)
        begun = step if begun is None and not bool(present.all()) else begun
    remaining = present
    assert controller.reached
    assert begun is not None and begun > 0.1 * steps
    # A few edges die between two updates, 6 of 150 at most here; the plan ends 3 % below the target.
    assert 0.97 * target - 0.04 <= float(remaining.double().mean()) <= target
    best = edges.pull.sort(descending=True).values[: int(remaining.sum())].sum()
    assert float(edges.pull[remaining].sum()) >= 0.9 * float(best)


def test_the_controller_goes_on_where_it_was() -> None:
    def run(controllers: list[SparsityController]) -> list[float]:
        edges, gammas = Edges(20, 0.1, seed=2), [controllers[0].first(0.1)]
        optimiser = APGNAG([edges.values], 0.1, nonnegative="prox")
        for step in range(1, 101):
            edges.values.grad = edges.gradient()
            optimiser.param_groups[0]["gamma"] = gammas[-1]
            optimiser.step()
            if step % 5 == 0:
                for index in range(1, len(controllers)):
                    controllers[index].load_state_dict(controllers[index - 1].state_dict())
                gammas.append(
                    controllers[-1].update(
                        optimiser.iterate(edges.values),
                        torch.ones(20, dtype=torch.float64),
                        gamma=gammas[-1],
                        rate=0.1,
                        step=step,
                        share=lambda alive: float(alive.double().mean()),
                    )
                )
                controllers.insert(0, controllers.pop())
        return gammas

    def make_one() -> SparsityController:
        return SparsityController({"edges": 0.3}, steps=100, momentum=0.9)

    alone = run([make_one()])
    assert run([make_one(), make_one()]) == alone
    assert len(set(alone)) > 5
    assert all(math.isfinite(gamma) for gamma in alone)


def test_decisions_that_demand_options_keep_their_largest() -> None:
    gates = Gates(small(gate_reductions=True).decisions)
    places = [place for place, (name, _) in enumerate(gates.edges) if name.endswith("reduction.output")]
    assert len(places) == 2
    sizes = torch.zeros(len(gates.edges))
    sizes[places[1]] = 0.5
    assert gates.protected(sizes).nonzero().flatten().tolist() == [places[1]]
    assert gates.protected(sizes * 0).nonzero().flatten().tolist() == [places[0]]
    assert not Gates(small().decisions).protected(torch.zeros(len(gates.edges) - 2)).any()
