"""Naming the module of a network in which something happened, such as ``features.3.pool: AdaptiveMaxPool2d``."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from types import FrameType, TracebackType

from torch import nn


def place(path: str, class_name: str) -> str:
    """Return the name of a module in messages; the network itself has no path."""
    return f"{path or 'the network'}: {class_name}"


def of(module: str) -> str:
    """Return `` of MODULE``; empty if no module is known."""
    return f" of {module}" if module else ""


def module_that_raised(trace: TracebackType | None, network: nn.Module) -> str:
    """Return the module whose function is the innermost of a traceback; empty if it contains none of the network."""
    return innermost_module((frame for frame, _ in traceback.walk_tb(trace)), network)


def innermost_module(frames: Iterable[FrameType], network: nn.Module) -> str:
    """Return the module whose function is the innermost of some frames, which begin with the outermost one."""
    paths = {id(module): path for path, module in network.named_modules()}
    innermost = ""
    for frame in frames:
        names = frame.f_code.co_varnames[: frame.f_code.co_argcount]
        owner = frame.f_locals.get(names[0]) if names else None
        if isinstance(owner, nn.Module) and id(owner) in paths:
            innermost = place(paths[id(owner)], type(owner).__name__)
    return innermost
