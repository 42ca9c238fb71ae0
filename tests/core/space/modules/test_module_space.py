"""`ModuleSpace`, `OneOf` and their supernet."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Choice, ElasticConv2d, ModuleSpace, OneOf, Ordinal, Weighted, operators
from automl_nas.space.architecture import Scalar, Value
from automl_nas.space.decisions import Decision
from automl_nas.space.modules.choice import ChoiceModule, ModuleResolver, ResolvedChoice
from automl_nas.testing.supernets import SupernetContract


def linear_space(options: int = 3) -> ModuleSpace:
    return ModuleSpace(
        lambda: nn.Sequential(OneOf([nn.Linear(4, 4) for _ in range(options)]), nn.Tanh(), nn.Linear(4, 2)),
        input_shape=(4,),
    )


class Forbidden(nn.Module):
    """Fails when it runs on real numbers, and passes the trial run on zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.any()):
            raise AssertionError("this option was not selected")
        return x + self.weight


def test_decisions_have_the_order_and_the_paths_of_the_modules() -> None:
    def make() -> nn.Module:
        inner = OneOf([nn.Identity(), nn.ReLU()])
        return nn.Sequential(OneOf({"a": nn.Identity(), "b": inner}), OneOf([nn.ReLU(), nn.Tanh()], name="act"))

    space = ModuleSpace(make, input_shape=(3,))
    assert dict(space.decisions) == {"0": Choice(("a", "b")), "0.b": Choice((0, 1)), "act": Choice((0, 1))}
    assert list(space.decisions) == ["0", "0.b", "act"]
    assert space.size == 8


def test_a_choice_may_be_the_whole_module() -> None:
    space = ModuleSpace(lambda: OneOf({"a": nn.Linear(2, 1), "b": nn.Linear(2, 1)}), input_shape=(2,))
    assert list(space.decisions) == ["root"]
    assert isinstance(space.build(Architecture({"root": "b"})), nn.Linear)


def test_canonical_is_equal_exactly_for_equal_networks() -> None:
    """Brute force: under 'a' the inner choice has no effect, so 2 * 3 = 6 assignments are 1 + 3 networks."""

    def make() -> nn.Module:
        inner = OneOf([nn.Identity(), nn.ReLU(), nn.Tanh()], name="inner")
        return nn.Sequential(OneOf({"a": nn.Sigmoid(), "b": nn.Sequential(inner)}, name="outer"))

    space = ModuleSpace(make, input_shape=(5,))
    supernet, x = space.build_supernet(), torch.linspace(-1, 1, 5)
    seen: dict[Architecture, list[Tensor]] = {}
    for architecture in operators.enumerate_all(space.decisions):
        seen.setdefault(space.canonical(architecture), []).append(supernet(x, architecture))
    assert len(seen) == 4
    assert Architecture({"outer": "a", "inner": 0}) in seen
    assert all(torch.equal(output, outputs[0]) for outputs in seen.values() for output in outputs)
    distinct = {tuple(outputs[0].tolist()) for outputs in seen.values()}
    assert len(distinct) == 4


def test_a_tied_choice_makes_a_difference_if_one_of_its_places_does() -> None:
    def make() -> nn.Module:
        tied = [OneOf([nn.ReLU(), nn.Tanh()], name="act") for _ in range(2)]
        return nn.Sequential(OneOf({"a": nn.Identity(), "b": tied[0]}, name="outer"), tied[1])

    space = ModuleSpace(make, input_shape=(5,))
    architecture = Architecture({"outer": "a", "act": 1})
    assert space.canonical(architecture) == architecture


# Errors name the place and the way out.


def in_a_list() -> nn.Module:
    module = nn.Sequential(OneOf([nn.Identity()]))
    module.blocks = [OneOf([nn.Identity(), nn.ReLU()])]  # type: ignore[assignment]
    return module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(4, 4), "contains no choice"),
        (nn.Sequential(OneOf([nn.Linear(4, 4)])), "needs a function that returns a module, not a module"),
        (in_a_list, "'blocks' contains a OneOf in a plain list.*nn.ModuleList"),
        (
            lambda: nn.Sequential(OneOf([nn.ReLU()], name="x"), OneOf([nn.ReLU(), nn.Tanh()], name="x")),
            "'0' and '1' are tied by the name 'x' but differ",
        ),
        (
            lambda: nn.Sequential(ElasticConv2d(4, (4, 8), 1, name="x"), OneOf({4: nn.ReLU(), 8: nn.Tanh()}, name="x")),
            r"the kind of the decision: ElasticConv2d makes Ordinal\(\(4, 8\)\), OneOf makes Choice\(\(4, 8\)\)",
        ),
        (lambda: nn.Sequential(OneOf([nn.ReLU()]), OneOf([nn.ReLU()], name="0")), "both called '0'"),
        (lambda: nn.Sequential(OneOf([nn.ReLU()]), nn.Linear(5, 4)), r"smallest network.*\(4,\).*'1' \(Linear\)"),
        (lambda: nn.Sequential(OneOf([nn.ReLU(), nn.Linear(5, 4)])), r"largest network.*'0' \(Linear\)"),
        (lambda: nn.Sequential(OneOf([])), "at least one option"),
        (lambda: nn.Sequential(OneOf({"train": nn.ReLU()})), "cannot be called 'train'"),
        (lambda: nn.Sequential(OneOf({"a.b": nn.ReLU(), "a_b": nn.Tanh()})), "both be the submodule 'a_b'"),
        (lambda: nn.Sequential(OneOf({1: nn.ReLU(), "1": nn.Tanh()})), "both be the submodule '1'"),
    ],
)
def test_ill_formed_spaces_are_refused(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        ModuleSpace(make, input_shape=(4,))


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({}, "lacks the decision '0'"),
        ({"0": 0, "one": 1}, "no decision 'one'"),
        ({"0": 3}, "decision '0': 3 is not an option"),
        ({"0": True}, "decision '0': True is not an option"),
        ({"0": torch.ones(2)}, r"decision '0': a tensor of shape \(2,\) cannot weight its 3 options"),
        ({"0": Weighted((0, 0), torch.ones(2))}, "twice"),
        ({"0": Weighted((0, 2), torch.ones(3))}, r"shape \(3,\) cannot weight the options \(0, 2\)"),
        ({"0": Weighted((), torch.ones(0))}, "at least one option"),
        ({"0": Weighted(7, torch.tensor(1.0))}, "7 is not an option"),
    ],
)
def test_wrong_selections_are_refused(selection: Mapping[str, object], message: str) -> None:
    supernet = linear_space().build_supernet()
    for use in (lambda: supernet(torch.zeros(1, 4), selection), lambda: supernet.extract(selection)):  # type: ignore[arg-type]
        with pytest.raises(SpaceError, match=message):
            use()


def test_the_error_of_an_unresolved_choice_contains_its_path() -> None:
    supernet = linear_space().build_supernet()
    with pytest.raises(SpaceError, match="the choice '0' was called before it was resolved"):
        supernet.network(torch.zeros(1, 4))


def test_a_factory_must_always_return_the_same_choices() -> None:
    counts = iter([2, 3])
    with pytest.raises(SpaceError, match="other choices than in its first call"):
        ModuleSpace(lambda: nn.Sequential(OneOf([nn.ReLU() for _ in range(next(counts))])), input_shape=(4,))
    counts = iter([2, 2, 3])
    space = ModuleSpace(lambda: nn.Sequential(OneOf([nn.ReLU() for _ in range(next(counts))])), input_shape=(4,))
    with pytest.raises(SpaceError, match="other choices than in its first call"):
        space.build_supernet()


# Values, tensors, Weighted.


def test_a_value_runs_that_option_alone() -> None:
    space = ModuleSpace(lambda: nn.Sequential(OneOf({"good": nn.Tanh(), "bad": Forbidden()})), input_shape=(4,))
    supernet, x = space.build_supernet(), torch.randn(2, 4)
    assert torch.equal(supernet(x, {"0": "good"}), x.tanh())
    assert torch.equal(supernet(x, {"0": Weighted("good", torch.tensor(2.0))}), 2 * x.tanh())
    with pytest.raises(AssertionError, match="not selected"):
        supernet(x, {"0": torch.tensor([1.0, 0.0])})


def test_tensors_weight_all_options_and_weighted_those_it_names() -> None:
    """Against the sum written out, with the gradients of weights: d(sum w_i f_i)/d w_i = sum f_i."""
    space = ModuleSpace(lambda: nn.Sequential(OneOf([nn.Linear(4, 4) for _ in range(3)])), input_shape=(4,))
    supernet, x = space.build_supernet(), torch.randn(2, 4)
    options = [supernet.get_submodule(f"network.0.{i}")(x) for i in range(3)]
    weights = torch.tensor([0.5, 0.0, -2.0], requires_grad=True)
    output = supernet(x, {"0": weights})
    torch.testing.assert_close(output, 0.5 * options[0] - 2.0 * options[2])
    output.sum().backward()
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, torch.stack([option.sum() for option in options]))
    torch.testing.assert_close(
        supernet(x, {"0": Weighted((2, 0), torch.tensor([3.0, 5.0]))}), 3 * options[2] + 5 * options[0]
    )


def test_a_parameter_as_weight_does_not_become_one_of_the_network() -> None:
    supernet = linear_space().build_supernet()
    alpha = nn.Parameter(torch.ones(3))
    view = supernet.view({"0": alpha})
    assert all(parameter is not alpha for parameter in view.parameters())
    frozen = supernet.extract({"0": alpha})
    assert alpha.shape in {buffer.shape for buffer in frozen.buffers()}
    with torch.no_grad():
        before = frozen(torch.ones(1, 4))
        alpha.mul_(7)
        assert torch.equal(frozen(torch.ones(1, 4)), before)


# Views.


def test_a_view_shares_parameters_and_buffers_and_follows_the_training_flag() -> None:
    space = ModuleSpace(
        lambda: nn.Sequential(nn.Sequential(OneOf([nn.BatchNorm1d(4), nn.Dropout()])), nn.BatchNorm1d(4)),
        input_shape=(4,),
    )
    supernet = space.build_supernet()
    view = supernet.view({"0.0": 0})
    theirs = {id(tensor) for tensor in supernet.state_dict(keep_vars=True).values()}
    ours = [id(tensor) for tensor in view.state_dict(keep_vars=True).values()]
    assert len(ours) == 10
    assert set(ours) <= theirs
    assert all(module.training for module in view.modules())
    view(torch.randn(8, 4))
    statistics = supernet.state_dict()
    assert statistics["network.0.0.0.num_batches_tracked"] == 1
    assert statistics["network.1.num_batches_tracked"] == 1
    assert not any(module.training for module in supernet.eval().view({"0.0": 1}).modules())
    assert isinstance(supernet.network[0][0], OneOf)  # type: ignore[index]


def test_views_of_several_selections_work_side_by_side() -> None:
    """Two forwards before a backward, activation checkpointing, threads: each as if it were alone."""
    space = linear_space()
    supernet, x = space.build_supernet(), torch.randn(3, 4)
    selections = [Architecture({"0": option}) for option in range(3)]

    def gradients(run: Callable[[], Tensor]) -> dict[str, Tensor | None]:
        supernet.zero_grad(set_to_none=True)
        run().sum().backward()
        return {name: None if p.grad is None else p.grad.clone() for name, p in supernet.named_parameters()}

    def checkpointed(selection: Architecture) -> Tensor:
        # The inner forward runs a second time during backward, after other selections have been used.
        output = checkpoint(lambda t: supernet(t, selection), x, use_reentrant=False)
        assert isinstance(output, Tensor)
        supernet(x, selections[2])
        return output

    for selection in selections[:2]:
        alone = gradients(lambda s=selection: supernet(x, s))  # type: ignore[misc]
        again = gradients(lambda s=selection: checkpointed(s))  # type: ignore[misc]
        assert all(
            (a is None) == (b is None) and (a is None or torch.equal(a, b))
            for a, b in zip(alone.values(), again.values(), strict=True)
        )  # type: ignore[arg-type]
    together = gradients(lambda: supernet(x, selections[0]) + supernet(x, selections[1]))
    assert together["network.0.0.weight"] is not None
    assert together["network.0.1.weight"] is not None
    assert together["network.0.2.weight"] is None
    expected = [supernet(x, selection) for selection in selections]
    with ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(lambda i: supernet(x, selections[i % 3]), range(60)))
    assert all(torch.equal(output, expected[i % 3]) for i, output in enumerate(outputs))


def test_a_supernet_can_be_copied() -> None:
    supernet, x = linear_space().build_supernet(), torch.randn(2, 4)
    twin = copy.deepcopy(supernet)
    assert torch.equal(twin(x, {"0": 1}), supernet(x, {"0": 1}))
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in supernet.parameters()}


def test_extraction_copies_user_state() -> None:
    """Aliases, non-tensor state and weights tied across modules keep their relations in an extracted network."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = OneOf([nn.Linear(4, 4), nn.Identity()])
            self.second = nn.Linear(4, 4)
            self.third = nn.Linear(4, 4)
            self.third.weight = self.second.weight
            self.order = [self.second, self.third]
            self.settings = {"scale": [2.0]}

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            for layer in self.order:
                x = layer(x)
            scale: float = self.settings["scale"][0]
            return x * scale

    supernet, x = ModuleSpace(Tied, input_shape=(4,)).build_supernet(), torch.randn(2, 4)
    network = supernet.extract({"first": 0})
    assert torch.equal(network(x), supernet(x, {"first": 0}))
    assert isinstance(network, Tied)
    assert network.third.weight is network.second.weight
    assert network.order[0] is network.second
    assert network.settings == {"scale": [2.0]}
    assert network.settings["scale"] is not supernet.network.settings["scale"]  # type: ignore[index, union-attr]


# Removing options.


def test_restrict_leaves_training_as_it_was_and_optimiser_state_follows() -> None:
    """Momentum belongs to the Parameter objects: training on after `restrict` is the same, bit for bit."""

    def train(restricting: bool) -> dict[str, Tensor]:
        torch.manual_seed(3)
        supernet = linear_space().build_supernet()
        optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1, momentum=0.9)
        for step in range(8):
            if restricting and step == 4:
                supernet.restrict({"0": [0, 2]})
            optimizer.zero_grad(set_to_none=True)
            supernet(torch.ones(1, 4) * step, {"0": 2 * (step % 2)}).square().sum().backward()
            optimizer.step()
        return supernet.state_dict()

    whole, part = train(False), train(True)
    assert set(whole) - set(part) == {"network.0.1.weight", "network.0.1.bias"}
    assert all(torch.equal(whole[name], tensor) for name, tensor in part.items())


def test_restrict_shrinks_decisions_and_what_tensors_must_match() -> None:
    supernet, x = linear_space().build_supernet(), torch.randn(1, 4)
    before = supernet(x, {"0": Weighted((0, 2), torch.tensor([1.0, 2.0]))})
    supernet.restrict({"0": [2, 0]})
    assert supernet.decisions == {"0": Choice((0, 2))}
    assert torch.equal(supernet(x, {"0": torch.tensor([1.0, 2.0])}), before)
    with pytest.raises(SpaceError, match="1 is not an option"):
        supernet(x, {"0": 1})
    with pytest.raises(SpaceError, match="at least one option must stay"):
        supernet.restrict({"0": []})
    assert supernet.decisions == {"0": Choice((0, 2))}


# Building.


def test_code_that_reads_values_falls_back_to_the_cpu() -> None:
    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.size = int(torch.arange(3).max().item()) + 2
            self.body = OneOf([nn.Linear(self.size, 2), nn.Linear(self.size, 2, bias=False)])

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.body(x * float(x.abs().max()))
            return output

    before = torch.get_rng_state()
    space = ModuleSpace(Reading, input_shape=(4,))
    assert torch.equal(torch.get_rng_state(), before)
    assert space.build(Architecture({"body": 1}))(torch.ones(1, 4)).shape == (1, 2)


def test_on_the_meta_device_networks_have_the_same_layout() -> None:
    space = linear_space()
    architecture = Architecture({"0": 1})
    with torch.device("meta"):
        blank = space.build(architecture)
    real = space.build(architecture)
    assert all(tensor.is_meta for tensor in blank.state_dict().values())
    assert [(n, t.shape) for n, t in blank.state_dict().items()] == [(n, t.shape) for n, t in real.state_dict().items()]


def test_unequal_outputs_cannot_be_weighted() -> None:
    space = ModuleSpace(
        lambda: nn.Sequential(
            OneOf({"a": nn.Linear(4, 2), "b": nn.Linear(4, 3)}, name="shape"),
            OneOf([nn.Tanh(), nn.ReLU()], name="activation"),
            nn.AdaptiveAvgPool1d(1),
        ),
        input_shape=(4,),
    )
    assert space.weighable == {"activation"}


# A subclass of ChoiceModule, as a plugin author would write it: the depth of a stack.


class Depth(ChoiceModule):
    """The first layers of several, whose number is searched."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stack = nn.Sequential(*modules)
        self._depths = Ordinal(tuple(range(1, len(modules) + 1)))

    def decisions(self) -> Mapping[str, Decision]:
        return {"depth": self._depths}

    def _layers(self, depth: Scalar) -> list[nn.Module]:
        assert isinstance(depth, int)
        return list(self.stack)[:depth]

    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        if choices["depth"].weights is not None:
            raise SpaceError("a depth takes values only")
        return nn.Sequential(*(resolver(module) for module in self._layers(choices["depth"].options[0])))

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        return self.view(choices, resolver).train(self.training)

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        depth = values["depth"]
        assert not isinstance(depth, tuple)
        return values, self._layers(depth)

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        self._depths = Ordinal(live["depth"])
        deepest = live["depth"][-1]
        assert isinstance(deepest, int)
        self.stack = self.stack[:deepest]


class TestCustomChoiceModule(SupernetContract):
    samples = 6

    def make_space(self) -> ModuleSpace:
        def make() -> nn.Module:
            layers = [OneOf([nn.Linear(4, 4), nn.Tanh()]) for _ in range(3)]
            return nn.Sequential(nn.Linear(4, 4), Depth(layers), nn.Linear(4, 2))

        return ModuleSpace(make, input_shape=(4,))

    def weighable(self, space: object) -> frozenset[str]:
        assert isinstance(space, ModuleSpace)
        return space.weighable

    def test_canonical_counts(self) -> None:
        """3 depths with 2, 4 and 8 distinct fillings: 14 networks among 3 * 8 assignments."""
        space = self.make_space()
        networks = {space.canonical(architecture) for architecture in operators.enumerate_all(space.decisions)}
        assert (space.size, len(networks)) == (24, 14)
        assert space.weighable == {f"1.stack.{i}" for i in range(3)}


def test_sampling_needs_no_network() -> None:
    space = linear_space()
    assert {space.sample(random.Random(i))["0"] for i in range(30)} == {0, 1, 2}
