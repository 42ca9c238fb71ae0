from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import automl_nas


def _result(directory: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((directory / "result.json").read_text())
    return result


def test_the_summary_says_what_the_result_holds(program: Any) -> None:
    shown = program("run", program.config, "--out", "done").stdout
    result = _result(program.folder / "done")
    for name, option in result["architecture"].items():
        assert f"{name}={option}" in shown
    for network in result["final"]["networks"]:
        row = next(line for line in shown.splitlines() if line.startswith(f"{network['role']} ") and ":" not in line)
        cells = row.replace("*", " ").split()
        assert cells == [
            network["role"],
            f"{network['costs']['toy_cost']:,}",
            f"{network['costs']['params']:,}",
            f"{network['test']['accuracy']:.4f}",
        ]
    assert re.search(r"network +toy_cost +params +test accuracy", shown)
    assert re.search(r"\n +units +parameters\n", shown)
    for item in result["final"]["comparison"]:
        assert f"found - {item['with']}: accuracy {item['difference']:+.4f}" in shown
    for name in result["final"]["files"]:
        assert f"  done/{name}\n" in shown
    assert "run directory: done\n" in shown
    assert re.search(r"^time: \d", shown, re.MULTILINE)


def test_a_comparison_says_whether_it_exceeds_the_noise() -> None:
    from automl_nas.cli.summary import summary

    def network(role: str, accuracy: float, interval: list[float] | None) -> dict[str, Any]:
        intervals = {} if interval is None else {"accuracy": interval}
        return {
            "role": role,
            "trial": None,
            "seed": 0,
            "architecture": {"a": 1},
            "costs": {"flops": 322_918_720},
            "test": {"accuracy": accuracy},
            "test_interval": intervals,
        }

    result = {
        "architecture": {"a": 1},
        "stage": "s",
        "stages": [{"name": "s", "units": {"flops": "multiply-adds"}}],
        "best": None,
        "pareto": [],
        "final": {
            "metric": "accuracy",
            "chosen": 0,
            "networks": [
                network("found", 0.9, [0.87, 0.93]),
                network("largest", 0.89, [0.86, 0.92]),
                network("random", 0.5, None),
            ],
            "comparison": [
                {
                    "with": "largest",
                    "network": 1,
                    "difference": 0.01,
                    "interval": [-0.03, 0.05],
                    "exceeds_noise": False,
                },
                {"with": "largest", "network": 1, "difference": 0.1, "interval": [0.06, 0.14], "exceeds_noise": True},
                {"with": "random", "network": 2, "difference": 0.4},
            ],
            "settings": {"seeds": 1},
            "files": [],
        },
    }
    lines = summary(Path("d"), result)
    assert "found *  322,918,720 (322.9M)        0.9000 [0.8700, 0.9300]" in lines
    assert "found - largest: accuracy +0.0100, 95 % interval [-0.0300, +0.0500]: does not exceed the noise" in lines
    assert "found - largest: accuracy +0.1000, 95 % interval [+0.0600, +0.1400]: exceeds the noise" in lines
    assert any(line.startswith("found - random: accuracy +0.4000; no interval is known") for line in lines)


def test_without_a_final_stage_the_best_trial_is_shown(program: Any) -> None:
    shown = program("run", program.config, "--set", "final=null", "--out", "done").stdout
    best = _result(program.folder / "done")["best"]
    assert f"best trial ({best['number']} of stage 'search'): accuracy {best['metrics']['accuracy']:.4f}" in shown
    assert f"toy_cost {best['costs']['toy_cost']} units" in shown


def test_a_search_that_found_nothing_has_failed_and_says_why(program: Any) -> None:
    limit = ("--set", "final=null", "--set", "problem.constraints.accuracy='>= 2'")
    done = program("run", program.config, *limit, "--out", "none", code=1)
    assert "no feasible network was found" in done.stdout
    (shortcoming,) = automl_nas.open_run("none").shortcomings
    assert f"warning: {shortcoming.message}" in done.stderr.splitlines()
    assert f"warning: {shortcoming.message}" in program("show", "none").stdout.splitlines()
    assert re.search(
        r"no trial of the stage 'search' meets the constraints; .* misses accuracy >= 2 by \d", done.stderr
    )


def test_runs_get_folders_of_their_own(program: Any) -> None:
    short = ("--set", "final=null", "--set", "stages.search.budget.trials=2")
    for number in (1, 2):
        shown = program("run", program.config, *short)
        assert f"run directory: runs/toy-{number}\n" in shown.stdout
        assert f"run directory: runs/toy-{number}\n" in shown.stderr  # at once, for who wants to watch or resume it
    first, second = (_result(program.folder / "runs" / f"toy-{n}") for n in (1, 2))
    assert first == second


def test_progress_is_one_line_at_each_end_of_a_stage(program: Any) -> None:
    stderr = program("run", program.config, "--out", "done").stderr
    assert [re.sub(r"[\d.]+ s\)", "T)", line) for line in stderr.splitlines()] == [
        "rehearsing the export of a network with fresh weights (safetensors)",
        "run directory: done",
        "stage 1/2 search: started",
        "stage 1/2 search: done (12 trials, T)",
        "stage 2/2 final: started",
        "stage 2/2 final: done (9 iterations, T)",  # three networks, one epoch of 32 + 16 images in batches of 16
    ]


def test_quiet_leaves_stderr_empty_and_the_result_on_stdout(program: Any) -> None:
    shown = program("run", program.config, "--out", "done", "--quiet")
    assert shown.stderr == ""
    assert "found architecture:" in shown.stdout


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("blocks: 3", "blocs: 3", "toy.yaml:2", "did you mean 'blocks'?"),
        ("trials: 12", "trials: -1", "toy.yaml:12", "stages[0].budget.trials: a budget must be positive"),
        ("strategy: random", "strategy: rendom", "toy.yaml:10", "did you mean 'random'?"),
        ("seed: 3", "sead: 3", "toy.yaml:1", "did you mean 'seed'?"),
        ("epochs: 1", "epochs: one", "toy.yaml:14", "must be a whole number"),
        ("threads: 1}", "threads: 1", "toy.yaml:", "not valid YAML"),
        ("<= 4", "<= four", "toy.yaml:5", "cannot read the constraint '<= four'"),
    ],
)
def test_a_wrong_configuration_is_located_and_leaves_nothing_behind(
    program: Any, old: str, new: str, place: str, message: str
) -> None:
    text = program.config.read_text()
    assert old in text
    program.config.write_text(text.replace(old, new))
    shown = program("run", program.config, code=2)
    assert shown.stdout == ""
    assert shown.stderr.startswith("error: ")
    assert place in shown.stderr
    assert message in shown.stderr
    assert len(shown.stderr.splitlines()) == 1
    assert not (program.folder / "runs").exists()


def test_an_override_is_named_as_the_place_of_an_error(program: Any) -> None:
    shown = program("run", program.config, "--set", "stages.search.strategy.atempts=2", code=2)
    assert shown.stderr.startswith("error: --set stages.search.strategy.atempts=2: stages[0].strategy.atempts: ")
    assert "did you mean 'attempts'?" in shown.stderr


def test_impossible_constraints_say_by_how_much(program: Any) -> None:
    shown = program("run", program.config, "--set", "problem.constraints.toy_cost='>= 9'", code=2)
    assert "the largest one has 6 units, 3 less than the limit" in shown.stderr  # 3 blocks of at most 2


def test_a_folder_with_something_in_it_is_refused(program: Any) -> None:
    (program.folder / "full").mkdir()
    (program.folder / "full" / "thesis.txt").write_text("precious")
    shown = program("run", program.config, "--out", "full", code=2)
    assert "full is not empty" in shown.stderr
    assert [path.name for path in (program.folder / "full").iterdir()] == ["thesis.txt"]


def test_a_failed_run_ends_with_1_and_says_where_its_record_is(program: Any) -> None:
    failing = "stages.search.evaluator={name: toy, failing: {d0: 0, d1: 0, d2: 0}}"
    shown = program(
        "run", program.config, "--out", "bad", "--set", failing, "--set", "stages.search.max_failures=1", code=1
    )
    error = shown.stderr.splitlines()[-1]
    assert error.startswith("error: 1 trials in a row failed in the stage 'search'")
    assert "recorded in bad" in shown.stderr
    assert "Traceback" not in shown.output


@pytest.mark.parametrize("way", ["--debug", "environment"])
def test_debug_shows_the_traceback_of_an_error(program: Any, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way == "environment":
        monkeypatch.setenv("AUTOML_NAS_DEBUG", "1")
    options = [way] if way == "--debug" else []
    shown = program("run", "nothing.yaml", *options, code=2)
    assert shown.stderr.startswith("Traceback")
    assert shown.stderr.endswith("error: cannot read nothing.yaml: No such file or directory\n")
    monkeypatch.delenv("AUTOML_NAS_DEBUG", raising=False)
    assert program("run", "nothing.yaml", code=2).stderr.startswith("error:")  # nothing is left of it


def _stopping(program: Any, at: int) -> tuple[str, ...]:
    evaluator = json.dumps({"name": "stopping", "at": at, "marker": str(program.folder / "marker")})
    return ("--set", f"stages.search.evaluator={evaluator}")


def test_an_interrupted_run_says_how_to_continue_and_ends_as_if_it_had_not_been(program: Any) -> None:
    stopping = _stopping(program, 5)
    shown = program("run", program.config, "--out", "my run", *stopping, code=130)
    assert shown.stdout == ""
    assert shown.stderr.splitlines()[-1] == "stopped; to continue: automl-nas resume 'my run'"
    assert not (program.folder / "my run" / "result.json").exists()
    resumed = program("resume", "my run")
    assert "found architecture:" in resumed.stdout
    program("run", program.config, "--out", "whole", *stopping)  # the marker is there: it does not stop
    assert _result(program.folder / "my run") == _result(program.folder / "whole")


def test_run_with_resume_starts_or_continues(program: Any) -> None:
    command = ("run", program.config, "--out", "again", "--resume", *_stopping(program, 5))
    program(*command, code=130)
    assert "found architecture:" in program(*command).stdout
    assert "was begun with seed: 3" in program(*command, "--set", "seed=4", code=2).stderr
    assert "--resume needs --out" in program("run", program.config, "--resume", code=2).stderr


def test_resuming_a_complete_run_shows_its_result_again(program: Any, finished: Callable[[], Path]) -> None:
    directory = finished()
    before = (directory / "result.json").read_bytes()
    assert "found architecture:" in program("resume", directory).stdout
    assert (directory / "result.json").read_bytes() == before


def test_a_resumed_run_can_change_its_executor_only(program: Any) -> None:
    program("run", program.config, "--out", "a", *_stopping(program, 1), code=130)
    shown = program("resume", "a", "--set", "seed=4", code=2)
    assert shown.stderr.startswith("error: --set seed=4: a resumed run can change its executor only")
    assert "did you mean 'processes'?" in program("resume", "a", "--set", "executor=proceses", code=2).stderr
    program("resume", "a", "--set", "executor=in_process")


def test_resuming_nothing(program: Any) -> None:
    assert "the folder does not exist" in program("resume", "nowhere", code=2).stderr


@pytest.mark.slow
@pytest.mark.process
def test_workers_of_a_run_are_processes_and_change_nothing(program: Any) -> None:
    for name, options in (("one", ()), ("two", ("--workers", 1))):
        program("run", program.config, "--set", "final=null", "--out", name, "--quiet", *options)
    assert "name: processes" in (program.folder / "two" / "config.yaml").read_text()
    assert _result(program.folder / "one") == _result(program.folder / "two")


def test_a_component_that_ends_the_process_is_an_error_with_its_distribution(program: Any) -> None:
    program.install(
        "quitter",
        "from automl_nas.plugin import hookimpl\n"
        "@hookimpl\n"
        "def register_strategies(register):\n"
        "    register('quits', 'quitter_package.parts:Quits', summary='leaves')\n",
        "import sys\n"
        "from automl_nas.strategy import AskTellStrategy\n"
        "class Quits(AskTellStrategy):\n"
        "    def ask(self, n):\n"
        "        sys.exit(0)\n"
        "    def tell(self, trials): ...\n"
        "    def search_state(self): return {}\n"
        "    def load_search_state(self, state): ...\n",
    )
    shown = program("run", program.config, "--out", "left", "--set", "stages.search.strategy=quits", code=1)
    assert (
        "error: stages[0].strategy: the strategy 'quits' of plugin 'quitter' (distribution 'quitter' 1.5) failed in "
        "the stage 'search': it called sys.exit(0) ("
    ) in shown.stderr
    assert "resume the run" in shown.stderr
    assert not (program.folder / "left" / "result.json").exists()


def test_retrain_and_extend_make_new_runs_from_a_complete_one(program: Any, finished: Callable[[], Path]) -> None:
    old = finished()
    shown = program("retrain", "done", "--set", "final.train.epochs=2", "--set", "final.seeds=2")
    assert "run directory: runs/done-retrain-1\n" in shown.stdout
    retrained = _result(program.folder / "runs" / "done-retrain-1")
    assert retrained["final"]["settings"]["train"]["epochs"] == 2
    assert len(retrained["final"]["networks"]) == 6  # the found network and two baselines, twice
    assert retrained["stages"] == _result(old)["stages"]

    program("extend", "done", "--set", "stages.search.budget.trials=20", "--out", "more", "--quiet")
    extended = _result(program.folder / "more")
    assert extended["stages"][0]["trials"] == 20
    assert extended["final"]["settings"] == _result(old)["final"]["settings"]


def test_changes_that_a_new_run_cannot_have_are_located(program: Any, finished: Callable[[], Path]) -> None:
    finished()
    refused = program("retrain", "done", "--set", "seed=4", code=2)
    assert "error: --set seed=4: seed: retrain keeps the recorded trials" in refused.stderr
    refused = program("retrain", "done", "--set", "final.train.epochs=0", code=2)
    assert "--set final.train.epochs=0: final.train.epochs: epochs must be finite and at least 1" in refused.stderr
    refused = program("extend", "done", "--set", "stages.search.budget.trials=3", code=2)
    assert "--set stages.search.budget.trials=3: stages[0].budget.trials: the stage has 12 trials" in refused.stderr
    assert not (program.folder / "runs").exists()
