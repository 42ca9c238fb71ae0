"""One process's work on a run: starting it, resuming it, stopping it in an orderly way."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from automl_nas.errors import ConfigurationError, RunDirectoryError, RunInterrupted
from automl_nas.plugin.manager import PluginManager
from automl_nas.plugin.settings import to_json
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.plan import Plan, make_plan, what_matters
from automl_nas.run.configuration.sections import RuntimeSettings
from automl_nas.run.driver import Driver
from automl_nas.run.interruption import StopFlag
from automl_nas.run.notifications import Watchers, make_watchers, run_info
from automl_nas.run.record.atomic_files import write_json
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.reporter import Reporter


class Session:
    """One process's work on a run. Use `Session.start` or `Session.resume`, then `run`.

    Args:
        directory: created or opened, and locked.
        plan: resolved from its configuration.
        watchers: plugins and observers that are told.
        reporter: is told.
        resumed: whether the run has been worked on before.
    """

    def __init__(
        self, directory: RunDirectory, plan: Plan, watchers: Watchers, reporter: Reporter, *, resumed: bool
    ) -> None:
        self.directory, self.plan = directory, plan
        self._watchers, self._reporter, self._resumed = watchers, reporter, resumed
        self._stop = StopFlag()

    @classmethod
    def start(
        cls,
        raw: Mapping[str, Any],
        out: Path,
        *,
        manager: PluginManager | None = None,
        reporter: Reporter | None = None,
    ) -> Session:
        """Resolve and check a configuration, and make its run directory.

        Raises:
            UserError: the configuration, or the directory, is not as it must be; nothing was written then.
        """
        _check_alone()
        RunDirectory.check_new(out)
        manager = manager or complete_manager()
        plan = make_plan(raw, manager.registry)
        watchers = make_watchers(plan, manager)
        watchers.check(run_info(out, plan, resumed=False))
        measured = plan.measurements()  # before there is a run: what it begins with, it goes on with
        directory = RunDirectory.create(out, plan.config)
        if measured:
            write_json(directory.measured, measured)
        return cls(directory, plan, watchers, reporter or Reporter(), resumed=False)

    @classmethod
    def resume(
        cls,
        path: Path,
        *,
        manager: PluginManager | None = None,
        reporter: Reporter | None = None,
        raw: Mapping[str, Any] | None = None,
        executor: Any = None,
    ) -> Session:
        """Open and lock a run directory, to continue it.

        Args:
            path: the run directory.
            manager: of plugins.
            reporter: is told.
            raw: the configuration as it was given, if it holds Python objects; it must resolve to the recorded one.
            executor: another executor than the recorded one: it does not change what is found.

        Raises:
            RunDirectoryError: it is no run, it is in use, or ``raw`` differs from its configuration.
        """
        _check_alone()
        manager = manager or complete_manager()
        directory = RunDirectory.open(path)
        directory.lock()
        try:
            config = directory.read_config()
            if executor is not None:
                config["executor"] = executor
            objects: Mapping[str, object] = {}
            if raw is not None:
                given = make_plan(
                    _settled(raw, config["runtime"]), manager.registry, measured=directory.read_measured()
                )
                objects = given.components.objects
                _check_same(config, given.config, path)
            plan = make_plan(config, manager.registry, objects, checked=True, measured=directory.read_measured())
            return cls(directory, plan, make_watchers(plan, manager), reporter or Reporter(), resumed=True)
        except BaseException:
            directory.unlock()
            raise

    def run(self) -> dict[str, Any]:
        """Work until the run is complete; return what ``result.json`` holds.

        Raises:
            RunInterrupted: stopped by a signal, at a safe point.
            RunFailedError: no result can be reached.
        """
        try:
            finished = self.directory.read_result()
            if finished is not None:
                return finished
            # Whoever calls this in a notebook finds the global generators as they were.
            with (
                self._stop.listening(self._reporter.stopping),
                self.plan.runtime.seeded(self.plan.seed, "run"),
            ):
                self.plan.runtime.activate()
                driver = Driver(
                    self.directory, self.plan, self._watchers, self._reporter, self._stop, resumed=self._resumed
                )
                return driver.drive()
        except (KeyboardInterrupt, RunInterrupted):
            raise RunInterrupted(f"stopped; to continue: automl-nas resume {self.directory.path}") from None
        finally:
            self.directory.unlock()


def _settled(raw: Mapping[str, Any], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in which what the runtime left to the machine is what it was when the run began."""
    given = to_json(raw.get("runtime") or {})
    if not isinstance(given, Mapping):
        return dict(raw)  # refused when it is resolved
    wanted = {**asdict(RuntimeSettings()), **given}
    return {**raw, "runtime": {k: recorded.get(k) if v in (None, "auto") else v for k, v in wanted.items()}}


def _check_alone() -> None:
    """A run belongs to one process: those that torchrun starts beside it would work on the same directory."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError(
            "a run works in one process, and this one was started by torchrun with several; start it without torchrun, "
            "and use executor: {name: processes, workers: N} to evaluate in parallel"
        )


def _check_same(recorded: Mapping[str, Any], given: Mapping[str, Any], path: Path) -> None:
    old, new = what_matters(recorded), what_matters(given)
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            raise RunDirectoryError(
                f"{path} was begun with {key}: {json.dumps(old.get(key))}, and is now to be resumed with "
                f"{json.dumps(new.get(key))}; "
                "use the same configuration, or another directory"
            )
