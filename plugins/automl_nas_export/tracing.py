"""Tracing a network with torch.export, and naming the cause and the module if that fails."""

from __future__ import annotations

import gc
import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from automl_nas.errors import RunFailedError
from automl_nas_export.places import innermost_module, module_that_raised, of, place
from automl_nas_export.verify import brief

FREE_BATCH = ({0: Dim("batch", min=1)},)
"""The dynamic shapes of the one input: the batch may be any number from 1 on."""

FREE_SIZE = ({0: Dim("batch", min=1), 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
"""The same for images of any height and width; torch finds the smallest ones, such as those of pools."""

_AXES = {0: "batch size", 2: "height", 3: "width"}

_ALLOCATIONS = 100_000
"""The number of allocated objects after which young objects are visited while a network is exported."""

_SHAPES = "torch.fx.experimental.symbolic_shapes"
"""The logger that reports when the tracer fixes a size."""


def trace(network: nn.Module, example: Tensor, *, free_size: bool = False) -> ExportedProgram:
    """Return the network as a program that takes any batch size, and perhaps images of any size.

    Neither the example nor the paths of source files on this machine are kept in it. If torch cannot trace the network
    as it runs, the Python code is analysed instead (``strict``), which follows ``int(x.shape[0])``, for instance.

    Args:
        network: in evaluation mode; tracing may change its modules.
        example: an input of batch size `automl_nas_export.verify.TRACE_BATCH`.
        free_size: whether height and width (axes 2 and 3) are free, too.

    Raises:
        RunFailedError: the network cannot be traced; names the cause and the module.
    """
    shapes = FREE_SIZE if free_size else FREE_BATCH
    try:
        with no_stack_traces():
            program = torch.export.export(network, (example,), dynamic_shapes=shapes)
    except Exception as error:
        analysed = _strict(network, example, shapes)
        if analysed is None:
            raise RunFailedError(_reason(error, network, example, free_size)) from error
        program = analysed
    program.example_inputs = None
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # torch versions without the setting of `no_stack_traces`
    return program


@contextmanager
def no_stack_traces() -> Iterator[None]:
    """Let torch record no Python stack for each node of a graph: no export keeps it, and it takes a tenth of one."""
    config: Any = getattr(torch.fx, "config", None)
    before = getattr(config, "do_not_emit_stack_traces", None)
    if before is None:
        yield
        return
    config.do_not_emit_stack_traces = True
    try:
        yield
    finally:
        config.do_not_emit_stack_traces = before


@contextmanager
def few_collections() -> Iterator[None]:
    """Let Python's garbage collector visit the objects of a graph rarely: nearly all of them live on.

    Without it, the collector takes a quarter of the time of an export.
    """
    before = gc.get_threshold()
    if 0 < before[0] < _ALLOCATIONS:  # 0: the collector is off
        gc.set_threshold(_ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def module_of(program: ExportedProgram, operator: str) -> str:
    """Return the modules that call an operator, such as ``features.3.pool: AdaptiveMaxPool2d``; empty if none is known.

    Args:
        program: traced.
        operator: its name without the overload, such as ``aten.adaptive_max_pool2d``.
    """
    places = _callers(program, operator)
    if not places:  # operators that other operators consist of
        with suppress(Exception):
            places = _callers(program.run_decompositions(), operator)
    names = list(dict.fromkeys(places))
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _callers(program: ExportedProgram, operator: str) -> list[str]:
    return [
        name
        for node in program.graph.nodes
        if isinstance(node.target, torch._ops.OpOverload) and str(node.target.overloadpacket) == operator
        for name in _innermost(node.meta.get("nn_module_stack"))
    ]


def _innermost(stack: Any) -> list[str]:
    """Return the innermost module of a node's stack, which maps an identifier to (path, class)."""
    if not stack:
        return []
    path, cls = list(stack.values())[-1]
    name = cls if isinstance(cls, str) else cls.__qualname__
    return [place(re.sub(r"^L\['self'\]\.?", "", path), name.rpartition(".")[2])]


def _strict(network: nn.Module, example: Tensor, shapes: Any) -> ExportedProgram | None:
    with suppress(Exception):
        return torch.export.export(network, (example,), dynamic_shapes=shapes, strict=True)
    return None


def _reason(error: BaseException, network: nn.Module, example: Tensor, free_size: bool) -> str:
    """Return why a network cannot be traced. It does run: that was tried before."""
    kinds = {cls.__name__ for item in causes(error) for cls in type(item).__mro__}
    module = of(module_that_raised(error.__traceback__, network))
    if "GuardOnDataDependentSymNode" in kinds:
        return (
            f"the forward{module} depends on the values of tensors in Python (such as an if, a loop, int() or "
            ".item() on them), and torch.export records one fixed sequence of operations; compute with tensors instead "
            "(torch.where), or use the format 'safetensors', which holds the weights alone"
        )
    if "Constraints violated" in str(error) or "ConstraintViolationError" in kinds:
        axis = next((axis for axis in (2, 3) if f".size()[{axis}]" in str(error)), 0) if free_size else 0
        name = _AXES[axis]
        size = example.shape[axis]
        where = of(_where_fixed(network, example, size, FREE_SIZE if free_size else FREE_BATCH))
        return (
            f"the {name} became fixed at {size} while torch.export traced the forward{where}; it must not loop over "
            f"the {_AXES[axis].removesuffix(' size')}, branch on its size, or use a number in its place (write -1 or "
            f"x.shape[{axis}])"
        )
    return f"torch.export cannot trace the forward{module}: {brief(root_cause(error))}"


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those that caused it, the first cause last."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def root_cause(error: BaseException) -> BaseException:
    """Return the exception that caused all others."""
    return list(causes(error))[-1]


def _where_fixed(network: nn.Module, example: Tensor, size: int, shapes: Any) -> str:
    """Return the module in whose forward a free size becomes a constant; empty if the tracer does not log it."""
    places: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if re.match(rf"(eval Eq|set_replacement|specializ).*\b{size}\b", record.getMessage()):
                frames = [frame for frame, _ in traceback.walk_stack(None)]
                places.append(innermost_module(reversed(frames), network))

    with _listening(Listener()), suppress(Exception):
        torch.export.export(network, (example,), dynamic_shapes=shapes)
    return next(filter(None, places), "")


@contextmanager
def _listening(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger(_SHAPES)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
