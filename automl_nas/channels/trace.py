"""One run of a network that records which axes its tensors have: `trace`."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from automl_nas.channels.axis import Axis, MismatchError, unify
from automl_nas.channels.layers import stored_sizes
from automl_nas.channels.operators import NUMBERED, numbered, rule_of
from automl_nas.channels.rules import Arguments, Axes, arguments, constants, created
from automl_nas.channels.views import pieces_of
from automl_nas.errors import SpaceError
from automl_nas.space import meta_result
from automl_nas.space.modules.running import Running, running_modules

INPUT = "an input of the network"
OUTPUT = "an output of the network"
_READS = frozenset(("_local_scalar_dense", "is_nonzero", "equal", "item", "nonzero", "masked_select", "_unique2"))


@dataclass(eq=False)
class TracedTensor:
    """A tensor of the run. A tensor that is changed in place is another one afterwards.

    Attributes:
        axes: one for each dimension.
        owner: path of the module and name of the parameter or buffer that it is; None: it is neither.
    """

    axes: Axes
    owner: tuple[str, str] | None = None


@dataclass(eq=False)
class Step:
    """One operator of the run.

    Attributes:
        func: the operator.
        path: of the module that called it.
        args: all its arguments, in the order of its schema; tensors are `TracedTensor`.
        results: the tensors that it returned.
    """

    func: Any
    path: str
    args: Arguments
    results: tuple[TracedTensor, ...]

    @property
    def name(self) -> str:
        """Name of the operator without its overload."""
        return str(self.func.overloadpacket.__name__)

    @property
    def outputs(self) -> tuple[Axes, ...]:
        """The axes of its outputs."""
        return tuple(each.axes for each in self.results)

    @property
    def operands(self) -> tuple[TracedTensor, ...]:
        """The tensors among its arguments."""
        return tuple(traced_in(self.args))


@dataclass
class Call:
    """One call of a module.

    Attributes:
        path: of the module.
        source: the one tensor that it was called with, as the call left it; None: it was called in another way.
        result: the tensor that it returned; None: it did not return one tensor.
    """

    path: str
    source: TracedTensor | None
    result: TracedTensor | None

    @property
    def inputs(self) -> Axes:
        """The axes of the input; none if there are several inputs or outputs."""
        return [] if self.source is None or self.result is None else self.source.axes

    @property
    def outputs(self) -> Axes:
        """The axes of the output; none if there are several inputs or outputs."""
        return [] if self.source is None or self.result is None else self.result.axes


@dataclass
class Trace:
    """What a run found.

    Attributes:
        steps: the operators, in order.
        aliases: what changes in place did to other tensors of the same memory: (step, the tensor before, and after).
        calls: the calls of modules, in the order in which they returned.
        called: path -> how often the module was called.
        tensors: (path, name) of each parameter and buffer that was used -> its axes.
        attributes: path -> attribute -> axis or axes whose size it has.
        seen: path -> axes of the tensors that the module itself computed or passed to its parts.
        reads: path -> where the module's forward read a value of a tensor.
        unknown: path -> operators without a rule.
        on_meta: whether the run needed no data.
        input: the input of the run.
        output_shape: shape of the output.
    """

    input: Tensor
    on_meta: bool
    steps: list[Step] = field(default_factory=list)
    aliases: list[tuple[Step, TracedTensor, TracedTensor]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    called: dict[str, int] = field(default_factory=dict)
    tensors: dict[tuple[str, str], Axes] = field(default_factory=dict)
    attributes: dict[str, dict[str, Axis | Axes]] = field(default_factory=dict)
    seen: dict[str, list[Axis]] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, set[str]] = field(default_factory=dict)
    output_shape: tuple[int, ...] = ()


def run_traced(network: nn.Module, inputs: Tensor) -> Trace:
    """Run a network once on inputs in evaluation mode.

    Raises:
        SpaceError: it does not return one tensor.
        Exception: whatever the network raises.
    """
    result = Trace(inputs, inputs.is_meta)
    mode = _Mode(result, network)
    mode.register(inputs, [Axis(inputs.shape[0], ""), *(Axis(size, INPUT) for size in inputs.shape[1:])])
    watched = running_modules(network, entered=mode.entered, left=mode.left)
    with torch.no_grad(), plain_kernels(), watched as mode.running, mode:
        output = network.eval()(inputs)
    if not isinstance(output, Tensor):
        raise SpaceError(
            f"the network returns a {type(output).__name__} in evaluation mode; a network of a space returns one "
            "tensor: wrap it in a module that selects it"
        )
    mode.read(output)
    for axis in mode.axes(output):
        axis.pin(OUTPUT)
    result.output_shape = tuple(output.shape)
    return result


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, result: Trace, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running: Running = []
        self.result = result
        self._tensors: dict[int, tuple[Tensor, TracedTensor]] = {}
        self._memory: dict[int, list[Tensor]] = {}
        self._numbers: dict[int, Axes] = {}
        self._owners: dict[int, tuple[str, str]] = {}
        for path, module in network.named_modules():
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None:
                    self._owners.setdefault(id(tensor), (path, name))

    def axes(self, tensor: Tensor) -> Axes:
        """Return the axes of a tensor."""
        return self.traced(tensor).axes

    def traced(self, tensor: Tensor) -> TracedTensor:
        """Return what is known of a tensor now."""
        entry = self._tensors.get(id(tensor))
        if entry is not None:
            return entry[1]
        owner = self._owners.get(id(tensor))
        own = constants(tensor.shape)
        if owner is not None:
            if tensor.is_floating_point():
                own = [Axis(size, None if size > 1 else "") for size in tensor.shape]
            self.result.tensors[owner] = own
        return self.register(tensor, own, owner)

    def register(self, tensor: Tensor, axes: Axes, owner: tuple[str, str] | None = None) -> TracedTensor:
        """Set the axes of a tensor that is new, or changed in place."""
        if id(tensor) not in self._tensors:
            self._memory.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)
        result = TracedTensor(axes, owner)
        self._tensors[id(tensor)] = tensor, result
        return result

    def same(self, one: Axis, other: Axis) -> None:
        """Unify two axes; fix both if that is impossible."""
        try:
            unify(one, other)
        except MismatchError as error:
            reason = f"it meets channels that are divided in another way, in '{self.running[-1][0]}': {error}"
            one.pin(reason)
            other.pin(reason)

    def attribute(self, kind: type | tuple[type, ...], name: str, axis: Axis | Axes) -> None:
        """Record an attribute of the running module."""
        path, module = self.running[-1]
        if isinstance(module, kind):
            self.result.attributes.setdefault(path, {})[name] = axis

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        path = self.running[-1][0]
        name = func.overloadpacket.__name__
        if name in _READS:
            self.result.reads.setdefault(path, _line())
        out = meta_result(func, args, kwargs)
        outs = list(tensors_in([out]))
        if outs:
            self._record(func, name, path, arguments(func, args, kwargs), outs)
        return out

    def read(self, tensor: Tensor) -> None:
        """Fix the axes of which a tensor has positions."""
        for axis in self._numbers.get(id(tensor), ()):
            axis.pin(NUMBERED)

    def _record(self, func: Any, name: str, path: str, args: Arguments, outs: list[Tensor]) -> None:
        for tensor in tensors_in(args):
            self.read(tensor)
        axes = self._by_rule(func, name, args, outs)
        if axes is None:
            self.result.unknown.setdefault(path, set()).add(name)
            reason = f"the operator {name} has no rule"
            inputs = [axis for tensor in tensors_in(args) for axis in self.axes(tensor)]
            # Without inputs it is a table that the code makes.
            own = "" if inputs and all(axis.constant for axis in inputs) else reason
            for axis in inputs:
                axis.pin(reason)
            axes = [[Axis(size, own if size > 1 else "") for size in each.shape] for each in outs]
        if positions := numbered(self, name, args):
            self._numbers[id(outs[-1])] = positions  # of maxima, after their values
        plain = Arguments(self._plain(each) for each in args)
        plain.names = args.names
        results = tuple(self.register(tensor, own) for tensor, own in zip(outs, axes, strict=True))
        step = Step(func, path, plain, results)
        self.result.steps.append(step)
        if func._schema.is_mutable:
            self._share(step, outs)
        self.result.seen.setdefault(path, []).extend(axis for own in axes for axis in own if axis.size > 1)

    def _by_rule(self, func: Any, name: str, args: Arguments, outs: list[Tensor]) -> list[Axes] | None:
        """Return the axes of the outputs of an operator; None: no rule holds for this call of it."""
        apply = rule_of(func)
        try:
            axes = pieces_of(self, name, args, outs)
            if axes is None and apply is not None:
                first = apply(self, args, outs[0])
                # Further outputs are indices, of the same shape, or statistics that nobody reads.
                axes = [first, *(first if each.shape == outs[0].shape else created(each.shape) for each in outs[1:])]
        except Exception:  # of a rule that does not expect this form of the operator; the network itself runs
            return None
        if axes is None or any(
            [axis.size for axis in own] != list(each.shape) for own, each in zip(axes, outs, strict=True)
        ):
            return None
        return axes

    def _plain(self, value: Any) -> Any:
        """Return an argument with what is known of tensors in their place."""
        if isinstance(value, Tensor):
            return self.traced(value)
        if isinstance(value, list | tuple):
            return tuple(self._plain(each) for each in value)
        return value

    def _share(self, step: Step, changed: list[Tensor]) -> None:
        """Note that a change in place also changes the other tensors of the same memory."""
        for one in changed:
            for other in self._memory[one.untyped_storage()._cdata]:
                if not any(other is each for each in changed):
                    before = self.traced(other)
                    after = self.register(other, before.axes)
                    self.result.aliases.append((step, before, after))

    def entered(self, path: str, inputs: tuple[Any, ...]) -> None:
        """Record what a module receives from the module that calls it."""
        self._passed(inputs)

    def left(self, path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Record what a module returned."""
        self.result.called[path] = self.result.called.get(path, 0) + 1
        source = self.traced(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], Tensor) else None
        result = self.traced(output) if isinstance(output, Tensor) else None
        self.result.calls.append(Call(path, source, result))
        for place, sizes in stored_sizes(path, module, inputs, self.axes).items():
            self.result.attributes.setdefault(place, {}).update(sizes)
        self._passed((output,))

    def _passed(self, values: tuple[Any, ...]) -> None:
        seen = self.result.seen.setdefault(self.running[-1][0], [])
        for tensor in tensors_in(values):
            seen.extend(axis for axis in self.axes(tensor) if axis.size > 1)


def tensors_in(values: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists and tuples."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)


def traced_in(values: Any) -> Iterator[TracedTensor]:
    """Yield the tensors in the arguments of a step."""
    for value in values:
        if isinstance(value, TracedTensor):
            yield value
        elif isinstance(value, tuple):
            yield from traced_in(value)


def _line() -> str:
    """Return file and line of the code outside of torch that is running."""
    own = str(Path(__file__).parent)
    libraries = str(Path(torch.__file__).parent)
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith((own, libraries)) and "importlib" not in frame.filename:
            return f"{Path(frame.filename).name}, line {frame.lineno}"
    return "an unknown line"


@contextlib.contextmanager
def plain_kernels() -> Iterator[None]:
    """Switch off the fused kernels of attention layers and of LSTMs on the CPU, each of which is one operator."""
    mkldnn: Any = torch.backends.mkldnn
    before = torch.backends.mha.get_fastpath_enabled(), mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    mkldnn.enabled = False
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before[0])
        mkldnn.enabled = before[1]
