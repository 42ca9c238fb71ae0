"""Whether narrower networks compute what the trace of the whole network says: operator by operator, with the sizes
that the axes have."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from automl_nas.channels.axis import Axis, MismatchError, signature, size_of, unify
from automl_nas.channels.narrowing import Narrowing, Plan
from automl_nas.channels.operators import ATTENTION
from automl_nas.channels.owners import owners_of
from automl_nas.channels.running import runnable
from automl_nas.channels.trace import Step, Trace, plain_kernels, tensors_in
from automl_nas.space import meta_result
from automl_nas.space.modules.running import Running, running_modules
from automl_nas.streams import stream

# Operators that compute nothing. A composite operator calls others of them where a dimension has the size 1, and
# modules cache what they read from tables.
_REARRANGE = frozenset(("view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "squeeze", "expand", "clone"))
_REARRANGE |= frozenset(
    ("index", "t", "transpose", "permute", "alias", "detach", "as_strided", "as_strided_", "_to_copy")
)

RANDOM = 2
"""The number of random networks that are run besides the extreme ones."""


class DiffersError(Exception):
    """A narrower network computes something else than the trace says.

    Attributes:
        path: of the module.
        reason: what differs.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def check(network: nn.Module, trace: Trace, plan: Plan, owned: Mapping[Axis, object]) -> None:
    """Run a narrower network and compare each operator with the whole network's.

    Args:
        network: the narrower network, in evaluation mode.
        trace: of the whole network.
        plan: of the narrower network.
        owned: the atoms of parameters. Other atoms have the size that their code gives them.

    Raises:
        DiffersError: an operator is another one, or its output has another shape.
    """
    steps = iter([s for s in trace.steps if s.name not in _REARRANGE and not _skipped(s.path, plan.skipped)])
    with running_modules(network) as running:
        try:
            with torch.no_grad(), plain_kernels(), _Comparison(running, steps, plan, owned):
                output = network(trace.input)
        except DiffersError:
            raise
        except Exception as error:
            raise DiffersError(running[-1][0], (str(error).splitlines() or [type(error).__name__])[0]) from error
    if tuple(output.shape) != trace.output_shape:
        raise DiffersError("", f"the output has the shape {tuple(output.shape)}")


def _skipped(path: str, blocks: Iterable[str]) -> bool:
    return any(path == block or path.startswith(f"{block}.") for block in blocks)


class _Comparison(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, running: Running, steps: Iterator[Step], plan: Plan, owned: Mapping[Axis, object]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._running = running
        self._steps, self._plan, self._owned = steps, plan, owned

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = meta_result(func, args, kwargs or {})
        outs = list(tensors_in([out]))
        name, path = func.overloadpacket.__name__, self._running[-1][0]
        if not outs or name in _REARRANGE:
            return out
        step = next(self._steps, None)
        if step is None or step.name != name or len(step.outputs) != len(outs):
            raise DiffersError(path, f"it runs {name} where the whole network runs {step.name if step else 'nothing'}")
        for tensor, axes in zip(outs, step.outputs, strict=True):
            expected = [self._size(axis) for axis in axes]
            if any(size not in (None, own) for size, own in zip(expected, tensor.shape, strict=True)):
                raise DiffersError(path, f"{name} returns the shape {list(tensor.shape)} and not {expected}")
        return out

    def _size(self, axis: Axis) -> int | None:
        if any(atom.fixed is None and atom not in self._owned for atom in axis.atoms()):
            return None
        return size_of(axis, self._plan.sizes)


class Variation(Protocol):
    """Something of a network of which a narrower one has less."""

    @property
    def name(self) -> str:
        """Its name, unique in the network."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the modules that it changes."""

    @property
    def atom(self) -> Axis | None:
        """The axis of which elements are left out; None: something else is."""

    @property
    def skips_blocks(self) -> bool:
        """Whether blocks are left out, which the check does not run then."""

    @property
    def count(self) -> int:
        """The number of sizes, ascending; the last is that of the whole network."""

    def apply(self, plan: Plan, place: int) -> None:
        """Give it one of its sizes in a plan. Which elements stay does not matter."""


V = TypeVar("V", bound=Variation)


def verified(
    network: nn.Module, trace: Trace, find: Callable[[], list[V]], drop: Callable[[V, str], None]
) -> tuple[list[V], Narrowing]:
    """Return what varies so that every network runs, and what makes these networks.

    Several networks are run. Where code does not follow (a reshape by a number that the code
    contains, for example), axes of equal size in that module are tied, which is what attention needs whose width is
    that of its input; if that does not help, the axes of the module are fixed.

    Args:
        network: that was traced; a copy is run.
        trace: of its run; axes are unified and fixed in it.
        find: returns what varies according to the trace.
        drop: called with what must not be found again and has no axis that can be fixed, and the reason.
    """
    copied = runnable(network, trace.on_meta)
    while True:
        variations = find()
        narrowing = Narrowing(copied, trace, [each.atom for each in variations if each.atom is not None])
        if not variations:
            return variations, narrowing
        try:
            for places in _probes(variations):
                _run(copied, trace, narrowing, variations, places)
            return variations, narrowing
        except DiffersError as error:
            if not _tie(copied, trace, error.path):
                for each in _culprits(copied, trace, narrowing, variations, error.path):
                    reason = f"the forward of {_named(copied, error.path)} does not follow: {error.reason}"
                    if each.atom is not None:
                        each.atom.pin(reason)
                    else:
                        drop(each, reason)


def _probes(variations: Sequence[Variation]) -> Iterator[dict[str, int]]:
    """Yield what differs from the whole network: name -> number of the size.

    Sizes that code takes from each other agree by chance where all are the smallest, so others are run too.
    """
    rng = stream(0, "probes")
    widths = [each for each in variations if not each.skips_blocks]
    yield {each.name: 0 for each in widths}  # blocks that are left out are not checked
    for first in (0, 1):
        yield {each.name: 0 for each in widths[first::2]}
    for _ in range(RANDOM):
        yield {each.name: rng.randrange(each.count) for each in widths}
    yield {each.name: 0 for each in variations}


def _run(
    network: nn.Module, trace: Trace, narrowing: Narrowing, variations: Sequence[Variation], places: Mapping[str, int]
) -> None:
    plan = Plan()
    for each in variations:
        place = places.get(each.name, each.count - 1)
        if place < each.count - 1:
            each.apply(plan, place)
    check(narrowing.view(network, plan)[0], trace, plan, owners_of(trace))


def _tie(network: nn.Module, trace: Trace, path: str) -> bool:
    """Tie the width inside of attention to that of its input, in all modules of a class; return whether one changed."""
    kind, tied = type(network.get_submodule(path)), False
    for other, module in network.named_modules():
        if type(module) is not kind:
            continue
        axes = {signature(axis): axis for axis in trace.seen.get(other, []) if not axis.constant}
        beside = [axis for axis in axes.values() if any(atom.fixed == ATTENTION for atom in axis.atoms())]
        heads = {atom for axis in beside for atom in axis.atoms() if atom.fixed is None}
        for inner in axes.values():
            if inner.root().form != "product" or heads.isdisjoint(inner.atoms()):
                continue
            for outer in axes.values():
                if outer.size == inner.size and signature(inner) != signature(outer):
                    with contextlib.suppress(MismatchError):
                        unify(outer, inner)
                        tied |= signature(outer) == signature(inner)
    return tied


def _culprits(
    network: nn.Module, trace: Trace, narrowing: Narrowing, variations: Sequence[V], path: str
) -> Sequence[V]:
    """Return what varies in a module, or the one of it with which alone the network does not run."""
    seen = {atom for axis in trace.seen.get(path, []) for atom in axis.atoms()}
    near = [each for each in variations if (path in each.paths if each.atom is None else each.atom in seen)]
    alone = []
    for each in near or variations:
        try:
            _run(network, trace, narrowing, variations, {each.name: 0})
        except DiffersError:
            alone.append(each)
    return alone or near or variations


def _named(network: nn.Module, path: str) -> str:
    return f"'{path}' ({type(network.get_submodule(path)).__name__})" if path else type(network).__name__
