"""ONNX Runtime as it is used for measuring: options, sessions, inputs, and what there is to say of the machine.

Like `rounds.py` beside it this file goes to other devices, so it needs only Python 3.9, NumPy and ONNX Runtime.
"""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

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


def environment(provider: str) -> dict[str, Any]:
    """Return where something is measured: processor, ONNX Runtime's version, the provider's full name."""
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 0,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "provider": provider_name(provider),
    }
