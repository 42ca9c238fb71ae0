"""The DSO-NAS space: published figures, counted here independently of any cost model; the contract; its settings."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, SupernetSpace, Weighted, operators
from automl_nas.streams import stream
from automl_nas.testing.supernets import SupernetContract
from automl_nas_dso.space import DsoSpace, Edge, transfer
from automl_nas_dso.space.layout import Layout
from automl_nas_dso.space.network import network

SMALL: dict[str, Any] = {"input_shape": (1, 8, 8), "num_classes": 3, "blocks": (1, 2), "width": 4, "levels": 2}


def make(**settings: Any) -> DsoSpace:
    return DsoSpace(**{**SMALL, **settings})


def everything(space: SupernetSpace) -> Architecture:
    return Architecture({name: decision.options for name, decision in space.decisions.items()})


def nothing(space: SupernetSpace) -> Architecture:
    return Architecture({name: decision.options[: decision.min] for name, decision in space.decisions.items()})  # type: ignore[attr-defined]


class TestShare(SupernetContract):
    constants = True  # scales of batch normalisation

    def make_space(self) -> SupernetSpace:
        return make(operations=("sep3", "max3"))


class TestFull(SupernetContract):
    constants = True  # scales of batch normalisation

    def make_space(self) -> SupernetSpace:
        return make(sharing="full", gate_reductions=True, gate_inputs=False, operations=("avg3", "sep5"))

    def architectures(self, space: Any) -> list[Architecture]:
        """Also those in which blocks are pruned entirely."""
        drawn = super().architectures(space)[0]
        pruned = drawn.replace({name: () for name in drawn if name.startswith("stage2.block1.")})
        return [drawn, pruned, nothing(space)]


class TestFinal(SupernetContract):
    constants = True  # scales of batch normalisation

    def make_space(self) -> SupernetSpace:
        return make(
            variant="final",
            blocks=(1, 1),
            levels=1,
            operations=("dil3", "conv3", "avg3", "max5"),
            stage_shortcut="identity",
            pool_norm=False,
            repeats=2,
            drop_path=0.3,
            drop_path_iterations=3,
            dropout=0.1,
            auxiliary=True,
        )


@pytest.mark.parametrize(("levels", "count", "graphs"), [(1, 1, 2), (1, 2, 4), (2, 1, 8), (2, 2, 256)])
def test_number_of_live_graphs(levels: int, count: int, graphs: int) -> None:
    """By brute force over all subsets of edges: 4,096 for (2, 2)."""
    space = make(blocks=(1,), levels=levels, operations=("sep3", "max3")[:count])
    canonical = {space.canonical(architecture) for architecture in operators.enumerate_all(space.decisions)}
    assert len(canonical) == graphs
    assert all(len(space.blocks[0].live(each)) == sum(map(bool, each.values())) for each in canonical)


@pytest.mark.parametrize(("gated", "edges"), [(True, 128), (False, 124)])
def test_number_of_edges(gated: bool, edges: int) -> None:
    """4 + 20 + 36 + 52 + 16 (paper), and without the four into level 1 (code)."""
    space = make(levels=4, gate_inputs=gated, sharing="full", blocks=(1, 1))
    assert sum(math.log2(decision.size) for decision in space.decisions.values()) == 2 * edges
    assert len(space.edges) == 2 * edges


def points(net: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    """Output positions of each convolution and linear layer, by hooks: a multiply-add per weight at each of them."""
    sizes: dict[str, int] = {}

    def hook(name: str) -> Any:
        return lambda _, __, output: sizes.__setitem__(name, output[0, 0].numel())

    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(hook(name))
    with torch.no_grad():
        net.eval()(torch.zeros(1, *shape))
    return sizes


def multiply_adds(net: nn.Module, shape: tuple[int, ...]) -> int:
    """One per weight and output position."""
    return sum(count * weights_of(net, name) for name, count in points(net, shape).items())


def weights_of(net: nn.Module, name: str) -> int:
    """Weights of a layer, without a bias; in a supernet the 1x1 convolution of a block has one part per source."""
    layer = net.get_submodule(name)
    return sum(parameter.numel() for key, parameter in layer.named_parameters() if key != "bias")


@pytest.fixture(scope="module")
def cifar10() -> tuple[Layout, dict[str, int]]:
    """The CIFAR-10 network, and the output positions of each of its layers, which do not depend on its width."""
    space = DsoSpace(width=1)
    return space.layout, points(space.build(everything(space)), (3, 32, 32))


@pytest.mark.parametrize(
    ("width", "parameters", "flops", "published"),
    [
        (16, 1_217_338, 186_040_960, ("1.22", "186")),
        (32, 4_561_002, 680_887_552, ("4.56", "681")),
        (48, 10_031_002, 1_484_539_776, ("10.03", "1485")),
    ],
)
def test_supernet_sizes(
    width: int, parameters: int, flops: int, published: tuple[str, str], cifar10: tuple[Layout, dict[str, int]]
) -> None:
    """The code's layout for CIFAR-10, in M with as many digits as are published; weights without data."""
    layout, positions = cifar10
    with torch.device("meta"):
        supernet = network(dataclasses.replace(layout, width=width))
    counted = (
        sum(parameter.numel() for parameter in supernet.parameters()),
        sum(count * weights_of(supernet, name) for name, count in positions.items()),
    )
    assert counted == (parameters, flops)
    assert (f"{counted[0] / 1e6:.2f}", f"{counted[1] / 1e6:.0f}") == published


def test_imagenet() -> None:
    """Stages of 2, 2, 13 and 6 blocks; 28 to 224 channels; two convolutions of stride 2 and three reductions."""
    space = DsoSpace(preset="imagenet", input_shape=(3, 64, 64), num_classes=1000, levels=1)
    net = space.build(nothing(space))
    maps = []
    for name in ("stem", *(f"stage{stage}" for stage in range(1, 5))):
        net.get_submodule(name).register_forward_hook(lambda _, __, out: maps.append(tuple(out.shape[1:])))
    assert net.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
    assert maps == [(28, 16, 16), (28, 16, 16), (56, 8, 8), (112, 4, 4), (224, 2, 2)]
    strides = [conv.stride for conv in net.get_submodule("stem").modules() if isinstance(conv, nn.Conv2d)]
    assert strides == [(2, 2), (2, 2)]
    assert [block.path.partition(".")[0] for block in space.blocks] == (
        ["stage1"] * 2 + ["stage2"] * 2 + ["stage3"] * 13 + ["stage4"] * 6
    )


def test_memory_access_factors() -> None:
    """At 16 x 16 and 96 channels, relative to the largest: as published, to three digits."""
    space = DsoSpace(blocks=(1, 1), width=48, levels=1)
    block = next(block for block in space.blocks if block.path.startswith("stage2"))
    costs = {kind: block.costs[f"{kind}_1"].memory_access for kind in ("sep3", "sep5", "avg3", "max3")}
    costs["output"] = block.output["sep3_1"].memory_access
    largest = max(costs.values())
    factors = {kind: f"{cost / largest:.3f}" for kind, cost in costs.items()}
    assert factors == {"sep3": "0.986", "sep5": "1.000", "avg3": "0.447", "max3": "0.447", "output": "0.448"}
    assert {edge.operation: edge.cost.memory_access for edge in space.edges if edge.block == 1} == costs


@pytest.mark.parametrize("settings", [{}, {"repeats": 2, "operations": ("dil5", "conv3", "sep7")}, {"sharing": "full"}])
def test_flops_of_what_is_alive(settings: dict[str, Any]) -> None:
    """Blocks' costs against the multiply-adds counted in networks, which differ only in the blocks."""
    space = make(gate_reductions=True, **settings)
    bare = nothing(space)
    base = multiply_adds(space.build(bare), space.input_shape) - costs(space, bare)
    for number in range(4):
        architecture = space.sample(stream(0, "cost", number))
        assert multiply_adds(space.build(architecture), space.input_shape) == base + costs(space, architecture)
    assert costs(space, everything(space)) == sum(block.full_cost.flops for block in space.blocks)


def costs(space: DsoSpace, architecture: Architecture) -> int:
    return sum(block.cost(block.live(architecture)).flops for block in space.blocks)


def test_memory_access_is_that_of_the_layers() -> None:
    """Elements that the layers of operations read and write, weights included, counted by hooks."""
    space = make(operations=("sep3", "dil5", "conv3", "max3"), repeats=2, gate_reductions=True)
    net = space.build(everything(space))
    moved: dict[str, int] = {}

    def count(path: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            weights = layer.weight.numel() if isinstance(layer, nn.Conv2d) else 0
            moved[path] = moved.get(path, 0) + inputs[0].numel() + output.numel() + weights

        return hook

    for path, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer.register_forward_hook(count(path.rpartition(".")[0]))
    net.eval()(torch.zeros(1, *space.input_shape))
    for block in space.blocks:
        branches = block.output if block.path.endswith("reduction") else block.costs
        for node, cost in branches.items():
            assert cost.memory_access == moved[f"{block.path}.nodes.{node}"]


def test_edges_of_tied_decisions() -> None:
    """One entry for each block; together they are what the decisions offer."""
    for sharing in ("share", "full"):
        space = make(sharing=sharing, gate_reductions=True)
        offered = {(name, option) for name, decision in space.decisions.items() for option in decision.options}
        assert {(edge.decision, edge.source) for edge in space.edges} == offered
        assert (
            len(space.edges)
            == (3 if sharing == "share" else 1)
            * sum(len(d.options) for name, d in space.decisions.items() if "reduction" not in name)
            + 2
        )
        for edge in space.edges:
            block = space.blocks[edge.block]
            assert edge.source in block.sources[edge.target]
            assert isinstance(edge, Edge)


def lambdas(space: SupernetSpace) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(len(decision.options), dtype=torch.float64, generator=generator)
        for name, decision in space.decisions.items()
    }


def test_lambda_of_one_is_the_plain_network() -> None:
    space = make()
    supernet = space.build_supernet().double()
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    ones = {name: torch.ones(len(d.options), dtype=torch.float64) for name, d in space.decisions.items()}
    # Double precision: sums of some hundred terms of order one, in another order.
    torch.testing.assert_close(supernet(x, ones), supernet(x, everything(space)), rtol=1e-10, atol=1e-10)


def test_shared_lambda_is_full_lambda_with_equal_values() -> None:
    """The gradient of a tied lambda is the sum of the gradients of the blocks'."""
    tied, free = make(), make(sharing="full")
    supernet, other = tied.build_supernet().double(), free.build_supernet().double()
    other.load_state_dict(supernet.state_dict())
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    shared = {name: weight.requires_grad_() for name, weight in lambdas(tied).items()}
    full = {
        name: shared["block." + name.rpartition(".")[2]].detach().clone().requires_grad_() for name in free.decisions
    }
    one, two = supernet(x, shared), other(x, full)
    assert torch.equal(one, two)
    one.square().sum().backward()
    two.square().sum().backward()
    for name, weight in shared.items():
        node = name.rpartition(".")[2]
        parts = [each.grad for key, each in full.items() if key.endswith(f".{node}")]
        assert len(parts) == 3
        torch.testing.assert_close(weight.grad, sum(parts[1:], parts[0]), rtol=1e-10, atol=1e-10)  # type: ignore[operator, arg-type]


def test_one_level_of_one_operation_is_a_residual_branch_with_a_gate() -> None:
    """M = N = 1, the block of sparse structure selection: ``shortcut + R(lambda O(lambda' x))``, written out."""
    space = make(blocks=(2,), levels=1, operations=("sep3",), stage_shortcut="identity", variant="final")
    supernet = space.build_supernet().double()
    net: Any = supernet.network
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    gates = {"block.sep3_1": torch.tensor([0.7]).double(), "block.output": torch.tensor([-0.3]).double()}
    h = net.stem(x)
    for name in ("block1", "block2"):
        dag = net.stage1.get_submodule(name)
        branch = gates["block.output"] * dag.nodes["sep3_1"](gates["block.sep3_1"] * h)
        h = h + dag.after(nn.functional.conv2d(branch, dag.projection["sep3_1"]))
    torch.testing.assert_close(supernet(x, gates), net.head(h), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("sharing", ["share", "full"])
def test_masked_restricted_and_extracted_agree(training: bool, sharing: str) -> None:
    """Live edges with their lambda, a block without any: the same outputs, and the same gradient of lambda."""
    for number in range(3):
        space = make(sharing=sharing, variant="search")
        supernet = space.build_supernet().double().train(training)
        for layer in supernet.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.bias, 1.0)  # a dead operation that ran would show up by its shift
        drawn = space.sample(stream(1, "live", number))
        if sharing == "full":
            drawn = drawn.replace({name: () for name in drawn if name.startswith("stage2.block2.")})
        live = space.canonical(drawn)
        full = lambdas(space)
        lam = {name: full[name][[space.decisions[name].position(s) for s in live[name]]] for name in live}  # type: ignore[union-attr]
        x = torch.randn(4, 1, 8, 8, dtype=torch.float64)

        def selection(architecture: Architecture, lam: Any = lam, space: Any = space) -> dict[str, Weighted]:
            return {name: Weighted(value, lam[name].requires_grad_()) for name, value in architecture.items()}

        alone = supernet.extract(selection(live))
        masked = supernet(x, selection(live))
        searched = [weight for weight in lam.values() if weight.numel()]
        grads = torch.autograd.grad(masked.square().sum(), searched, allow_unused=True)
        torch.testing.assert_close(alone(x), masked, rtol=1e-10, atol=1e-10)
        before = {id(parameter) for parameter in supernet.parameters()}
        supernet.restrict({name: value for name, value in live.items() if isinstance(value, tuple)})
        assert {id(parameter) for parameter in supernet.parameters()} < before
        if training:
            continue  # running statistics have moved on
        restricted = supernet(x, selection(live))
        assert torch.equal(restricted, masked)
        again = torch.autograd.grad(
            restricted.square().sum(), [v for v in lam.values() if v.numel()], allow_unused=True
        )
        assert all(a is b or torch.equal(a, b) for a, b in zip(grads, again, strict=True))


def test_a_dead_block_is_its_bare_shortcut() -> None:
    space = make(blocks=(2,), stage_shortcut="identity")
    supernet = space.build_supernet().train()
    net: Any = supernet.network
    for layer in supernet.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.bias)
    supernet.eval()
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(supernet(x, nothing(space)), net.head(net.stem(x)))
    projected = make(blocks=(1,))
    supernet = projected.build_supernet().eval()
    net = supernet.network
    assert torch.equal(supernet(x, nothing(projected)), net.head(net.stage1.block1.shortcut(net.stem(x))))


def test_scale_is_fixed_in_operations_only_and_only_in_the_search() -> None:
    """The scale would absorb lambda; the shift is learned all the same."""
    for settings, learned in (({}, False), ({"variant": "final"}, True), ({"variant": "final", "scale": False}, False)):
        net = make(**settings).build_supernet()
        norms = {path: layer for path, layer in net.named_modules() if isinstance(layer, nn.BatchNorm2d)}
        inside = [layer for path, layer in norms.items() if ".nodes." in path and ".reduction." not in path]
        rest = [layer for path, layer in norms.items() if ".nodes." not in path or ".reduction." in path]
        assert len(inside) == 3 * 8
        assert {layer.weight.requires_grad for layer in inside} == {learned}
        assert all((layer.weight == 1).all() and layer.bias.requires_grad for layer in inside)
        assert all(layer.weight.requires_grad for layer in rest)
    search, final = make(), make(variant="final")
    final.build_supernet().load_state_dict(search.build_supernet().state_dict())


def test_tied_architectures_are_portable() -> None:
    small, large = make(), make(blocks=(2, 1, 2), width=8, gate_inputs=True)
    architecture = small.sample(stream(0, "portable"))
    assert dict(small.decisions) == dict(large.decisions)
    assert transfer(architecture, small, large) == architecture
    full = make(sharing="full", blocks=(1, 1), gate_reductions=True)
    spread = transfer(architecture, small, make(sharing="full", blocks=(1, 1)))
    for number in (1, 2):
        assert spread[f"stage{number}.block1.sep3_2"] == architecture["block.sep3_2"]
    with pytest.raises(SpaceError, match="set the same 'gate_reductions'"):
        transfer(architecture, small, full)
    own = full.sample(stream(0, "full"))
    assert transfer(own, full, make(sharing="full", blocks=(1, 1), gate_reductions=True, width=16)) == own
    with pytest.raises(SpaceError, match=r"1\+1 blocks.*1\+2 blocks.*sharing: share"):
        transfer(own, full, make(sharing="full", gate_reductions=True))
    with pytest.raises(SpaceError, match="'levels' and 'operations'"):
        transfer(architecture, small, make(levels=1))


def test_a_reduction_keeps_a_branch() -> None:
    space = make(gate_reductions=True)
    assert space.decisions["reduction.output"].min == 1  # type: ignore[attr-defined]
    with pytest.raises(SpaceError, match="has 0 options"):
        space.build(everything(space).replace({"reduction.output": ()}))
    supernet = space.build_supernet()
    with pytest.raises(SpaceError, match=r"'reduction\.output': at least one option must stay live"):
        supernet.restrict({"reduction.output": ()})
    supernet.restrict({"reduction.output": ("conv3",)})
    x = torch.randn(2, *space.input_shape)
    assert supernet(x, {**everything(space), "reduction.output": ("conv3",)}).shape == (2, 3)


def test_drop_path_grows_with_depth_and_time() -> None:
    """Shares of dropped samples against the schedule; the mean is kept; evaluation drops nothing."""
    space = make(blocks=(1, 1), variant="final", drop_path=0.5, drop_path_iterations=2)
    supernet = space.build_supernet()
    drops = [module for module in supernet.modules() if type(module).__name__ == "DropPath"]
    assert [module.probability for module in drops] == [0.25] * 8 + [0.5] * 8
    last, x = drops[-1], torch.ones(4000, 1, 1, 1)
    for expected in (0.25, 0.5, 0.5):
        y = last(x)
        # Four standard deviations of a share of 4,000.
        assert abs((y == 0).float().mean() - expected) < 4 * 0.5 / 4000**0.5
        assert y.max() == pytest.approx(1 / (1 - expected))
    assert torch.equal(last.eval()(x), x)
    assert "seen" in last.state_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "cifar"}, "did you mean 'cifar10'"),
        ({"operations": ("sep4",)}, "unknown operation 'sep4'.*odd kernel"),
        ({"operations": ()}, "at least one operation"),
        ({"operations": ("sep3", "sep3")}, "'sep3' more than once"),
        ({"levels": 0}, "levels must be at least 1, not 0"),
        ({"blocks": (2, 0)}, "blocks of stage 2 must be at least 1, not 0"),
        ({"blocks": ()}, "at least one stage"),
        ({"stem_strides": (3,)}, "a stride must be 1 or 2, not 3"),
        ({"stem_strides": ()}, "at least one"),
        ({"blocks": (1, 1, 1, 1, 1)}, "images of 8x8 are too small for 4 halvings"),
        ({"dropout": 1.0}, "dropout must be a probability"),
        ({"blocks": (2,), "auxiliary": True}, "two or more stages"),
        ({"drop_path": -0.1}, "drop_path must be a probability"),
        ({"width": 0}, "width must be at least 1"),
        ({"input_shape": (1, 0, 4)}, "at least one pixel"),
    ],
)
def test_contradictions_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make(**settings)


def test_halving_down_to_a_pixel() -> None:
    """Eight pixels can be halved three times, and five, rounded up, as well."""
    for size, stages in itertools.product((5, 8), (4,)):
        space = make(blocks=(1,) * stages, input_shape=(1, size, size), levels=1)
        assert space.layout.size(stages - 1) == (1, 1)
        assert space.build_supernet().eval()(torch.zeros(2, 1, size, size), everything(space)).shape == (2, 3)
