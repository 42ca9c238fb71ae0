"""The global state of a process that components leave alone: `process_state` and `differences`."""

from __future__ import annotations

import builtins
import contextlib
import decimal
import gc
import hashlib
import json
import locale
import logging
import multiprocessing
import os
import pickle
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from automl_nas import streams
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal, Trial

_WATCHED: dict[str, Any] = {
    **{module.__name__: module for module in (builtins, random, time, os, json, np.random, torch, functional, streams)},
    **{kind.__name__: kind for kind in (torch.nn.Module, torch.Tensor, Architecture, SearchSpace, Problem)},
    **{kind.__name__: kind for kind in (Proposal, Trial)},
}
"""Modules and classes whose functions nobody replaces."""


@dataclass
class ProcessState:
    """A record of the state.

    Attributes:
        values: kind -> name -> value; values are compared by ``==``.
        modules: watched module or class -> its names.
        undo: functions that restore what can be restored.
    """

    values: dict[str, dict[str, Any]]
    modules: dict[str, dict[str, Any]]
    undo: list[Callable[[], object]] = field(default_factory=list)

    def restore(self) -> None:
        """Restore what can be restored, so that one broken component does not disturb the tests after it."""
        for function in self.undo:
            with contextlib.suppress(Exception):
                function()


def process_state(before: ProcessState | None = None) -> ProcessState:
    """Return the present state of this process.

    Args:
        before: the state that this one will be compared with. Files that only garbage holds open are closed if the open
            files are others than before.
    """
    python, numbers, tensors = random.getstate(), np.random.get_state(), torch.get_rng_state()
    filters, environment, directory = list(warnings.filters), dict(os.environ), os.getcwd()  # noqa: PTH109
    dtype, threads, grad = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    deterministic, printing = torch.are_deterministic_algorithms_enabled(), np.get_printoptions()
    level, handlers, disabled = logging.root.level, list(logging.root.handlers), logging.root.manager.disable
    signals = _signals()
    errors, precision, paths = np.geterr(), torch.get_float32_matmul_precision(), list(sys.path)
    hooks = sys.excepthook, sys.displayhook, threading.excepthook
    prec, timeout, recursion = decimal.getcontext().prec, socket.getdefaulttimeout(), sys.getrecursionlimit()
    mask, temporary = _mask(), tempfile.gettempdir()
    benchmark, cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    modules = {name: dict(vars(owner)) for name, owner in _WATCHED.items()}
    values: dict[str, dict[str, Any]] = {
        "generator": {
            "the generator of Python": _digest(python),
            "the generator of NumPy": _digest(numbers),
            "the generator of torch": _digest(tensors.numpy()),
        },
        "setting": {
            "torch's default dtype": dtype,
            "torch's default device": str(torch.get_default_device()) if hasattr(torch, "get_default_device") else "",
            "torch's number of threads": threads,
            "torch's gradient mode": grad,
            "torch's anomaly detection": torch.is_anomaly_enabled(),
            "torch's deterministic algorithms": (deterministic, torch.is_deterministic_algorithms_warn_only_enabled()),
            "torch.backends.cudnn": (
                torch.backends.cudnn.deterministic,
                torch.backends.cudnn.benchmark,
                torch.backends.cudnn.enabled,
            ),
            "torch's precision of products": precision,
            "NumPy's handling of errors": errors,
            "NumPy's print options": printing,
            "the working directory": directory,
            "the environment": _environment(environment),
            "the filters of warnings": filters,
            "logging": (level, handlers, disabled, _log_levels()),
            "signal handlers": signals,
            "sys.path": paths,
            "the hooks of sys": hooks,
            "the limit of recursion": sys.getrecursionlimit(),
            "the garbage collector": (gc.isenabled(), gc.get_threshold()),
            "the locale": locale.setlocale(locale.LC_ALL),
            "the tracing function": (sys.gettrace() if "coverage" not in sys.modules else None),
            "torch's print options": repr(vars(torch._tensor_str.PRINT_OPTS)),
            "torch's inference mode and autocast": (
                torch.is_inference_mode_enabled(),
                torch.is_autocast_enabled("cpu"),
            ),
            "torch's use of oneDNN": torch.backends.mkldnn.enabled,
            "the precision of decimal numbers": decimal.getcontext().prec,
            "the default timeout of sockets": socket.getdefaulttimeout(),
            # The first one is the default, which is set when it is first needed.
            "the start method of processes": (
                multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
            ),
            "the folder of temporary files": tempfile.gettempdir(),
            "the mask of new files": _mask(),
            "the processors of this process": _processors(),
            "the switch interval": sys.getswitchinterval(),
        },
        "module": {
            "running threads": sorted(t.name for t in threading.enumerate() if "tqdm" not in type(t).__module__),
            "running processes": _children(),
            "open files": _open_files(None if before is None else before.values["module"]["open files"]),
        },
    }
    undo: list[Callable[[], object]] = [
        lambda: _restore_modules(modules),
        lambda: random.setstate(python),
        lambda: np.random.set_state(numbers),
        lambda: torch.set_rng_state(tensors),
        lambda: torch.set_default_dtype(dtype),
        lambda: torch.set_num_threads(threads) if torch.get_num_threads() != threads else None,
        lambda: torch.set_grad_enabled(grad),
        lambda: _set_deterministic(deterministic),
        lambda: torch.set_float32_matmul_precision(precision),
        lambda: torch.set_default_device(None) if torch.get_default_device().type != "cpu" else None,
        lambda: torch.autograd.set_detect_anomaly(False),
        lambda: np.seterr(**errors),
        lambda: np.set_printoptions(**printing),
        # Also here, though a context manager restores them later: what remains after this counts as not restorable.
        lambda: _set_content(warnings.filters, filters),
        lambda: os.chdir(directory),
        lambda: _restore_environment(environment),
        lambda: logging.root.setLevel(level),
        lambda: setattr(logging.root, "handlers", handlers),
        lambda: logging.disable(disabled),
        lambda: _restore_signals(signals),
        lambda: sys.path.__setitem__(slice(None), paths),
        lambda: setattr(sys, "excepthook", hooks[0]),
        lambda: setattr(sys, "displayhook", hooks[1]),
        gc.enable,
        lambda: setattr(decimal.getcontext(), "prec", prec),
        lambda: socket.setdefaulttimeout(timeout),
        lambda: sys.setrecursionlimit(recursion),
        lambda: os.umask(mask),
        lambda: setattr(tempfile, "tempdir", temporary),
        lambda: torch.set_printoptions(profile="default"),  # type: ignore[no-untyped-call]
        lambda: setattr(torch.backends.cudnn, "benchmark", benchmark),
        lambda: setattr(torch.backends.cudnn, "deterministic", cudnn),
    ]
    return ProcessState(values, modules, undo)


def differences(before: ProcessState, after: ProcessState) -> dict[str, list[str]]:
    """Return kind of state -> descriptions of what differs."""
    changes: dict[str, list[str]] = {}
    for kind, values in before.values.items():
        for name, value in values.items():
            now = after.values[kind][name]
            if now != value:
                digest = kind == "generator"
                changes.setdefault(kind, []).append(name if digest else f"{name} from {_text(value, now)}")
    for module, names in before.modules.items():
        now = after.modules[module]
        replaced = [name for name, value in names.items() if callable(value) and _replaced(value, now.get(name, value))]
        if replaced:
            changes.setdefault("module", []).append(f"{', '.join(replaced[:3])} of {module}")
    return changes


def _replaced(value: Any, now: Any) -> bool:
    # torch replaces functions of its own when its compiler is imported.
    file = getattr(getattr(now, "__code__", None), "co_filename", "")
    return now is not value and not file.startswith(str(Path(torch.__file__).parent))


def _text(before: Any, after: Any) -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        return ", ".join(f"{name}: {before.get(name)!r} to {after.get(name)!r}" for name in names[:3])[:200]
    return f"{before!r} to {after!r}"[:200]


def _digest(value: Any) -> str:
    return hashlib.sha256(pickle.dumps(value)).hexdigest()


def _environment(environment: dict[str, str]) -> dict[str, str]:
    # pytest sets the name of the current test; libraries note their own set-up in variables of the second kind.
    ours = ("PYTEST_", "KMP_", "TORCHINDUCTOR")
    return {name: value for name, value in environment.items() if not name.startswith(ours)}


_LOG_LEVELS = {"optuna": (logging.INFO, False, 1)}
"""Level, flag and number of handlers that importing a package gives its logger; other loggers begin without them."""


def _log_levels() -> dict[str, tuple[int, bool, int]]:
    """Return the loggers whose level, flag or number of handlers is not the default one, of known packages."""
    levels = {
        name: (logger.level, logger.disabled, len(logger.handlers))
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in ("automl_nas", "optuna", "torch_")
    }
    return {name: level for name, level in levels.items() if level != _LOG_LEVELS.get(name, (logging.NOTSET, False, 0))}


def _set_content(target: Any, content: list[Any]) -> None:
    target[:] = content


def _set_deterministic(enabled: bool) -> None:
    # Only if it differs: the call imports the whole compiler of torch.
    if torch.are_deterministic_algorithms_enabled() != enabled:
        torch.use_deterministic_algorithms(enabled)


def _mask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _processors() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _children() -> list[str]:
    """Return the processes that this one has started and that run, by their numbers where the system lists them."""
    names = [process.name for process in multiprocessing.active_children()]
    for file in Path("/proc/self/task").glob("*/children") if Path("/proc/self/task").exists() else ():
        with contextlib.suppress(OSError):
            names += file.read_text().split()
    return sorted(names)


def _open_files(before: list[str] | None = None) -> list[str]:
    """Return the regular files that this process has open, where the system lists them."""
    files = _listed_files()
    if before is None or files == before:
        return files
    gc.collect()  # half a second with all of torch in memory, so only if it may matter
    return _listed_files()


def _listed_files() -> list[str]:
    targets = []
    for entry in Path("/proc/self/fd").iterdir() if Path("/proc/self/fd").exists() else ():
        with contextlib.suppress(OSError):
            target = entry.readlink()
            if target.is_file():
                targets.append(str(target))
    return sorted(targets)


def _signals() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in sorted(signal.valid_signals())}


def _restore_signals(signals: dict[int, Any]) -> None:
    for number, handler in signals.items():
        if handler is not None and signal.getsignal(number) is not handler:
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, handler)


def _restore_environment(environment: dict[str, str]) -> None:
    if dict(os.environ) != environment:
        os.environ.clear()
        os.environ.update(environment)


def _restore_modules(modules: dict[str, dict[str, Any]]) -> None:
    for owner, names in modules.items():
        for name, value in names.items():
            if vars(_WATCHED[owner]).get(name) is not value and callable(value):
                setattr(_WATCHED[owner], name, value)
