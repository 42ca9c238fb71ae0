"""The errors of automl_nas, one tree.

::

    AutoMLNASError
    ├── UserError (ValueError)          the caller can mend it; the command line exits with 2
    │   ├── ConfigurationError          a setting is wrong: where it stands, what was expected, the nearest name
    │   ├── SpaceError                  a search space is ill-formed, or an architecture does not belong to it
    │   ├── InfeasibleError             constraints that no architecture can meet, and by how much they are missed
    │   ├── DataError                   a data set is missing, unreadable, or of the wrong shape
    │   ├── PluginError                 an unknown, broken or clashing plugin
    │   └── RunDirectoryError           a run directory that is in use, not empty, or not a run
    │       └── ReplayError             a resumed run asks for something else than its record says
    ├── DamagedError                    a stored file does not match its digest or cannot be read
    ├── RunFailedError                  a run ended without a result; the command line exits with 1
    │   ├── DivergedError               a loss became NaN or infinite
    │   └── EvaluationError             a candidate, or too many in a row, could not be evaluated
    └── RunInterrupted                  stopped at a safe point and resumable; the command line exits with 130

    Pruned (Exception)                  raised by `Request.report`: stop this evaluation; never an error
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AutoMLNASError(Exception):
    """The root of every error that automl_nas raises on purpose."""


class UserError(AutoMLNASError, ValueError):
    """The input is wrong. The message says what, where, and the way out."""


class ConfigurationError(UserError):
    """A setting is unknown, missing or has the wrong value.

    Args:
        message: what is wrong and the way out.
        path: where it stands in the configuration, e.g. ``stages[0].strategy.name``; empty if unknown.
        source: file and line, e.g. ``quickstart.yaml:12``; empty if it came from Python.
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
    """No architecture can meet the constraints; the message says by how much they are missed."""


class DataError(UserError):
    """A data set is missing, unreadable, or of the wrong shape."""


class PluginError(UserError):
    """A plugin is unknown, broken, or its names clash with another's."""


class RunDirectoryError(UserError):
    """A run directory is in use, not empty, or not a run directory."""


class ReplayError(RunDirectoryError):
    """A resumed run asks for something else than its record says; the message names what changed."""


class DamagedError(AutoMLNASError):
    """A stored file does not match its digest or cannot be read; the message names the file and the place."""


class RunFailedError(AutoMLNASError):
    """A run ended without a result."""


class DivergedError(RunFailedError):
    """A training loss became NaN or infinite."""


class EvaluationError(RunFailedError):
    """A candidate, or too many candidates in a row, could not be evaluated."""


class RunInterrupted(AutoMLNASError):  # noqa: N818 - it can be resumed
    """The run stopped at a safe point and can be resumed."""


class Pruned(Exception):  # noqa: N818 - control flow, not an error
    """Raised by `Request.report` inside an evaluation that is not worth finishing."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest of ``known``, or the list of all when none is near."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(names)}" if names else ""
