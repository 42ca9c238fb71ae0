"""What two runs of one configuration must have in common: everything that a run writes, but for times."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TIMES = ("seconds", "time", "worker", "crc")
"""Fields of a trial that are not compared: duration, time of the record, worker, and the checksum over them."""

NOT_COMPARED = ("checkpoints", "lock", "trials.jsonl", "optuna_queue.json")
"""Checkpoints hold the time spent in a stage; ``trials.jsonl`` is compared without attempts and times; the file of the
queue holds a random identifier of the run."""


def record(directory: Path, masked: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return what a run wrote: ``file`` or ``trial N`` -> digest, or content without what is masked.

    Args:
        directory: of a complete run.
        masked: names of measured values; JSON files are compared without them.
    """
    recorded: dict[str, Any] = {}
    for line in (directory / "trials.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry.pop("event") == "finished":
            for name in TIMES:
                entry.pop(name, None)
            key = f"trial {entry['number']:05d}"
            assert key not in recorded, f"{key} was recorded twice"
            recorded[key] = json.dumps(_masked(entry, masked))
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if not path.is_file() or name.split("/")[0] in NOT_COMPARED or (masked and name == "measured.json"):
            continue
        content = path.read_bytes()
        if masked and path.suffix in (".json", ".jsonl"):
            lines = content.splitlines() if path.suffix == ".jsonl" else [content]
            recorded[name] = [json.dumps(_masked(json.loads(line), masked)) for line in lines]
        elif path.suffix in (".json", ".jsonl"):
            recorded[name] = content.decode().splitlines()
        elif masked and path.suffix == ".onnx":
            recorded[name] = _graph(path)
        else:
            recorded[name] = hashlib.sha256(content).hexdigest()
    return recorded


def _graph(path: Path) -> str:
    """Return the digest of an ONNX file without its metadata, which name the costs."""
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return a line for each difference of two records."""
    return list(_differences(first, second))


def _differences(first: dict[str, Any], second: dict[str, Any]) -> Iterator[str]:
    for name in sorted({*first, *second}):
        if name not in second or name not in first:
            yield f"{name}: only in the {'reference' if name in first else 'killed run'}"
        elif first[name] != second[name]:
            if isinstance(first[name], list):
                pairs = [pair for pair in zip(first[name], second[name], strict=False) if pair[0] != pair[1]]
                lengths = len(first[name]), len(second[name])
                yield f"{name}: {_first_difference(*pairs[0]) if pairs else lengths}"
            else:
                yield f"{name}: {_first_difference(first[name], second[name])}"


def _first_difference(first: str, second: str) -> str:
    place = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), 0)
    begin = max(0, place - 60)
    return f"...{first[begin : place + 60]}... / ...{second[begin : place + 60]}..."


def _masked(value: Any, masked: frozenset[str]) -> Any:
    if isinstance(value, dict):
        return {key: "masked" if key in masked else _masked(item, masked) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, masked) for item in value]
    return value
