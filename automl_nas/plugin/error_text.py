"""Exceptions as one line, with the line of the plugin that raised them."""

from __future__ import annotations

from automl_nas.errors import PluginError


def place(error: BaseException, module: str) -> str:
    """Return the line that raised an exception, as ``file, line n``; empty if it is unknown.

    Args:
        error: the exception.
        module: of the plugin; the last line in its package is meant, whatever library it called.
    """
    if error.__cause__ is not None and isinstance(error, PluginError):
        error = error.__cause__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    package, line, traceback = module.partition(":")[0].partition(".")[0], "", error.__traceback__
    while traceback is not None:
        name = str(traceback.tb_frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] == package:
            line = f"{traceback.tb_frame.f_code.co_filename}, line {traceback.tb_lineno}"
        traceback = traceback.tb_next
    return line


def with_place(error: BaseException, module: str) -> str:
    """Return an exception as one line with the line of the plugin that raised it; see `place`."""
    where = place(error, module)
    return f"{one_line(error)} ({where})" if where else one_line(error)


def one_line(error: BaseException) -> str:
    """Return an exception as one line: its type and its message; for a `PluginError` the message alone."""
    text = " ".join(str(error).split())
    if isinstance(error, PluginError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
