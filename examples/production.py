"""Search in a program: with a time limit for each session, in a thread that can be stopped, continued until it is done.

    python examples/production.py runs/digits

Start it again after an interruption, and it continues.
"""

from __future__ import annotations

import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import automl_nas
from automl_nas.errors import RunFailedError, RunInterrupted, UserError

CONFIG: dict[str, Any] = {
    "task": "digits",
    "space": {"name": "shufflenet_v2", "stem_stride": 1, "widths": [16, 32], "repeats": [1, 1], "strides": [1, 2]},
    "problem": {"constraints": {"params": "<= 0.99 * largest"}},
    "stages": [
        {"name": "supernet", "strategy": {"name": "single_path", "train": {"epochs": 2}}},
        {
            "name": "search",
            "strategy": {"name": "evolution", "population": 5, "generations": 2},
            "evaluator": {"name": "supernet_weights", "recalibration_images": 256},
        },
    ],
    "final": {"train": {"epochs": 2}},
    "runtime": {"threads": 1},
}

log = logging.getLogger("my_program")


def search(directory: Path, stop: threading.Event, seconds: float) -> automl_nas.Result | None:
    """Work on the run in a directory for some seconds; None: it is not complete yet."""
    try:
        return automl_nas.search(CONFIG, out=directory, resume=True, stop=stop, timeout=seconds, progress="log")
    except RunInterrupted as interruption:
        log.info("%s: %s", interruption.cause, interruption)
        return None


def describe(result: automl_nas.Result) -> str:
    """Return what a run found."""
    if not result.found:
        return "; ".join(shortcoming.message for shortcoming in result.shortcomings)
    accuracy = result.metrics["accuracy"]
    params = result.best.costs["params"]
    return f"accuracy {accuracy:.3f} with {params:,.0f} parameters: {dict(result.architecture)}"


def main(directory: Path, seconds: float = 600.0) -> str:
    """Search in a thread until the run is complete, then train the network it found again, with another seed."""
    stop = threading.Event()
    try:
        with ThreadPoolExecutor(1) as threads:
            try:
                while (result := threads.submit(search, directory, stop, seconds).result()) is None:
                    log.info("not complete yet; going on")
            finally:
                stop.set()  # Ctrl-C here, in the main thread, also ends the run in the other one
    except (UserError, RunFailedError) as error:
        return f"no result: {error}"
    again = directory.with_name(f"{directory.name}-again")
    trained = (
        automl_nas.resume(again)
        if again.exists()
        else automl_nas.retrain(directory, out=again, final={"seeds": 2}, progress="none")
    )
    assert automl_nas.open_run(again).architecture == trained.architecture
    return f"{describe(result)}\n{describe(trained)}"


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    print(main(Path(sys.argv[1])))
