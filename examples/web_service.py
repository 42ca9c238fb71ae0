"""A web service that searches, with the standard library alone.

    python examples/web_service.py 8080
    curl -X POST -d '{"seed": 1}' localhost:8080/runs      start a run: {"run": 0}
    curl localhost:8080/runs/0                             its status, and its result when it is complete
    curl -X DELETE localhost:8080/runs/0                   stop it at its next safe point
    curl -X POST localhost:8080/runs/0                     continue it

Runs work one after the other in one thread. What is requested while a run works waits, and can be stopped too.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import automl_nas
from automl_nas.errors import AutoMLNASError, RunInterrupted
from automl_nas.run import RunState

CONFIG: dict[str, Any] = {
    "task": "digits",
    "space": {"name": "shufflenet_v2", "stem_stride": 1, "widths": [16, 32], "repeats": [1, 1], "strides": [1, 2]},
    "problem": {"constraints": {"params": "<= 0.99 * largest"}},
    "stages": [
        {"name": "supernet", "strategy": {"name": "single_path", "train": {"epochs": 40}}},
        {"name": "search", "strategy": "evolution", "evaluator": "supernet_weights", "budget": {"trials": 100}},
    ],
    "final": {"train": {"epochs": 40}},
}


class Runs:
    """The runs of the service. Every method can be called in any thread.

    Args:
        folder: of the run directories.
        config: the configuration of all runs, without a seed.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder, self.config = folder, config
        self.lock = threading.Lock()
        self.thread = ThreadPoolExecutor(1)
        self.seeds: list[int] = []
        self.work: dict[int, tuple[threading.Event, Future[automl_nas.Result]]] = {}

    def start(self, seed: int) -> int:
        """Start a run; return its number."""
        with self.lock:
            self.seeds.append(seed)
        self.go_on(len(self.seeds) - 1)
        return len(self.seeds) - 1

    def go_on(self, run: int) -> None:
        """Start or continue a run; nothing happens if it waits or works already."""
        with self.lock:
            if run in self.work and not self.work[run][1].done():
                return
            stop, config = threading.Event(), {**self.config, "seed": self.seeds[run]}
            self.work[run] = (
                stop,
                self.thread.submit(
                    automl_nas.search, config, out=self.folder / str(run), resume=True, stop=stop, progress="none"
                ),
            )

    def stop(self, run: int) -> None:
        """Stop a run at its next safe point."""
        self.work[run][0].set()

    def status(self, run: int) -> dict[str, Any]:
        """Return the status of a run, and its result when it is complete."""
        future, path = self.work[run][1], self.folder / str(run)
        if not future.done():
            state = RunState.read(path) if (path / "config.yaml").exists() else None
            trials = 0 if state is None else sum(len(stage.trials) for stage in state.stages)
            return {"status": "working" if future.running() else "waiting", "trials": trials}
        error = future.exception()
        if isinstance(error, RunInterrupted):
            return {"status": "stopped"}
        if error is not None:
            return {"status": "failed", "error": str(error) if isinstance(error, AutoMLNASError) else repr(error)}
        result = future.result()
        architecture = dict(result.architecture) if result.found else None
        return {"status": "complete", "architecture": architecture, "metrics": dict(result.metrics)}


class Handler(BaseHTTPRequestHandler):
    """Answers the requests; a subclass has the runs."""

    runs: Runs

    def do_POST(self) -> None:
        if self.path == "/runs":
            try:
                seed = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}").get("seed", 0)
            except (ValueError, AttributeError):
                seed = None
            if not isinstance(seed, int) or seed < 0:
                return self.answer(400, {"error": 'send JSON such as {"seed": 1}'})
            return self.answer(202, {"run": self.runs.start(seed)})
        if (run := self.run()) is not None:
            self.runs.go_on(run)
            self.answer(202, self.runs.status(run))

    def do_GET(self) -> None:
        if (run := self.run()) is not None:
            self.answer(200, self.runs.status(run))

    def do_DELETE(self) -> None:
        if (run := self.run()) is not None:
            self.runs.stop(run)
            self.answer(202, self.runs.status(run))

    def run(self) -> int | None:
        """Return the run that the path names; without one, send an error."""
        name = self.path.removeprefix("/runs/")
        if name.isdecimal() and int(name) in self.runs.work:
            return int(name)
        self.answer(404, {"error": f"there is no {self.path}"})
        return None

    def answer(self, code: int, content: Mapping[str, Any]) -> None:
        """Send plain data as JSON."""
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def make_server(port: int, runs: Runs) -> ThreadingHTTPServer:
    """Return the server; it is reachable from this machine only."""
    return ThreadingHTTPServer(("127.0.0.1", port), type("RunsHandler", (Handler,), {"runs": runs}))


if __name__ == "__main__":
    make_server(int(sys.argv[1]), Runs(Path("runs"), CONFIG)).serve_forever()
