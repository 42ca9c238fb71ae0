"""The errors of automl_nas, one tree.

::

    AutoMLNASError
    ├── UserError (ValueError)          the input is wrong; the command line exits with 2
    │   ├── ConfigurationError          a setting is unknown, missing or has a wrong value
    │   ├── SpaceError                  a search space is ill-formed, or an architecture does not belong to it
    │   ├── InfeasibleError             no architecture meets the constraints
    │   ├── DataError                   a data set is missing, unreadable, or of the wrong shape
    │   ├── PluginError                 an unknown, broken or clashing plugin
    │   └── RunDirectoryError           a run directory is in use, not empty, or not a run directory
    │       └── ReplayError             a resumed run proposes something else than its ledger contains
    ├── DamagedError                    a stored file does not match its digest or cannot be read
    ├── RunFailedError                  a run ended without a result; the command line exits with 1
    │   ├── DivergedError               a loss became NaN or infinite
    │   ├── EvaluationError             a candidate, or too many in a row, could not be evaluated
    │   └── RanksEndedError             another process of a run under torchrun failed or ended
    └── RunInterrupted                  a run stopped and can be resumed; the command line exits with 130

    Pruned (Exception)                  raised by `Request.report`: stop this evaluation; never an error
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias

StopCause: TypeAlias = Literal["signal", "event", "timeout"]
"""What stopped a run: Ctrl-C or SIGTERM; the event ``stop=``; ``timeout=``."""


class AutoMLNASError(Exception):
    """The base class of every error that automl_nas raises on purpose."""


class UserError(AutoMLNASError, ValueError):
    """The input is wrong. The message contains what is wrong, where, and how to correct it."""


class ConfigurationError(UserError):
    """A setting is unknown, missing or has the wrong value.

    Args:
        message: what is wrong and how to correct it.
        path: the path of the setting in the configuration, e.g. ``stages[0].strategy.name``; empty if unknown.
        source: file and line, e.g. ``quickstart.yaml:12``; empty for a configuration from Python.
    """

    def __init__(self, message: str, *, path: str = "", source: str = "") -> None:
        self.message, self.path, self.source = message, path, source
        super().__init__(": ".join(part for part in (source, path, message) if part))

    def __reduce__(self) -> tuple[object, ...]:
        return _configuration_error, (type(self), self.message, self.path, self.source)


def _configuration_error(kind: type[ConfigurationError], message: str, path: str, source: str) -> ConfigurationError:
    return kind(message, path=path, source=source)


class SpaceError(UserError):
    """A search space is ill-formed, or an architecture does not belong to it."""


class InfeasibleError(UserError):
    """No architecture meets the constraints; the message contains the smallest violations."""


class DataError(UserError):
    """A data set is missing, unreadable, or of the wrong shape."""


class PluginError(UserError):
    """A plugin is unknown, broken, or its names clash with another's."""


class RunDirectoryError(UserError):
    """A run directory is in use, not empty, or not a run directory."""


class ReplayError(RunDirectoryError):
    """A resumed run proposes something else than its ledger contains; the message names what changed."""


class DamagedError(AutoMLNASError):
    """A stored file does not match its digest or cannot be read; the message names the file and the position."""


class RunFailedError(AutoMLNASError):
    """A run ended without a result."""


class DivergedError(RunFailedError):
    """A training loss became NaN or infinite."""


class EvaluationError(RunFailedError):
    """A candidate, or too many candidates in a row, could not be evaluated."""


class RanksEndedError(RunFailedError):
    """Another process of a run under torchrun failed or ended, so this one ends, too.

    Args:
        message: which process, and why.
        silent: whether another process shows the message.
    """

    def __init__(self, message: str = "", *, silent: bool = False) -> None:
        self.silent = silent
        super().__init__(message)


class RunInterrupted(AutoMLNASError):  # noqa: N818 - not an error: the run can be resumed
    """The run stopped between two steps and can be resumed.

    Args:
        message: how to continue the run.
        cause: what stopped it: ``signal`` (Ctrl-C, SIGTERM), ``event`` (``stop=``) or ``timeout`` (``timeout=``).
        directory: the run directory; None: the run had not begun, and nothing was recorded.
    """

    def __init__(self, message: str = "", *, cause: StopCause = "signal", directory: Path | None = None) -> None:
        self.cause, self.directory = cause, directory
        super().__init__(message)


class Pruned(Exception):  # noqa: N818 - control flow, not an error
    """Raised by `Request.report` inside an evaluation that is not worth finishing."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the most similar of ``names``, or a list of all if none is similar."""
    import difflib  # every program imports this module, and few need this

    sorted_names = sorted(set(names))
    similar = difflib.get_close_matches(name, sorted_names, n=1, cutoff=0.6)
    if similar:
        return f"; did you mean '{similar[0]}'?"
    return f"; known: {', '.join(sorted_names)}" if sorted_names else ""
