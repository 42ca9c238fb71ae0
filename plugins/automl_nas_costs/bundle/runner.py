"""Measure the models of this folder and write results.json. It needs Python 3.9, numpy and onnxruntime::

    python run.py
    python run.py --provider CUDAExecutionProvider --threads 4 --rounds 15

All models run once in every round, in random order; see latency/measurement_rounds.py. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

OPTIONS = (
    "threads",
    "optimisation",
    "provider",
    "batch",
    "rounds",
    "burst_ms",
    "warmup_ms",
    "round_ms",
    "clock",
    "paired",
)


def main() -> int:
    """Measure, and return an exit code: 0, or 1 if no model could be measured."""
    folder = Path(__file__).resolve().parent
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description="Measure the latency of this folder's models in ONNX Runtime.")
    for name in OPTIONS:
        if name != "batch":  # the models are exported for one batch
            default = manifest["options"][name]
            flag, text = "--" + name.replace("_", "-"), "default: " + str(default)
            if isinstance(default, bool):
                parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
            else:
                kind = float if name.endswith("_ms") else type(default)
                parser.add_argument(flag, type=kind, default=default, help=text)
    parser.add_argument("--at-once", type=int, default=0, help="models in one session (default: all of them)")
    parser.add_argument("--out", type=Path, default=folder / "results.json", help="default: results.json")
    arguments = parser.parse_args()
    options = {name: getattr(arguments, name, manifest["options"][name]) for name in OPTIONS}
    if options["rounds"] < 5:
        parser.error("--rounds must be at least 5")
    sys.path.insert(0, str(folder))
    engine, rounds = (importlib.import_module(f"latency.{name}") for name in ("engine", "measurement_rounds"))
    try:
        engine.provider_name(options["provider"])
    except ValueError as error:
        parser.error(str(error))
    files = [item["file"] for item in manifest["models"]]
    measured: dict[str, Any] = {}
    sessions: list[Any] = []
    pending = list(files)
    while pending:
        size = arguments.at_once or len(pending)
        part, pending = pending[:size], pending[size:]
        while part:
            print(f"measuring {len(part)} of {len(files)} models", flush=True)
            seeds = _seeds(manifest["seed"], len(sessions), options["rounds"])
            models = [str(folder / name) for name in part]
            try:
                session = rounds.measure_models(models, str(folder / manifest["control"]), options, seeds)
            except rounds.ModelError as error:
                if error.number >= len(part):
                    raise
                print(f"{part[error.number]}: {error.reason}", file=sys.stderr)
                measured[part.pop(error.number)] = {"error": error.reason}
                continue
            for name, item in zip(part, session.pop("models")):  # noqa: B905 - Python 3.9 has no strict
                measured[name] = dict(item, session=len(sessions))
            sessions.append(session)
            break
    results = {
        "bundle": manifest["bundle"],
        "options": options,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "sessions": sessions,
        "models": measured,
    }
    beside = arguments.out.with_name(arguments.out.name + ".part")
    beside.write_text(json.dumps(results, indent=1), encoding="utf-8")
    beside.replace(arguments.out)
    count = sum("value" in item for item in measured.values())
    print(f"{count} of {len(files)} models measured; wrote {arguments.out}")
    for number, session in enumerate(sessions):
        if not session["steady"]:
            moved = 100 * session["control"]["drift"]
            print(f"session {number}: the device was not steady, the control moved by {moved:.0f} %")
    return 0 if count else 1


def _seeds(seed: int, session: int, count: int) -> list[int]:
    # One for the order of each round, one for the bootstrap.
    return [(seed + 1_000_003 * session + 7919 * number) % (1 << 63) for number in range(count + 1)]


if __name__ == "__main__":
    raise SystemExit(main())
