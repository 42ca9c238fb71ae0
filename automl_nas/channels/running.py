"""The run from which a trace is made: without data if possible."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

from torch import nn

from automl_nas.channels.trace import Trace, run_traced
from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.space import example_input, run_on_example
from automl_nas.space.modules.copying import on_meta as on_meta

BATCH = 2  # a batch of one would be a dimension of size 1, which is repeated where sizes differ


def traced(network: nn.Module, input_shape: Sequence[int]) -> Trace:
    """Run a network once in evaluation mode: on meta tensors, or on the CPU if it reads values.

    Code that reads values may run another branch for other inputs, so the sizes of all that surrounds it are fixed.

    Args:
        network: a copy is run.
        input_shape: of one input without the batch.

    Raises:
        ConfigurationError: the shape is not a sequence of positive whole numbers.
        SpaceError: it does not run on zeros of this shape, or does not return one tensor.
    """
    input_shape = checked_shape(input_shape)
    failures: list[Exception] = []
    for device in ("meta", "cpu"):
        one = runnable(network, device == "meta")
        try:
            trace = run_on_example(partial(run_traced, one), example_input(one, input_shape, batch=BATCH))
        except SpaceError:
            raise
        except Exception as error:
            failures.append(error)
        else:
            _pin_reads(network, trace)
            return trace
    reason = failures[-1]
    way_out = "set input_shape to the shape of one input without the batch"
    if isinstance(reason, TypeError) and "argument" in str(reason):
        way_out = "a network of a space takes one tensor: wrap it in a module that adds the other arguments"
    raise SpaceError(
        f"{type(network).__name__} does not run on an input of shape {input_shape}: {type(reason).__name__}: "
        f"{(str(reason).splitlines() or [''])[0]}; {way_out}"
    ) from reason


def checked_shape(input_shape: object) -> tuple[int, ...]:
    """Return the shape of one input.

    Raises:
        ConfigurationError: it is not a sequence of positive whole numbers.
    """
    sizes = tuple(input_shape) if isinstance(input_shape, Sequence) and not isinstance(input_shape, str) else None
    if sizes is None or not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in sizes):
        raise ConfigurationError(
            f"must be the sizes of one input without the batch, such as (3, 224, 224), not {input_shape!r}",
            path="input_shape",
        )
    return sizes


def runnable(network: nn.Module, meta: bool) -> nn.Module:
    """Return a copy in evaluation mode: without data, or on the CPU.

    Args:
        network: to copy.
        meta: whether the copy is without data.
    """
    return (on_meta(network) if meta else copy.deepcopy(network).cpu()).eval()


def _pin_reads(network: nn.Module, trace: Trace) -> None:
    """Fix what surrounds code that reads values of tensors: another branch may run for other inputs."""
    for path, line in trace.reads.items():
        name = type(network.get_submodule(path)).__name__
        for axis in trace.seen.get(path, []):
            where = f"'{path}'" if path else "the network"
            axis.pin(f"the forward of {where} ({name}) reads values of a tensor ({line}), and may run another branch")
