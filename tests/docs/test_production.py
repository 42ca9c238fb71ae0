"""The scripts for programs and web services have the types they claim, and do what they say."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError

import pytest
from docs.pages import ROOT
from docs.test_examples import load

import automl_nas
from automl_nas.testing import ToyCost, ToyEvaluator, ToySpace

EXAMPLES = ROOT / "examples"
SCRIPTS = ("production.py", "web_service.py")


@pytest.mark.slow
@pytest.mark.process
def test_the_scripts_of_a_user_pass_mypy_strict() -> None:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", *(f"examples/{name}" for name in SCRIPTS)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow
def test_the_program_goes_on_until_the_run_is_complete(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    program = load(EXAMPLES / "production.py")
    supernet, evolution = program.CONFIG["stages"]
    supernet["strategy"]["train"]["epochs"] = evolution["strategy"]["generations"] = 1
    program.CONFIG["final"]["train"]["epochs"] = 1
    search, sessions = program.search, 0

    def short_at_first(directory: Path, stop: threading.Event, seconds: float) -> automl_nas.Result | None:
        nonlocal sessions
        sessions += 1
        found: automl_nas.Result | None = search(directory, stop, 1e-6 if sessions <= 2 else seconds)
        return found

    monkeypatch.setattr(program, "search", short_at_first)
    first, second = program.main(tmp_path / "run", seconds=3600.0).splitlines()
    assert first.startswith("accuracy 0.") and second.startswith("accuracy 0.")
    assert first.partition(" parameters: ")[2] == second.partition(" parameters: ")[2]
    assert sessions == 3
    assert sum("the timeout of 1e-06 s is over" in message for message in caplog.messages) == 2
    assert program.main(tmp_path / "run").splitlines() == [first, second]  # complete: nothing is done again
    monkeypatch.setitem(program.CONFIG, "seed", 2)
    assert program.main(tmp_path / "run").startswith("no result: ") and sessions == 5


@pytest.fixture(scope="module")
def service() -> ModuleType:
    return load(EXAMPLES / "web_service.py")


class Client:
    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def __call__(self, method: str, path: str, content: Any = None) -> tuple[int, dict[str, Any]]:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.address + path, body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, json.load(reply)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def wait_for(self, path: str, *statuses: str) -> Mapping[str, Any]:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            _, answer = self("GET", path)
            if answer["status"] in statuses:
                return answer
            time.sleep(0.02)
        raise AssertionError(answer)


class SlowToy(ToyEvaluator):
    """Evaluates after a moment, so that a run is still at work when the next request arrives."""

    def evaluate(self, requests: Any) -> Iterator[Any]:
        for outcome in super().evaluate(requests):
            time.sleep(0.02)
            yield outcome


def toy_config(trials: int) -> dict[str, Any]:
    return {
        "space": ToySpace(blocks=3),
        "problem": {"objectives": {"accuracy": "maximize"}, "costs": {"toy_cost": ToyCost}},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [{"name": "search", "strategy": "random", "evaluator": SlowToy, "budget": {"trials": trials}}],
    }


def test_a_web_service_starts_shows_stops_and_continues_runs(service: ModuleType, tmp_path: Path) -> None:
    config = toy_config(30)
    server = service.make_server(0, service.Runs(tmp_path, config))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = Client(server.server_address[1])
    try:
        assert [client("POST", "/runs", {"seed": seed}) for seed in (1, 2)] == [(202, {"run": 0}), (202, {"run": 1})]
        client.wait_for("/runs/0", "working")
        assert client("GET", "/runs/1")[1]["status"] == "waiting"
        while client("GET", "/runs/0")[1].get("trials", 0) < 3:
            time.sleep(0.02)
        assert client("DELETE", "/runs/0")[0] == 202
        client.wait_for("/runs/0", "stopped")
        assert client("POST", "/runs/0")[0] == 202
        answers = [client.wait_for(f"/runs/{run}", "complete", "failed") for run in (0, 1)]
        for seed, answer in zip((1, 2), answers, strict=True):
            result = automl_nas.search({**config, "seed": seed}, progress="none")
            assert answer == {
                "status": "complete",
                "architecture": dict(result.architecture),
                "metrics": dict(result.metrics),
            }
        assert client("GET", "/runs/7")[0] == client("DELETE", "/runs/x")[0] == 404
        assert client("POST", "/runs", [1])[0] == client("POST", "/runs", {"seed": -1})[0] == 400
        (tmp_path / "2").write_text("a file where a run directory is needed")
        assert client("POST", "/runs")[1] == {"run": 2}
        assert "2" in client.wait_for("/runs/2", "failed")["error"]
    finally:
        server.shutdown()
        server.server_close()
