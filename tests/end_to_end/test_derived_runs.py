"""New runs from complete ones: `retrain` and `extend` against runs that did the same from the start."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner
from end_to_end.runs import config, kill_at, network, preload, progress, record, small_space
from end_to_end.test_resume import stop_at
from torch import nn

import automl_nas
from automl_nas import ModuleSpace
from automl_nas.cli.show import show
from automl_nas.errors import ConfigurationError, ReplayError, RunDirectoryError, RunFailedError, RunInterrupted
from automl_nas.evaluation.evaluator import Evaluator, Outcome, Request
from automl_nas.space.space import SearchSpace
from automl_nas.testing.toys import ToySpace, ToyTask, toy_metric


def digests(directory: Path) -> dict[str, str]:
    files = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != "lock"]
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def other_network() -> nn.Module:
    """Return the network of the runs without the bias of its last layer."""
    return nn.Sequential(*list(cast(nn.Sequential, network()))[:-1], nn.Linear(8, 10, bias=False))


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("complete") / "run"
    automl_nas.search(config(), out=directory)
    return directory


LONGER: dict[str, Any] = {"train": {"epochs": 4}, "baselines": [], "weights": "inherited"}


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that trained as long as `LONGER` from the start."""
    directory = tmp_path_factory.mktemp("longer") / "run"
    base = config()
    automl_nas.search({**base, "final": {**base["final"], **LONGER}}, out=directory)
    return directory


def test_retraining_equals_a_run_that_trained_so_from_the_start(complete: Path, longer: Path, tmp_path: Path) -> None:
    before = digests(complete)
    result = automl_nas.retrain(complete, out=tmp_path / "new", final=LONGER, space=small_space())
    assert record(tmp_path / "new") == record(longer)
    assert digests(complete) == before  # nothing of the complete run changed, no lock file apart
    identity = json.loads((tmp_path / "new" / "identity.json").read_text())
    assert identity["derived_from"] == {
        "run": str(complete.resolve()),
        "by": "retrain",
        "result": before["result.json"],
    }
    shown = CliRunner().invoke(show, [str(tmp_path / "new")]).output.splitlines()
    assert shown[3] == f"derived from: {complete.resolve()} (automl-nas retrain)"
    assert (
        json.loads(CliRunner().invoke(show, [str(tmp_path / "new"), "--json"]).output)["derived_from"]
        == (identity["derived_from"])
    )
    assert "derived from" not in CliRunner().invoke(show, [str(complete)]).output
    assert result.final is not None
    assert result.final.settings["train"]["epochs"] == 4
    assert result.final.settings["train"]["learning_rate"] == 0.1  # settings that did not change are kept
    # The new run is a run like any other: it is opened, resumed and retrained.
    assert automl_nas.open_run(tmp_path / "new").architecture == result.architecture
    again = automl_nas.retrain(tmp_path / "new", out=tmp_path / "again", space=small_space())
    assert again.data == result.data


@pytest.mark.process
@pytest.mark.slow
def test_killed_retraining_resumes_to_the_same_bytes(complete: Path, longer: Path, tmp_path: Path) -> None:
    preload()
    out = tmp_path / "new"

    def work() -> None:
        if (out / "config.yaml").exists():
            base = config()
            automl_nas.search({**base, "final": {**base["final"], **LONGER}}, out=out, resume=True)
        else:
            automl_nas.retrain(complete, out=out, final=LONGER, space=small_space())

    begun = progress(complete) - sum(
        '"stage":"final"' in line for line in (complete / "metrics.jsonl").read_text().splitlines()
    )
    assert kill_at(work, out, [begun + 2, begun + 5], seed=5) == 2
    assert record(out) == record(longer)


@pytest.mark.parametrize(
    ("final", "message"),
    [
        ({"train": {"epochs": 0}}, r"final\.train\.epochs"),
        ({"trian": {"epochs": 3}}, "did you mean 'train'"),
        ({"from": "nowhere"}, r"final\.from"),
    ],
)
def test_settings_of_a_retraining_are_checked_first(
    complete: Path, tmp_path: Path, final: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        automl_nas.retrain(complete, out=tmp_path / "new", final=final, space=small_space())
    assert not (tmp_path / "new").exists()


def test_a_run_is_derived_from_a_complete_one_with_its_own_space_only(complete: Path, tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="another search space"):
        automl_nas.retrain(complete, out=tmp_path / "new", space=ModuleSpace(other_network, input_shape=(1, 8, 8)))
    with pytest.raises(RunDirectoryError, match="is not empty"):
        automl_nas.retrain(complete, out=complete, space=small_space())
    with pytest.raises(RunInterrupted):
        automl_nas.search(config(), out=tmp_path / "half", handlers=stop_at(3))
    with pytest.raises(RunDirectoryError, match="is not complete; first: "):
        automl_nas.retrain(tmp_path / "half", out=tmp_path / "new", space=small_space())
    assert not (tmp_path / "new").exists()


@pytest.mark.process  # the trial that was lost may have killed its process, so it is evaluated in another one
@pytest.mark.parametrize("lost", ["the last lines", "the end of the last line", "a line"])
def test_a_run_whose_record_lacks_trials_is_not_continued(tmp_path: Path, lost: str) -> None:
    """Of the trials that are left, a new run could deliver another network."""
    log = tmp_path / "log"
    raw = search_config(log, "random", 6)
    objects = {"space": raw["space"], "task": raw["task"], "evaluator": Counting}
    automl_nas.search(raw, out=tmp_path / "old")
    before = record(tmp_path / "old")
    trials = tmp_path / "old" / "trials.jsonl"
    lines = trials.read_bytes().splitlines(keepends=True)
    assert len(lines) == 12 and b'"started"' in lines[10]
    changed = {
        "the last lines": lines[:10],
        "the end of the last line": [*lines[:11], lines[11][:-20]],
        "a line": [*lines[:5], *lines[6:]],
    }
    trials.write_bytes(b"".join(changed[lost]))
    with pytest.raises(RunDirectoryError, match=r"5 of the 6 trials of the stage 'search' that result\.json counts"):
        automl_nas.retrain(tmp_path / "old", out=tmp_path / "new", **objects)
    with pytest.raises(
        RunDirectoryError, match=r"is damaged: .*; restore it from a copy, or delete .*result\.json and"
    ):
        automl_nas.extend(
            tmp_path / "old", out=tmp_path / "new", stages={"search": {"budget": {"trials": 9}}}, **objects
        )
    assert not (tmp_path / "new").exists()
    # The way out of the message.
    (tmp_path / "old" / "result.json").unlink()
    log.unlink()
    automl_nas.search(raw, out=tmp_path / "old", resume=True)
    assert len(log.read_text().split()) == 1
    assert record(tmp_path / "old") == before
    automl_nas.retrain(tmp_path / "old", out=tmp_path / "new", **objects)


class Counting(Evaluator):
    """Counts its evaluations in a file."""

    def __init__(self, space: SearchSpace, *, log: str) -> None:
        self._space, self._log = space, Path(log)

    def evaluate(self, requests: Any) -> Any:
        for request in requests:
            assert isinstance(request, Request)
            with self._log.open("a") as file:
                file.write(f"{request.number}\n")
            yield Outcome(request.number, {"accuracy": toy_metric(request.architecture, self._space)})


def search_config(log: Path, strategy: Any, trials: int | None, **stage: Any) -> dict[str, Any]:
    search = {
        "name": "search",
        "strategy": strategy,
        "evaluator": {"name": Counting, "log": str(log)},
        "budget": {"trials": trials},
        **stage,
    }
    return {
        "space": ToySpace(blocks=6),
        "task": ToyTask(train=32, search=16, test=16),
        "problem": {"costs": []},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [search],
        "final": {"train": {"epochs": 1}, "export": []},
    }


STRATEGIES: dict[str, Any] = {
    "random": "random",
    "evolution": {"name": "evolution", "population": 6, "generations": 20, "top_k": 3},
    "regularized": {"name": "regularized_evolution", "population": 8, "sample_size": 3},
    "local": "local_search",
    "optuna": {"name": "optuna", "sampler": "tpe"},
}


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=list(STRATEGIES))
@pytest.mark.parametrize("stage", [{}, {"batch": 3, "ahead": 5}], ids=["one by one", "in batches"])
def test_an_extended_search_evaluates_new_trials_only(strategy: Any, stage: dict[str, Any], tmp_path: Path) -> None:
    log = tmp_path / "log"
    raw = search_config(log, strategy, 13, **stage)
    objects = {"space": raw["space"], "task": raw["task"], "evaluator": Counting}
    automl_nas.search(raw, out=tmp_path / "old")
    before = digests(tmp_path / "old")
    assert log.read_text().split() == [str(number) for number in range(13)]
    result = automl_nas.extend(
        tmp_path / "old", out=tmp_path / "new", stages={"search": {"budget": {"trials": 25}}}, **objects
    )
    assert log.read_text().split() == [str(number) for number in range(25)]
    assert digests(tmp_path / "old") == before
    old, new = record(tmp_path / "old"), record(tmp_path / "new")
    assert new["trials"][:13] == old["trials"]
    assert result.data["stages"][0]["trials"] == 25
    assert result.final is not None
    if not stage:  # one by one, a budget does not change what is proposed: the same as searching so long at once
        automl_nas.search(search_config(log, strategy, 25), out=tmp_path / "at once")
        assert record(tmp_path / "at once")["trials"] == new["trials"]
        assert record(tmp_path / "at once")["files"] == new["files"]
    # And once more, from the extended run.
    automl_nas.extend(tmp_path / "new", out=tmp_path / "more", stages={"search": {"budget": {"trials": 27}}}, **objects)
    assert record(tmp_path / "more")["trials"][:25] == new["trials"]
    assert len(record(tmp_path / "more")["trials"]) == 27


def test_an_interrupted_extension_resumes(tmp_path: Path) -> None:
    raw = search_config(tmp_path / "log", STRATEGIES["evolution"], 10, batch=2, ahead=4)
    objects = {"space": raw["space"], "task": raw["task"], "evaluator": Counting}
    automl_nas.search(raw, out=tmp_path / "old")
    longer = partial(automl_nas.extend, tmp_path / "old", stages={"search": {"budget": {"trials": 24}}}, **objects)
    longer(out=tmp_path / "whole")
    with pytest.raises(RunInterrupted):
        longer(out=tmp_path / "parts", handlers=stop_at(15))
    raw["stages"][0]["budget"] = {"trials": 24, "extended_at": [10]}
    automl_nas.search(raw, out=tmp_path / "parts", resume=True)
    assert record(tmp_path / "parts") == record(tmp_path / "whole")


def test_an_extension_by_generations_keeps_the_trials(tmp_path: Path) -> None:
    strategy = {"name": "evolution", "population": 6, "generations": 2, "top_k": 3}
    raw = search_config(tmp_path / "log", strategy, None)
    objects = {"space": raw["space"], "task": raw["task"], "evaluator": Counting}
    automl_nas.search(raw, out=tmp_path / "old")
    count = len(record(tmp_path / "old")["trials"])
    extend = partial(automl_nas.extend, tmp_path / "old", out=tmp_path / "new", **objects)
    with pytest.raises(ConfigurationError, match=rf"ended after {count} trials because its strategy") as caught:
        extend(stages={"search": {"budget": {"trials": 100}}})
    assert "--set stages.search.strategy.SETTING=VALUE" in str(caught.value) and "generations 2" in str(caught.value)
    with pytest.raises(ReplayError, match="asks for"):
        extend(stages={"search": {"strategy": {"population": 7, "generations": 4}}})
    automl_nas.extend(
        tmp_path / "old", out=tmp_path / "more", stages={"search": {"strategy": {"generations": 4}}}, **objects
    )
    more = record(tmp_path / "more")["trials"]
    assert more[:count] == record(tmp_path / "old")["trials"]
    assert len(more) > count


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"search": {"budget": {"trials": 9}}}, r"stages\[0\]\.budget\.trials: the stage has 10 trials already"),
        ({"search": {}}, "nothing to extend"),
        ({"serach": {"budget": {"trials": 20}}}, "did you mean 'search'"),
        ({"search": {"batch": 2}}, r"stages\[0\]\.batch: another 'batch' would invalidate the recorded trials"),
        ({"search": {"name": "other"}}, "cannot be renamed"),
        ({"search": {"budget": 20}}, "budget"),
    ],
)
def test_changes_that_do_not_fit_the_trials_are_refused(stages: dict[str, Any], message: str, tmp_path: Path) -> None:
    raw = search_config(tmp_path / "log", "random", 10)
    automl_nas.search({**raw, "final": None}, out=tmp_path / "old")
    with pytest.raises(ConfigurationError, match=message):
        automl_nas.extend(
            tmp_path / "old",
            out=tmp_path / "new",
            stages=stages,
            space=raw["space"],
            task=raw["task"],
            evaluator=Counting,
        )
    assert not (tmp_path / "new").exists()


def test_a_search_without_a_final_stage_gets_one(tmp_path: Path) -> None:
    raw = search_config(tmp_path / "log", "random", 4)
    objects = {"space": raw["space"], "task": raw["task"], "evaluator": Counting}
    automl_nas.search({**raw, "final": None}, out=tmp_path / "old")
    with pytest.raises(ConfigurationError, match="nothing to retrain"):
        automl_nas.retrain(tmp_path / "old", out=tmp_path / "new", **objects)
    result = automl_nas.retrain(tmp_path / "old", out=tmp_path / "new", final={"train": {"epochs": 1}}, **objects)
    assert result.metrics["accuracy"] >= 0


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = search_config(tmp_path / "log", "random", 4)
    objects = {"space": raw["space"], "task": raw["task"], "evaluator": Counting}
    automl_nas.search(raw, out=tmp_path / "old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("automl_nas.run.derivation._copy_lines", full)
        with pytest.raises(RunFailedError, match="the disk is full; free some space and begin again: nothing was left"):
            automl_nas.retrain(tmp_path / "old", out=tmp_path / "new", **objects)
    automl_nas.retrain(tmp_path / "old", out=tmp_path / "new", **objects)  # the folder can be used again
