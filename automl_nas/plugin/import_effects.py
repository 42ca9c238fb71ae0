"""What the import of a plugin does besides defining things: prints, and changes of what belongs to the process."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def noticing(report: Callable[[str], object], *, library: bool = False) -> Iterator[None]:
    """Report what the code within prints on stdout and changes; what it prints goes to stderr.

    stdout holds the results of commands, such as JSON.

    Args:
        report: called with a description when the code has ended without an exception.
        library: whether the code may import libraries, which set variables and filters for themselves.
    """
    printed, before = _ToStderr(), _state(library)
    with contextlib.redirect_stdout(printed):
        yield
    text = printed.getvalue()
    effects = [f"it changes {name}" for name, value in _state(library).items() if before.get(name, value) != value]
    if text.strip():
        first = " ".join(text.split())
        effects.insert(0, f"it prints {first if len(first) <= 60 else first[:57] + '...'!r}")
    if effects:
        report(f"while it is imported, {' and '.join(effects)}; move that into the component or command that needs it")


class _ToStderr(io.StringIO):
    """Writes on stderr, and keeps what was written."""

    def write(self, text: str) -> int:
        sys.stderr.write(text)
        return super().write(text)


def _state(library: bool) -> dict[str, Any]:
    """Return name -> value of what belongs to the process."""
    state: dict[str, Any] = {
        "the working directory": _folder(),
        "the level of the root logger": logging.root.level,
        "logging.disable": logging.root.manager.disable,
        "the handler of Ctrl-C": signal.getsignal(signal.SIGINT),
        "the handler of SIGTERM": signal.getsignal(signal.SIGTERM),
        "the generator of the module random": random.getstate(),
    }
    if not library:
        state["environment variables"] = dict(os.environ)
        state["the filters of warnings"] = list(warnings.filters)
    torch = sys.modules.get("torch")
    if hasattr(torch, "get_default_dtype"):
        assert torch is not None
        state["torch's default dtype"] = torch.get_default_dtype()
        state["torch's number of threads"] = torch.get_num_threads()
        state["torch's generator"] = torch.default_generator.get_state().numpy().tobytes()
        state["torch's gradient mode"] = torch.is_grad_enabled()
        state["torch's deterministic algorithms"] = torch.are_deterministic_algorithms_enabled()
    return state


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - it may have been removed, and Path.cwd() does the same
    except OSError:
        return ""
