"""What all tests share: one thread, an empty cache, and the check that tests which start processes are marked."""

from __future__ import annotations

import functools
import gc
import itertools
import multiprocessing.process
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from automl_nas.evaluation.process_context import process_context

# Before torch is imported: tiny tensors are several times slower on many threads, and tests run in several processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests that contracts in automl_nas.testing define: contracts are for everybody, and so cannot use our marker.
INHERITED_PROCESS_TESTS = (
    "::test_its_top_module_imports_nothing_heavy",
    "::test_its_import_has_no_effects",
    "::test_another_process_gives_the_same",
    "TestNpz::test_equivalents_yield_the_same_samples",
)

# What matplotlib and the CUDA build of torch (cuda.pathfinder looks for libdl) start in the first test that imports
# them, whichever that is.
STARTED_BY_IMPORTS = ("fc-list", "system_profiler", "ldconfig")

MANY_MODULES = 300
"""After so many new modules the heap is frozen again."""

_process_starts: list[str] = []
_cache_numbers = itertools.count()
_frozen_modules = 0


def pytest_configure(config: pytest.Config) -> None:
    # A shell lets programs in its background ignore SIGINT, and their children inherit that: tests that send it would
    # wait for minutes.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Child processes are forked from a server that is started once. In each child these imports would take a second.
    process_context(["torch._dynamo", "automl_nas_vision.torchvision_step"])
    # It takes milliseconds, and tests/end_to_end alone calls it over 10,000 times. Tests kill processes, which lose
    # nothing that was written; none cuts the power.
    os.fsync = lambda descriptor: None
    _count_frozen_objects_once()
    sys.addaudithook(_note_process)
    start = multiprocessing.process.BaseProcess.start

    def noted_start(process: multiprocessing.process.BaseProcess) -> None:
        _process_starts.append("multiprocessing.Process.start")
        start(process)

    # Processes of a fork server raise no audit event.
    multiprocessing.process.BaseProcess.start = noted_start  # type: ignore[method-assign]


def _count_frozen_objects_once() -> None:
    """Make gc.get_freeze_count remember its result: every run calls it, and it visits all objects that are frozen."""
    count, freeze, unfreeze = gc.get_freeze_count, gc.freeze, gc.unfreeze
    counted = functools.cache(count)

    def forgetting(function: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            counted.cache_clear()
            function()

        return call

    gc.get_freeze_count, gc.freeze, gc.unfreeze = counted, forgetting(freeze), forgetting(unfreeze)


def _note_process(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen" and os.path.basename(str(arguments[0])) in STARTED_BY_IMPORTS:  # noqa: PTH119
        return
    if event in ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"):
        _process_starts.append(event)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[object]:
    """Keep the garbage collector from the objects of torch and of all tests, of which it finds none to remove.

    It would visit these 700,000 objects some thirty times while tests are collected, and again in every full collection
    afterwards, each of which would take a second. Runs of tests in this process meet a heap that somebody else froze;
    test_gc_tuning.py and the programs that tests start have one that nobody froze.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def _freeze_imports() -> None:
    """Do so for large packages, too, that were imported since."""
    global _frozen_modules
    if len(sys.modules) > _frozen_modules + MANY_MODULES and gc.get_freeze_count():
        _frozen_modules = len(sys.modules)
        gc.collect()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.partition("[")[0].endswith(INHERITED_PROCESS_TESTS):
            item.add_marker(pytest.mark.process)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _process_starts.clear()
    _keep_onnx_operators()
    _freeze_imports()


def _keep_onnx_operators() -> None:
    """Let torch.onnx compile its 500 functions of ONNX operators once: it does so for every model, in 0.3 s."""
    module: Any = sys.modules.get("torch.onnx._internal.exporter._registration")
    interface = getattr(module, "onnxscript_apis", None)
    make = getattr(interface, "get_torchlib_ops", None)
    if make is not None and not hasattr(make, "cache_info"):
        interface.get_torchlib_ops = functools.cache(make)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test that starts a process, itself or in a fixture, and lacks the marker."""
    result = yield
    if _process_starts and item.get_closest_marker("process") is None:
        pytest.fail(
            f"{', '.join(sorted(set(_process_starts)))}: mark this test with @pytest.mark.process", pytrace=False
        )
    return result


@pytest.fixture(autouse=True)
def _no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither read nor write what the user's own runs measured.

    The folder does not exist before something is written to it: thousands of tests write nothing.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "caches" / str(next(_cache_numbers))))
