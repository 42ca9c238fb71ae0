"""Whether narrower networks compute what the trace of the whole network says: operator by operator, with the sizes
that the axes have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from automl_nas_elastic.channels.axis import Axis, MismatchError, signature, size_of, unify
from automl_nas_elastic.channels.trace import Running, Step, Trace, plain_kernels
from automl_nas_elastic.choices import Findings, Fixed, Option, Steps, Width, chosen, find, followed_attributes, owners_of
from automl_nas_elastic.narrowing import Narrowing, Plan


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
    steps = iter([step for step in trace.steps if not _skipped(step.path, plan.skipped)])
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
        outs = [out] if isinstance(out, Tensor) else [x for x in out if isinstance(x, Tensor)] if out is not None else []
        if not outs:
            return out
        name, path = func.overloadpacket.__name__, self.running[-1][0]
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

    The network with the smallest options is run. Where its code does not follow (a reshape by a number that the code
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
        found = find(network, trace, steps)
        found.options = [each for each in chosen(found.options, include, exclude) if each.name not in dropped]
        found.fixed += dropped.values()
        narrowing = Narrowing(network, trace, found.options, followed_attributes(network, trace), _first(found.options))
        try:
            _run(network, trace, narrowing, found.options)
            return found, narrowing
        except DiffersError as error:
            if not _tie(network, trace, error.path):
                for option in _culprits(network, trace, narrowing, found.options, error.path):
                    reason = f"the forward of {_named(network, error.path)} does not follow: {error.reason}"
                    if isinstance(option, Width):
                        option.atom.pin(reason)
                    else:
                        dropped[option.name] = Fixed(option.paths[0], len(option.decision.options), reason)


def _first(options: Iterable[Option]) -> dict[str, Any]:
    """Return an order of the channels for the check, which sees sizes only."""
    import numpy as np

    return {option.name: np.arange(option.atom.size) for option in options if isinstance(option, Width)}


def _run(network: nn.Module, trace: Trace, narrowing: Narrowing, smallest: Iterable[Option]) -> None:
    small = {option.name for option in smallest}
    values = {name: o.decision.options[0 if name in small else -1] for name, o in narrowing.options.items()}
    plan = narrowing.plan(values)
    check(narrowing.view(network, plan)[0], trace, plan, owners_of(trace))


def _tie(network: nn.Module, trace: Trace, path: str) -> bool:
    """Tie the width inside of a module to that of its input, in all modules of its class; return whether it helped."""
    kind, tied = type(network.get_submodule(path)), False
    for other, module in network.named_modules():
        if type(module) is not kind:
            continue
        axes = {signature(axis): axis for axis in trace.seen.get(other, []) if not axis.constant}
        for inner in axes.values():
            if inner.root().form != "product":
                continue
            for outer in axes.values():
                if outer.size == inner.size and outer.root().form == "atom" and signature(inner) != signature(outer):
                    try:
                        unify(outer, inner)
                        tied = True
                    except MismatchError:  # pragma: no cover - an atom can become any product of its size
                        continue
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
            _run(network, trace, narrowing, [option])
        except DiffersError:
            alone.append(option)
    return alone or near or list(options)


def _named(network: nn.Module, path: str) -> str:
    return f"'{path}' ({type(network.get_submodule(path)).__name__})" if path else type(network).__name__
