"""Whether narrower networks compute what the trace of the whole network says: operator by operator, with the sizes
that the axes have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from automl_nas.streams import stream
from automl_nas_elastic.channels.axis import Axis, MismatchError, signature, size_of, unify
from automl_nas_elastic.channels.operators import ATTENTION
from automl_nas_elastic.channels.trace import Running, Step, Trace, plain_kernels, tensors_in
from automl_nas_elastic.choices import (
    Depth,
    Findings,
    Fixed,
    Option,
    Steps,
    Width,
    chosen,
    find,
    followed_attributes,
    owners_of,
)
from automl_nas_elastic.narrowing import Narrowing, Plan

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
    mode = _Comparison(network, steps, plan, owned)
    try:
        with torch.no_grad(), plain_kernels(), mode.watching(), mode:
            output = network(trace.input)
    except DiffersError:
        raise
    except Exception as error:
        raise DiffersError(mode.running[-1][0], (str(error).splitlines() or [type(error).__name__])[0]) from error
    if tuple(output.shape) != trace.output_shape:
        raise DiffersError("", f"the output has the shape {tuple(output.shape)}")


def _skipped(path: str, blocks: Iterable[str]) -> bool:
    return any(path == block or path.startswith(f"{block}.") for block in blocks)


class _Comparison(Running, TorchDispatchMode):
    def __init__(self, network: nn.Module, steps: Iterator[Step], plan: Plan, owned: Mapping[Axis, object]) -> None:
        Running.__init__(self, network)
        TorchDispatchMode.__init__(self)  # type: ignore[no-untyped-call]
        self._steps, self._plan, self._owned = steps, plan, owned

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        outs = list(tensors_in([out]))
        name, path = func.overloadpacket.__name__, self.running[-1][0]
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


def verified(
    network: nn.Module, trace: Trace, steps: Steps, include: Sequence[str], exclude: Sequence[str]
) -> tuple[Findings, Narrowing]:
    """Return options with which every network runs, and what makes these networks.

    Several networks are run. Where its code does not follow (a reshape by a number that the code
    contains, for example), axes of equal size in that module are tied, which is what attention needs whose width is
    that of its input; if that does not help, the axes of the module are fixed.

    Args:
        network: the network that was run.
        trace: of its run; axes are unified and fixed in it.
        steps: which sizes the decisions have.
        include: patterns of names of decisions.
        exclude: patterns of names of decisions.
    """
    dropped: dict[str, Fixed] = {}
    while True:
        findings = find(network, trace, steps)
        findings.options = [each for each in chosen(findings.options, include, exclude) if each.name not in dropped]
        findings.fixed += dropped.values()
        narrowing = Narrowing(
            network, trace, findings.options, followed_attributes(network, trace), _first(findings.options)
        )
        if not findings.options:
            return findings, narrowing
        try:
            for values in _probes(findings.options):
                _run(network, trace, narrowing, values)
            return findings, narrowing
        except DiffersError as error:
            if not _tie(network, trace, error.path):
                for option in _culprits(network, trace, narrowing, findings.options, error.path):
                    reason = f"the forward of {_named(network, error.path)} does not follow: {error.reason}"
                    if isinstance(option, Width):
                        option.atom.pin(reason)
                    else:
                        dropped[option.name] = Fixed(option.paths[0], len(option.decision.options), reason)


def _first(options: Iterable[Option]) -> dict[str, Any]:
    """Return an order of the channels for the check, which sees sizes only."""
    import numpy as np

    return {option.name: np.arange(option.atom.size) for option in options if isinstance(option, Width)}


def _probes(options: Sequence[Option]) -> Iterator[dict[str, int]]:
    """Yield decisions that differ from the whole network: name -> position of the option.

    Sizes that code takes from each other agree by chance where all are the smallest, so others are run too.
    """
    rng = stream(0, "probes")
    widths = [option for option in options if not isinstance(option, Depth)]
    yield {option.name: 0 for option in widths}  # blocks that are left out are not checked
    for first in (0, 1):
        yield {option.name: 0 for option in widths[first::2]}
    for _ in range(RANDOM):
        yield {option.name: rng.randrange(len(option.decision.options)) for option in widths}
    yield {option.name: 0 for option in options}


def _run(network: nn.Module, trace: Trace, narrowing: Narrowing, places: Mapping[str, int]) -> None:
    values = {name: o.decision.options[places.get(name, -1)] for name, o in narrowing.options.items()}
    plan = narrowing.plan(values)
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
    network: nn.Module, trace: Trace, narrowing: Narrowing, options: Sequence[Option], path: str
) -> list[Option]:
    """Return the options of a module, or the one option, with which alone the network does not run."""
    seen = {atom for axis in trace.seen.get(path, []) for atom in axis.atoms()}
    near = [o for o in options if (o.atom in seen if isinstance(o, Width) else path in o.paths)]
    alone = []
    for option in near or options:
        try:
            _run(network, trace, narrowing, {option.name: 0})
        except DiffersError:
            alone.append(option)
    return alone or near or list(options)


def _named(network: nn.Module, path: str) -> str:
    return f"'{path}' ({type(network.get_submodule(path)).__name__})" if path else type(network).__name__
