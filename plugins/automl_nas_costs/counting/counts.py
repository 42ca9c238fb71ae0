"""One forward pass on meta tensors, in which every operator is counted for its module: `count`, `parameters`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils._python_dispatch import TorchDispatchMode

from automl_nas.channels import plain_kernels
from automl_nas.errors import SpaceError, UserError
from automl_nas.space import Architecture, SearchSpace, example_input, meta_result, run_on_example, running_modules
from automl_nas_costs.counting.activations import Recorder, peak
from automl_nas_costs.counting.formulas import Cost, formula
from automl_nas_costs.network_builder import preserve_rng


@dataclass(frozen=True)
class Counts:
    """What one forward pass of batch 1 costs, by module.

    Attributes:
        macs: module path -> multiply-adds of the operators that the module calls itself, not those of its children.
        accesses: module path -> elements that these operators read and write.
        uncounted: operator -> number of calls, for operators that compute something and count 0. Views and operators
            that only create a tensor are left out.
        memory: module path -> bytes of the activations that the module wrote and that live at the peak; empty unless
            activations are followed.
    """

    macs: Mapping[str, int] = field(default_factory=dict)
    accesses: Mapping[str, int] = field(default_factory=dict)
    uncounted: Mapping[str, int] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)


class UncountableError(SpaceError):
    """A network calls an operator whose cost is unknown."""


# Operators that create a tensor or reinterpret one, and that torch does not mark as views.
_FREE = frozenset(("_unsafe_view", "arange", "empty", "empty_like", "full", "full_like", "lift_fresh", "new_empty"))
_FREE |= frozenset(("ones", "ones_like", "scalar_tensor", "zeros", "zeros_like", "_to_copy", "_reshape_alias"))


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds the cost of every operator to the innermost module that is running."""

    def __init__(self, ignore: Collection[str], running: Sequence[tuple[str, nn.Module]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ignore = ignore
        self.running = running
        self.macs: dict[str, int] = {}
        self.accesses: dict[str, int] = {}
        self.uncounted: dict[str, int] = {}
        self.recorder: Recorder | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():
            # In inference mode torch dispatches composite operators; elsewhere it decomposes them first.
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        namespace, name = func.namespace, func.overloadpacket.__name__
        out = meta_result(func, args, kwargs)
        if self.recorder is not None:
            self.recorder.record(self.running[-1][0], func, args, kwargs, out)
        if f"{namespace}::{name}" in self.ignore:
            self._leave_out(func, namespace, name)
            return out
        try:
            rule = formula(namespace, name, args)
        except LookupError:
            raise UncountableError(
                f"the cost of the operator {namespace}::{name}, called in module '{self.running[-1][0]}', is unknown; "
                f"write it with torch's own layers, or set ignore: ['{namespace}::{name}'] to count it as 0"
            ) from None
        if rule is not None:
            self._add(rule(args, out[0] if isinstance(out, tuple | list) else out))
        else:
            self._leave_out(func, namespace, name)
        return out

    def _leave_out(self, func: Any, namespace: str, name: str) -> None:
        if not func.is_view and name not in _FREE:
            key = f"{namespace}::{name}"
            self.uncounted[key] = self.uncounted.get(key, 0) + 1

    def _add(self, cost: Cost) -> None:
        path = self.running[-1][0]
        if cost.macs:
            self.macs[path] = self.macs.get(path, 0) + cost.macs
        self.accesses[path] = self.accesses.get(path, 0) + cost.accesses


def _on_meta(space: SearchSpace, architecture: Architecture) -> nn.Module:
    with torch.device("meta"):
        return space.build(architecture)


def _moved_to_meta(space: SearchSpace, architecture: Architecture) -> nn.Module:
    return _on_cpu(space, architecture).to("meta")


def _on_cpu(space: SearchSpace, architecture: Architecture) -> nn.Module:
    with torch.device("cpu"):
        return space.build(architecture)


def _input(space: SearchSpace, network: nn.Module, device: str) -> Tensor:
    if not space.input_shape:
        raise SpaceError(
            f"{type(space).__name__} has no input shape, so its networks cannot be run to count their cost"
        )
    return example_input(network, space.input_shape, device=device)


# Ways to run a network once, the cheapest first: a meta tensor has a shape and no data, so nothing is computed.
_WAYS: tuple[tuple[Callable[[SearchSpace, Architecture], nn.Module], str], ...] = (
    (_on_meta, "meta"),
    (_moved_to_meta, "meta"),
    (_on_cpu, "cpu"),
)


def count(
    space: SearchSpace, architecture: Architecture, *, ignore: Collection[str] = (), memory: bool = False
) -> Counts:
    """Build the network, run it once in evaluation mode on one input, and return what its operators cost.

    All operators that torch dispatches are counted: functional calls, layers called twice, products with a Parameter,
    attention. The network is built and run on the meta device. A network that cannot run there (because its forward
    reads values, say) runs on the CPU. The result is the same except for the memory access of recurrent layers: the
    CPU reads their input weights once for all steps, meta tensors once for each step.

    Args:
        space: builds the network; has the shape of one input.
        architecture: of the network.
        ignore: operators that count 0, such as ``torchvision::roi_align``.
        memory: whether to follow activations too, which takes a little longer.

    Raises:
        UncountableError: an operator multiplies in an unknown way; names the operator and its module.
        SpaceError: the network cannot be built, or does not accept an input of the space's shape.
    """
    failures: list[Exception] = []
    with preserve_rng(), plain_kernels(), torch.no_grad():
        for build, device in _WAYS:
            try:
                network = build(space, architecture).eval()
                counted = partial(_counts, network, ignore, memory)
                return run_on_example(counted, _input(space, network, device))
            except UserError:
                raise
            except Exception as error:
                failures.append(error)
    reason = failures[-1]
    raise SpaceError(
        f"the network of {architecture.key} cannot be run on one input of shape {tuple(space.input_shape)}: "
        f"{type(reason).__name__}: {reason}"
    ) from reason


def _counts(network: nn.Module, ignore: Collection[str], memory: bool, x: Tensor) -> Counts:
    with running_modules(network, stay_at_error=False) as running:
        counter = _Counter(ignore, running)
        recorder = counter.recorder = Recorder(network, x) if memory else None
        with counter:
            result = network(x)
    alive: Mapping[str, int] = {}
    if recorder is not None:
        alive = peak(recorder.steps, {0: recorder.input_bytes}, recorder.outputs(result))
    return Counts(counter.macs, counter.accesses, counter.uncounted, alive)


def parameters(space: SearchSpace, architecture: Architecture) -> Mapping[str, int]:
    """Return module path -> number of the module's own parameters; a shared parameter counts at its first module.

    Raises:
        SpaceError: the network cannot be built.
    """
    with preserve_rng():
        try:
            network = _on_meta(space, architecture)
        except UserError:
            raise
        except Exception:
            network = _on_cpu(space, architecture)
        if any(isinstance(parameter, UninitializedParameter) for parameter in network.parameters()):
            network = _on_cpu(space, architecture).eval()
            with torch.no_grad():
                run_on_example(network, _input(space, network, "cpu"))
        numbers: dict[str, int] = {}
        for name, parameter in network.named_parameters():
            path = name.rpartition(".")[0]
            numbers[path] = numbers.get(path, 0) + parameter.numel()
        return numbers
