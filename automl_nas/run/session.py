"""One process's work on a run: it starts or resumes the run and stops it in an orderly way."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from automl_nas.errors import ConfigurationError, RanksEndedError, RunDirectoryError, RunInterrupted, UserError
from automl_nas.evaluation.ranks import join_ranks
from automl_nas.plugin.component_errors import component_errors
from automl_nas.plugin.events import Handlers, StopRequested
from automl_nas.plugin.manager import PluginManager
from automl_nas.plugin.references import consent
from automl_nas.plugin.settings import to_json
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.components import separate_objects
from automl_nas.run.configuration.differences import first_difference
from automl_nas.run.configuration.plan import Plan, what_matters
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.configuration.sections import RuntimeSettings
from automl_nas.run.configuration.shortened import with_recorded_budget
from automl_nas.run.derivation import Derivation
from automl_nas.run.driver import Driver
from automl_nas.run.estimate.beginning import prepare
from automl_nas.run.final.rehearsal import rehearse_compilation, rehearse_export, rehearse_export_again
from automl_nas.run.hints import way_to_resume
from automl_nas.run.identity_check import check_data, check_spaces
from automl_nas.run.interruption import StopFlag, check_interruption, interrupted, interruptible
from automl_nas.run.notifications import Notifications, make_notifications, run_info
from automl_nas.run.rank_check import check_alike, check_count, check_ranks
from automl_nas.run.rank_plan import agreed_plan
from automl_nas.run.record.atomic_files import write_record
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.run_record import RunRecord
from automl_nas.run.shortcomings import shortcomings
from automl_nas.run.trials.rehearsal import rehearse


class Session:
    """One process's work on a run. Use `Session.start` or `Session.resume`, then `run`.

    Args:
        directory: created or opened, and locked.
        plan: resolved from the configuration of the directory.
        notifications: receive the events of the run.
        stop: whether to stop at the next safe point; None: only a signal stops the run.
    """

    def __init__(
        self, directory: RunDirectory, plan: Plan, notifications: Notifications, stop: StopFlag | None = None
    ) -> None:
        self.directory, self.plan, self.notifications = directory, plan, notifications
        self._stop = stop or StopFlag()
        # Holds the trials until the session is dropped: to free them takes 4 microseconds a trial, and the caller of
        # `run` does not wait for that (benchmarks/driver_overhead.py).
        self._driver: Driver | None = None

    @classmethod
    def start(
        cls,
        raw: Mapping[str, Any],
        out: Path,
        *,
        manager: PluginManager | None = None,
        handlers: Handlers | None = None,
        progress: Handlers | None = None,
        stop: StopFlag | None = None,
    ) -> Session:
        """Resolve and check a configuration, and create its run directory.

        Args:
            raw: the configuration.
            out: the run directory, new or empty.
            manager: the plugins; None: those that are installed.
            handlers: kind of event -> function, called with each event of that kind.
            progress: handlers that show the progress.
            stop: whether to stop; None: only a signal stops the run.

        Raises:
            UserError: the configuration or the directory is invalid; nothing was written.
            RunFailedError: a stage of a run that is tried before it begins fails; nothing was written.
            RunInterrupted: the run was asked to stop before it began.
        """
        begun = time.perf_counter()
        _check_not_imported()
        ranks, stop = join_ranks(), stop or StopFlag()
        with ranks.guarded(), _beginning(out, stop):
            plugins = manager or complete_manager()

            def resolve() -> tuple[Plan, Notifications]:
                plan = make_plan(raw, plugins.registry)
                stop.check()
                notifications = make_notifications(run_info(out, plan, resumed=False), plan, plugins, handlers)
                if progress is not None:
                    notifications.subscribe("progress", progress)
                return plan, notifications

            ranks.lead(lambda: RunDirectory.check_new(out))
            check_alike(ranks, plugins, raw, out)
            resolved, objects = ranks.lead(resolve), separate_objects(raw)[1]
            plan = agreed_plan(ranks, resolved and resolved[0], plugins.registry, objects)
            notifications = resolved[1] if resolved else Notifications(run_info(out, plan, resumed=False))
            check_ranks(ranks, plan, out)
            plan = prepare(plan, notifications, begun, stop, out, ranks, objects)
            notifications.run = run_info(out, plan, resumed=False)
            # Measured before the run exists: it keeps the values that it begins with.
            measurements = plan.measurements()
            check_interruption()
            stop.check()
            identity = plan.identity if ranks.size == 1 else {**plan.identity, "ranks": ranks.size}
            directory = ranks.lead(lambda: RunDirectory.create(out, plan.config, identity)) or RunDirectory(out)
            if measurements and ranks.rank == 0:
                write_record(directory.measured, measurements)
            return cls(directory, plan, notifications, stop)

    @classmethod
    def resume(
        cls,
        path: Path,
        *,
        manager: PluginManager | None = None,
        handlers: Handlers | None = None,
        raw: Mapping[str, Any] | None = None,
        executor: Any = None,
        changed_data: bool = False,
        changed_ranks: bool = False,
        trust: bool = False,
        stop: StopFlag | None = None,
    ) -> Session:
        """Open and lock a run directory, to continue the run.

        Args:
            path: the run directory.
            manager: the plugins; None: those that are installed.
            handlers: kind of event -> function, called with each event of that kind.
            raw: the configuration as the user wrote it, needed if it holds Python objects; it must resolve to the
                recorded one.
            executor: another executor than the recorded one. It does not change the results.
            changed_data: continue though the data of the task changed.
            changed_ranks: continue with another number of ranks, though the result depends on it.
            trust: import also classes that the run directory names and no plugin registers; those in ``raw`` are
                imported in any case.
            stop: whether to stop; None: only a signal stops the run.

        Raises:
            RunDirectoryError: the path is not a run directory, another process works on the run, or configuration,
                space or data differ from those that the run began with.
            RunInterrupted: the run was asked to stop before it continued.
        """
        _check_not_imported()
        ranks, stop = join_ranks(), stop or StopFlag()
        directory = RunDirectory.open(path)
        try:
            with ranks.guarded(), _beginning(path, stop):
                ranks.lead(directory.lock)
                manager = manager or complete_manager()
                config = directory.read_config()
                if executor is not None:
                    config["executor"] = executor
                check_alike(ranks, manager, {"recorded": config, "written": raw}, path)
                objects: Mapping[str, object] = {}
                allowed: frozenset[str] = frozenset()
                if raw is not None:
                    written = make_plan(
                        _with_recorded_runtime(raw, config["runtime"]),
                        manager.registry,
                        measured=directory.read_measured(),
                    )
                    objects = written.components.objects
                    _check_same(config, with_recorded_budget(written.config, config), path)
                    allowed = frozenset(_texts(written.config))
                with consent(path, trust=trust, allowed=allowed):
                    with _files_in_place(path, config):
                        plan = make_plan(
                            config, manager.registry, objects, checked=True, measured=directory.read_measured()
                        )
                    run = run_info(directory.path, plan, resumed=True)

                    def compare() -> Notifications:
                        check_spaces(directory, plan)
                        check_data(directory, plan, changed=changed_data)
                        check_count(directory, plan, ranks, changed=changed_ranks)
                        if directory.read_result() is None:
                            rehearse(plan)
                            rehearse_compilation(plan)
                        notifications = make_notifications(run, plan, manager, handlers)
                        if not directory.result.exists() and (changed := directory.changed_packages()):
                            rehearse_export_again(plan, notifications.message, notifications.warn, changed)
                        return notifications

                    notifications = ranks.lead(compare) or Notifications(run)
                    check_ranks(ranks, plan, path)
                    session = cls(directory, plan, notifications, stop)
                    check_interruption()
                    return session
        except BaseException:
            directory.unlock()
            raise

    @classmethod
    def derive(
        cls,
        derivation: Derivation,
        out: Path,
        *,
        objects: Mapping[str, object] | None = None,
        handlers: Handlers | None = None,
        trust: bool = False,
        stop: StopFlag | None = None,
    ) -> Session:
        """Create the run directory of a run that takes over a part of a complete one.

        Args:
            derivation: which run, and what is changed.
            out: the run directory, new or empty.
            objects: name -> Python object for the names ``python:module:Class`` in the configuration.
            handlers: kind of event -> function, called with each event of that kind.
            trust: import also classes that the complete run names and no plugin registers; those in the changes are
                imported in any case.
            stop: whether to stop; None: only a signal stops the run.

        Raises:
            UserError: a change is invalid, or does not fit the recorded trials; nothing was written.
            RunInterrupted: the run was asked to stop before it began.
        """
        _check_not_imported()
        ranks, stop, source = join_ranks(), stop or StopFlag(), derivation.source
        with ranks.guarded(), _beginning(out, stop):
            manager = complete_manager()

            def resolve() -> tuple[Plan, Notifications]:
                config = derivation.configuration()
                with _files_in_place(source.path, derivation.recorded):
                    plan = make_plan(config, manager.registry, objects, measured=source.read_measured())
                notifications = make_notifications(run_info(out, plan, resumed=False), plan, manager, handlers)
                if derivation.command == "extend":
                    rehearse(plan)
                rehearse_compilation(plan)
                rehearse_export(plan, notifications.message, notifications.warn)
                return plan, notifications

            ranks.lead(lambda: RunDirectory.check_new(out))
            check_alike(ranks, manager, {"recorded": derivation.recorded, "changed": derivation.changed}, out)
            allowed = frozenset(_texts(derivation.changed)) - frozenset(_texts(derivation.recorded))
            with consent(source.path, trust=trust, allowed=allowed):
                resolved = ranks.lead(resolve)
                plan = agreed_plan(ranks, resolved and resolved[0], manager.registry, objects or {})
            notifications = resolved[1] if resolved else Notifications(run_info(out, plan, resumed=False))
            check_ranks(ranks, plan, out)
            check_interruption()
            stop.check()
            directory = ranks.lead(lambda: derivation.create(out, plan, ranks.size)) or RunDirectory(out)
            return cls(directory, plan, notifications, stop)

    def run(self) -> dict[str, Any]:
        """Work until the run is complete; return the content of ``result.json``.

        Raises:
            RunInterrupted: the run was asked to stop, and stopped at a safe point.
            RunFailedError: the run cannot reach a result.
        """
        directory, plan, notifications = self.directory, self.plan, self.notifications
        ranks = plan.runtime.ranks
        try:
            result = directory.read_result()
            if result is not None:
                for shortcoming in shortcomings(directory.path, result):
                    notifications.warn(shortcoming.message)
                return result
            with (
                self._stop.listening(lambda: notifications.send(StopRequested()), ranks),
                ranks.guarded(),  # inside: torchrun sends a signal as soon as a rank ended
                plan.runtime.seeded(plan.seed, "run"),  # afterwards the caller's global generators are as before
            ):
                plan.runtime.activate()
                record = RunRecord(
                    directory,
                    plan.digest,
                    notifications.warn,
                    stages=len(plan.stages) + (plan.final is not None),
                    resumed=notifications.run.resumed,
                    ranks=ranks,
                )
                self._driver = Driver(plan, record, notifications, self._stop)
                with component_errors(plan.components.registry):
                    return self._driver.drive()
        except (KeyboardInterrupt, RunInterrupted):
            raise self._stop.error(directory.path) from None
        except RanksEndedError as error:
            way = way_to_resume(directory.path, plan.config)
            raise RanksEndedError(f"{error}; to continue: {way}", silent=error.silent) from error
        finally:
            directory.unlock()


@contextlib.contextmanager
def _beginning(path: Path, stop: StopFlag) -> Iterator[None]:
    """Turn a signal or a request to stop before the run begins into the error that it is in the run, too."""
    try:
        with interruptible():
            stop.check()
            yield
    except KeyboardInterrupt as error:
        raise (stop.error(path) if stop.cause is not None else interrupted(path, reason=error)) from None


@contextlib.contextmanager
def _files_in_place(path: Path, recorded: Mapping[str, Any]) -> Iterator[None]:
    """Raise an error with the way out if a file or folder of a recorded configuration is no longer where it was."""
    try:
        yield
    except UserError as error:
        absolute = (text for text in _texts(recorded) if Path(text).is_absolute())
        missing = next((text for text in absolute if text in str(error) and not os.path.lexists(text)), None)
        if missing is None:
            raise
        raise RunDirectoryError(
            f"{path} was begun with {missing}, which does not exist; restore it, or if it was moved make a link to its "
            f"new place: ln -s NEW_PLACE {shlex.quote(missing)}"
        ) from error


def _with_recorded_runtime(raw: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration whose automatic settings of the runtime have the values that the run began with."""
    settings = to_json(raw.get("runtime") or {})
    if not isinstance(settings, Mapping):
        return dict(raw)  # refused when it is resolved
    runtime = {**asdict(RuntimeSettings()), **settings}
    return {**raw, "runtime": {k: recorded.get(k) if v in (None, "auto") else v for k, v in runtime.items()}}


def _check_not_imported() -> None:
    """Check that this is not a child process that imports the script of its parent: it would start the run again."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as multiprocessing itself looks it up
        raise ConfigurationError(
            "this script starts a run while a worker process of that run imports it; write the calls of the script "
            "under if __name__ == '__main__':"
        )


def _texts(value: Any) -> Iterator[str]:
    """Yield all strings in plain data but the keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _check_same(recorded: Mapping[str, Any], written: Mapping[str, Any], path: Path) -> None:
    old, new = what_matters(recorded), what_matters(written)
    for key in sorted({*old, *new}):
        if difference := first_difference(old.get(key), new.get(key), key):
            setting, before, now = difference
            raise RunDirectoryError(
                f"{path} was begun with {setting}: {before}, and is to be resumed with {now}; use the same "
                "configuration, or another directory"
            )
