"""Contract tests of search spaces with a supernet: `SupernetContract`.

Derive a class whose name begins with ``Test`` and implement `make_space`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Architecture, Scalar, Value
from automl_nas.space.decisions import Subset
from automl_nas.space.selection import Selection, Weighted
from automl_nas.space.space import SearchSpace, SupernetSpace
from automl_nas.space.supernet import Supernet
from automl_nas.streams import stream_seed
from automl_nas.testing.contract import require
from automl_nas.testing.devices import require_device
from automl_nas.testing.handed import digest
from automl_nas.testing.spaces import SearchSpaceContract, _seeded, _storage


class SupernetContract(SearchSpaceContract):
    """The tests of a `SupernetSpace` and its supernet."""

    @abstractmethod
    def make_space(self) -> SupernetSpace:
        """Return the space under test; all instances have the same settings."""

    def weighable(self, space: SupernetSpace) -> Collection[str]:
        """Return the decisions whose selection may be a tensor or `Weighted` (default: `SupernetSpace.weighable`)."""
        return space.weighable

    def use(self, store: Path) -> Mapping[str, Any]:
        """Read the decisions, build networks, and build, run and restrict a supernet."""
        space = self.make_space()
        supernet = _seeded(space.build_supernet)
        weights = [[name, digest(tensor)] for name, tensor in supernet.state_dict().items()]
        for architecture in self.architectures(space):
            _seeded(supernet, self.inputs(space), architecture)
            supernet.extract(architecture)
        supernet.restrict(_live(self.architectures(space)[0]))
        return {**super().use(store), "weights of the supernet": weights}

    def test_decisions_of_the_supernet(self) -> None:
        """A new supernet is a `Supernet`, and has the decisions of its space in the same order.

        Way out: pass the decisions of the space to the supernet.
        """
        space = self.make_space()
        supernet = space.build_supernet()
        require(isinstance(supernet, Supernet), f"build_supernet returns a {type(supernet).__name__}")
        equal = list(supernet.decisions.items()) == list(space.decisions.items())
        require(equal, f"the supernet has the decisions {dict(supernet.decisions)}")

    def test_extract_equals_supernet_for_values(self) -> None:
        """For every option outputs are bit-equal in both modes, and running statistics are equal afterwards.

        Way out: `extract` copies the modules that `forward` runs, in the supernet's mode, and nothing else.
        """
        space = self.make_space()
        for training in (True, False):
            supernet, x = space.build_supernet(), self.inputs(space)
            for architecture in self.covering(space):
                supernet.train(training)
                network = supernet.extract(architecture)
                require(network.training is training, f"extract returns a network with training = {network.training}")
                outputs = _seeded(network, x), _seeded(supernet, x, architecture)
                require(torch.equal(*outputs), f"outputs differ for {architecture.key}, training = {training}")
                supernet.eval()
                outputs = network.eval()(x), supernet(x, architecture)
                require(
                    torch.equal(*outputs), f"after a pass with training = {training} outputs differ in evaluation mode"
                )

    def test_the_supernet_does_not_remember_a_selection(self) -> None:
        """Outputs for an architecture are the same after the supernet has run others, and after `extract`.

        Way out: `forward` depends on its arguments alone; keep no selection in the instance.
        """
        space = self.make_space()
        supernet, x = space.build_supernet().eval(), self.inputs(space)
        architectures = self.covering(space)
        before = [supernet(x, architecture) for architecture in architectures]
        selection = dict(architectures[0])
        supernet(x, selection)
        require(selection == dict(architectures[0]), "forward changed the selection")
        for architecture in reversed(architectures):
            supernet.extract(architecture)
        for architecture, outputs in reversed(list(zip(architectures, before, strict=True))):
            require(torch.equal(supernet(x, architecture), outputs), f"the second outputs of {architecture.key} differ")

    def test_weights_are_shared(self) -> None:
        """A parameter that changes changes the outputs of an architecture that uses it, and all parameters are used.

        Way out: register the modules of options in the supernet, so that `parameters()` yields them.
        """
        space = self.make_space()
        supernet, x = space.build_supernet().train(), self.inputs(space)
        parameters = dict(supernet.named_parameters())
        frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
        require(not frozen or self.constants, f"{frozen[:3]} do not require gradients")
        supernet.zero_grad()
        for architecture in self.covering(space):
            _seeded(supernet, x, architecture).sum().backward()
        reached = sum(parameter.grad is not None for parameter in parameters.values())
        require(reached or not parameters, "no parameter has a gradient after backward passes of every option")

    def test_extract_equals_supernet_for_weights(self) -> None:
        """Outputs are equal up to rounding in double precision; the weights have gradients.

        Way out: `extract` folds the weights of the selection, or keeps them as buffers. Decisions that accept values
        only are left out of `weighable`.
        """
        space = self.make_space()
        names = [name for name in space.decisions if name in self.weighable(space)]
        for form in ("tensor", "Weighted") if names else ():
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
            require(reached, f"no weight of a selection by {form} has a gradient")

    def test_weights_scale_the_options(self) -> None:
        """A tensor with 1 for one option of a `Choice` and 0 for the others equals the selection of that option.

        Way out: multiply the output of each option by its weight, without a softmax: the strategy computes the weights.
        """
        space = self.make_space()
        # A value of a Subset removes what only its other options need; weights of 0 do not.
        weighable = self.weighable(space)
        names = [n for n, decision in space.decisions.items() if n in weighable and not isinstance(decision, Subset)]
        if not names:
            return
        supernet, x = space.build_supernet().double().eval(), _double(self.inputs(space))
        for architecture in self.architectures(space):
            selection: dict[str, Any] = dict(architecture)
            for name in names:
                weights = [float(option == architecture[name]) for option in space.decisions[name].options]
                selection[name] = torch.tensor(weights, dtype=torch.float64)
            expected = supernet(x, architecture)
            # Sums of the same terms and zeros, in double precision.
            torch.testing.assert_close(supernet(x, selection), expected, rtol=1e-9, atol=1e-9)

    def test_parameters_that_are_not_selected_have_no_gradient(self) -> None:
        """After a backward pass, gradients of parameters that `restrict` removes have the value None, not zeros.

        Way out: do not compute options that are not selected, not even times zero.
        """
        space = self.make_space()
        for architecture in self.architectures(space):
            supernet, canonical = space.build_supernet(), space.canonical(architecture)
            _seeded(supernet, self.inputs(space), architecture).sum().backward()
            parameters = list(supernet.parameters())
            # An equal network may be one with the weights of other options, such as an isomorphic cell. Fresh biases
            # are zero: with them, outputs are equal too often.
            with torch.no_grad():
                for parameter in parameters:
                    parameter.add_(0.1)
                outputs = [_seeded(supernet, self.inputs(space), each) for each in (architecture, canonical)]
            same = torch.equal(*outputs)
            supernet.restrict(_live(canonical if same else architecture))
            remaining = {id(parameter) for parameter in supernet.parameters()}
            removed = [parameter for parameter in parameters if id(parameter) not in remaining]
            require(all(p.grad is None for p in removed), "a parameter that was not selected has a gradient")
            reached = any(parameter.grad is not None for parameter in parameters) or not remaining
            require(reached, "no selected parameter has a gradient")

    def test_restrict_keeps_the_parameters_and_the_function(self) -> None:
        """Remaining parameters are the same objects, outputs are equal, and decisions have the remaining options.

        Way out: delete the modules of the other options; do not copy those that stay.
        """
        space = self.make_space()
        x = self.inputs(space)
        for architecture in self.architectures(space):
            supernet = space.build_supernet().eval()
            before = {id(parameter) for parameter in supernet.parameters()}
            outputs = supernet(x, architecture)
            live = _live(architecture)
            supernet.restrict(live)
            remaining = {id(parameter) for parameter in supernet.parameters()}
            require(remaining <= before, f"{len(remaining - before)} parameters are new objects")
            require(torch.equal(supernet(x, architecture), outputs), "the outputs changed")
            for name, decision in supernet.decisions.items():
                require(set(decision.options) == set(live[name]), f"{name} has the options {decision.options}")
            parts = x
            for segment in supernet.segments():
                parts = segment.run(parts, architecture)
            require(torch.equal(parts, outputs), "the last segment of a restricted supernet has other outputs")

    def test_a_removed_option_is_refused(self) -> None:
        """After `restrict`, `forward` raises an error for an option that was removed.

        Way out: look the option up among the live ones, without a default.
        """
        space = self.make_space()
        supernet, x = space.build_supernet().eval(), self.inputs(space)
        for name, decision in space.decisions.items():
            if isinstance(decision, Subset) or len(decision.options) < 2:
                continue
            first, *others = self.covering(space)
            removed = next((other for other in others if other[name] != first[name]), None)
            if removed is None:
                continue
            supernet.restrict({name: _live(first)[name]})
            selection = {**first, name: removed[name]}
            try:
                supernet(x, selection)
            except (SpaceError, KeyError):
                return
            raise AssertionError(f"{name} = {removed[name]!r} was removed, and is computed")

    def test_restrict_refuses_unknown_decisions_and_options(self) -> None:
        """The error is a SpaceError that names them, and nothing was removed.

        Way out: check all names and options before anything is removed.
        """
        space = self.make_space()
        supernet = space.build_supernet()
        name, decision = next(iter(space.decisions.items()))
        some: Mapping[str, Collection[Scalar]] = {name: decision.options[:1]}
        for live in ({"no-such-decision": [0]}, {name: ["no-such-option"]}, {**some, "no-such-decision": [0]}):
            try:
                supernet.restrict(live)
            except SpaceError as error:
                require("no-such-" in str(error), f"the error is: {error}")
            else:
                raise AssertionError(f"restrict accepts {live}")
            options = supernet.decisions[name].options
            require(options == decision.options, f"restrict refuses {live}, and leaves {name} the options {options}")

    def test_segments_make_up_the_forward(self) -> None:
        """The output of the last segment is bit-equal to that of the supernet, and segments depend on their decisions.

        Way out: leave the default of `segments`, or cut `forward` into consecutive parts.
        """
        space = self.make_space()
        supernet, x = space.build_supernet().eval(), self.inputs(space)
        names = tuple(segment.decisions for segment in supernet.segments())
        require(names == space.segments(), f"the supernet has the segments {names}")
        for architecture in self.architectures(space):
            outputs = x
            for segment in supernet.segments():
                outputs = segment.run(outputs, architecture)
            require(torch.equal(outputs, supernet(x, architecture)), "the last segment has other outputs")

    def test_segments_divide_extracted_networks(self) -> None:
        """The parts of an extracted network make it up, and depend on the decisions of their and earlier segments only.

        Way out: leave `Segment.part` out, or return the modules of the network between the cuts of `forward`.
        """
        space = self.make_space()
        supernet, x = space.build_supernet().eval(), self.inputs(space)
        seen: dict[tuple[object, ...], Tensor] = {}
        for architecture in self.covering(space):
            network = supernet.extract(architecture)
            expected, outputs, prefix = network(x), x, tuple[object, ...]()
            for segment in supernet.segments():
                if segment.part is None:
                    return
                outputs = segment.part(network)(outputs)
                prefix = *prefix, tuple(architecture[name] for name in segment.decisions)
                require(
                    torch.equal(seen.setdefault(prefix, outputs.clone()), outputs),
                    f"with equal decisions the part of {segment.decisions} has other outputs for {architecture.key}",
                )
            require(torch.equal(outputs, expected), f"the parts of {architecture.key} have other outputs")

    def test_an_extracted_network_is_independent(self) -> None:
        """It shares no storage with the supernet and contains no class of the core; no random number is drawn.

        Way out: return a deep copy of the selected modules.
        """
        space = self.make_space()
        supernet = space.build_supernet()
        owned = {_storage(tensor) for tensor in _tensors(supernet) if tensor.numel()}
        for architecture in self.architectures(space):
            before = torch.get_rng_state()
            network = supernet.extract(architecture)
            require(torch.equal(torch.get_rng_state(), before), "extract draws random numbers")
            shared = {_storage(tensor) for tensor in _tensors(network) if tensor.numel()} & owned
            require(not shared, f"it shares {len(shared)} tensors with the supernet")
            kinds = {type(module) for module in network.modules()}
            foreign = [kind.__qualname__ for kind in kinds if kind.__module__.partition(".")[0] == "automl_nas"]
            require(not foreign, f"it contains {', '.join(foreign)}")

    def test_an_extracted_network_can_be_trained(self) -> None:
        """Its parameters require gradients if those of the supernet do, and have none yet.

        Way out: copy the modules; no `requires_grad_(False)` and no `detach()` in `extract`.
        """
        space = self.make_space()
        supernet = space.build_supernet()
        if not all(parameter.requires_grad for parameter in supernet.parameters()):
            return
        for architecture in self.architectures(space):
            frozen = [n for n, p in supernet.extract(architecture).named_parameters() if not p.requires_grad]
            require(not frozen, f"{', '.join(frozen[:3])} of an extracted network do not require gradients")

    def test_the_supernet_runs_on_other_devices(self) -> None:
        """A supernet that was moved to another device makes no tensor on the CPU (checked on torch's device ``meta``).

        Way out: register constants as buffers, and make tensors in `forward` with ``device=x.device``.
        """
        space = self.make_space()
        supernet = space.build_supernet().eval().to("meta")
        for architecture in self.architectures(space):
            require_device(lambda x, selection=architecture: supernet(x, selection), self.inputs(space))

    def test_extracted_and_built_networks_exchange_weights(self) -> None:
        """For every option their weights have the same names and shapes, and with equal weights equal outputs.

        Way out: build both from the same modules with the same names.
        """
        space = self.make_space()
        supernet, x = space.build_supernet().eval(), self.inputs(space)
        for architecture in self.covering(space):
            built, extracted = space.build(architecture).eval(), supernet.extract(architecture)
            one, two = ({n: t.shape for n, t in net.state_dict().items()} for net in (built, extracted))
            require(one == two, f"{architecture.key}: {sorted(set(one.items()) ^ set(two.items()))[:4]} differ")
            built.load_state_dict(extracted.state_dict())
            # The same operations in the same order, perhaps by other kernels.
            torch.testing.assert_close(built(x), supernet(x, architecture), rtol=1e-5, atol=1e-6)

    def test_weights_of_the_supernet_can_be_stored(self) -> None:
        """Another supernet with the same state has equal outputs for every option.

        Way out: register tensors as parameters or buffers, so that `state_dict` has them.
        """
        space = self.make_space()
        first, second = space.build_supernet().eval(), space.build_supernet().eval()
        second.load_state_dict(first.state_dict())
        for architecture in self.covering(space):
            equal = torch.equal(first(self.inputs(space), architecture), second(self.inputs(space), architecture))
            require(equal, f"with the same state the outputs of {architecture.key} differ")

    def test_every_supernet_is_new(self) -> None:
        """Each call of `build_supernet` returns weights of its own, a function of torch's global generator.

        Way out: create all modules inside `build_supernet`, and initialise with torch's functions.
        """
        space = self.make_space()
        first, second = (_seeded(space.build_supernet).state_dict() for _ in range(2))
        shared = {_storage(t) for t in first.values() if t.numel()} & {
            _storage(t) for t in second.values() if t.numel()
        }
        require(not shared, f"two supernets share {len(shared)} tensors")
        require(list(first) == list(second), "the names of weights differ")
        require(all(torch.equal(first[name], second[name]) for name in first), "equal seeds give different weights")

    def test_a_selection_without_a_decision_is_refused(self) -> None:
        """`forward` raises a SpaceError that names the missing decision.

        Way out: look every decision up in the selection, without a default.
        """
        space = self.make_space()
        values = dict(self.architectures(space)[0])
        name = next(iter(values))
        del values[name]
        try:
            space.build_supernet()(self.inputs(space), values)
        except SpaceError as error:
            require(f"'{name}'" in str(error), f"the error is: {error}")
        else:
            raise AssertionError(f"a selection without '{name}' is accepted")


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


def _tensors(module: nn.Module) -> list[Tensor]:
    """Return parameters and buffers, also those that the state does not have."""
    return [*module.parameters(), *module.buffers()]


def _double(inputs: Tensor) -> Tensor:
    return inputs.double() if inputs.is_floating_point() else inputs
