"""A run stays the run that it was: another space is refused at every resume, opening and use of its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from end_to_end.failing_candidates import Free
from end_to_end.test_faults import run, search_only
from end_to_end.test_resume import stop_at
from torch import nn

import automl_nas
from automl_nas import ModuleSpace, OneOf
from automl_nas.errors import ConfigurationError, RunDirectoryError, RunInterrupted


def space(
    channels: int = 4, *, blocks: int = 1, stride: int = 1, activation: type[nn.Module] = nn.ReLU, **options: nn.Module
) -> ModuleSpace:
    """Return a small space; each argument changes another part of it."""

    def choice() -> OneOf:
        layers: dict[str, nn.Module] = {
            "one": nn.Conv2d(channels, channels, 1),
            "mid": nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), activation()),
            "skip": nn.Identity(),
        }
        return OneOf({**layers, **options})

    def network() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, channels, 3, stride=stride, padding=1),
            *(choice() for _ in range(blocks)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, 10),
        )

    return ModuleSpace(network, input_shape=(1, 8, 8))


def settings(searched: ModuleSpace, **changes: Any) -> dict[str, Any]:
    return {
        **search_only(Free, budget={"trials": 6}),
        "space": searched,
        "task": "digits",
        "final": {"train": {"epochs": 1}, "baselines": [], "export": []},
        **changes,
    }


CHANGES: list[tuple[Callable[[], ModuleSpace], str]] = [
    (lambda: space(8), r"the module '0' of the networks was Conv2d\(.*float32\[4, 1, 3, 3\].* and is .*\[8, 1, 3, 3\]"),
    (lambda: space(blocks=2), "the decision '2' is new"),
    (lambda: space(more=nn.ReLU()), r"the decision '1' was Choice\(.* and is Choice\(.*'more'"),
    # Seen in the middle option only, and without a difference of shapes.
    (lambda: space(activation=nn.GELU), r"the module '1.1' of the networks was ReLU\(.* and is GELU\("),
    (lambda: space(stride=2), r"stride=\(1, 1\).* and is .*stride=\(2, 2\)"),
]


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("complete") / "run"
    run(settings(space()), path)
    return path


@pytest.mark.parametrize(("other", "difference"), CHANGES)
def test_a_run_is_not_resumed_with_another_space(
    tmp_path: Path, complete: Path, other: Callable[[], ModuleSpace], difference: str
) -> None:
    with pytest.raises(RunInterrupted):
        run(settings(space()), tmp_path / "run", handlers=stop_at(2))
    trials = (tmp_path / "run" / "trials.jsonl").read_bytes()
    with pytest.raises(RunDirectoryError, match=rf"begun with another search space: .*{difference}.*pass the search"):
        run(settings(other()), tmp_path / "run")
    assert (tmp_path / "run" / "trials.jsonl").read_bytes() == trials
    run(settings(space()), tmp_path / "run")  # equal, but another object
    with pytest.raises(RunDirectoryError, match=difference):
        run(settings(other()), complete)


@pytest.mark.parametrize(("other", "difference"), CHANGES)
def test_no_network_is_built_from_another_space(
    complete: Path, other: Callable[[], ModuleSpace], difference: str
) -> None:
    def opened(searched: ModuleSpace) -> automl_nas.Result:
        components = settings(searched)["stages"][0]["evaluator"]
        return automl_nas.open_run(complete, space=searched, evaluator=components)

    for method in ("build", "load_trained"):
        assert isinstance(getattr(opened(space()), method)(), nn.Module)
        with pytest.raises(RunDirectoryError, match=difference):
            getattr(opened(other()), method)()


def test_another_final_space_is_refused(tmp_path: Path) -> None:
    def with_final(searched: ModuleSpace) -> dict[str, Any]:
        final = {"space": searched, "train": {"epochs": 1}, "baselines": [], "export": []}
        return settings(space(), final=final)

    run(with_final(space(8)), tmp_path / "run")
    run(with_final(space(8)), tmp_path / "run")
    with pytest.raises(RunDirectoryError, match=r"another final space: the module '0' .*\[8, 1, 3, 3\]"):
        run(with_final(space(16)), tmp_path / "run")
    with pytest.raises(RunDirectoryError, match=r"another final space: the module '0' .*\[8, 1, 3, 3\]"):
        run(with_final(space(4)), tmp_path / "run")


def test_weights_of_another_space_are_refused(tmp_path: Path) -> None:
    supernet = {"name": "supernet", "strategy": {"name": "single_path", "train": {"epochs": 1}}}
    run(settings(space(), stages=[supernet], final=None), tmp_path / "trained")
    search = {
        "name": "search",
        "strategy": "random",
        "evaluator": {"name": "inherited", "weights": f"{tmp_path / 'trained'}:supernet"},
        "budget": {"trials": 2},
    }
    run(settings(space(), stages=[search], final=None), tmp_path / "same")
    with pytest.raises(ConfigurationError, match=r"another search space: the module '1.1' .* was ReLU.* is GELU"):
        run(settings(space(activation=nn.GELU), stages=[search], final=None), tmp_path / "other")


def test_a_run_of_an_older_version_is_still_opened(tmp_path: Path) -> None:
    run(settings(space()), tmp_path / "run")
    (tmp_path / "run" / "identity.json").unlink()
    run(settings(space()), tmp_path / "run")
    run(settings(space(stride=2)), tmp_path / "run")  # nothing is recorded that could be compared


def test_what_is_recorded_is_the_same_in_every_run(tmp_path: Path, complete: Path) -> None:
    run(settings(space()), tmp_path / "run")
    assert (tmp_path / "run" / "identity.json").read_bytes() == (complete / "identity.json").read_bytes()
    assert list(json.loads((complete / "identity.json").read_text())["space"]["decisions"]) == ["1"]
