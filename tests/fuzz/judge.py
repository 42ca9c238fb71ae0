"""Runs command lines in this process on hostile inputs, and judges what they did."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from fuzz import toys

from automl_nas.cli import cli
from automl_nas.plugin.manager import default_manager
from automl_nas.run.configuration.builtin import complete_manager

SECONDS, WAITED = 10, 120
"""What an input may take at most: seconds of this process, and seconds in all, since other processes may be busy."""

FAULTS = ("traceback", "hang", "execution", "wrong answer")
"""What no input may cause."""

TRAP = "fuzz_trap"
"""A module that can be imported; whoever imports it, or executes the payloads of `Place.payloads`, leaves a file."""


class _Hang(BaseException):
    pass


@dataclass(frozen=True)
class Answer:
    """What a command line did.

    Attributes:
        code: its exit code; None if it raised an exception.
        output: what it printed on stdout.
        errors: what it printed on stderr.
        fault: ``traceback``, ``hang`` or ``execution``; empty if it behaved.
        detail: of the fault.
    """

    code: int | None
    output: str
    errors: str
    fault: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Place:
    """A folder for inputs, in which commands run.

    Attributes:
        folder: the present directory of the commands.
        sentinel: a file that exists if a payload was executed.
    """

    folder: Path
    sentinel: Path

    def payload(self) -> object:
        """Return an object whose pickle creates the sentinel when it is loaded."""
        return _Payload(str(self.sentinel))


class _Payload:
    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (self._path,)


@contextlib.contextmanager
def prepared(folder: Path) -> Iterator[Place]:
    """Register the toys, write the trap, and make a folder the present directory."""
    commands = dict(cli.commands)
    default_manager.cache_clear()
    complete_manager.cache_clear()
    complete_manager().register_module(toys, "toys")
    place = Place(folder, folder / "executed")
    site = folder / "site"
    site.mkdir()
    (site / f"{TRAP}.py").write_text(f"import os\nos.mkdir({str(place.sentinel)!r})\nclass Trap: pass\n")
    before = Path.cwd()
    sys.path.insert(0, str(site))
    os.chdir(folder)
    try:
        yield place
    finally:
        os.chdir(before)
        sys.path.remove(str(site))
        cli.commands = commands
        default_manager.cache_clear()
        complete_manager.cache_clear()


def call(
    place: Place,
    arguments: Sequence[object],
    environment: Mapping[str, str] | None = None,
    *,
    seconds: float = SECONDS,
    waited: float = WAITED,
) -> Answer:
    """Run one command line."""

    def main() -> None:
        cli.main([str(argument) for argument in arguments], prog_name="automl-nas")

    code, output, errors, fault, detail = _watched(main, environment or {}, seconds, waited)
    if not fault and "Traceback (most recent call last)" in errors:
        fault, detail = "traceback", errors
    if _executed(place):
        fault, detail = "execution", f"{' '.join(map(str, arguments))} executed a payload"
    return Answer(code, output, errors, fault, detail)


def _watched(
    work: Callable[[], None], environment: Mapping[str, str], seconds: float, waited: float
) -> tuple[int | None, str, str, str, str]:
    output, errors = io.StringIO(), io.StringIO()
    hung = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal hung
        hung = True
        raise _Hang

    saved, modules = dict(os.environ), set(sys.modules)
    os.environ.update(environment)
    timers = ((signal.SIGALRM, signal.ITIMER_REAL, waited), (signal.SIGPROF, signal.ITIMER_PROF, seconds))
    handlers = [(number, signal.signal(number, stop)) for number, _, _ in timers]
    for _, timer, limit in timers:
        signal.setitimer(timer, limit, 1)
    code: int | None = None
    fault = detail = ""
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        fault, detail = "traceback", traceback.format_exc()
    finally:
        for _, timer, _ in timers:
            signal.setitimer(timer, 0)
        for number, handler in handlers:
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(saved)
        for name in set(sys.modules) - modules:
            if name == TRAP:
                del sys.modules[name]
    if hung:
        fault, detail = "hang", f"more than {seconds} seconds"
    return code, output.getvalue(), errors.getvalue(), fault, detail


def _executed(place: Place) -> bool:
    if place.sentinel.exists():
        place.sentinel.rmdir()
        return True
    return False
