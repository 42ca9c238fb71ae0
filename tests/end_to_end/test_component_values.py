"""Values that components return: numbers, fidelities, costs, infos and files are checked where they enter a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from end_to_end.runs import config as quick

import automl_nas
from automl_nas.errors import EvaluationError, PluginError, SpaceError
from automl_nas.evaluation import CostModel, Delivery, Evaluator, Exporter, Outcome, Request, State
from automl_nas.plugin import WarningSent
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import AskTellStrategy, Proposal, Trial
from automl_nas.streams import stream
from automl_nas.testing import ToyCost, ToySpace, ToyTask

HOSTILE: dict[str, Any] = {}
"""What the components below return; each test sets it."""


@pytest.fixture(autouse=True)
def _clear() -> Iterator[None]:
    yield
    HOSTILE.clear()


class Asks(AskTellStrategy):
    """Proposes three architectures, one after the other."""

    def __init__(self, space: SearchSpace) -> None:
        self._space, self._asked = space, 0

    def ask(self, n: int) -> list[Proposal]:
        if self._asked == 3:
            return []
        self._asked += 1
        return [Proposal(self._space.sample(stream(0, self._asked)), HOSTILE.get("fidelity"))]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Nothing is learnt."""

    def search_state(self) -> dict[str, Any]:
        return {"asked": self._asked}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        self._asked = state["asked"]


class Answers(Evaluator):
    """Measures what the test says."""

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            if "report" in HOSTILE:
                request.report(0, HOSTILE["report"])
            metrics = HOSTILE.get("metrics", {"accuracy": 0.5})
            yield Outcome(
                request.number, metrics, state=HOSTILE.get("state", State.COMPLETE), info=HOSTILE.get("info", {})
            )

    @classmethod
    def metric_names(cls, task: object) -> frozenset[str]:
        return frozenset({"accuracy"})


class Costs(CostModel):
    """Costs what the test says."""

    metric: ClassVar[str] = "joule"
    unit: ClassVar[str] = "J"

    def __init__(self, space: SearchSpace) -> None:
        pass

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {"": self.estimate(architecture)}

    def estimate(self, architecture: Architecture) -> float:
        return HOSTILE["cost"]  # type: ignore[no-any-return]


def run(folder: Path, warnings: list[str] | None = None, **changes: Any) -> automl_nas.Result:
    raw: dict[str, Any] = {
        "space": ToySpace(),
        "problem": {"objectives": {"accuracy": "maximize"}},
        "stages": [{"name": "search", "strategy": Asks, "evaluator": Answers}],
        "final": None,
        **changes,
    }

    def warning_sent(event: WarningSent) -> None:
        if warnings is not None:
            warnings.append(event.text)

    return automl_nas.search(raw, out=folder / "run", handlers={WarningSent: warning_sent})


def recorded(folder: Path) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (folder / "run" / "trials.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "finished"]


# --- metrics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0.5", "accuracy is '0.5', no number but a str"),
        (True, "accuracy is True, no number but a bool"),
        (np.bool_(True), "accuracy is np.True_, no number but a bool"),
        (torch.tensor(True), r"accuracy is tensor(True), no number but a Tensor"),
        (torch.ones(2), "accuracy is tensor([1., 1.]), no single number"),
        (None, "accuracy is None, no number but a NoneType"),
        (1j, "accuracy is 1j, no number but a complex"),
        (10**400, "accuracy is too large for a floating-point number"),
        (float("nan"), "accuracy is nan"),
    ],
)
def test_a_metric_that_is_no_number_fails_its_trial(tmp_path: Path, value: object, reason: str) -> None:
    HOSTILE["metrics"] = {"accuracy": value}
    run(tmp_path)
    trials = recorded(tmp_path)
    assert [trial["state"] for trial in trials] == ["failed"] * 3
    assert {trial["error"] for trial in trials} == {reason}


@pytest.mark.parametrize("value", [0.5, np.float64(0.5), np.float32(0.5), torch.tensor(0.5), np.array([0.5])])
def test_numbers_of_libraries_become_plain(tmp_path: Path, value: Any) -> None:
    HOSTILE["metrics"] = {"accuracy": value}
    result = run(tmp_path)
    assert dict(result.metrics) == {"accuracy": 0.5}
    assert {type(number) for number in result.metrics.values()} == {float}


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        ({"state": "complete"}, "outcome of trial 0 in the stage 'search' has the state 'complete'"),
        ({"metrics": [0.5]}, r"metrics of trial 0 in the stage 'search' are \[0.5\]"),
        ({"metrics": {1: 0.5}}, "metric of trial 0 in the stage 'search' is called 1"),
        ({"info": {"set": {1}}}, "info of trial 0 in the stage 'search' cannot be recorded"),
    ],
)
def test_an_outcome_of_wrong_types_is_located(tmp_path: Path, hostile: Mapping[str, Any], message: str) -> None:
    HOSTILE.update(hostile)
    with pytest.raises(EvaluationError, match=message):
        run(tmp_path)


def test_an_intermediate_value_that_is_no_number_fails_its_trial(tmp_path: Path) -> None:
    HOSTILE["report"] = "0.5"
    run(tmp_path)
    assert {trial["error"] for trial in recorded(tmp_path)} == {"TypeError: '0.5', no number but a str"}


# --- fidelities -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fidelity", [float("nan"), float("inf"), "high", True, np.float64("nan")])
def test_a_fidelity_that_is_no_finite_number_is_refused(tmp_path: Path, fidelity: object) -> None:
    HOSTILE["fidelity"] = fidelity
    with pytest.raises(
        PluginError, match=r"strategy '.*Asks' of the stage 'search' proposed trial 0 with the fidelity"
    ):
        run(tmp_path)


@pytest.mark.parametrize(("fidelity", "plain"), [(2, 2), (np.int64(2), 2), (np.float32(0.5), 0.5), (None, None)])
def test_a_fidelity_is_recorded_as_a_plain_number(tmp_path: Path, fidelity: object, plain: object) -> None:
    HOSTILE["fidelity"] = fidelity
    run(tmp_path)
    assert {trial["fidelity"] for trial in recorded(tmp_path)} == {plain}


def test_a_stage_whose_trials_are_all_infeasible_warns_when_it_ends(tmp_path: Path) -> None:
    stages = [
        {"name": "strict", "strategy": Asks, "evaluator": Answers, "problem": {"constraints": {"accuracy": ">= 0.75"}}},
        {"name": "search", "strategy": Asks, "evaluator": Answers},
    ]
    warnings: list[str] = []
    assert run(tmp_path, warnings, stages=stages).found
    (warning,) = [text for text in warnings if "strict" in text]
    assert warning.startswith("no trial of the stage 'strict' meets the constraints; the nearest one (trial 0) misses")
    assert warning.endswith("accuracy >= 0.75 by 33.3%")


# --- costs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cost", [float("nan"), float("-inf"), -1, "12", None, True, np.float64("nan")])
def test_a_cost_that_is_no_number_of_at_least_0_is_refused(tmp_path: Path, cost: object) -> None:
    HOSTILE["cost"] = cost
    problem = {"objectives": {"accuracy": "maximize"}, "costs": {"energy": Costs}}
    with pytest.raises(SpaceError, match=r"the cost model 'energy' \(Costs\) returns .* for {\"d0\""):
        run(tmp_path, problem=problem)


@pytest.mark.parametrize(
    ("cost", "plain"), [(np.int64(3), 3.0), (np.float64(2.5), 2.5), (0, 0.0), (torch.tensor(2.0), 2.0), (np.inf, None)]
)
def test_a_cost_is_recorded_as_a_plain_number(tmp_path: Path, cost: object, plain: object) -> None:
    HOSTILE["cost"] = cost
    result = run(tmp_path, problem={"objectives": {"accuracy": "maximize"}, "costs": {"energy": Costs}})
    assert str(result.best.costs["energy"]) == ("nan" if plain is None else str(plain))
    assert [trial["costs"] for trial in recorded(tmp_path)] == [{"energy": plain}] * 3
    assert {type(trial["costs"]["energy"]) for trial in recorded(tmp_path)} == {type(plain)}


# --- info -------------------------------------------------------------------------------------------------------------


def test_an_info_above_the_bound_is_shortened_with_one_warning(tmp_path: Path) -> None:
    HOSTILE["info"] = {"epochs": 3, "log": "x" * 5_000_000, "notes": "y" * 1_000}
    warnings: list[str] = []
    run(tmp_path, warnings)
    assert [trial["info"] for trial in recorded(tmp_path)] == [{"epochs": 3, "notes": "y" * 1_000}] * 3
    (warning,) = [text for text in warnings if "info" in text]
    assert "the info of trial 0 in the stage 'search' takes 5,001," in warning
    assert "'log' is left out" in warning


def test_an_info_of_the_bound_and_all_intermediate_values_are_recorded(tmp_path: Path) -> None:
    text = "x" * (64 * 1024 - len('{"a":""}'))
    HOSTILE["info"] = {"a": text, "intermediate": [[step, 0.123456] for step in range(10_000)]}
    warnings: list[str] = []
    run(tmp_path, warnings)
    assert recorded(tmp_path)[0]["info"] == HOSTILE["info"]
    assert not [text for text in warnings if "info" in text]


# --- exports and tests ------------------------------------------------------------------------------------------------


class Broken(Exporter):
    """Returns what the test says."""

    def export(self, delivery: Delivery, folder: Path) -> Sequence[Path]:
        (folder / "there.bin").write_bytes(b"1")
        paths = HOSTILE["paths"]
        return paths(folder) if callable(paths) else paths  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (lambda folder: [folder / "there.bin", folder / "missing.bin"], "returned files that do not exist: "),
        (lambda folder: str(folder / "there.bin"), "must return a list of paths"),
        (None, "must return a list of paths, not None"),
    ],
)
def test_an_exporter_that_returns_no_files_has_failed(tmp_path: Path, paths: Any, message: str) -> None:
    HOSTILE["paths"] = paths
    section = {"train": {"epochs": 1}, "export": [Broken, "safetensors"], "rehearse": False}
    stages = [{"name": "search", "strategy": {"name": "random"}, "budget": {"trials": 2}}]
    problem = {"objectives": {"params": "minimize"}, "costs": ["params"]}
    raw = {**quick(), "problem": problem, "stages": stages, "final": section}
    result = automl_nas.search(raw, out=tmp_path / "run")
    assert result.final is not None
    (failure,) = result.final.not_exported
    assert failure.format.endswith("Broken")
    assert f"the exporter Broken {message}" in failure.error
    assert [path.suffix for path in result.files].count(".safetensors") == 1
    assert [shortcoming.kind for shortcoming in result.shortcomings] == ["failed_exports"]


class NumpyTask(ToyTask):
    """Scores with NumPy, or as the test says."""

    def score(self, model: Any, split: str) -> Mapping[str, float]:
        if "score" in HOSTILE:
            return dict.fromkeys(self.metrics, HOSTILE["score"])
        return {name: np.float64(value) for name, value in super().score(model, split).items()}


def of_task() -> dict[str, Any]:
    stages = [{"name": "search", "strategy": {"name": "random"}, "budget": {"trials": 1}}]
    problem = {"objectives": {"toy_cost": "minimize"}, "costs": {"toy_cost": ToyCost}}
    return {
        "space": ToySpace,
        "task": NumpyTask,
        "problem": problem,
        "stages": stages,
        "final": {"train": {"epochs": 1}, "export": []},
    }


def test_the_test_metrics_of_a_result_are_plain(tmp_path: Path) -> None:
    result = automl_nas.search(of_task(), out=tmp_path / "run")
    assert result.metrics
    assert {type(value) for value in result.metrics.values()} <= {float, int}


def test_a_score_that_is_no_number_names_the_task(tmp_path: Path) -> None:
    HOSTILE["score"] = "high"
    with pytest.raises(
        PluginError, match=r"task NumpyTask scored the metric '.*' of the split '.*' as 'high', no number"
    ):
        automl_nas.search(of_task(), out=tmp_path / "run")
