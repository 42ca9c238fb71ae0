"""The log on stderr: warnings of the framework and of plugins; those of libraries are hidden."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from types import TracebackType

import click

from automl_nas.cli.common import DEBUG
from automl_nas.evaluation.ranks import process_ranks

_SHOWN_ELSEWHERE = "automl_nas.plugin.manager"
"""The logger that names broken plugins: commands that use plugins show them themselves."""


class Logs(logging.Handler):
    """Within its context, shows warnings that this framework and plugins log, a line each.

    If several are entered, only the last one shows them.

    Args:
        show: prints one line; None: on stderr.
    """

    _entered: list[Logs] = []  # noqa: RUF012 - one for the process, like logging itself

    def __init__(self, show: Callable[[str], object] | None = None) -> None:
        super().__init__(logging.WARNING)
        self._show = show or (lambda text: click.echo(f"warning: {text}", err=True))

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record."""
        if process_ranks().rank and record.levelno < logging.ERROR:
            return  # rank 0 shows it
        if self._entered[-1] is self and (_ours(record.name) or os.environ.get(DEBUG)):
            self._show(" ".join(record.getMessage().split()))

    def __enter__(self) -> Logs:
        self._entered.append(self)
        logging.getLogger().addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger().removeHandler(self)
        self._entered.remove(self)


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide Python warnings, also in worker processes, and torch's own log lines, unless the user enables them.

    Libraries issue warnings about themselves, such as deprecations, about which users of this program can do nothing.
    ``PYTHONWARNINGS``, ``TORCH_LOGS`` and ``TORCH_CPP_LOG_LEVEL`` enable them.
    """
    with contextlib.ExitStack() as stack:
        if not os.environ.get(DEBUG) and "PYTHONWARNINGS" not in os.environ:
            os.environ["PYTHONWARNINGS"] = "ignore"
            stack.callback(os.environ.pop, "PYTHONWARNINGS", None)
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        if not os.environ.get(DEBUG):
            # Read when torch is imported: warnings of its C++ code, such as those of data-parallel training.
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        if not os.environ.get(DEBUG) and "TORCH_LOGS" not in os.environ:
            # torch prints what its loggers receive by a handler of its own, in a format of its own.
            torch_log = logging.getLogger("torch")
            stack.callback(torch_log.setLevel, torch_log.level)
            torch_log.setLevel(logging.ERROR)
        yield


def _ours(logger: str) -> bool:
    return logger != _SHOWN_ELSEWHERE and logger.partition(".")[0] in _packages()


@cache
def _packages() -> frozenset[str]:
    """Return the top packages of the framework and of installed plugins, without importing them."""
    from importlib.metadata import entry_points

    return frozenset({"automl_nas", *(point.module.partition(".")[0] for point in entry_points(group="automl_nas"))})
