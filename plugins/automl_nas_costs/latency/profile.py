"""The time of each operator and module of a network, by ONNX Runtime's profiler."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from automl_nas_costs.latency.engine import inputs, open_session, session_options
from automl_nas_costs.latency.options import LatencyOptions

RUNS = 20
"""Profiled runs that count, after half as many that do not; their median is robust against disturbed runs."""

_SCOPES = "pkg.torch.onnx.name_scopes"
_FUSED = 3  # most nodes that ONNX Runtime fuses into the one before them: a sum, an activation, a clip


@dataclass(frozen=True)
class NodeTime:
    """One node that ONNX Runtime runs.

    Attributes:
        name: after optimisation; a fused node often has the name of the last node fused into it.
        operator: e.g. ``Conv``.
        ms: median time of one run.
    """

    name: str
    operator: str
    ms: float


def node_times(model: bytes, options: LatencyOptions) -> list[NodeTime]:
    """Return what ONNX Runtime runs, in order.

    Optimisation fuses nodes: a convolution's time includes that of the activation after it. The nodes that ONNX Runtime
    adds to convert layouts are listed, too. Profiling itself takes time, so the sum is above the latency; the shares
    are not affected.

    Args:
        model: with fixed shapes.
        options: threads, optimisation, provider and batch of the session.
    """
    settings = session_options(options.threads, options.optimisation)
    with tempfile.TemporaryDirectory() as folder:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(Path(folder) / "profile")
        session = open_session(model, settings, options.provider)
        feeds = inputs(session, options.batch, 0)
        for _ in range(RUNS + RUNS // 2):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"].removesuffix("_kernel_time"), str(event["args"].get("op_name", ""))
            times.setdefault(key, []).append(event["dur"] / 1000)
    return [NodeTime(*key, statistics.median(runs[RUNS // 2 :])) for key, runs in times.items()]


def by_module(times: Collection[NodeTime], modules: Collection[str], model: bytes) -> dict[str, float]:
    """Return module path -> ms of its own nodes; nodes outside of modules are listed under the empty path.

    Args:
        times: from `node_times`.
        modules: the paths of all modules of the network.
        model: as torch exported it.
    """
    graph = onnx.load_from_string(model).graph
    makers = {output: node for node in graph.node for output in node.output if output}
    named = {node.name: node for node in graph.node}
    by_path: dict[str, float] = {}
    for item in times:
        plain = item.name.removesuffix("_nchwc")
        node = named.get(plain) or makers.get(plain)
        node = node and _fused_into(node, item.operator, makers)
        path = _path(_scopes(node) if node else item.name.split("/")[1:-1], modules)
        by_path[path] = by_path.get(path, 0.0) + item.ms
    return by_path


def _fused_into(node: Any, operator: str, makers: Mapping[str, Any]) -> Any:
    """Return the node whose operator a fused node has: the convolution of one that has the name of its ReLU."""
    unfused = operator.removeprefix("Fused").removeprefix("Nhwc")
    level = [node]
    for _ in range(_FUSED + 1):
        for candidate in level:
            if candidate.op_type == unfused:
                return candidate
        level = [makers[name] for candidate in level for name in candidate.input if name in makers]
    return node


def _scopes(node: Any) -> list[str]:
    """Return the modules that contain a node: from its name (torch's older exporter) or metadata (the newer one)."""
    for item in node.metadata_props:
        if item.key == _SCOPES:
            return [part.strip(" '\"") for part in item.value.strip("[]").split(",")][:-1]
    parts: list[str] = node.name.split("/")[1:-1]
    return parts


def _path(scopes: list[str], modules: Collection[str]) -> str:
    """Return the path of the module of scopes such as ``["f", "f.0", "f.0.1"]`` or ``["layer1", "layer1.0", "conv1"]``.

    Torch writes a module's path relative to some module above it, not always the nearest, and leaves out containers
    that are not called themselves.
    """
    current = ""
    for scope in scopes:
        tails = [f"{current}.{scope}" if current else scope]
        head = scope.rpartition(".")[0]
        while head:
            if current == head or current.endswith(f".{head}"):
                tails.insert(0, current[: len(current) - len(head)] + scope)
                break
            head = head.rpartition(".")[0]
        match = next((path for path in (*tails, scope) if path in modules), None)
        if match is None:
            start, end = f"{current}." if current else "", f".{scope}"
            below = [path for path in modules if path.startswith(start) and path.endswith(end)]
            match = below[0] if len(below) == 1 else current
        current = match
    return current
