"""Dense graphs, whose weighted sums are matrix products: values and gradients against the sums written out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from automl_nas.space import Dag, ModuleSpace, Supernet, Weighted
from automl_nas.space.modules.dag.forward_pass import Inflow, matrix_products_pay_off, mix, project

SHAPE = (6, 4, 4)
LEVELS = 3


def dense_edges(levels: int = LEVELS, operations: int = 3) -> dict[str, list[str]]:
    edges: dict[str, list[str]] = {}
    earlier: list[str] = []
    for level in range(levels):
        names = [f"n{level}{number}" for number in range(operations)]
        edges |= {name: ["input", *earlier] for name in names}
        earlier += names
    return {**edges, "output": earlier}


def make_space(*, projected: bool = True, stride: int = 1, bias: bool = True, edges: Any = None) -> ModuleSpace:
    edges = edges or dense_edges()
    nodes = [name for name in edges if name != "output"]

    def make() -> nn.Module:
        conv = nn.Conv2d(6 * len(edges["output"]), 5, 1, stride=stride, bias=bias)
        return Dag(
            {name: nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Tanh()) for name in nodes},
            edges,
            conv if projected else None,
            after=nn.Tanh(),
            name="d",
        )

    return ModuleSpace(make, input_shape=SHAPE)


def written_out(supernet: nn.Module, x: Tensor, gates: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
    """Edge by edge, with torch's own convolutions."""
    dag = supernet.network
    assert isinstance(dag, Dag)
    h = {"input": x}
    for node, into in gates.items():
        if node == "output" or not into:
            continue
        h[node] = dag.nodes[node](sum(weight * h[source] for source, weight in into.items()))
    if dag.projection is None:
        return dag.after(sum(weight * h[source] for source, weight in gates["output"].items()))  # type: ignore[misc]
    stacked = torch.cat([weight * h[source] for source, weight in gates["output"].items()], dim=1)
    kernel = torch.cat([dag.projection[source] for source in gates["output"]], dim=1)
    return dag.after(nn.functional.conv2d(stacked, kernel, dag.projection_bias, dag._stride))  # type: ignore[misc]


def gates_for(space: ModuleSpace, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(len(d.options), dtype=torch.float64, generator=generator).requires_grad_()
        for name, d in space.decisions.items()
    }


def by_source(space: ModuleSpace, gates: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    return {
        name.removeprefix("d."): {str(s): gates[name][place] for place, s in enumerate(decision.options)}
        for name, decision in space.decisions.items()
    }


def inputs(channels_last: bool, seed: int = 0) -> Tensor:
    x = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def assert_same(ours: Tensor, theirs: Tensor, leaves: list[Tensor]) -> None:
    """Double precision: sums of at most some hundred terms of order one in another order."""
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)
    mine, other = (torch.autograd.grad(y.square().sum(), leaves, retain_graph=True) for y in (ours, theirs))
    torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("settings", [{}, {"stride": 2}, {"projected": False}, {"bias": False}])
def test_all_edges(channels_last: bool, settings: dict[str, Any]) -> None:
    space = make_space(**settings)
    supernet = space.build_supernet().double()
    x, gates = inputs(channels_last).requires_grad_(), gates_for(space)
    ours = supernet(x, gates)
    assert "Mix" in graph_of(ours)
    assert ("Project" in graph_of(ours)) == (
        channels_last and settings.get("stride") != 2 and "projected" not in settings
    )
    theirs = written_out(supernet, x, by_source(space, gates))
    assert_same(ours, theirs, [x, *gates.values(), *supernet.parameters()])


def graph_of(tensor: Tensor) -> str:
    """Return the names of all steps of the backward pass."""
    seen, todo = set(), [tensor.grad_fn]
    while todo:
        step = todo.pop()
        if step is not None and step not in seen:
            seen.add(step)
            todo += [other for other, _ in step.next_functions]
    return " ".join(step.name() for step in seen)


@pytest.mark.parametrize("channels_last", [True, False])
def test_most_edges(channels_last: bool) -> None:
    """Some edges are missing, a level that skips one, outputs out of order, and one node that the output lacks."""
    edges = dense_edges()
    edges["n10"] = ["n02", "n00"]
    edges["n22"] = ["n11", "n12", "n10"]
    edges["output"] = ["n21", "n22", "n00", "n20"]
    space = make_space(edges=edges)
    supernet = space.build_supernet().double()
    x, gates = inputs(channels_last).requires_grad_(), gates_for(space)
    ours = supernet(x, gates)
    assert "Mix" in graph_of(ours)
    assert_same(ours, written_out(supernet, x, by_source(space, gates)), [x, *gates.values(), *supernet.parameters()])


def test_weighted_live_edges_in_any_order() -> None:
    space = make_space()
    supernet = space.build_supernet().double()
    x, gates = inputs(True), gates_for(space)
    selection: dict[str, Weighted] = {}
    live: dict[str, dict[str, Tensor]] = {}
    for number, (name, decision) in enumerate(space.decisions.items()):
        options = [option for place, option in enumerate(decision.options) if (place + number) % 4][::-1]
        weights = gates[name][[decision.position(option) for option in options]]
        selection[name] = Weighted(tuple(options), weights)
        live[name.removeprefix("d.")] = {str(s): weights[place] for place, s in enumerate(options)}
    ours = supernet(x, selection)
    alone = supernet.extract(selection)
    torch.testing.assert_close(alone(x), ours, rtol=1e-11, atol=1e-11)
    reference = written_out(supernet, x, _alive(space, selection, live))
    torch.testing.assert_close(ours, reference, rtol=1e-11, atol=1e-11)


def _alive(space: ModuleSpace, selection: Mapping[str, Weighted], live: Any) -> dict[str, dict[str, Tensor]]:
    canonical = space.canonical(space.validate({name: each.value for name, each in selection.items()}))
    return {
        node: {source: weight for source, weight in into.items() if source in canonical[f"d.{node}"]}  # type: ignore[operator]
        for node, into in live.items()
    }


def test_second_derivatives() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    def mixed(weights: Tensor, *bundles: Tensor) -> Tensor:
        first, passed = mix(weights[:2], bundles)
        second, passed = mix(weights[2:], passed)
        return project(weights[:2, :4].reshape(2, 2, 2), [(1,), (0,)], passed) * first.sum() + second.sum()

    arguments = (draw(4, 5), draw(3, 8), draw(2, 8))
    assert torch.autograd.gradcheck(mixed, arguments)
    assert torch.autograd.gradgradcheck(mixed, arguments)


def test_long_maps_are_summed_in_chunks() -> None:
    """Maps of 2,048 elements: the gradient of the weights is a sum of two chunks."""
    bundle = torch.randn(3, 2048, dtype=torch.float64)
    weights = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    total, _ = mix(weights, [bundle])
    (grad,) = torch.autograd.grad(total.square().sum(), [weights])
    torch.testing.assert_close(grad, 2 * (weights @ bundle) @ bundle.T, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("reentrant", [True, False])
def test_under_activation_checkpointing_and_after_a_second_forward(reentrant: bool) -> None:
    space = make_space()
    supernet = space.build_supernet().double()
    gates, others = gates_for(space), gates_for(space, seed=1)
    x = inputs(True).requires_grad_()

    def checkpointed(gates: Mapping[str, Tensor]) -> Tensor:
        output = checkpoint(lambda x: supernet(x, gates), x, use_reentrant=reentrant)
        assert isinstance(output, Tensor)
        return output

    first, second = checkpointed(gates), checkpointed(others)
    (first.square().sum() + second.sum()).backward()
    checkpointed_grads = [each.grad for each in (x, *gates.values(), *others.values(), *supernet.parameters())]
    for leaf in (x, *gates.values(), *others.values(), *supernet.parameters()):
        leaf.grad = None
    (supernet(x, gates).square().sum() + supernet(x, others).sum()).backward()
    grads = [each.grad for each in (x, *gates.values(), *others.values(), *supernet.parameters())]
    # The recomputed graph is the same graph; only gradients that two passes add up may be added in another order.
    torch.testing.assert_close(checkpointed_grads, grads, rtol=1e-12, atol=1e-12)


def test_a_backward_pass_can_be_repeated() -> None:
    space = make_space()
    supernet, gates = space.build_supernet().double(), gates_for(space)
    output = supernet(inputs(True), gates).square().sum()
    leaves = [*gates.values(), *supernet.parameters()]
    first, second = (torch.autograd.grad(output, leaves, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_gradients_of_weights_alone_and_of_lambda_alone() -> None:
    """Tensors without requires_grad get no gradient, and the other gradients do not change."""
    space = make_space()
    supernet, gates = space.build_supernet().double(), gates_for(space)
    x, parameters = inputs(True), list(supernet.parameters())
    both = torch.autograd.grad(supernet(x, gates).square().sum(), [*gates.values(), *parameters])
    fixed = {name: gate.detach() for name, gate in gates.items()}
    alone = torch.autograd.grad(supernet(x, fixed).square().sum(), parameters)
    assert all(torch.equal(a, b) for a, b in zip(both[len(gates) :], alone, strict=True))
    supernet.requires_grad_(False)
    lambdas = torch.autograd.grad(supernet(x, gates).square().sum(), list(gates.values()))
    assert all(torch.equal(a, b) for a, b in zip(both[: len(gates)], lambdas, strict=True))


class Half(nn.Module):
    """Returns another type than its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float()


def test_maps_of_different_types_are_summed_one_by_one() -> None:
    edges = dense_edges()
    space = ModuleSpace(
        lambda: Dag({n: Half() if n == "n11" else nn.Tanh() for n in edges if n != "output"}, edges, name="d"),
        input_shape=SHAPE,
    )
    supernet: Supernet = space.build_supernet()
    x, gates = inputs(True), gates_for(space)
    output = supernet(x, gates)
    assert output.dtype == torch.float64
    h = {"input": x}
    for node, into in by_source(space, gates).items():
        total = sum(weight * h[source] for source, weight in into.items())
        assert isinstance(total, Tensor)
        h[node] = total if node == "output" else total.float() if node == "n11" else total.tanh()
    # One node in single precision: both sides round its output, whose sums differ in the last bits of a double.
    torch.testing.assert_close(output, h["output"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("precision", [torch.bfloat16])
def test_under_autocast(precision: torch.dtype) -> None:
    """Close to the equations in float32, as close as bfloat16 comes: 8 bits, a few roundings on the way."""
    space = make_space()
    supernet = space.build_supernet()
    x = inputs(True).float()
    gates = {name: torch.full((len(d.options),), 0.3, requires_grad=True) for name, d in space.decisions.items()}
    exact = supernet(x, gates)
    with torch.autocast("cpu", dtype=precision):
        rough = supernet(x, gates)
    torch.testing.assert_close(rough.float(), exact, rtol=0.05, atol=0.05)
    grads = torch.autograd.grad(rough.float().sum(), list(gates.values()))
    assert all(grad.isfinite().all() and grad.dtype == torch.float32 for grad in grads)


def test_on_meta_tensors() -> None:
    """The forward pass runs on tensors without data; all edges can be weighted."""
    space = make_space()
    assert space.weighable == set(space.decisions)
    supernet = space.build_supernet().to("meta")
    gates = {name: torch.ones(len(d.options), device="meta") for name, d in space.decisions.items()}
    assert supernet(torch.zeros(2, *SHAPE, device="meta"), gates).shape == (2, 5, 4, 4)


def test_equal_unweighted_sums_are_computed_once() -> None:
    """All nodes of a level with the same sources read the same tensor; extracted networks give the same output."""
    space = make_space(projected=False)
    supernet = space.build_supernet()
    x = inputs(True).float()
    everything = {name: decision.options for name, decision in space.decisions.items()}
    seen: dict[str, Tensor] = {}
    for name, node in supernet.get_submodule("network.nodes").named_children():
        node.register_forward_pre_hook(lambda _, args, name=name: seen.__setitem__(name, args[0]))
    output = supernet(x, everything)
    assert len({id(each) for each in seen.values()}) == LEVELS
    alone = supernet.extract(everything)
    assert torch.equal(alone(x), output)
    ones = {name: torch.ones(1) for name in by_source(space, gates_for(space))}
    reference = {n: dict.fromkeys(into, ones[n][0]) for n, into in by_source(space, gates_for(space)).items()}
    assert torch.equal(written_out(supernet, x, reference), output)


def test_matrix_products_pay_off_in_dense_graphs_only() -> None:
    weight = torch.ones(1)

    def program(edges: Mapping[str, list[str]]) -> Any:
        levels: dict[int, list[Inflow]] = {}
        depth = {"input": 0}
        for node, sources in edges.items():
            depth[node] = 1 + max(depth[source] for source in sources)
            levels.setdefault(depth[node], []).append(Inflow(node, tuple(sources), weight.expand(len(sources))))
        return tuple(tuple(level) for _, level in sorted(levels.items()))

    dense = dense_edges(4, 4)
    del dense["output"]
    assert matrix_products_pay_off(program(dense))
    assert not matrix_products_pay_off(program({node: sources[:1] for node, sources in dense.items()}))
    assert not matrix_products_pay_off(program({"a": ["input"], "b": ["a"], "c": ["b", "a"]}))
    unweighted = tuple(tuple(Inflow(i.target, i.sources, None) for i in level) for level in program(dense))
    assert not matrix_products_pay_off(unweighted)
