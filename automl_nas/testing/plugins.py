"""Contract tests of plugins: `PluginContract`."""

from __future__ import annotations

import importlib
import json
import logging
import os
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from automl_nas.plugin import Component, Plugin, PluginManager
from automl_nas.testing.contract import Contract, require

HEAVY = ("torch", "torchvision", "numpy", "scipy", "sklearn", "pandas", "optuna", "onnx", "onnxruntime", "pydantic")
"""Modules that the top module of a plugin must not import, since every command imports it, also ``--help``."""

_PROBE = """
import json, logging, os, random, signal, sys, threading, warnings
sys.path[:0] = json.loads(sys.argv[2])
before = [dict(os.environ), os.getcwd(), list(warnings.filters), logging.root.level, list(logging.root.handlers),
          random.getstate(), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.excepthook,
          threading.active_count(), sys.getrecursionlimit(), list(sys.path)]
names = ["the environment", "the working directory", "the filters of warnings", "the level of logging",
         "the handlers of logging", "Python's generator", "the handler of SIGINT", "the handler of SIGTERM",
         "sys.excepthook", "the number of threads", "the limit of recursion", "sys.path"]
__import__(sys.argv[1])
after = [dict(os.environ), os.getcwd(), list(warnings.filters), logging.root.level, list(logging.root.handlers),
         random.getstate(), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.excepthook,
         threading.active_count(), sys.getrecursionlimit(), list(sys.path)]
changed = [name for name, one, two in zip(names, before, after) if one != two]
report = {"modules": sorted(sys.modules), "changed": changed}
with open(sys.argv[3], "w") as file:
    json.dump(report, file)
"""


class PluginContract(Contract):
    """The tests of a plugin's top module. Derive a class from it in a test file and set `module`.

    For example::

        class TestMyPlugin(PluginContract):
            module = "my_package"
    """

    @property
    @abstractmethod
    def module(self) -> str:
        """The module of the entry point."""

    def load(self) -> tuple[PluginManager, Plugin]:
        """Return a new manager and the plugin in it."""
        manager = PluginManager({})
        return manager, manager.register_module(importlib.import_module(self.module), self.module)

    def components(self) -> list[Component]:
        """Return the components that the plugin registers."""
        return list(self.load()[1].components)

    def use(self, store: Path) -> Mapping[str, Any]:
        """Load the plugin and all its components, and resolve their defaults."""
        remarks = _Remarks()
        log = logging.getLogger(Component.__module__)
        log.addHandler(remarks)
        propagate, log.propagate = log.propagate, False  # nothing is to be printed
        try:
            return {**self._registered(), "remarks": remarks.messages}
        finally:
            log.removeHandler(remarks)
            log.propagate = propagate

    def _registered(self) -> dict[str, Any]:
        components = self.components()
        registered = [[item.kind, item.name, item.reference, item.summary] for item in components]
        settings = [
            [
                item.name,
                [[s.name, s.required, "" if s.required else repr(s.default)] for s in item.signature().settings],
            ]
            for item in components
        ]
        return {"components": registered, "settings": settings, "commands": sorted(self.load()[1].commands)}

    def test_it_loads_and_its_components_are_valid(self) -> None:
        """Every reference can be imported, derives from its base class, and has a valid constructor signature.

        Way out: `automl-nas plugins --check` shows the same errors.
        """
        manager, plugin = self.load()
        registers = plugin.components or plugin.commands or plugin.observers
        require(registers, "it registers nothing: mark its hooks with @hookimpl")
        failures = [str(failure) for failure in manager.check()]
        require(not failures, "; ".join(failures))

    def test_it_can_be_loaded_twice(self) -> None:
        """Two managers in a process load the same components and commands.

        Way out: hooks call `register` each time; they keep no flag that they were called.
        """
        first, second = ([(c.kind, c.name, c.reference) for c in self.components()] for _ in range(2))
        require(first == second, f"first {first}, then {second}")
        commands = [sorted(self.load()[1].commands) for _ in range(2)]
        require(commands[0] == commands[1], f"first the commands {commands[0]}, then {commands[1]}")

    def test_its_top_module_imports_nothing_heavy(self) -> None:
        """A process that imports the top module has imported none of the libraries that take long to import.

        Way out: import them in the modules of components, and in functions of commands.
        """
        report, _ = _imported(self.module)
        heavy = sorted(set(report["modules"]) & set(HEAVY))
        require(not heavy, f"it imports {', '.join(heavy)}")

    def test_its_import_has_no_effects(self) -> None:
        """Importing the top module prints nothing, and changes no setting of the process and no file.

        Way out: the top module has hooks and imports of `automl_nas.plugin` only; everything else is done when a
        component is constructed.
        """
        report, (printed, files) = _imported(self.module)
        require(not printed, f"it prints {printed[:200]!r}")
        require(not report["changed"], f"it changes {', '.join(report['changed'])}")
        require(not files, f"it writes {', '.join(files)}")

    def test_imports_of_components_have_no_effects(self) -> None:
        """Importing the modules of components prints nothing and changes no setting of the process.

        If the modules were imported before, `test_another_process_gives_the_same` finds the difference.

        Way out: seeds, threads and other settings belong to the run; what a component needs is done when it is used.
        """
        remarks = self._observed().values.get("remarks", [])
        require(not remarks, "; ".join(remarks))

    def test_everything_is_described(self) -> None:
        """Each component has a summary in one line, and each setting is described in the docstring's ``Args``.

        Way out: `register(name, reference, summary="...")`, and a line ``name: what it is.`` for each setting.
        """
        for component in self.components():
            summary = component.summary
            require(summary.strip() and "\n" not in summary, f"{component} has the summary {summary!r}")
            undescribed = [setting.name for setting in component.signature().settings if not setting.description]
            require(not undescribed, f"{component}: the docstring does not describe {', '.join(undescribed)}")

    def test_defaults_resolve_to_json_and_back(self) -> None:
        """Resolving the defaults, writing them as JSON and resolving them again gives the same settings.

        Way out: settings have JSON-like types, and defaults that are valid values of them.
        """
        for component in self.components():
            signature = component.signature()
            if any(setting.required for setting in signature.settings):
                continue
            resolved = signature.validate({})
            again = signature.validate(json.loads(json.dumps(resolved)))
            require(again == resolved, f"{component}: {resolved} becomes {again}")
            try:
                signature.validate({"no_such_setting": 1})
            except ValueError as error:
                require("no setting 'no_such_setting'" in str(error), f"{component}: the error is {error}")
            else:
                raise AssertionError(f"{component} accepts an unknown setting")

    def test_cost_models_have_a_metric(self) -> None:
        """The attribute ``metric`` of a cost model is a name that can be used in a constraint.

        Way out: set the class attribute ``metric`` to the registered name, such as ``"flops"``.
        """
        for component in self.components():
            if component.kind != "cost_models":
                continue
            metric = getattr(component.load(), "metric", None)
            plain = metric is None or isinstance(metric, property) or (type(metric) is str and metric.isidentifier())
            require(plain, f"{component} has the metric {metric!r}")


class _Remarks(logging.Handler):
    """Keeps messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@cache
def _imported(module: str) -> tuple[dict[str, Any], tuple[str, list[str]]]:
    """Import a module in a new process, in an empty folder; return its report, its output and the files it wrote."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="contract-") as folder:
        place, reply = Path(folder) / "place", Path(folder) / "reply.json"
        place.mkdir()
        path = json.dumps([str(Path(entry).resolve()) for entry in sys.path])
        environment = {**os.environ, "HOME": str(place), "TMPDIR": str(place), "XDG_CACHE_HOME": str(place / "cache")}
        done = subprocess.run(
            [sys.executable, "-B", "-c", _PROBE, module, path, str(reply)],
            capture_output=True,
            text=True,
            check=False,
            cwd=place,
            env=environment,
        )
        require(done.returncode == 0 and reply.exists(), f"it cannot be imported: {done.stderr.strip()[-300:]}")
        files = sorted(str(path.relative_to(place)) for path in place.rglob("*"))
        return json.loads(reply.read_text()), (done.stdout + done.stderr, files)
