"""Which module of a network is running: `running_modules`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

from torch import nn

Running: TypeAlias = list[tuple[str, nn.Module]]
"""(path, module) of the modules whose forward has begun and not ended, the innermost last."""


@contextlib.contextmanager
def running_modules(
    network: nn.Module,
    *,
    entered: Callable[[str, tuple[Any, ...]], object] | None = None,
    left: Callable[[str, nn.Module, tuple[Any, ...], Any], object] | None = None,
    stay_at_error: bool = True,
) -> Iterator[Running]:
    """Yield (path, module) of the modules that are running, the innermost last.

    The first is the network, with an empty path, also while it does not run.

    Args:
        network: a module in several places has its first path.
        entered: called with path and inputs of a module before it is the innermost one.
        left: called with path, module, inputs and output when it no longer is.
        stay_at_error: whether a module that raises stays the last one, for a message; else code that catches the error
            goes on with the right module.
    """
    running: Running = [("", network)]

    def begin(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        del running[1:]  # those of a run that ended with an error

    def enter(path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if entered is not None:
            entered(path, inputs)
        running.append((path, module))

    def leave(path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        running.pop()
        if left is not None:
            left(path, module, inputs, output)

    handles = [network.register_forward_pre_hook(begin)]
    for path, module in network.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(partial(enter, path)))
            handles.append(module.register_forward_hook(partial(leave, path), always_call=not stay_at_error))
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()


def module_text(running: Sequence[tuple[str, nn.Module]]) -> str:
    """Return path and class of the innermost module, for a message."""
    path, module = running[-1]
    return f"'{path or '(root)'}' ({type(module).__name__})"
