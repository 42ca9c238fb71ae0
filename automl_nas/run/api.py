"""The Python interface: `search`, `resume`, `open_run`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automl_nas.errors import RunDirectoryError
from automl_nas.plugin.events import Handlers
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.components import separate_objects
from automl_nas.run.configuration.plan import make_plan
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.yaml import read_yaml
from automl_nas.run.results import Result
from automl_nas.run.session import Session


def search(
    config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    handlers: Handlers | None = None,
    **sections: Any,
) -> Result:
    """Search, train, test and export: what ``automl-nas run`` does.

    Args:
        config: a configuration: a mapping, or the path of a YAML file; None: the sections alone.
        out: the run directory, new or empty; None: a temporary one, whose path is in the result.
        resume: continue the run in ``out`` if there is one, with the same configuration.
        handlers: kind of event, such as `automl_nas.plugin.StageStarted` -> function, called with each such event.
        sections: sections of the configuration, replacing those of ``config``: ``space``, ``task``, ``problem``,
            ``stages``, ``final``, ``runtime``, ``seed``, ... Components may be given as Python objects or classes.

    Returns:
        What was found; its ``directory`` holds the whole record.

    Raises:
        UserError: the configuration is wrong or cannot be met; nothing was done then.
        RunFailedError: no result could be reached.
        RunInterrupted: stopped by a signal; call again with ``resume=True``.
    """
    raw: dict[str, Any] = {}
    if isinstance(config, Mapping):
        raw = dict(config)
    elif config is not None:
        raw = dict(read_yaml(Path(config)).value or {})
    raw.update(sections)
    path = Path(tempfile.mkdtemp(prefix="automl_nas-")) if out is None else Path(out)
    if resume and out is None:
        raise RunDirectoryError("to resume, say which run: out=DIRECTORY")
    if resume and RunDirectory(path).config.exists():
        session = Session.resume(path, raw=raw, executor=raw.get("executor"), handlers=handlers)
    else:
        try:
            session = Session.start(raw, path, handlers=handlers)
        except BaseException:
            if out is None:
                path.rmdir()
            raise
    return Result(path, session.run(), session.plan)


def resume(directory: str | os.PathLike[str], *, handlers: Handlers | None = None, executor: Any = None) -> Result:
    """Continue a run whose configuration holds names only (no Python objects); a complete run just gives its result.

    Args:
        directory: the run directory.
        handlers: kind of event, such as `automl_nas.plugin.StageStarted` -> function, called with each such event.
        executor: another executor than the recorded one, e.g. ``{"name": "processes", "workers": 4}``.

    Raises:
        RunDirectoryError: it is no run, or another process works on it.
    """
    session = Session.resume(Path(directory), handlers=handlers, executor=executor)
    return Result(Path(directory), session.run(), session.plan)


def open_run(directory: str | os.PathLike[str], **components: Any) -> Result:
    """Return the result of a complete run, without working on it.

    Args:
        directory: the run directory.
        components: the Python objects that its configuration holds, by section, e.g. ``space=...``; none are needed for
            a configuration of names.

    Raises:
        RunDirectoryError: it is no run, or it is not complete.
    """
    opened = RunDirectory.open(Path(directory))
    objects = separate_objects(components)[1]
    data = opened.read_result()
    if data is None:
        raise RunDirectoryError(f"{directory} is not complete; to continue it: automl-nas resume {directory}")
    plan = make_plan(opened.read_config(), complete_manager().registry, objects, checked=True)
    return Result(opened.path, data, plan)
