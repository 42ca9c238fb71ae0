from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automl_nas.evaluation.evaluator import State
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.record.lines import with_checksums
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.trial import Trial

CONFIG: dict[str, Any] = {
    "seed": 0,
    "space": {"name": "toy"},
    "runtime": {"device": "cpu"},
    "executor": {"name": "in_process"},
    "checkpoint_seconds": 60.0,
    "problem": {"objectives": {"error": "minimize"}, "constraints": {"flops": "<= 330M"}},
    "stages": [
        {"name": "supernet", "strategy": {"name": "single_path"}, "problem": {}, "budget": {"trials": None}},
        {
            "name": "search",
            "strategy": {"name": "random"},
            "problem": {"constraints": {"params": {"limit": "<= 3M", "of": "search"}}},
            "budget": {"trials": 50},
        },
        {
            "name": "wide",
            "strategy": {"name": "random"},
            "problem": {"objectives": {"error": "minimize", "flops": "minimize"}},
            "budget": {"trials": None},
        },
    ],
    "final": {"from": "wide"},
}


def _trial(number: int, measured: float, *, flops: float = 1.0, stage: str = "search", **more: Any) -> Trial:
    architecture = Architecture({"a": number})
    return Trial(number, architecture, {"error": measured}, {"flops": flops}, stage=stage, seconds=0.25, **more)


@pytest.fixture
def unfinished(tmp_path: Path) -> Callable[..., RunDirectory]:
    """Makes the directory of a run that was killed, from its trials."""

    def make(*trials: Trial, started: tuple[int, ...] = ()) -> RunDirectory:
        directory = RunDirectory.create(tmp_path / "killed", CONFIG)
        directory.unlock()
        ledger = Ledger(directory.trials, writable=True)
        ledger.finished(trials)
        ledger.started(started)
        ledger.close()
        return directory

    return make


def _shown(program: Any, directory: Path, *options: object) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(program("show", directory, "--json", *options).stdout)
    return state


def test_a_complete_run(program: Any, finished: Callable[[], Path]) -> None:
    directory = finished()
    ran = json.loads((directory / "result.json").read_text())
    del ran["crc"]  # the checksum of the file
    shown = _shown(program, directory)
    assert (shown["status"], shown["stage"], shown["holder"]) == ("complete", None, None)
    assert [(stage["name"], stage["state"]) for stage in shown["stages"]] == [("search", "done"), ("final", "done")]
    search = shown["stages"][0]
    assert (search["trials"], search["budget"]) == (12, 12)
    assert {key: search["best"][key] for key in ran["best"]} == ran["best"]
    assert [trial["number"] for trial in search["pareto"]] == [trial["number"] for trial in ran["pareto"]]
    assert shown["result"] == ran
    text = program("show", directory).stdout
    assert "status: complete" in text
    assert "maximize accuracy; toy_cost <= 4" in text
    for line in program("resume", directory, "--quiet").stdout.split("\n\n")[0].splitlines():
        assert line in text  # the same summary


def test_the_best_so_far_is_feasible_complete_and_by_the_stage_s_objective(
    program: Any, unfinished: Callable[..., RunDirectory]
) -> None:
    directory = unfinished(
        _trial(0, 0.5),
        _trial(1, 0.1, violations={"flops <= 330M": 0.01}),
        _trial(2, 0.3, violations={"flops <= 330M": -0.2}),
        _trial(3, 0.0, state=State.FAILED, error="out of memory"),
        _trial(4, 0.2, state=State.PRUNED),
        _trial(5, 0.4, violations={"accuracy >= 1": math.inf}),
    )
    shown = _shown(program, directory.path)
    assert (shown["status"], shown["stage"], shown["result"]) == ("interrupted", "search", None)
    search = shown["stages"][1]
    assert search["best"]["number"] == 2
    assert search["states"] == {"complete": 4, "failed": 1, "pruned": 1, "infeasible": 2}
    assert search["constraints"] == {"flops": "<= 330M", "params": "<= 3M"}
    assert [trial["violations"] for trial in shown["history"]][-1] == {"accuracy >= 1": None}  # JSON has no infinity
    text = program("show", directory.path).stdout
    assert f"status: interrupted at stage 'search' (2 of 4); to continue: automl-nas resume {directory.path}" in text
    assert "best so far: trial 2 of stage 'search': error 0.3000, flops 1" in text
    assert "6/50" in text
    assert "out of memory" in text
    assert "misses a constraint" in text


def test_the_pareto_front_of_two_objectives(program: Any, unfinished: Callable[..., RunDirectory]) -> None:
    points = [(0.5, 1.0), (0.4, 2.0), (0.45, 2.0), (0.3, 9.0), (0.6, 0.5), (0.3, 10.0)]
    trials = [_trial(n, error, flops=flops, stage="wide") for n, (error, flops) in enumerate(points)]
    directory = unfinished(*trials)
    dominated = {
        n for n, (e, f) in enumerate(points) if any((x <= e and y <= f) and (x, y) != (e, f) for x, y in points)
    }
    shown = _shown(program, directory.path)
    front = [trial["number"] for trial in shown["stages"][2]["pareto"]]
    assert set(front) == set(range(len(points))) - dominated
    assert "Pareto front of stage 'wide' (4 networks):" in program("show", directory.path).stdout


def test_history_is_the_latest_or_the_best(program: Any, unfinished: Callable[..., RunDirectory]) -> None:
    directory = unfinished(*(_trial(n, error) for n, error in enumerate([0.3, 0.1, 0.5, 0.2]))).path
    assert [trial["number"] for trial in _shown(program, directory, "--history", 2)["history"]] == [2, 3]
    assert [trial["number"] for trial in _shown(program, directory, "--history", 2, "--best")["history"]] == [1, 3]
    assert _shown(program, directory, "--history", 0)["history"] == []
    assert "latest trials" not in program("show", directory, "--history", 0).stdout


def test_a_run_in_progress_is_only_read(program: Any, unfinished: Callable[..., RunDirectory]) -> None:
    directory = unfinished(_trial(0, 0.5), started=(1,))
    # One line whole, one damaged, one being written.
    whole = with_checksums([b'{"stage":"supernet","step":9,"loss":2.5'])
    directory.metrics.write_bytes(whole + b'\0\0\0\n{"stage":"search","st')
    with directory.trials.open("ab") as file:
        file.write(b'{"event":"finished","num')  # being written
    before = {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
    directory.lock()
    try:
        shown = _shown(program, directory.path)
        assert (shown["status"], shown["stage"]) == ("running", "search")
        assert shown["holder"].startswith("process ")
        assert shown["evaluating"] == [{"number": 1, "attempt": 1}]
        assert shown["stages"][0]["logged"] == {"stage": "supernet", "step": 9, "loss": 2.5}
        assert shown["damage"] == [{"file": str(directory.metrics), "line": 2, "trial": None}]
        assert "running at stage 'search' (2 of 4), process " in program("show", directory.path).stdout
        for path in before.keys() - {directory.path / "lock"}:
            assert path.read_bytes() == before[path]
    finally:
        directory.unlock()


def test_damage_is_named(program: Any, unfinished: Callable[..., RunDirectory]) -> None:
    directory = unfinished(_trial(0, 0.5), _trial(1, 0.125))
    directory.trials.write_text(directory.trials.read_text().replace("0.125", "0.025", 1))
    shown = _shown(program, directory.path)
    assert shown["damage"] == [{"file": str(directory.trials), "line": 2, "trial": 1}]
    assert shown["stages"][1]["best"]["number"] == 0
    assert f"warning: {directory.trials}, line 2 (trial 1): damaged" in program("show", directory.path).stdout


def test_a_complete_run_that_lost_trials_says_so(program: Any, finished: Callable[[], Path]) -> None:
    directory = finished()
    path = directory / "trials.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    assert _shown(program, directory)["damage"] == [{"file": str(path), "line": None, "trial": None}]
    shown = program("show", directory).stdout
    assert f"warning: {path}: it holds 11 of the 12 trials of the stage 'search' that result.json counts" in shown


def test_a_run_that_has_not_begun(program: Any, unfinished: Callable[..., RunDirectory]) -> None:
    directory = unfinished()
    shown = _shown(program, directory.path)
    assert (shown["status"], shown["stage"]) == ("interrupted", "supernet")
    assert [stage["state"] for stage in shown["stages"]] == ["interrupted", "waiting", "waiting", "waiting"]
    assert "interrupted at stage 'supernet' (1 of 4)" in program("show", directory.path).stdout


def test_no_run(program: Any, tmp_path: Path) -> None:
    assert "holds no config.yaml" in program("show", tmp_path, code=2).stderr
