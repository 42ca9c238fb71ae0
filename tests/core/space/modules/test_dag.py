"""`Dag`: liveness against brute force, values against the sums written out, folding against torch's own convolution."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Dag, ModuleSpace, OneOf, Subset, Weighted, operators
from automl_nas.space.modules.dag.graph import DagGraph

Edges = dict[str, list[str]]


def dso_edges(levels: int, operations: int) -> Edges:
    """Every operation reads the input and all operations of earlier levels; the output reads all of them."""
    names = [[f"o{i}{j}" for j in range(operations)] for i in range(levels)]
    edges: Edges = {}
    for i, level in enumerate(names):
        earlier = [name for before in names[:i] for name in before]
        edges |= {name: ["input", *earlier] for name in level}
    edges["output"] = [name for level in names for name in level]
    return edges


def dso_space(levels: int, operations: int, make: Callable[[], nn.Module] = nn.Identity) -> ModuleSpace:
    edges = dso_edges(levels, operations)
    nodes = [target for target in edges if target != "output"]
    return ModuleSpace(
        lambda: Dag({n: make() for n in nodes}, edges, shortcut=nn.Identity(), name="d"), input_shape=(3,)
    )


@pytest.mark.parametrize(("levels", "operations", "graphs"), [(1, 1, 2), (1, 2, 4), (2, 1, 8), (2, 2, 256)])
def test_number_of_live_graphs(levels: int, operations: int, graphs: int) -> None:
    """DSO-NAS blocks, by brute force: (2, 2) has 4,096 assignments and 256 distinct live graphs."""
    space = dso_space(levels, operations)
    assert space.size == 2 ** sum(map(len, dso_edges(levels, operations).values()))
    canonical = {space.canonical(architecture) for architecture in operators.enumerate_all(space.decisions)}
    assert len(canonical) == graphs
    assert all(space.canonical(architecture) == architecture for architecture in canonical)


def test_number_of_edges() -> None:
    """4 levels of 4: 4 + 20 + 36 + 52 + 16 = 128 edges (paper), 124 where level-1 inputs are not gated (code)."""
    edges = dso_edges(4, 4)
    nodes = {name: nn.Identity() for name in edges if name != "output"}
    first = [name for name, sources in edges.items() if sources == ["input"]]
    for fixed, count in (((), 128), (first, 124)):
        dag = Dag(nodes, edges, fixed=fixed)
        assert sum(len(decision.options) for decision in dag.decisions().values()) == count


def paths(taken: Mapping[str, Sequence[str]], target: str) -> list[list[tuple[str, str]]]:
    """Every path of selected edges from the input to a target, as lists of edges."""
    if target == "input":
        return [[]]
    return [[*path, (source, target)] for source in taken[target] for path in paths(taken, source)]


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_an_edge_is_live_iff_it_lies_on_a_path_from_input_to_output(data: st.DataObject) -> None:
    """Random graphs of up to five nodes, against the enumeration of all paths."""
    names = [f"n{i}" for i in range(data.draw(st.integers(1, 5)))]
    order = data.draw(st.permutations(names))
    edges = {
        name: data.draw(st.lists(st.sampled_from(["input", *order[:i]]), min_size=1, unique=True))
        for i, name in enumerate(order)
    }
    edges["output"] = data.draw(st.lists(st.sampled_from(["input", *names]), min_size=1, unique=True))
    graph = DagGraph(names, edges)
    taken = {target: data.draw(st.lists(st.sampled_from(sources), unique=True)) for target, sources in edges.items()}
    expected = {edge for path in paths(taken, "output") for edge in path}
    live = graph.live(taken)
    assert {(source, target) for target, sources in live.items() for source in sources} == expected
    position = {target: place for place, target in enumerate(["input", *live])}
    assert all(position[source] < position[target] for source, target in expected)
    assert all(sources for sources in live.values())


EDGES: Edges = {"a": ["input"], "b": ["input", "a"], "c": ["a", "b"], "output": ["a", "b", "c"]}


def build(*, projected: bool = False, after: bool = False, shortcut: bool = False) -> ModuleSpace:
    def make() -> nn.Module:
        nodes = {name: nn.Conv2d(4, 4, 3, padding=1) for name in "abc"}
        return Dag(
            nodes,
            EDGES,
            nn.Conv2d(12, 6, 1) if projected else None,
            after=nn.Sigmoid() if after else None,
            shortcut=nn.Conv2d(4, 6 if projected else 4, 1) if shortcut else None,
            name="dag",
        )

    return ModuleSpace(make, input_shape=(4, 5, 5))


def reference(
    space: ModuleSpace, supernet: nn.Module, x: Tensor, lambdas: Mapping[str, Mapping[str, Tensor]]
) -> Tensor:
    """The equations written out, from the input forwards; independent of `Dag`'s program."""
    net = supernet.network
    assert isinstance(net, Dag)
    h: dict[str, Tensor | None] = {"input": x}

    def total(target: str) -> Tensor | None:
        terms = [weight * h[s] for s, weight in lambdas[target].items() if h[s] is not None]  # type: ignore[operator]
        return sum(terms[1:], terms[0]) if terms else None

    for node in "abc":
        into = total(node)
        h[node] = None if into is None else net.nodes[node](into)
    if net.projection is None:
        combined = total("output")
    else:
        terms = [(s, w * h[s]) for s, w in lambdas["output"].items() if h[s] is not None]  # type: ignore[operator]
        maps = [nn.functional.conv2d(value, net.projection[s]) for s, value in terms]
        combined = sum(maps[1:], maps[0]) + net.projection_bias.view(1, -1, 1, 1) if maps else None  # type: ignore[union-attr, operator]
    result = None if combined is None else combined if net.after is None else net.after(combined)
    if net.shortcut is not None:
        result = net.shortcut(x) if result is None else result + net.shortcut(x)
    assert result is not None
    return result


@pytest.mark.parametrize("projected", [False, True])
@pytest.mark.parametrize("form", ["value", "tensor", "Weighted"])
def test_the_equations(projected: bool, form: str) -> None:
    """Every seventh of the 256 assignments, in double precision, where only the order of sums differs."""
    space = build(projected=projected, after=True, shortcut=True)
    supernet = space.build_supernet().double()
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    weights = {name: torch.randn(len(d.options), dtype=torch.float64) for name, d in space.decisions.items()}
    for architecture in itertools.islice(operators.enumerate_all(space.decisions), 0, None, 7):
        selection: dict[str, object] = {}
        lambdas: dict[str, dict[str, Tensor]] = {}
        for name, decision in space.decisions.items():
            value = architecture[name]
            assert isinstance(value, tuple)
            target, own = name.removeprefix("dag."), dict(zip(decision.options, weights[name], strict=True))
            taken = decision.options if form == "tensor" else value
            lambdas[target] = {str(s): torch.tensor(1.0).double() if form == "value" else own[s] for s in taken}
            vector = torch.stack([own[s] for s in value]) if value else torch.zeros(0).double()
            selection[name] = {"value": value, "tensor": weights[name], "Weighted": Weighted(value, vector)}[form]
        output = supernet(x, selection)  # type: ignore[arg-type]
        torch.testing.assert_close(output, reference(space, supernet, x, lambdas), rtol=1e-11, atol=1e-11)


def test_the_projection_equals_the_output_convolution() -> None:
    """With everything live and unweighted: the original 1x1 convolution of the concatenation, bit for bit."""
    conv = nn.Conv2d(12, 6, 1)
    nodes = {name: nn.Conv2d(4, 4, 1) for name in "abc"}
    edges = {"a": ["input"], "b": ["input"], "c": ["input"], "output": ["c", "a", "b"]}
    space = ModuleSpace(lambda: Dag(nodes, edges, conv, name="d"), input_shape=(4, 5, 5))
    supernet, x = space.build_supernet(), torch.randn(2, 4, 5, 5)
    everything = {name: decision.options for name, decision in space.decisions.items()}
    expected = conv(torch.cat([nodes[name](x) for name in "cab"], dim=1))
    assert torch.equal(supernet(x, everything), expected)
    weights = torch.tensor([2.0, 0.0, -1.0])
    scaled = conv(torch.cat([w * nodes[name](x) for w, name in zip(weights, "cab", strict=True)], dim=1))
    # float32: sums of 12 products of order one, in another order.
    torch.testing.assert_close(supernet(x, {**everything, "d.output": weights}), scaled, rtol=1e-5, atol=1e-5)


class Poison(nn.Module):
    """Returns NaN and counts its runs."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        self.runs += not x.is_meta
        return x * self.weight * float("nan")


def poisoned() -> ModuleSpace:
    edges = {"good": ["input"], "bad": ["input", "good"], "output": ["good", "bad"]}
    return ModuleSpace(
        lambda: Dag({"good": nn.Tanh(), "bad": Poison()}, edges, after=nn.Tanh(), name="d"), input_shape=(3,)
    )


def test_dead_nodes_do_not_run_and_their_nan_does_not_spread() -> None:
    supernet, x = poisoned().build_supernet(), torch.randn(2, 3)
    bad = supernet.get_submodule("network.nodes.bad")
    assert isinstance(bad, Poison)
    for dead in (
        {"d.good": ("input",), "d.bad": ("input", "good"), "d.output": ("good",)},
        {"d.good": ("input",), "d.bad": (), "d.output": ("good", "bad")},
    ):
        output = supernet(x, dead)
        assert torch.equal(output, x.tanh().tanh())
    assert bad.runs == 0
    # A weight of exactly zero is not a removed edge: its value is not read, so 0 * NaN is NaN and gradients flow.
    weights = torch.tensor([1.0, 0.0], requires_grad=True)
    output = supernet(x, {"d.good": ("input",), "d.bad": ("input",), "d.output": weights})
    assert output.isnan().all()
    assert bad.runs == 1


def test_without_live_nodes_the_shortcut_remains() -> None:
    """Not even `after` runs: batch normalisation would add its shift to nothing."""
    x = torch.randn(2, 4, 5, 5)
    nothing = {"dag.a": (), "dag.b": ("input", "a"), "dag.c": (), "dag.output": ("a", "c")}
    for projected, width in ((False, 4), (True, 6)):
        supernet = build(projected=projected, after=True, shortcut=True).build_supernet()
        assert torch.equal(supernet(x, nothing), supernet.get_submodule("network.shortcut")(x))
        assert torch.equal(supernet.extract(nothing)(x), supernet(x, nothing))
        bare = build(projected=projected, after=True).build_supernet()
        assert torch.equal(bare(x, nothing), torch.zeros(2, width, 5, 5))
        assert torch.equal(bare.extract(nothing)(x), torch.zeros(2, width, 5, 5))
        assert not list(bare.extract(nothing).parameters())


def test_a_view_holds_the_live_parameters() -> None:
    supernet = build(projected=True, shortcut=True).build_supernet()
    view = supernet.view({"dag.a": ("input",), "dag.b": (), "dag.c": (), "dag.output": ("a", "b")})
    names = {id(parameter): name.removeprefix("network.") for name, parameter in supernet.named_parameters()}
    assert {names[id(parameter)] for parameter in view.parameters()} == {
        *("nodes.a.weight", "nodes.a.bias", "projection.a", "projection_bias", "shortcut.weight", "shortcut.bias")
    }


def test_weights_are_folded_into_the_projection() -> None:
    """The extracted network has one convolution over the live sources only, and no buffer for the output's weights."""
    space = build(projected=True)
    supernet = space.build_supernet()
    selection = {"dag.a": ("input",), "dag.b": ("input",), "dag.c": (), "dag.output": torch.tensor([0.5, 2.0, 3.0])}
    network = supernet.extract(selection)
    projection = network.get_submodule("projection")
    assert isinstance(projection, nn.Conv2d)
    assert (projection.in_channels, projection.out_channels) == (8, 6)
    own = supernet.get_submodule("network.projection")
    assert torch.equal(projection.weight, torch.cat([0.5 * own["a"], 2.0 * own["b"]], dim=1))  # type: ignore[index]
    assert not list(network.buffers())


def test_a_fresh_narrower_projection_draws_for_its_own_fan_in() -> None:
    """torch draws from U(-1/sqrt(fan_in), 1/sqrt(fan_in)): over 4 inputs some weights exceed the bound for 256."""
    names = [f"n{i}" for i in range(64)]
    edges = {**{name: ["input"] for name in names}, "output": names}
    space = ModuleSpace(
        lambda: Dag({n: nn.Identity() for n in names}, edges, nn.Conv2d(256, 64, 1), name="d"), input_shape=(4, 2, 2)
    )
    whole = Architecture({name: decision.options for name, decision in space.decisions.items()})
    narrow = space.build(whole.replace({"d.output": ("n3",)})).get_submodule("projection").weight
    assert 0.9 / 2 < narrow.abs().max() <= 1 / 2  # type: ignore[operator, union-attr]
    wide = space.build(whole).get_submodule("projection").weight
    assert 0.9 / 16 < wide.abs().max() <= 1 / 16  # type: ignore[operator, union-attr]


def test_restrict_removes_nodes_that_no_edge_can_reach() -> None:
    supernet = build(projected=True, after=True, shortcut=True).build_supernet()
    before = dict(supernet.named_parameters())
    supernet.restrict({"dag.c": ["a"], "dag.output": ["c", "b"], "dag.b": []})
    assert supernet.decisions == {
        "dag.a": Subset(("input",)),
        "dag.c": Subset(("a",)),
        "dag.output": Subset(("b", "c")),
    }
    left = dict(supernet.named_parameters())
    assert all(before[name] is parameter for name, parameter in left.items())
    gone = {name.removeprefix("network.") for name in set(before) - set(left)}
    assert gone == {"nodes.b.weight", "nodes.b.bias", "projection.a", "projection.b"}
    x = torch.randn(1, 4, 5, 5)
    selection = {"dag.a": ("input",), "dag.c": ("a",), "dag.output": torch.tensor([1.0, 2.0])}
    output = supernet(x, selection)
    # An emptied subset may be named, as an architecture of the whole space does, or left out.
    assert torch.equal(supernet(x, {**selection, "dag.b": ()}), output)
    assert torch.equal(supernet.extract(selection)(x), output)
    supernet.restrict({"dag.output": []})
    assert torch.equal(supernet(x, {"dag.a": (), "dag.c": ()}), supernet.get_submodule("network.shortcut")(x))
    assert {name.split(".")[1] for name, _ in supernet.named_parameters()} == {"shortcut"}


def test_choices_inside_dead_nodes_make_no_difference() -> None:
    edges = {"a": ["input"], "output": ["a"]}
    space = ModuleSpace(lambda: Dag({"a": OneOf([nn.Tanh(), nn.ReLU()])}, edges, name="d"), input_shape=(3,))
    canonical = {space.canonical(a).key for a in operators.enumerate_all(space.decisions)}
    assert (space.size, len(canonical)) == (8, 3)


def test_tied_dags_share_their_decisions() -> None:
    def make() -> nn.Module:
        return nn.Sequential(*(Dag({"a": nn.Tanh()}, {"a": ["input"], "output": ["a"]}, name="b") for _ in range(3)))

    assert list(ModuleSpace(make, input_shape=(2,)).decisions) == ["b.a", "b.output"]


@pytest.mark.parametrize(
    ("nodes", "edges", "message"),
    [
        (["a"], {"a": ["input"]}, "no edge leads to 'output'"),
        (["a"], {"output": ["a"]}, "no edge leads to 'a'"),
        (["a"], {"a": ["inptu"], "output": ["a"]}, "'inptu', which is not a node; did you mean 'input'"),
        (["a"], {"a": ["input"], "outptu": ["a"]}, "did you mean 'output'"),
        (["a", "b"], {"a": ["b"], "b": ["a"], "output": ["a"]}, "cycle.*'a', 'b'"),
        (["a"], {"a": ["a"], "output": ["a"]}, "cycle"),
        (["a"], {"a": ["output"], "output": ["a"]}, "'output', which is not a node"),
        (["a"], {"a": ["input", "input"], "output": ["a"]}, "twice"),
        (["input"], {"input": ["input"], "output": ["input"]}, "cannot be called 'input'"),
        (["keys"], {"keys": ["input"], "output": ["keys"]}, "cannot be called 'keys'"),
    ],
)
def test_ill_formed_graphs_are_refused(nodes: Sequence[str], edges: Edges, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Dag({name: nn.Identity() for name in nodes}, edges)


@pytest.mark.parametrize(
    ("conv", "message"),
    [
        (nn.Conv2d(8, 4, 3), "1x1"),
        (nn.Conv2d(8, 4, 1, groups=2), "groups"),
        (nn.Conv2d(9, 4, 1), "9 channels.*2 sources"),
    ],
)
def test_output_convolutions_that_cannot_be_split_are_refused(conv: nn.Conv2d, message: str) -> None:
    edges = {"a": ["input"], "b": ["input"], "output": ["a", "b"]}
    with pytest.raises(SpaceError, match=message):
        Dag({"a": nn.Identity(), "b": nn.Identity()}, edges, conv)
    with pytest.raises(SpaceError, match="'x' in 'fixed' is not a target"):
        Dag({"a": nn.Identity(), "b": nn.Identity()}, edges, fixed=["x"])
