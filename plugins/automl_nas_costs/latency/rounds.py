"""Measure how long ONNX models take in ONNX Runtime, in rounds.

Every model runs once in every round, in random order, as a short burst of runs. A burst's median says how fast the
model was just then; the median of all rounds is the result, and resampling whole rounds gives its interval: runs that
follow each other are slowed down by the same things, so a burst's own spread says little about the next burst.

This file needs only Python 3.9, NumPy and ONNX Runtime: it is also what a bundle for another device runs.
"""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

METHOD = 1
"""Version of the way of measuring; values of other versions are not compared."""

RESAMPLES = 2000
"""Resamples of the bootstrap: the ends of a 95 % interval then rest on 50 resamples each."""

CONFIDENCE = 0.95

LEAST_RUNS = 3
"""Runs of a burst that count, however long they take."""

DRIFT_LIMIT = 0.05
"""A control that moved by a larger share makes a session doubtful."""

CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""What a run is timed with, in seconds."""

OPTIMISATIONS = ("none", "basic", "extended", "all")

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def provider_name(provider: str) -> str:
    """Return the full name of an execution provider: ``cpu`` stands for ``CPUExecutionProvider``.

    Raises:
        ValueError: it is not among those of the installed ONNX Runtime.
    """
    known = onnxruntime.get_available_providers()
    for name in known:
        if provider.lower() in (name.lower(), name.removesuffix("ExecutionProvider").lower()):
            return str(name)
    raise ValueError(
        f"the execution provider '{provider}' is not in the installed ONNX Runtime {onnxruntime.__version__}, which "
        f"has {', '.join(known)}; install the build of onnxruntime that has it, or measure on the device with a bundle"
    )


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Model", "Hardware") and value.strip():
                return f"{value.strip()} ({platform.machine()})"
    return f"{platform.processor() or 'unknown'} ({platform.machine()})"


def session_options(threads: int, optimisation: str) -> Any:
    """Return ONNX Runtime's options: operators one after another, each on ``threads`` threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = {
        "none": levels.ORT_DISABLE_ALL,
        "basic": levels.ORT_ENABLE_BASIC,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "all": levels.ORT_ENABLE_ALL,
    }[optimisation]
    options.log_severity_level = 3
    return options


def open_session(model: bytes | str, options: Any, provider: str) -> Any:
    """Return an ONNX Runtime session on exactly this provider.

    Args:
        model: a serialised model, or the path of a file.
        options: as `session_options` makes them.
        provider: a name that `provider_name` takes.

    Raises:
        ValueError: the provider is not there, or cannot be started here: ONNX Runtime itself would go on silently
            with the CPU.
    """
    wanted = provider_name(provider)
    # The CPU takes the operators that another provider lacks.
    providers = [wanted] if wanted.startswith("CPU") else [wanted, "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    if session.get_providers()[0] != wanted:
        raise ValueError(
            f"ONNX Runtime cannot start {wanted} here and would use {session.get_providers()[0]} instead; its "
            "libraries are missing or do not fit the driver"
        )
    return session


def inputs(session: Any, batch: int, seed: int) -> dict[str, Any]:
    """Return an input for every input of a model: standard normal numbers, zeros for whole numbers.

    A first dimension that is free takes the batch.

    Raises:
        ValueError: another dimension is free or 0, or the type is none that can be made up.
    """
    draw = np.random.default_rng(seed)
    feeds: dict[str, Any] = {}
    for item in session.get_inputs():
        shape = [batch if place == 0 and not isinstance(n, int) else n for place, n in enumerate(item.shape)]
        if not all(isinstance(n, int) and n > 0 for n in shape):
            raise ValueError(
                f"the input '{item.name}' has the shape {item.shape}; every dimension but the first must be a fixed "
                "number above 0: export the network with a fixed input shape"
            )
        if item.type not in _TYPES:
            raise ValueError(
                f"the input '{item.name}' is of type {item.type}; latency is measured on tensors of numbers"
            )
        kind = _TYPES[item.type]
        floating = np.issubdtype(kind, np.floating)
        feeds[item.name] = draw.standard_normal(shape).astype(kind) if floating else np.zeros(shape, kind)
    return feeds


def time_rounds(
    runs: Sequence[Callable[[], object]],
    seeds: Sequence[int],
    *,
    warmup_ms: float,
    burst_ms: float,
    round_ms: float,
    clock: str = "wall",
) -> list[list[float]]:
    """Run everything in every round and return the medians of the bursts, [what][round], in ms.

    Args:
        runs: what to time.
        seeds: of the order in each round; as many as there are rounds.
        warmup_ms: how long each runs before the first round; at least twice.
        burst_ms: how long a burst goes on; at least `LEAST_RUNS` runs after one that does not count, since the caches
            still hold what ran before.
        round_ms: the time from one round's beginning to the next one's, at least, so that few models are not measured
            in one moment only.
        clock: ``wall``, or ``cpu`` for the time that this process computed.
    """
    medians: list[list[float]] = [[] for _ in runs]
    now = CLOCKS[clock]
    with _no_collection():
        for run in runs:
            run()
            _burst(run, warmup_ms, 1, now)
        for number, seed in enumerate(seeds):
            begin = time.perf_counter()
            order = list(range(len(runs)))
            random.Random(seed).shuffle(order)
            for index in order:
                runs[index]()
                medians[index].append(statistics.median(_burst(runs[index], burst_ms, LEAST_RUNS, now)))
            rest = round_ms / 1000 - (time.perf_counter() - begin)
            if rest > 0 and number < len(seeds) - 1:
                time.sleep(rest)
    return medians


def _burst(run: Callable[[], object], length_ms: float, least: int, now: Callable[[], float]) -> list[float]:
    found: list[float] = []
    end = time.perf_counter() + length_ms / 1000
    while len(found) < least or time.perf_counter() < end:
        begin = now()
        run()
        found.append((now() - begin) * 1000)
    return found


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    # Python's garbage collector would fall into a run now and then.
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def median_interval(medians: Sequence[Sequence[float]], seed: int) -> list[tuple[float, float, float]]:
    """Return (value, low, high) for each row of round medians: their median and its 95 % bootstrap interval.

    The rounds are resampled, the same ones for all rows.
    """
    table = np.asarray(medians, dtype=np.float64)
    count = table.shape[1]
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    tail = (1 - CONFIDENCE) / 2
    found = []
    for row in table:
        low, high = np.quantile(np.median(row[drawn], axis=1), (tail, 1 - tail))
        found.append((float(np.median(row)), float(low), float(high)))
    return found


def drift(control: Sequence[float]) -> float:
    """Return by which share of its median the control's rounds differ at most."""
    return (max(control) - min(control)) / statistics.median(control)


def environment(provider: str) -> dict[str, Any]:
    """Return where something is measured: processor, ONNX Runtime's version, the provider's full name."""
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 0,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "provider": provider_name(provider),
    }


def measure_models(
    models: Sequence[bytes | str], control: bytes | str, options: Mapping[str, Any], seeds: Sequence[int]
) -> dict[str, Any]:
    """Measure models and the control in one session, and return everything found, as plain data.

    Args:
        models: serialised models or paths.
        control: a model that tells how steady the machine was.
        options: ``threads``, ``optimisation``, ``provider``, ``batch``, ``warmup_ms``, ``burst_ms``, ``round_ms``,
            ``clock``.
        seeds: of the orders of the rounds, then one for the bootstrap: one more than there are rounds.

    Raises:
        ValueError: a model cannot be run; the message begins with its number.
    """
    settings = session_options(options["threads"], options["optimisation"])
    runs: list[Callable[[], object]] = []
    for number, model in enumerate([*models, control]):
        try:
            session = open_session(model, settings, options["provider"])
            feeds = inputs(session, options["batch"], 0)
            session.run(None, feeds)
        except ValueError as error:
            raise ModelError(number, str(error)) from None
        except Exception as error:
            # ONNX Runtime's exceptions have no common ancestor but this.
            raise ModelError(number, f"ONNX Runtime cannot run it: {error}") from None

        def run(session: Any = session, feeds: Any = feeds) -> object:
            return session.run(None, feeds)

        runs.append(run)
    times = {name: options[name] for name in ("warmup_ms", "burst_ms", "round_ms", "clock")}
    medians = time_rounds(runs, seeds[:-1], **times)
    found = median_interval(medians, seeds[-1])
    moved = drift(medians[-1])
    return {
        "method": METHOD,
        "environment": environment(options["provider"]),
        "control": {"value": found[-1][0], "rounds": medians[-1], "drift": moved},
        "steady": moved <= DRIFT_LIMIT,
        "models": [
            {"value": value, "low": low, "high": high, "confidence": CONFIDENCE, "rounds": medians[number]}
            for number, (value, low, high) in enumerate(found[:-1])
        ],
    }


class ModelError(ValueError):
    """A model cannot be measured.

    Args:
        number: its place among the models.
        reason: why.
    """

    def __init__(self, number: int, reason: str) -> None:
        self.number, self.reason = number, reason
        super().__init__(f"model {number}: {reason}")
