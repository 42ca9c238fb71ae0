"""ONNX Runtime for measuring: options, sessions, inputs, and the description of the machine.

A bundle copies this file and `measurement_rounds.py` to other devices, so both need only Python 3.9, NumPy and ONNX
Runtime.
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
    """Return the full name of an execution provider, such as ``CPUExecutionProvider`` for ``cpu``.

    Raises:
        ValueError: the installed ONNX Runtime does not have it.
    """
    available = onnxruntime.get_available_providers()
    for name in available:
        if provider.lower() in (name.lower(), name.removesuffix("ExecutionProvider").lower()):
            return str(name)
    raise ValueError(
        f"the execution provider '{provider}' is not in the installed ONNX Runtime {onnxruntime.__version__}, which "
        f"has {', '.join(available)}; install a build that has it, or measure on the device with a bundle"
    )


def processor() -> str:
    """Return the processor's name; ``unknown`` if the system does not have one."""
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
        options: from `session_options`.
        provider: full or short name; see `provider_name`.

    Raises:
        ValueError: the provider is not installed or cannot start on this machine. ONNX Runtime itself would use the CPU
            without an error.
    """
    name = provider_name(provider)
    # The CPU runs the operators that another provider lacks.
    providers = [name] if name.startswith("CPU") else [name, "CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    if session.get_providers()[0] != name:
        raise ValueError(
            f"ONNX Runtime cannot start {name} here and would use {session.get_providers()[0]} instead; its "
            "libraries are missing or do not match the driver"
        )
    return session


def inputs(session: Any, batch: int, seed: int) -> dict[str, Any]:
    """Return a tensor for every input of a model: standard normal numbers, zeros for whole numbers.

    Args:
        session: of the model.
        batch: the size of a first dimension that is free.
        seed: of the numbers.

    Raises:
        ValueError: another dimension is free or 0, or the type is not one of numbers.
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
    """Return the environment of a measurement: processor, ONNX Runtime's version, the provider's full name."""
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 0,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "provider": provider_name(provider),
    }
