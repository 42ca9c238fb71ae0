"""The Python interface: `search`, `resume`, `retrain`, `extend`, `open_run`."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from automl_nas.errors import ConfigurationError, RunDirectoryError, did_you_mean
from automl_nas.evaluation.ranks import join_ranks
from automl_nas.object_storage import local_run
from automl_nas.plugin.events import Handlers
from automl_nas.run.configuration.components import separate_objects
from automl_nas.run.derivation import Command, Derivation
from automl_nas.run.hints import way_to_resume
from automl_nas.run.interruption import StopEvent, StopFlag
from automl_nas.run.parts import RunParts
from automl_nas.run.progress.choice import Progress, shown_progress
from automl_nas.run.progress.reporter import ProgressReporter
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.yaml import read_yaml
from automl_nas.run.results import Result
from automl_nas.run.session import Session
from automl_nas.run.turns import own_turn


def search(
    config: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    changed_data: bool = False,
    changed_ranks: bool = False,
    handlers: Handlers | None = None,
    progress: Progress = "auto",
    stop: StopEvent | None = None,
    timeout: float | None = None,
    time_limit: float | None = None,
    **sections: Any,
) -> Result:
    """Search, train, test and export: what ``automl-nas run`` does.

    Args:
        config: a configuration: a mapping, or the path of a YAML file; None: the sections alone.
        out: the run directory, new or empty; None: a temporary one, whose path is in the result.
        resume: continue the run in ``out`` if it holds one, with the same configuration, spaces and data.
        changed_data: continue also if the data of the task are not those that the run began with. Trials of both data
            are then ranked together.
        changed_ranks: continue also with another number of processes of torchrun, though the weights depend on it.
        handlers: kind of event, such as `automl_nas.plugin.StageStarted` -> function, called with each such event.
        progress: what is shown while the run works. ``bar``: bars with the time left, on stderr. ``log``: a line every
            few seconds, with the level INFO of the logger ``automl_nas.progress``; on stderr if the program has not set
            up `logging`. ``none``: nothing. ``auto``: ``bar`` if stderr is a terminal, else ``log``.
        stop: an event, such as `threading.Event`. Once it is set, the run ends at its next safe point, as after Ctrl-C:
            between two steps of training, or after the evaluation of a candidate.
        timeout: seconds from now after which the run ends at its next safe point, wherever it is, without a result.
        time_limit: seconds that the whole run may take: the same as ``budget={"minutes": time_limit / 60}``, which
            shortens the stages of a run that is estimated to take longer. None: no limit.
        sections: sections of the configuration, replacing those of ``config``: ``space``, ``task``, ``problem``,
            ``stages``, ``final``, ``runtime``, ``seed``, ... Components may be given as Python objects or classes.

    In a script that torchrun starts, all processes call it alike and work on one run; each of them receives the result.
    Handlers, progress and messages are those of rank 0.

    It may be called in any thread. Runs of several threads of a process work one after the other, since a run seeds the
    global random generators; a run that another thread is to stop needs ``stop``, because signals reach the main thread
    only.

    Returns:
        The result; its ``directory`` is the run directory. A result with shortcomings (`Result.shortcomings`: limits
        that are missed, formats that failed, no feasible network) is returned too, with a warning for each. Without a
        feasible network, `Result.found` is False; with a final stage, which needs one, RunFailedError is raised.

    Raises:
        UserError: the configuration is invalid, or no architecture meets its constraints; no run was started.
        RunFailedError: the run cannot reach a result.
        RunInterrupted: the run was stopped: by a signal, ``stop`` or ``timeout``, which its attribute ``cause`` names.
            Call again with ``resume=True`` and ``out`` = its attribute ``directory``, which is None if the run had not
            begun.
    """
    raw: dict[str, Any] = {}
    if isinstance(config, Mapping):
        raw = dict(config)
    elif config is not None:
        raw = dict(read_yaml(Path(config)).value or {})
    raw.update(sections)
    if time_limit is not None:
        if raw.get("budget") is not None:
            raise ConfigurationError("time_limit is a second budget; give one of both", path="budget")
        if isinstance(time_limit, bool) or not isinstance(time_limit, int | float) or not 0 < time_limit < math.inf:
            raise ConfigurationError(f"time_limit must be a positive number of seconds, not {time_limit!r}")
        raw["budget"] = {"minutes": time_limit / 60}
    if resume and out is None:
        raise RunDirectoryError("resume=True needs out=DIRECTORY, the run to continue")
    path = _temporary() if out is None else Path(out)
    try:
        with _working(path, progress, stop, timeout) as (reporter, flag):
            if resume and RunDirectory(path).config.exists():
                session = Session.resume(
                    path,
                    raw=raw,
                    executor=raw.get("executor"),
                    handlers=handlers,
                    changed_data=changed_data,
                    changed_ranks=changed_ranks,
                    stop=flag,
                )
            else:
                session = Session.start(raw, path, handlers=handlers, progress=reporter.handlers, stop=flag)
                return _finished(session)
            return _result(session, reporter)
    except BaseException:
        if out is None and not RunDirectory(path).config.exists():
            shutil.rmtree(path, ignore_errors=True)
        raise


def resume(
    directory: str | os.PathLike[str],
    *,
    handlers: Handlers | None = None,
    progress: Progress = "auto",
    stop: StopEvent | None = None,
    timeout: float | None = None,
    executor: Any = None,
    changed_data: bool = False,
    changed_ranks: bool = False,
    trust: bool = False,
) -> Result:
    """Continue a run whose configuration holds no Python objects; for a complete run, return its result.

    Args:
        directory: the run directory.
        handlers: kind of event, such as `automl_nas.plugin.StageStarted` -> function, called with each such event.
        progress: what is shown while the run works; see `search`.
        stop: an event that ends the run; see `search`.
        timeout: seconds after which the run ends; see `search`.
        executor: another executor than the recorded one, e.g. ``{"name": "processes", "workers": 4}``.
        changed_data: continue also if the data of the task are not those that the run began with. Trials of both data
            are then ranked together.
        changed_ranks: continue also with another number of processes of torchrun, though the weights depend on it.
        trust: import also classes that the run directory names as ``package.module:Class`` and no plugin registers.

    Returns:
        The result, with a warning for each of its shortcomings; see `search`.

    Raises:
        RunDirectoryError: the directory is not a run, another process works on it, or space or data are not those that
            the run began with.
        RunFailedError: the run cannot reach a result.
        RunInterrupted: the run was stopped; see `search`.
    """
    path = Path(directory)
    with _working(path, progress, stop, timeout) as (reporter, flag):
        session = Session.resume(
            path,
            handlers=handlers,
            executor=executor,
            changed_data=changed_data,
            changed_ranks=changed_ranks,
            trust=trust,
            stop=flag,
        )
        return _result(session, reporter)


def retrain(
    directory: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    final: Mapping[str, Any] | None = None,
    runtime: Mapping[str, Any] | None = None,
    handlers: Handlers | None = None,
    progress: Progress = "auto",
    stop: StopEvent | None = None,
    timeout: float | None = None,
    changed_data: bool = False,
    trust: bool = False,
    **components: Any,
) -> Result:
    """Do a new final stage with the trials of a complete run: what ``automl-nas retrain`` does.

    The search is not repeated. The new run has a directory of its own, with a copy of the trials and weights of the
    search; the old one is only read. `resume` continues the new run like any other.

    Args:
        directory: the run directory of the complete run.
        out: the new run directory, new or empty.
        final: settings of the final stage that change, such as ``{"train": {"epochs": 300}}``; others are kept.
        runtime: settings of the runtime that change.
        handlers: kind of event, such as `automl_nas.plugin.StageStarted` -> function, called with each such event.
        progress: what is shown while the run works; see `search`.
        stop: an event that ends the run; see `search`.
        timeout: seconds after which the run ends; see `search`.
        changed_data: continue though the data changed since the run began.
        trust: import also classes that the run directory names as ``package.module:Class`` and no plugin registers.
        components: the Python objects of the run, as for `open_run`: ``space=...``, ``task=...``.

    Raises:
        RunDirectoryError: the run is not complete, space or data are not those that it began with, or ``out`` is not
            empty.
        ConfigurationError: a setting is invalid.
        RunFailedError: the run cannot reach a result.
        RunInterrupted: the run was stopped; see `search`.
    """
    changes = {"final": final, "runtime": runtime}
    working = _working(Path(out), progress, stop, timeout)
    return _derive("retrain", directory, out, changes, handlers, working, changed_data, trust, components)


def extend(
    directory: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    stages: Mapping[str, Mapping[str, Any]],
    final: Mapping[str, Any] | None = None,
    executor: Any = None,
    handlers: Handlers | None = None,
    progress: Progress = "auto",
    stop: StopEvent | None = None,
    timeout: float | None = None,
    changed_data: bool = False,
    trust: bool = False,
    **components: Any,
) -> Result:
    """Continue a stage of a complete run with more trials: what ``automl-nas extend`` does.

    The new run has a directory of its own with a copy of the recorded trials, which are not evaluated again; the old
    one is only read. The strategy is replayed with these trials and then goes on. Later stages and the final stage are
    done anew. `resume` continues the new run like any other.

    Args:
        directory: the run directory of the complete run.
        out: the new run directory, new or empty.
        stages: name of a stage -> settings that change, such as ``{"search": {"budget": {"trials": 400}}}``.
        final: settings of the final stage that change; others are kept.
        executor: another executor than the recorded one.
        handlers: kind of event, such as `automl_nas.plugin.StageStarted` -> function, called with each such event.
        progress: what is shown while the run works; see `search`.
        stop: an event that ends the run; see `search`.
        timeout: seconds after which the run ends; see `search`.
        changed_data: continue though the data changed since the run began.
        trust: import also classes that the run directory names as ``package.module:Class`` and no plugin registers.
        components: the Python objects of the run, as for `open_run`: ``space=...``, ``task=...``.

    Raises:
        RunDirectoryError: the run is not complete, space or data are not those that it began with, or ``out`` is not
            empty.
        ConfigurationError: a setting is invalid, or a change does not fit the recorded trials.
        ReplayError: with the changed settings, the strategy proposes other candidates than the recorded ones.
        RunFailedError: the run cannot reach a result.
        RunInterrupted: the run was stopped; see `search`.
    """
    changes = {"stages": stages, "final": final, "executor": executor}
    working = _working(Path(out), progress, stop, timeout)
    return _derive("extend", directory, out, changes, handlers, working, changed_data, trust, components)


def _derive(
    command: Command,
    directory: str | os.PathLike[str],
    out: str | os.PathLike[str],
    changes: Mapping[str, Any],
    handlers: Handlers | None,
    working: contextlib.AbstractContextManager[tuple[ProgressReporter, StopFlag]],
    changed_data: bool,
    trust: bool,
    components: Mapping[str, Any],
) -> Result:
    source = RunDirectory.open(Path(directory))
    new, new_objects = separate_objects({key: value for key, value in changes.items() if value is not None})
    parts = RunParts.read(source, components, trust=trust)
    changed = copy.deepcopy(dict(parts.config))
    for name, settings in (new.pop("stages", None) or {}).items():
        names = [stage["name"] for stage in changed["stages"]]
        if name not in names:
            raise ConfigurationError(f"no stage is called '{name}'{did_you_mean(str(name), names)}", path="stages")
        position = names.index(name)
        changed["stages"][position] = _merged(changed["stages"][position], settings)
    derivation = Derivation(source, parts.config, _merged(changed, new), command, changed_data)
    objects = {**parts.objects, **new_objects}
    with working as (reporter, flag):
        session = Session.derive(derivation, Path(out), objects=objects, handlers=handlers, trust=trust, stop=flag)
        return _result(session, reporter)


def _merged(recorded: Any, changes: Any) -> Any:
    """Return recorded settings with the changes, mapping by mapping; a component of another name is replaced."""
    if not isinstance(recorded, Mapping) or not isinstance(changes, Mapping):
        return changes
    if "name" in changes and "name" in recorded and changes["name"] != recorded["name"]:
        return dict(changes)
    return {**recorded, **{key: _merged(recorded.get(key), value) for key, value in changes.items()}}


def open_run(directory: str | os.PathLike[str], *, trust: bool = False, **components: Any) -> Result:
    """Return the result of a complete run. The run directory is only read, and no component is constructed.

    Args:
        directory: the run directory, or its URL in object storage; its record is then copied to this machine, and
            `Result.directory` is the copy.
        trust: import also classes that the run directory names as ``package.module:Class`` and no plugin registers,
            which executes their code. Only `Result.plan` needs them, or a space or task that is such a class.
        components: sections of the configuration, if they are Python objects: ``space=...`` (or
            ``final={"space": ...}``) to build networks, ``task=...`` for the samples of `Result.delivery`, all objects
            for `Result.plan`. A configuration without Python objects needs none.

    Raises:
        RunDirectoryError: the directory is not a run, or the run is not complete.
        ConfigurationError: a configuration has no section of that name.
    """
    opened = RunDirectory.open(local_run(directory))
    data, parts = opened.read_result(), RunParts.read(opened, components, trust=trust)
    if data is None:
        raise RunDirectoryError(
            f"{directory} is not complete; to continue it: {way_to_resume(opened.path, parts.config)}"
        )
    return Result(opened.path, data, parts)


@contextlib.contextmanager
def _working(
    path: Path, progress: Progress, stop: StopEvent | None, timeout: float | None
) -> Iterator[tuple[ProgressReporter, StopFlag]]:
    """Yield the reporter of a run and whether it must stop, when no other thread of this process works on a run."""
    flag = StopFlag(stop, timeout)
    with shown_progress(progress if join_ranks().rank == 0 else "none") as reporter, own_turn(path, flag):
        yield reporter, flag


def _temporary() -> Path:
    """Return a new temporary directory, which is that of rank 0."""
    ranks = join_ranks()
    return Path(ranks.agree(ranks.lead(lambda: tempfile.mkdtemp(prefix="automl_nas-")) or ""))


def _result(session: Session, reporter: ProgressReporter) -> Result:
    """Do the rest of a run while its progress is shown."""
    session.notifications.subscribe("progress", reporter.handlers)
    return _finished(session)


def _finished(session: Session) -> Result:
    """Do the rest of a run."""
    path = session.directory.path
    return Result(path, session.run(), RunParts.of_session(path, session.plan))
