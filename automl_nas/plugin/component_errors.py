"""Errors of components get a place: which component raised, in which stage, at which setting."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from automl_nas.errors import AutoMLNASError, PluginError, RunFailedError
from automl_nas.plugin.error_text import one_line
from automl_nas.plugin.kinds import KINDS, kind_of

if TYPE_CHECKING:
    from automl_nas.plugin.registry import Registry

TRACEBACK = "--debug (or AUTOML_NAS_DEBUG=1) shows the traceback"

_CORE = "automl_nas.run."
"""The core's own strategies and executors, which call components, are never the cause."""


@contextlib.contextmanager
def component_errors(registry: Registry, component: str = "", *, stage: str = "", path: str = "") -> Iterator[None]:
    """Turn an exception of a component, of whatever class, into an error that names the component and the place.

    KeyboardInterrupt and the errors of automl_nas pass through: they are Ctrl-C, or have a place already.

    Args:
        registry: knows the distributions of components.
        component: the component that is called. The traceback may contain another one, which that component called,
            and which is named instead. Empty: only the traceback shows it, and an exception outside of components
            passes through.
        stage: the name of the stage; empty outside of stages.
        path: of the component in the configuration; empty if unknown.

    Raises:
        RunFailedError: the component raised in a stage.
        PluginError: the component raised outside of stages: while the configuration is checked.
    """
    try:
        yield
    except BaseException as error:
        located = located_error(error, registry, component, stage=stage, path=path)
        if located is None:
            raise
        raise located from error


def located_error(
    error: BaseException, registry: Registry, component: str = "", *, stage: str = "", path: str = ""
) -> AutoMLNASError | None:
    """Return the error that names component and place; None if the exception should pass through unchanged.

    See `component_errors` for the arguments.
    """
    if isinstance(error, AutoMLNASError | KeyboardInterrupt):
        return None
    culprit, noun, line = _innermost_component(error.__traceback__, registry)
    if component and culprit and not component.startswith(f"the {noun} "):
        path = path.rpartition(".")[0]  # another kind of component raised: the setting that names it is unknown
    culprit = culprit or component
    if not culprit:
        if isinstance(error, Exception):
            return None
        culprit = "a component"
    place = f"{path}: " if path else ""
    where = f" in the stage '{stage}'" if stage else ""
    reason = f"it called sys.exit({error.code!r})" if isinstance(error, SystemExit) else one_line(error)
    way_out = f"correct the component{', and resume the run' if stage else ''}; {TRACEBACK}"
    kind = RunFailedError if stage else PluginError
    return kind(f"{place}{culprit} failed{where}: {reason}{f' ({line})' if line else ''}; {way_out}")


def _description(cls: type, kind: str, registry: Registry) -> str:
    """Return the description of a component in messages, with its distribution if it is registered."""
    for component in registry:
        if component.is_loaded_as(cls):
            return f"the {component}"
    return f"the {KINDS[kind].noun} {cls.__qualname__} (module {cls.__module__})"


def _owner(frame: FrameType) -> object:
    """Return the object, or the class, whose method a frame runs; None for a function."""
    code, variables = frame.f_code, frame.f_locals
    owner = variables.get("self", variables.get("cls"))
    if owner is None and code.co_argcount:
        # A method may call its first argument otherwise; a function that receives a component is not its method.
        first = variables.get(code.co_varnames[0])
        classes = (first if isinstance(first, type) else type(first)).__mro__
        if any(code.co_qualname == f"{cls.__qualname__}.{code.co_name}" for cls in classes):
            owner = first
    return owner


def _innermost_component(traceback: TracebackType | None, registry: Registry) -> tuple[str, str, str]:
    """Return the innermost component of a traceback: its description, its noun, its line; empty without a component."""
    name = noun = line = ""
    while traceback is not None:
        frame = traceback.tb_frame
        owner = _owner(frame)
        cls = owner if isinstance(owner, type) else type(owner)
        kind = kind_of(cls)
        if kind is not None and not cls.__module__.startswith(_CORE):
            name, noun = _description(cls, kind, registry), KINDS[kind].noun
            line = f"{frame.f_code.co_filename}, line {traceback.tb_lineno}"
        traceback = traceback.tb_next
    return name, noun, line
