"""Contract tests of search spaces: `SearchSpaceContract`; `SupernetContract` is for spaces with a supernet.

Derive a class whose name begins with ``Test`` and implement `make_space`.
"""

from __future__ import annotations

import copy
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from automl_nas.errors import PluginError, SpaceError
from automl_nas.space import operators
from automl_nas.space.architecture import Architecture
from automl_nas.space.canonical import checked_canonical
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream, stream_seed
from automl_nas.testing.contract import Contract, require
from automl_nas.testing.devices import require_device
from automl_nas.testing.handed import digest, fingerprint
from automl_nas.testing.values import is_valid, valid_covering

P = ParamSpec("P")
T = TypeVar("T")

MOST_OPTIONS = 8
"""The number of options of a decision that are built; of more options, as many evenly spaced ones."""


class SearchSpaceContract(Contract):
    """The tests of a `SearchSpace`. Use a small instance: networks are built and run on the CPU.

    Attributes:
        samples: the number of architectures drawn for each test.
        output_shape: the shape of a network's output for one sample; None: any shape.
        constants: whether some parameters are constants that do not require gradients.
    """

    samples: int = 3
    output_shape: ClassVar[tuple[int, ...] | None] = None
    constants: ClassVar[bool] = False
    other_dtype: ClassVar[bool] = False
    other_threads: ClassVar[bool] = False

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
        generator = torch.Generator().manual_seed(stream_seed(0, "inputs"))
        return torch.randn(4, *space.input_shape, generator=generator, dtype=torch.float32)

    def covering(self, space: SearchSpace) -> list[Architecture]:
        """Return architectures that together have every option, up to `MOST_OPTIONS` of a decision."""
        return list(dict.fromkeys([*self.architectures(space), *valid_covering(space, MOST_OPTIONS)]))

    def use(self, store: Path) -> Mapping[str, Any]:
        """Read the decisions, and build and run networks."""
        space = self.make_space()
        architectures = self.covering(space)
        values: dict[str, Any] = {
            "decisions": [[name, repr(decision)] for name, decision in space.decisions.items()],
            "input shape": list(space.input_shape),
            "segments": [list(segment) for segment in space.segments()],
            "canonical architectures": [_key(space.canonical(architecture)) for architecture in architectures],
        }
        if space.input_shape:
            networks = [_seeded(space.build, architecture) for architecture in self.architectures(space)]
            for network in networks:
                _seeded(copy.deepcopy(network), self.inputs(space))
            values["weights"] = [[[n, digest(t)] for n, t in net.state_dict().items()] for net in networks]
            values["modules"] = [[str(type(part)) for part in network.modules()] for network in networks]
        return values

    def test_decisions_are_the_same_each_time(self) -> None:
        """Two instances have equal decisions in the same order, also after networks were built.

        Way out: make the decisions in the constructor, and return the same mapping each time.
        """
        first, second = self.make_space(), self.make_space()
        before = list(first.decisions.items())
        require(before, "the space has no decisions")
        require(before == list(second.decisions.items()), "two instances have different decisions")
        for architecture in self.architectures(first):
            first.canonical(architecture)
            if first.input_shape:
                _seeded(first.build, architecture)
        after = list(first.decisions.items())
        require(before == after, f"the decisions changed from {len(before)} to {len(after)}, or their order or options")

    def test_decisions_have_the_declared_types(self) -> None:
        """Names are text, decisions are `Choice`, `Ordinal` or `Subset`, `input_shape` is a tuple of positive integers.

        Way out: `{"name": Choice(("a", "b"))}`, and `input_shape` such as ``(3, 32, 32)``; ``()`` without networks.
        """
        space = self.make_space()
        require(isinstance(space.decisions, Mapping), f"decisions is a {type(space.decisions).__name__}")
        for name, decision in space.decisions.items():
            require(type(name) is str and name.strip() == name != "", f"a decision has the name {name!r}")
            require(isinstance(decision, Decision), f"{name} is a {type(decision).__name__}")
        shape = space.input_shape
        plain = isinstance(shape, tuple) and all(type(side) is int and side >= 1 for side in shape)
        require(plain, f"input_shape is {shape!r}")

    def test_validate_accepts_its_own_and_refuses_others(self) -> None:
        """Samples are valid, also after a round trip through JSON; missing, unknown and wrong values are refused.

        Way out: do not override `validate`.
        """
        space = self.make_space()
        name = next(iter(space.decisions))
        for architecture in self.covering(space):
            require(space.validate(architecture) == architecture, f"{architecture.key} is not its normal form")
            read = space.validate(json.loads(architecture.key))
            require(read == architecture, f"{architecture.key} is another one after a round trip through JSON")
            values = dict(architecture)
            _refused(space, {**values, "no-such-decision": 0}, "no-such-decision")
            _refused(space, {**values, name: "no-such-option"}, "")
            del values[name]
            _refused(space, values, "lacks")

    def test_sampling_is_a_function_of_the_stream(self) -> None:
        """The same stream gives the same architecture, and other streams give others.

        Way out: do not override `sample`.
        """
        space = self.make_space()
        drawn, again = ([space.sample(stream(1, "x", number)) for number in range(30)] for _ in range(2))
        require(drawn == again, "equal streams give different samples")
        require(len(set(drawn)) > 1 or space.size == 1, "30 streams give one architecture")

    def test_every_option_is_sampled(self) -> None:
        """Among many samples every option of a decision occurs.

        Way out: do not override `sample`.
        """
        space = self.make_space()
        if space.exclusions:
            return  # what is rare among the networks that are left
        drawn = [space.sample(stream(2, "options", number)) for number in range(250)]
        for name, decision in space.decisions.items():
            # Of 8 options each is missed by 250 samples with a probability of (7/8)^250 < 1e-14.
            if len(decision.options) > MOST_OPTIONS or isinstance(decision, Subset):
                continue
            missing = set(decision.options) - {architecture[name] for architecture in drawn}
            require(not missing, f"{len(drawn)} samples have no {name} = {', '.join(map(repr, missing))}")

    def test_codes_can_be_read_back(self) -> None:
        """``decode(encode(a)) == a``, and the length of a code is the sum of the decisions' widths.

        Way out: use the kinds of decisions of the framework.
        """
        space = self.make_space()
        for architecture in self.covering(space):
            code = operators.encode(architecture, space.decisions)
            require(len(code) == sum(d.width for d in space.decisions.values()), f"the code has {len(code)} numbers")
            require(operators.decode(code, space.decisions) == architecture, "a decoded code is another architecture")

    def test_canonical_is_idempotent_and_valid(self) -> None:
        """The canonical architecture of a canonical architecture is itself, and it is valid in the space.

        Way out: let `canonical` return an `Architecture` on every path: one representative for all equal networks, e.g.
        with the first option of a decision without effect.
        """
        space = self.make_space()
        for architecture in self.covering(space):
            try:
                canonical = checked_canonical(space, architecture)
            except PluginError as error:
                raise AssertionError(str(error)) from error
            require(space.validate(canonical) == canonical, f"{canonical} is not valid")

    def test_canonical_does_not_depend_on_what_was_asked_before(self) -> None:
        """Another instance, asked in another order, returns the same canonical architectures.

        Way out: choose the representative of equal networks by a rule, not by the order in which they were seen.
        """
        first, second = self.make_space(), self.make_space()
        architectures = self.covering(first)
        canonical = [first.canonical(architecture) for architecture in architectures]
        for architecture, expected in reversed(list(zip(architectures, canonical, strict=True))):
            other = second.canonical(architecture)
            require(other == expected, f"the canonical of {architecture.key} is {expected.key} or {other.key}")

    def test_segments_name_every_decision(self) -> None:
        """Every decision is in a segment, and segments contain only names of decisions.

        Way out: leave the default of `segments`, or return all decisions in the order in which the network needs them.
        """
        space = self.make_space()
        named = {name for segment in space.segments() for name in segment}
        require(named == set(space.decisions), f"the segments name {sorted(named)}")

    def test_networks_run(self) -> None:
        """Networks with every option accept inputs of `input_shape`, and have finite float32 outputs of one shape.

        `build` of a space without networks raises SpaceError.

        Way out: build the network in the test and run it with `torch.randn(4, *space.input_shape)`.
        """
        space = self.make_space()
        shapes = set[tuple[int, ...]]()
        for architecture in self.covering(space):
            if not space.input_shape:
                _refused_build(space, architecture)
                continue
            network = _seeded(space.build, architecture)
            require(isinstance(network, nn.Module), f"build returns a {type(network).__name__}")
            require(network.training, "a new network is in evaluation mode; networks are returned in training mode")
            with torch.no_grad():
                outputs = network.eval()(self.inputs(space))
            require(isinstance(outputs, Tensor), f"the network returns a {type(outputs).__name__}")
            require(len(outputs) == len(self.inputs(space)), f"4 inputs have outputs of shape {tuple(outputs.shape)}")
            require(outputs.dtype == torch.float32, f"the outputs are {outputs.dtype}")
            require(bool(torch.isfinite(outputs).all()), f"the outputs of {architecture.key} are not finite")
            with torch.no_grad():
                again = network(self.inputs(space))
            require(torch.equal(again, outputs), f"in evaluation mode {architecture.key} has other outputs each time")
            if not shapes:
                recorded = network(self.inputs(space)).detach()
                # Other kernels may be used when gradients are recorded: some roundings of float32.
                equal = torch.allclose(recorded, outputs, rtol=1e-4, atol=1e-5)
                require(equal, f"{architecture.key} has other outputs when gradients are recorded")
            shapes.add(tuple(outputs.shape[1:]))
        require(len(shapes) <= 1, f"outputs have different shapes: {shapes}")
        expected = self.output_shape
        require(expected is None or shapes <= {expected}, f"outputs have the shape {shapes}, expected {expected}")

    def test_samples_of_a_batch_are_independent(self) -> None:
        """In evaluation mode the output for a sample does not depend on the other samples of the batch.

        Way out: keep axis 0; use statistics of the batch in training mode only.
        """
        space = self.make_space()
        for architecture in self.architectures(space) if space.input_shape else ():
            network, x = _seeded(space.build, architecture).eval(), self.inputs(space)
            with torch.no_grad():
                together, alone = network(x), torch.cat([network(x[:1]), network(x[1:])])
            # Other sizes of a batch may use other kernels: some roundings of float32.
            torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)

    def test_evaluation_changes_no_weights(self) -> None:
        """A pass in evaluation mode leaves all parameters and buffers as they were.

        Way out: change buffers in training mode only: `if self.training:`.
        """
        space = self.make_space()
        for architecture in self.architectures(space) if space.input_shape else ():
            network = _seeded(space.build, architecture).eval()
            before = {name: digest(tensor) for name, tensor in network.state_dict().items()}
            with torch.no_grad():
                network(self.inputs(space))
            changed = [name for name, tensor in network.state_dict().items() if digest(tensor) != before[name]]
            require(not changed, f"a pass in evaluation mode changed {', '.join(changed[:3])}")

    def test_networks_run_on_other_devices(self) -> None:
        """A network that was moved to another device makes no tensor on the CPU (checked on torch's device ``meta``).

        Way out: register constants as buffers, and make tensors in `forward` with ``device=x.device``.
        """
        space = self.make_space()
        for architecture in self.architectures(space) if space.input_shape else ():
            network = _seeded(space.build, architecture).eval().to("meta")
            require_device(lambda x, network=network: network(x), self.inputs(space))

    def test_options_are_different_networks(self) -> None:
        """Architectures with different canonical architectures are different networks, option by option.

        They have other modules or other outputs with weights of the same seed.

        Way out: build what the decision says. If two options are the same network, `canonical` maps one to the other.
        """
        space = self.make_space()
        if not space.input_shape:
            return
        base = self.architectures(space)[0]
        built: dict[Any, Architecture] = {}
        for name, decision in space.decisions.items():
            changed = [Architecture({**base, name: value}) for value in _values(decision, base[name])]
            neighbours = [space.canonical(each) for each in changed if is_valid(space, each)]
            for architecture in dict.fromkeys([space.canonical(base), *neighbours]):
                identity = _identity(_seeded(space.build, architecture).eval(), self.inputs(space))
                other = built.setdefault(identity, architecture)
                require(other == architecture, f"{other.key} and {architecture.key} are the same network")

    def test_every_network_is_new(self) -> None:
        """Each call of `build` returns a module of its own, which shares no parameter or buffer with earlier ones.

        Way out: create all modules inside `build`; keep none in the instance.
        """
        space = self.make_space()
        for architecture in self.architectures(space) if space.input_shape else ():
            first, second = (_seeded(space.build, architecture) for _ in range(2))
            require(first is not second, "build returns the same module twice")
            owned = {_storage(t) for t in first.state_dict().values() if t.numel()}
            shared = owned & {_storage(t) for t in second.state_dict().values() if t.numel()}
            require(not shared, f"two networks share {len(shared)} tensors")
            modules = {id(part) for part in first.modules()} & {id(part) for part in second.modules()}
            require(not modules, f"two networks share {len(modules)} modules")

    def test_parameters_can_be_trained(self) -> None:
        """All parameters are float32 on the CPU, require gradients, and a backward pass reaches one of them.

        Way out: remove `requires_grad_(False)`, `detach()` and `torch.no_grad()` from `build` and `forward`.
        """
        space = self.make_space()
        for architecture in self.covering(space) if space.input_shape else ():
            network = _seeded(space.build, architecture)
            for name, parameter in network.named_parameters():
                trained = parameter.requires_grad or self.constants
                require(trained, f"the parameter {name} does not require gradients")
                require(parameter.dtype == torch.float32, f"the parameter {name} is {parameter.dtype}")
                require(parameter.device.type == "cpu", f"the parameter {name} is on {parameter.device}")
            parameters = list(network.parameters())
            if parameters:
                _seeded(network, self.inputs(space)).sum().backward()
                require(
                    any(p.grad is not None for p in parameters), f"no parameter of {architecture.key} has a gradient"
                )

    def test_a_network_is_a_function_of_the_seed(self) -> None:
        """The same state of torch's global generator gives the same weights, another state gives others.

        Way out: initialise with torch's functions, without a seed or a generator of your own.
        """
        space = self.make_space()
        if not space.input_shape:
            return
        architecture = self.architectures(space)[0]
        first, second = (_seeded(space.build, architecture).state_dict() for _ in range(2))
        require(list(first) == list(second), "the names of weights differ")
        require(all(torch.equal(first[name], second[name]) for name in first), "equal seeds give different weights")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            parameters = dict(space.build(architecture).named_parameters())
        random = [name for name, value in parameters.items() if value.numel() and value.std(correction=0) > 0]
        same = random and all(torch.equal(first[name], parameters[name]) for name in random)
        require(not same, "another seed gives the same weights")

    def test_what_it_receives_is_not_changed(self) -> None:
        """Architectures are the same after `canonical`, `validate` and `build`.

        Way out: copy before changing: `dict(architecture)`.
        """
        space = self.make_space()
        architectures = self.covering(space)
        before = fingerprint(architectures)
        for architecture in architectures:
            space.canonical(architecture)
            space.validate(architecture)
            if space.input_shape:
                _seeded(space.build, architecture)
        require(fingerprint(architectures) == before, "an architecture was changed")

    def test_inputs_are_not_changed(self) -> None:
        """A network does not change the tensor that it receives, in both modes.

        Way out: no function with an underscore, and no ``inplace=True``, before the first operation that copies.
        """
        space = self.make_space()
        for architecture in self.architectures(space) if space.input_shape else ():
            for training in (True, False):
                network, x = _seeded(space.build, architecture).train(training), self.inputs(space)
                with torch.no_grad():
                    _seeded(network, x)
                require(torch.equal(x, self.inputs(space)), f"the inputs were changed, training = {training}")

    def test_nothing_is_seeded(self) -> None:
        """Building and running a network set no seed: torch's global generator goes on from where it was.

        Way out: remove `torch.manual_seed`; the core seeds the generator around every build and training iteration.
        """
        space = self.make_space()
        if not space.input_shape:
            return
        architecture = self.architectures(space)[0]
        after = set()
        for seed in (1, 2):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                network = space.build(architecture)
                built = digest(torch.get_rng_state())
                network(self.inputs(space))
                after |= {built, digest(torch.get_rng_state())}
        require(len(after) >= 2, "the generator has the same state after two seeds")
        with torch.random.fork_rng(devices=[]):
            states = []
            for seed in (1, 2):
                torch.default_generator.manual_seed(seed)
                network(self.inputs(space))
                states.append(digest(torch.get_rng_state()))
            require(states[0] != states[1], "running a network sets a seed")

    def test_weights_can_be_stored(self) -> None:
        """A copy, and a network with other weights that loads the state, have the same outputs.

        Way out: register tensors as parameters or buffers and modules in `nn.ModuleList`, not in plain lists.
        """
        space = self.make_space()
        for architecture in self.covering(space) if space.input_shape else ():
            network = _seeded(space.build, architecture).eval()
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(5)
                other = space.build(architecture).eval()
            other.load_state_dict(network.state_dict())
            with torch.no_grad():
                outputs = network(self.inputs(space))
                for what, same in (("loads its state", other), ("is its copy", copy.deepcopy(network))):
                    equal = torch.equal(same(self.inputs(space)), outputs)
                    require(equal, f"{architecture.key}: a network that {what} has other outputs")

    def test_an_invalid_architecture_is_not_built(self) -> None:
        """`build` raises SpaceError for an architecture of another space.

        Way out: begin `build` with `values = self.validate(architecture)`.
        """
        space = self.make_space()
        _refused_build(space, Architecture({"no-such-decision": 0}))

    def test_equal_canonical_means_equal_networks(self) -> None:
        """With the same weights, the networks of an architecture and of its canonical architecture are equal.

        Way out: `canonical` may change only decisions that have no effect on the function.
        """
        space = self.make_space()
        for architecture in self.covering(space) if space.input_shape else ():
            network, other = (_seeded(space.build, a).eval() for a in (architecture, space.canonical(architecture)))
            if network.state_dict().keys() != other.state_dict().keys():
                continue  # equal only with other names of the weights
            other.load_state_dict(network.state_dict())
            with torch.no_grad():
                torch.testing.assert_close(other(self.inputs(space)), network(self.inputs(space)))


def _key(canonical: object) -> str:
    # What is wrong with another value is said by the clause of canonical architectures.
    return canonical.key if isinstance(canonical, Architecture) else type(canonical).__name__


def _refused(space: SearchSpace, values: Mapping[str, object], text: str) -> None:
    try:
        space.validate(values)
    except SpaceError as error:
        require(text in str(error), f"the error for {dict(values)} is: {error}")
    else:
        raise AssertionError(f"validate accepts {dict(values)}")


def _refused_build(space: SearchSpace, architecture: Architecture) -> None:
    try:
        space.build(architecture)
    except SpaceError:
        return
    raise AssertionError(f"build({architecture.key}) returns a network")


def _values(decision: Decision, value: Any) -> list[Any]:
    return list(decision.neighbours(value))[:MOST_OPTIONS]


def _identity(network: nn.Module, x: Tensor) -> Any:
    """Return what differs between different networks: names and shapes of weights, or outputs."""
    with torch.no_grad():
        outputs = network(x)
    return tuple((name, tuple(t.shape)) for name, t in network.state_dict().items()), digest(outputs)


def _seeded(make: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(0, "contract"))
        return make(*args, **kwargs)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
