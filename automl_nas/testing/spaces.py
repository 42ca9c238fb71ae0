"""Contract tests of search spaces: `SearchSpaceContract`, and `SupernetContract` for spaces with a supernet.

Derive a class whose name begins with ``Test`` and implement `make_space`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import ParamSpec, TypeVar

import pytest
import torch
from torch import Tensor

from automl_nas.errors import SpaceError
from automl_nas.space import operators
from automl_nas.space.architecture import Architecture, Scalar, Value
from automl_nas.space.selection import Selection, Weighted
from automl_nas.space.space import SearchSpace, SupernetSpace
from automl_nas.streams import stream, stream_seed

P = ParamSpec("P")
T = TypeVar("T")


class SearchSpaceContract(ABC):
    """The tests of a `SearchSpace`. Use a small instance: networks are built and run on the CPU.

    Attributes:
        samples: the number of architectures drawn for each test.
    """

    samples: int = 3

    @abstractmethod
    def make_space(self) -> SearchSpace:
        """Return the space under test; all instances have the same settings."""

    def architectures(self, space: SearchSpace) -> list[Architecture]:
        """Return the architectures of the tests (default: `samples` random ones, without duplicates)."""
        architectures = [space.sample(stream(0, "contract", number)) for number in range(self.samples)]
        return list(dict.fromkeys(architectures))

    def inputs(self, space: SearchSpace) -> Tensor:
        """Return inputs of networks (default: 4 samples of normal numbers); override it for tokens."""
        # 4 samples: batch normalisation of maps of 1 x 1 needs more than one.
        return torch.randn(4, *space.input_shape, generator=torch.Generator().manual_seed(stream_seed(0, "inputs")))

    def test_decisions_are_the_same_each_time(self) -> None:
        """Two instances have equal decisions in the same order."""
        first, second = self.make_space(), self.make_space()
        assert list(first.decisions.items()) == list(second.decisions.items())
        assert len(first.decisions) > 0

    def test_validate_accepts_its_own_and_refuses_others(self) -> None:
        """Samples are valid, also after a round trip through JSON; missing, unknown and wrong values are refused."""
        space = self.make_space()
        name = next(iter(space.decisions))
        for architecture in self.architectures(space):
            assert space.validate(architecture) == architecture
            assert space.validate(json.loads(architecture.key)) == architecture
            values = dict(architecture)
            with pytest.raises(SpaceError, match="no-such-decision"):
                space.validate({**values, "no-such-decision": 0})
            with pytest.raises(SpaceError):
                space.validate({**values, name: "no-such-option"})
            del values[name]
            with pytest.raises(SpaceError, match="lacks"):
                space.validate(values)

    def test_sampling_is_a_function_of_the_stream(self) -> None:
        """The same stream gives the same architecture."""
        space = self.make_space()
        assert space.sample(stream(1, "x")) == space.sample(stream(1, "x"))

    def test_codes_can_be_read_back(self) -> None:
        """``decode(encode(a)) == a``, and the length of a code is the sum of the decisions' widths."""
        space = self.make_space()
        for architecture in self.architectures(space):
            code = operators.encode(architecture, space.decisions)
            assert len(code) == sum(decision.width for decision in space.decisions.values())
            assert operators.decode(code, space.decisions) == architecture

    def test_canonical_is_idempotent_and_valid(self) -> None:
        """The canonical architecture of a canonical architecture is itself, and it is valid in the space."""
        space = self.make_space()
        for architecture in self.architectures(space):
            canonical = space.canonical(architecture)
            assert space.validate(canonical) == canonical
            assert space.canonical(canonical) == canonical

    def test_segments_name_every_decision(self) -> None:
        """Every decision is in a segment, and segments contain only names of decisions."""
        space = self.make_space()
        assert {name for segment in space.segments() for name in segment} == set(space.decisions)

    def test_networks_run(self) -> None:
        """Networks accept inputs of `input_shape`; `build` of a space without networks raises SpaceError."""
        space = self.make_space()
        for architecture in self.architectures(space):
            if not space.input_shape:
                with pytest.raises(SpaceError):
                    space.build(architecture)
                continue
            network = space.build(architecture)
            with torch.no_grad():
                assert len(network.eval()(self.inputs(space))) == len(self.inputs(space))

    def test_a_network_is_a_function_of_the_seed(self) -> None:
        """The same state of torch's global generator gives the same weights."""
        space = self.make_space()
        if not space.input_shape:
            return
        architecture = self.architectures(space)[0]
        first, second = (_seeded(space.build, architecture).state_dict() for _ in range(2))
        assert list(first) == list(second)
        assert all(torch.equal(first[name], second[name]) for name in first)

    def test_equal_canonical_means_equal_networks(self) -> None:
        """With the same weights, the networks of an architecture and of its canonical architecture are equal."""
        space = self.make_space()
        if not space.input_shape:
            return
        for architecture in self.architectures(space):
            network, other = (_seeded(space.build, a).eval() for a in (architecture, space.canonical(architecture)))
            other.load_state_dict(network.state_dict())
            with torch.no_grad():
                torch.testing.assert_close(other(self.inputs(space)), network(self.inputs(space)))


class SupernetContract(SearchSpaceContract):
    """The tests of a `SupernetSpace` and its supernet."""

    @abstractmethod
    def make_space(self) -> SupernetSpace:
        """Return the space under test; all instances have the same settings."""

    def weighable(self, space: SupernetSpace) -> Collection[str]:
        """Return the decisions whose selection may be a tensor or `Weighted` (default: all); widths may not."""
        return space.decisions

    def test_decisions_of_the_supernet(self) -> None:
        """A new supernet has the decisions of its space."""
        space = self.make_space()
        assert dict(space.build_supernet().decisions) == dict(space.decisions)

    @pytest.mark.parametrize("training", [True, False])
    def test_extract_equals_supernet_for_values(self, training: bool) -> None:
        """Outputs are bit-equal, and again in evaluation mode afterwards, so that running statistics are equal, too."""
        space = self.make_space()
        supernet, x = space.build_supernet(), self.inputs(space)
        for architecture in self.architectures(space):
            supernet.train(training)
            network = supernet.extract(architecture)
            assert network.training is training
            assert torch.equal(_seeded(network, x), _seeded(supernet, x, architecture))
            supernet.eval()
            assert torch.equal(network.eval()(x), supernet(x, architecture))

    @pytest.mark.parametrize("form", ["tensor", "Weighted"])
    def test_extract_equals_supernet_for_weights(self, form: str) -> None:
        """Outputs are equal up to rounding in double precision; the weights have gradients."""
        space = self.make_space()
        names = [name for name in space.decisions if name in self.weighable(space)]
        if not names:
            return
        reached = False
        supernet, x = space.build_supernet().double().eval(), _double(self.inputs(space))
        for number, architecture in enumerate(self.architectures(space)):
            selection, weights = _weighted(space, architecture, names, form, number)
            outputs = supernet(x, selection)
            # Double precision has 16 digits; folding changes the order of sums of at most a few thousand terms.
            torch.testing.assert_close(supernet.extract(selection)(x), outputs, rtol=1e-9, atol=1e-9)
            if outputs.requires_grad:
                outputs.sum().backward()
                reached |= any(weight.grad is not None for weight in weights)
        assert reached

    def test_parameters_that_are_not_selected_have_no_gradient(self) -> None:
        """After a backward pass, gradients of parameters that `restrict` removes have the value None, not zeros."""
        space = self.make_space()
        for architecture in self.architectures(space):
            supernet = space.build_supernet()
            _seeded(supernet, self.inputs(space), architecture).sum().backward()
            parameters = list(supernet.parameters())
            supernet.restrict(_live(space.canonical(architecture)))
            remaining = {id(parameter) for parameter in supernet.parameters()}
            assert all(parameter.grad is None for parameter in parameters if id(parameter) not in remaining)
            assert any(parameter.grad is not None for parameter in parameters) or not remaining

    def test_restrict_keeps_the_parameters_and_the_function(self) -> None:
        """Remaining parameters are the same objects, outputs are equal, and decisions have the remaining options."""
        space = self.make_space()
        x = self.inputs(space)
        for architecture in self.architectures(space):
            supernet = space.build_supernet().eval()
            before = {id(parameter) for parameter in supernet.parameters()}
            outputs = supernet(x, architecture)
            live = _live(architecture)
            supernet.restrict(live)
            assert {id(parameter) for parameter in supernet.parameters()} <= before
            assert torch.equal(supernet(x, architecture), outputs)
            for name, decision in supernet.decisions.items():
                assert set(decision.options) == set(live[name])

    def test_restrict_refuses_unknown_decisions_and_options(self) -> None:
        """The error names them."""
        space = self.make_space()
        supernet = space.build_supernet()
        with pytest.raises(SpaceError, match="no-such-decision"):
            supernet.restrict({"no-such-decision": [0]})
        with pytest.raises(SpaceError, match="no-such-option"):
            supernet.restrict({next(iter(space.decisions)): ["no-such-option"]})

    def test_segments_make_up_the_forward(self) -> None:
        """The output of the last segment is bit-equal to that of the supernet."""
        space = self.make_space()
        supernet, x = space.build_supernet().eval(), self.inputs(space)
        assert tuple(segment.decisions for segment in supernet.segments()) == space.segments()
        for architecture in self.architectures(space):
            outputs = x
            for segment in supernet.segments():
                outputs = segment.run(outputs, architecture)
            assert torch.equal(outputs, supernet(x, architecture))

    def test_an_extracted_network_is_independent(self) -> None:
        """It shares no storage with the supernet and contains no class of the core; no random number is drawn."""
        space = self.make_space()
        supernet = space.build_supernet()
        owned = {_storage(tensor) for tensor in supernet.state_dict().values() if tensor.numel()}
        for architecture in self.architectures(space):
            before = torch.get_rng_state()
            network = supernet.extract(architecture)
            assert torch.equal(torch.get_rng_state(), before)
            assert not {_storage(tensor) for tensor in network.state_dict().values() if tensor.numel()} & owned
            foreign = [type(m) for m in network.modules() if type(m).__module__.partition(".")[0] == "automl_nas"]
            assert foreign == []

    def test_extracted_and_built_networks_exchange_weights(self) -> None:
        """Their weights have the same names and shapes."""
        space = self.make_space()
        supernet = space.build_supernet()
        for architecture in self.architectures(space):
            built, extracted = space.build(architecture).state_dict(), supernet.extract(architecture).state_dict()
            assert {name: t.shape for name, t in built.items()} == {name: t.shape for name, t in extracted.items()}

    def test_weights_of_the_supernet_can_be_stored(self) -> None:
        """Another supernet with the same state has equal outputs."""
        space = self.make_space()
        first, second = space.build_supernet().eval(), space.build_supernet().eval()
        second.load_state_dict(first.state_dict())
        for architecture in self.architectures(space):
            assert torch.equal(first(self.inputs(space), architecture), second(self.inputs(space), architecture))

    def test_a_selection_without_a_decision_is_refused(self) -> None:
        """The error names the missing decision."""
        space = self.make_space()
        values = dict(self.architectures(space)[0])
        name = next(iter(values))
        del values[name]
        with pytest.raises(SpaceError, match=f"'{name}'"):
            space.build_supernet()(self.inputs(space), values)


def _double(inputs: Tensor) -> Tensor:
    return inputs.double() if inputs.is_floating_point() else inputs


def _seeded(make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(0, "contract"))
        return make(*args, **kwargs)


def _live(architecture: Architecture) -> dict[str, tuple[Scalar, ...]]:
    return {name: value if isinstance(value, tuple) else (value,) for name, value in architecture.items()}


def _weighted(
    space: SearchSpace, architecture: Architecture, names: Collection[str], form: str, number: int
) -> tuple[Selection, list[Tensor]]:
    generator = torch.Generator().manual_seed(stream_seed(0, "weights", number))
    selection: dict[str, Value | Tensor | Weighted] = dict(architecture)
    weights = []
    for name in names:
        decision, value = space.decisions[name], architecture[name]
        count = len(decision.options) if form == "tensor" else len(value) if isinstance(value, tuple) else 1
        weight = torch.randn(count, generator=generator, dtype=torch.float64).requires_grad_()
        weights.append(weight)
        selection[name] = weight if form == "tensor" else Weighted(value, weight)
    return selection, weights


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
