"""The command or call that continues a run, for messages."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.ranks import started_by_torchrun
from automl_nas.plugin.references import PYTHON

_REFERENCE = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")


def way_to_resume(directory: Path, config: Mapping[str, Any], ranks: int = 1) -> str:
    """Return the command that continues a run; for a run with Python objects the call.

    Args:
        directory: the run directory.
        config: its resolved configuration.
        ranks: number of processes of torchrun; in a process that torchrun started, they are those that it started.
    """
    launcher = _launcher(ranks)
    if has_python_objects(config):
        call = f"automl_nas.search(..., out={str(directory)!r}, resume=True)"
        return f"{call} in Python, with the objects of the run{f', by {launcher} SCRIPT' if launcher else ''}"
    command = f"automl-nas resume {shlex.quote(str(directory))}{' --trust' if _has_references(config) else ''}"
    return f"{launcher} --no-python {command}" if launcher else command


def _launcher(ranks: int) -> str:
    """Return the beginning of the command that starts as many processes; empty for one."""
    try:
        several = started_by_torchrun()
    except ConfigurationError:  # which is reported where processes are connected
        several = False
    if several:
        machines, local = os.environ.get("GROUP_WORLD_SIZE", "1"), os.environ.get("LOCAL_WORLD_SIZE", "1")
        there = f" --nnodes {machines}" if machines != "1" else ""
        return f"torchrun{there} --nproc-per-node {local}{' [its rendezvous options]' if there else ''}"
    return f"torchrun --nproc-per-node {ranks}" if ranks > 1 else ""


def way_to_export(directory: Path, config: Mapping[str, Any], network: int | None = None) -> str:
    """Return the command that exports the network of a complete run in another format; see `way_to_resume`.

    Args:
        directory: the run directory.
        config: its resolved configuration.
        network: one of several delivered networks; None: the delivered network.
    """
    final = config.get("final") or {}
    needed = {key: final.get(key, config.get(key)) for key in ("space", "task")}
    options = [f" --{key} module:function" for key, part in needed.items() if has_python_objects(part)]
    trust = " --trust" if options or _has_references(needed) else ""
    which = "" if network is None else f" --network {network}"
    return f"automl-nas export {shlex.quote(str(directory))} --format NAME{which}{''.join(options)}{trust}"


def has_python_objects(config: Any) -> bool:
    """Whether a resolved configuration, or a part of it, names Python objects, which no file can hold."""
    return any(text.startswith(PYTHON) for _, text in _strings(config))


def _has_references(config: Any) -> bool:
    """Whether a component is named by a reference ``package.module:Class``, whose import needs consent."""
    return any(key in ("name", "teacher") and _REFERENCE.fullmatch(text) for key, text in _strings(config))


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the strings in plain data, each with the key of the mapping that holds it."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _strings(item, str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item, key)
