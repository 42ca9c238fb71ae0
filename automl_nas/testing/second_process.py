"""A second process that uses a component under other circumstances: `second_process`.

One server process is started for all contracts of a process; it imports torch and other large packages once, as soon
as the process of the contracts has them, and each contract gets a fork of it. Where there is no fork, each contract
gets a server of its own. As a program, this module is the server.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import json
import os
import random
import select
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

PATIENCE = 600.0
"""Seconds that a component may take in the second process."""

_PRELOADED = (
    *("pytest", "numpy.typing", "scipy.optimize", "scipy.stats", "sklearn", "pandas", "sympy", "yaml", "optuna"),
    *("torchvision", "onnx", "onnxruntime", "torch._dynamo", "torch.fx.experimental.symbolic_shapes"),
)
_CLOCK = 40.5 * 24 * 3600


@dataclass(frozen=True)
class Origin:
    """How another process makes a contract.

    Attributes:
        factory: ``module:function``; the function returns the contract. A class is such a function.
        arguments: of the function, as JSON.
        file: of the module, if it cannot be imported by its name.
    """

    factory: str
    arguments: tuple[Any, ...] = ()
    file: str = ""

    def make(self) -> Any:
        """Import the module, call the function and return its result."""
        name, _, path = self.factory.partition(":")
        target: Any = _module(name, self.file)
        for part in path.split("."):
            target = getattr(target, part)
        return target(*self.arguments)


def class_origin(kind: type) -> Origin:
    """Return the origin of the instances of a class at the top level of a module.

    Raises:
        AssertionError: the class is defined in a function.
    """
    assert "<locals>" not in kind.__qualname__, (
        f"the contract class {kind.__qualname__} is defined in a function, so that another process cannot make it; "
        "define it at the top level of a module, or override `origin`"
    )
    module = sys.modules.get(kind.__module__)
    return Origin(f"{kind.__module__}:{kind.__qualname__}", (), getattr(module, "__file__", None) or "")


class Made(Protocol):
    """What the second process needs of a contract."""

    other_dtype: ClassVar[bool]
    other_threads: ClassVar[bool]

    def origin(self) -> Origin:
        """Return how another process makes the contract."""


def second_process(contract: Made, store: Path) -> dict[str, Any]:
    """Return what the component gives in the second process; it is started if necessary.

    Args:
        contract: makes the component.
        store: the folder for the component.

    Raises:
        AssertionError: the component raised there, or the process ended.
    """
    import torch

    with tempfile.TemporaryDirectory(prefix="contract-") as folder:
        reply = Path(folder) / "reply.json"
        request = {
            "origin": asdict(contract.origin()),
            "given": str(store),
            "reply": str(reply),
            "folder": folder,
            "preload": [name for name in _PRELOADED if name in sys.modules],
            "path": [str(Path(entry).resolve()) for entry in sys.path],
            "environment": dict(os.environ),
            "dtype": "float64" if contract.other_dtype else "float32",
            "threads": torch.get_num_threads() + (1 if contract.other_threads else 0),
        }
        _ask(json.dumps(request))
        assert reply.exists(), "the second process ended without a result"
        answer: dict[str, Any] = json.loads(reply.read_text(encoding="utf-8"))
    assert "error" not in answer, f"in the second process: {answer.get('error')}"
    values: dict[str, Any] = answer["values"]
    return values


_server: tuple[int, subprocess.Popen[str]] | None = None


def _ask(request: str) -> None:
    global _server
    if _server is None or _server[0] != os.getpid() or _server[1].poll() is not None:
        seed = "20817" if os.environ.get("PYTHONHASHSEED") != "20817" else "20818"
        path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
        server = subprocess.Popen(
            [sys.executable, "-m", __name__],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        _server = os.getpid(), server
        atexit.register(_close, server)
    server = _server[1]
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(request + "\n")
    server.stdin.flush()
    if sys.platform != "win32" and not select.select([server.stdout], [], [], PATIENCE)[0]:
        _close(server)
        raise AssertionError(f"the second process did not finish within {PATIENCE:g} s")
    server.stdout.readline()


def _close(server: subprocess.Popen[str]) -> None:
    if server.poll() is None:
        server.kill()
        server.wait()
    for stream in (server.stdin, server.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _module(name: str, file: str) -> Any:
    if name in sys.modules:
        return sys.modules[name]
    with contextlib.suppress(ImportError, ValueError):
        specification = importlib.util.find_spec(name)
        if specification is not None and (not file or specification.origin == file):
            return importlib.import_module(name)
    specification = importlib.util.spec_from_file_location(name, file)
    assert specification is not None and specification.loader is not None, f"cannot import {name}"
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


def _answer(request: Mapping[str, Any]) -> None:
    """Make the contract under other circumstances, use its component, and write what it gives."""
    try:
        _other_circumstances(request)
        values = Origin(**request["origin"]).make().use(Path(request["given"]))
        answer = {"values": json.loads(json.dumps(dict(values)))}
    except BaseException:
        lines = traceback.format_exc().strip().splitlines()
        answer = {"error": f"{lines[-1]} ({'; '.join(line.strip() for line in lines[-4:-1])})"}
    Path(request["reply"]).write_text(json.dumps(answer), encoding="utf-8")


def _other_circumstances(request: Mapping[str, Any]) -> None:
    import numpy as np
    import torch

    seed = os.environ["PYTHONHASHSEED"]
    os.environ.clear()
    os.environ.update(request["environment"])
    os.environ.update(PYTHONHASHSEED=seed, TZ="Asia/Kathmandu", USER="somebody", LOGNAME="somebody", COLUMNS="77")
    if hasattr(time, "tzset"):
        time.tzset()
    sys.path[:] = request["path"]
    directory = Path(request["folder"]) / "elsewhere"
    directory.mkdir()
    os.chdir(directory)
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + _CLOCK
    time.time_ns = lambda: now_ns() + int(_CLOCK * 1e9)
    random.seed(97)
    np.random.seed(98)
    torch.manual_seed(99)
    torch.set_default_dtype(getattr(torch, request["dtype"]))
    if torch.get_num_threads() != request["threads"]:
        torch.set_num_threads(request["threads"])


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "w") as nothing:  # noqa: PTH123 - devnull is a device
        os.dup2(nothing.fileno(), 1)
    import torch  # noqa: F401

    from automl_nas.torchvision_import import import_torchvision

    tried: set[str] = set()
    for line in sys.stdin:
        request = json.loads(line)
        for name in request["preload"]:
            # Preloading only saves time: what cannot be imported here fails again where it is used, with its own
            # message, and would take its time again for every contract if it were tried more than once.
            if name not in tried:
                tried.add(name)
                with contextlib.suppress(Exception):
                    import_torchvision() if name == "torchvision" else importlib.import_module(name)
        if hasattr(os, "fork"):
            child = os.fork()
            if child == 0:
                _answer(request)
                os._exit(0)
            os.waitpid(child, 0)
        else:
            _answer(request)
        answers.write("done\n")
        answers.flush()
        if not hasattr(os, "fork"):
            return


if __name__ == "__main__":
    _serve()
