"""What a plugin author gives back by mistake is said in a sentence, not shown as a traceback of the framework."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import pytest
from torch import nn

import automl_nas
from automl_nas.errors import (
    AutoMLNASError,
    ConfigurationError,
    EvaluationError,
    PluginError,
    RunFailedError,
    SpaceError,
)
from automl_nas.evaluation import (
    CostModel,
    Delivery,
    Earlier,
    Evaluator,
    Exporter,
    MeasuredCost,
    Outcome,
    Predictor,
    Pruner,
    Request,
    Runtime,
)
from automl_nas.evaluation.training.fit import score
from automl_nas.plugin import Observer, RunInfo
from automl_nas.run.final.measured_limits import CostLimit, MeasuredLimits
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import AskTellStrategy, Proposal, Trial
from automl_nas.strategy.problem import parse_constraint
from automl_nas.streams import stream
from automl_nas.testing import ToyEvaluator, ToySpace, ToyTask


class Asks(AskTellStrategy):
    """Proposes one architecture, without its envelope if ``bare``."""

    def __init__(self, space: SearchSpace, *, bare: bool = False) -> None:
        self._space, self._bare, self._asked = space, bare, 0

    def ask(self, n: int) -> list[Proposal]:
        if self._asked:
            return []
        self._asked = 1
        architecture = self._space.sample(stream(0, "one"))
        return [architecture if self._bare else Proposal(architecture)]  # type: ignore[list-item]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Nothing is learnt."""

    def search_state(self) -> dict[str, Any]:
        return {"asked": self._asked}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        self._asked = state["asked"]


class Answers(Evaluator):
    """Gives metrics without their envelope, or a metric that is no number."""

    def __init__(self, *, bare: bool = False) -> None:
        self._bare = bare

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            if self._bare:
                yield {"accuracy": 0.5}  # type: ignore[misc]
            else:
                yield Outcome(request.number, {"accuracy": "high"})  # type: ignore[dict-item]

    @classmethod
    def metric_names(cls, task: object) -> frozenset[str]:
        return frozenset({"accuracy"})


def config(space: object, strategy: object, evaluator: object) -> dict[str, Any]:
    stages = [{"name": "search", "strategy": strategy, "evaluator": evaluator}]
    return {"space": space, "problem": {"objectives": {"accuracy": "maximize"}}, "stages": stages, "final": None}


def test_a_proposal_without_its_envelope(tmp_path: Path) -> None:
    raw = config(ToySpace(), {"name": Asks, "bare": True}, Answers)
    with pytest.raises(PluginError, match=r"stage 'search' proposed Architecture\(.*a candidate is Proposal"):
        automl_nas.search(raw, out=tmp_path / "run")


def test_an_outcome_without_its_envelope(tmp_path: Path) -> None:
    raw = config(ToySpace(), Asks, {"name": Answers, "bare": True})
    with pytest.raises(EvaluationError, match=r"Answers.evaluate yielded .*a dict; it must yield Outcome"):
        automl_nas.search(raw, out=tmp_path / "run")


def test_a_metric_that_is_no_number_fails_its_trial(tmp_path: Path) -> None:
    automl_nas.search(config(ToySpace(), Asks, Answers), out=tmp_path / "run")
    assert "accuracy is 'high', no number" in (tmp_path / "run" / "trials.jsonl").read_text()


def no_space() -> dict[str, int]:
    return {"d0": 3}


def test_a_space_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="made a dict, which is not a SearchSpace"):
        automl_nas.search(config({"name": no_space}, Asks, Answers), out=tmp_path / "run")


class Remembers(Asks):
    """Its state holds a function."""

    def search_state(self) -> dict[str, Any]:
        return {"asked": self._asked, "order": [len]}


def test_a_state_that_no_checkpoint_can_hold_ends_the_run_after_the_first_step(tmp_path: Path) -> None:
    raw = config(ToySpace(), Remembers, Answers)
    with pytest.raises(PluginError, match=r"the strategy of the stage 'search': .*\['order'\]\[0\], a builtin"):
        automl_nas.search(raw, out=tmp_path / "run")


ERRORS = {
    "exit": lambda: SystemExit(0),
    "base": lambda: BaseException("not an Exception"),
    "zero": lambda: ZeroDivisionError("by zero"),
}
REASONS = {
    "exit": r"it called sys\.exit\(0\)",
    "base": "BaseException: not an Exception",
    "zero": "ZeroDivisionError: by zero",
}


class Leaves(Asks):
    """Raises in the given method."""

    def __init__(self, space: SearchSpace, *, how: str, method: str = "ask") -> None:
        super().__init__(space)
        self._how, self._method = how, method
        self._leave("init")

    def _leave(self, method: str) -> None:
        if method == self._method:
            raise ERRORS[self._how]()

    def ask(self, n: int) -> list[Proposal]:
        self._leave("ask")
        return super().ask(n)

    def tell(self, trials: Sequence[Trial]) -> None:
        self._leave("tell")

    def search_state(self) -> dict[str, Any]:
        self._leave("state")
        return super().search_state()


@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize("method", ["ask", "tell", "state"])
def test_whatever_a_strategy_raises_has_a_place(tmp_path: Path, how: str, method: str) -> None:
    raw = {**config(ToySpace(), {"name": Leaves, "how": how, "method": method}, ToyEvaluator), "checkpoint_seconds": 0}
    with pytest.raises(
        RunFailedError,
        match=rf"stages\[0\]\.strategy: the strategy Leaves .* failed in the stage 'search': {REASONS[how]}.*, line \d",
    ):
        automl_nas.search(raw, out=tmp_path / "run")


@pytest.mark.parametrize("how", ERRORS)
def test_whatever_a_constructor_raises_has_a_place(tmp_path: Path, how: str) -> None:
    raw = config(ToySpace(), {"name": Leaves, "how": how, "method": "init"}, ToyEvaluator)
    with pytest.raises(PluginError, match=rf"stages\[0\]\.strategy: the strategy Leaves .* failed: {REASONS[how]}"):
        automl_nas.search(raw, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class Returns(Asks):
    """Returns something else than a list of proposals of architectures."""

    def __init__(self, space: SearchSpace, *, what: str) -> None:
        super().__init__(space)
        self._what = what

    def ask(self, n: int) -> Any:
        proposals = super().ask(n)
        if not proposals:
            return proposals
        architecture: Any = proposals[0].architecture.to_dict()
        return {"none": None, "generator": (p for p in proposals), "dict": [Proposal(architecture)]}[self._what]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("none", r"Returns\.ask\(.*returned None, a NoneType; it must return a list of Proposal"),
        ("generator", r"Returns\.ask\(.*a generator; it must return a list of Proposal"),
        ("dict", r"stage 'search' proposed Proposal\(.*is a dict: write Proposal\(Architecture"),
    ],
)
def test_proposals_that_are_none(tmp_path: Path, what: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        automl_nas.search(config(ToySpace(), {"name": Returns, "what": what}, ToyEvaluator), out=tmp_path / "run")


class Costs(CostModel):
    """Returns text, or raises, once the configuration has been checked."""

    metric, unit = "price", "euros"

    def __init__(self, space: SearchSpace, *, how: str = "text", calls: int = 0) -> None:
        self._how, self._left = how, calls

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {"": self.estimate(architecture)}

    def estimate(self, architecture: Architecture) -> float:
        self._left -= 1
        if self._left >= 0:
            return 1.0
        if self._how == "text":
            return "cheap"  # type: ignore[return-value]
        raise ERRORS[self._how]()


@pytest.mark.parametrize("how", ["text", *ERRORS])
@pytest.mark.parametrize("calls", [0, 1])
def test_a_cost_model_that_raises_or_returns_text(tmp_path: Path, how: str, calls: int) -> None:
    raw = config(ToySpace(), Asks, ToyEvaluator)
    raw["problem"]["costs"] = {"price": {"name": Costs, "how": how, "calls": calls}}
    message = r".*'cheap'.*" if how == "text" else REASONS[how]
    with pytest.raises(AutoMLNASError, match=rf"cost model .*{message}") as caught:
        automl_nas.search(raw, out=tmp_path / "run")
    assert "].strategy: the cost model" not in str(caught.value), "the strategy did not raise"


class Elsewhere(Asks):
    """Proposes an architecture that is not of the space."""

    def __init__(self, space: SearchSpace, *, changes: dict[str, int]) -> None:
        super().__init__(space)
        self._changes = changes

    def ask(self, n: int) -> list[Proposal]:
        return [Proposal(proposal.architecture.replace(self._changes)) for proposal in super().ask(n)]


@pytest.mark.parametrize(
    ("changes", "reason"), [({"zz": 1}, "the space has no decision 'zz'"), ({"d0": 7}, "'d0': 7 is not an option")]
)
def test_an_architecture_of_another_space_names_who_proposed_it(
    tmp_path: Path, changes: dict[str, int], reason: str
) -> None:
    raw = config(ToySpace(), {"name": Elsewhere, "changes": changes}, ToyEvaluator)
    with pytest.raises(SpaceError, match=rf"strategy '.*Elsewhere' of the stage 'search' proposed trial 0 .*{reason}"):
        automl_nas.search(raw, out=tmp_path / "run")


class BreaksDown(CostModel):
    """Returns something else than numbers by modules. Its methods call their object otherwise than self."""

    metric, unit = "price", "euros"

    def __init__(this, space: SearchSpace, *, what: str) -> None:  # noqa: N805
        this.what = what

    def breakdown(this, architecture: Architecture) -> Any:  # noqa: N805
        if this.what == "error":
            return 1 / 0
        return {"none": None, "number": 3.0, "text": {"x": "1"}}[this.what]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("none", r"^BreaksDown\.breakdown returned None, a NoneType; it must return \{module path: number\}"),
        ("number", r"^BreaksDown\.breakdown returned 3\.0, a float; it must return"),
        ("text", r"^BreaksDown\.breakdown returned for 'x' '1', no number but a str; it must return"),
        ("error", rf"the cost model BreaksDown .* ZeroDivisionError: division by zero \({re.escape(__file__)}, line"),
    ],
)
def test_a_breakdown_that_is_none(tmp_path: Path, what: str, message: str) -> None:
    raw = config(ToySpace(), Asks, ToyEvaluator)
    raw["problem"]["costs"] = {"price": {"name": BreaksDown, "what": what}}
    with pytest.raises(PluginError, match=message):
        automl_nas.search(raw, out=tmp_path / "run")


class NoDecisions(ToySpace):
    """Forgets to return."""

    @property
    def decisions(self) -> Any:
        """Nothing."""


class PlainDecisions(ToySpace):
    """Has options without their kind of decision."""

    @property
    def decisions(self) -> Any:
        return {"d0": (0, 1, 2)}


class NoCanonical(ToySpace):
    """Returns on one path only: the last option is the first in disguise."""

    def canonical(self, architecture: Architecture) -> Any:
        if architecture["d0"] == 2:
            return architecture.replace({"d0": 0})


class PlainCanonical(ToySpace):
    """Returns a dict."""

    def canonical(self, architecture: Architecture) -> Any:
        return dict(architecture)


class CanonicalElsewhere(ToySpace):
    """Returns an option that the space does not have."""

    def canonical(self, architecture: Architecture) -> Architecture:
        return architecture.replace({"d0": 7})


class CanonicalMoves(ToySpace):
    """Represents each option by the next one."""

    def canonical(self, architecture: Architecture) -> Architecture:
        return architecture.replace({"d0": (int(str(architecture["d0"])) + 1) % 3})


class NoScore(ToyTask):
    """Forgets to return."""

    def score(self, model: Predictor, split: str) -> Any:
        super().score(model, split)


class NoJudge(Pruner):
    """Forgets to return."""

    def judge(self, earlier: Earlier) -> Any:
        """Nothing."""


def test_a_space_whose_decisions_are_none(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"^space: NoDecisions\.decisions is None, a NoneType; it must be \{name"):
        automl_nas.search(config(NoDecisions, Asks, ToyEvaluator), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (PlainDecisions, r"PlainDecisions\.decisions has \(0, 1, 2\) under the name 'd0', a tuple; it must be \{name"),
        (NoCanonical, r"NoCanonical\.canonical returned for .* None, a NoneType; it must return an Architecture of"),
        (PlainCanonical, r"PlainCanonical\.canonical returned for .*\}, a dict; it must return an Architecture of"),
        (CanonicalElsewhere, r"CanonicalElsewhere\..* not of the space: decision 'd0': 7 is not an option"),
        (CanonicalMoves, r'CanonicalMoves\.canonical returned for .*"d0":1.*, and for that one .*"d0":2.*neither'),
    ],
)
def test_a_space_that_is_wrong_is_refused_before_the_run(tmp_path: Path, space: type, text: str) -> None:
    with pytest.raises(PluginError, match=f"^space: {text}"):
        automl_nas.search(config(space, Asks, ToyEvaluator), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


class ListOfMetrics(ToyTask):
    """Forgets the directions."""

    @property
    def metrics(self) -> Any:
        return ["accuracy", "loss"]


class ShortDirection(ToyTask):
    """Abbreviates a direction, which was taken for ``minimize`` where networks are compared."""

    @property
    def metrics(self) -> Any:
        return {"accuracy": "max"}


class NoMetrics(ToyTask):
    """Has none."""

    @property
    def metrics(self) -> Any:
        return {}


class NoStart(ToyTask):
    """Cannot begin in the middle of an epoch."""

    def batches(self, split: str, epoch: int, seed: int) -> Any:  # type: ignore[override]
        return super().batches(split, epoch, seed)


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (ListOfMetrics, r"ListOfMetrics\.metrics is \['accuracy', 'loss'\], a list; it must be \{name"),
        (ShortDirection, r"ShortDirection\.metrics has the direction 'max' for 'accuracy'; it must be \{name"),
        (NoMetrics, r"NoMetrics\.metrics is empty; it must be \{name"),
        (NoStart, r"NoStart\.batches\(split: .* cannot be called as batches\(split, epoch, seed, start\)"),
    ],
)
def test_a_task_that_is_wrong_is_refused_before_the_run(tmp_path: Path, task: type, text: str) -> None:
    raw = {**config(ToySpace(), Asks, ToyEvaluator), "task": {"name": task, "train": 32, "search": 16, "test": 16}}
    raw["final"] = {"train": {"epochs": 1}, "baselines": []}
    with pytest.raises(PluginError, match=f"^task: {text}"):
        automl_nas.search(raw, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_task_whose_score_is_none() -> None:
    task = NoScore(train=32, search=16, test=16)
    network = ToySpace().build(ToySpace().sample(stream(0, "one")))
    with pytest.raises(PluginError, match=r"NoScore scored the split 'search' as None, a NoneType; score must return"):
        score(network, task, Runtime(), "search")


def test_a_pruner_that_returns_no_judge(tmp_path: Path) -> None:
    raw = config(ToySpace(), Asks, ToyEvaluator)
    raw["stages"][0]["pruner"] = NoJudge
    automl_nas.search(raw, out=tmp_path / "run")
    trials = (tmp_path / "run" / "trials.jsonl").read_text()
    assert "NoJudge.judge returned None, a NoneType; it must return a Judge" in trials


@pytest.mark.parametrize(
    ("returned", "message"), [(None, "returned None, a NoneType; it must"), ([], "returned 0 measurements for 1; it")]
)
def test_a_cost_that_returns_no_measurements(returned: Any, message: str) -> None:
    model = create_autospec(MeasuredCost, instance=True)
    model.measure.return_value = model.measure_files.return_value = returned
    model.exported_suffix = ".onnx"
    limit = CostLimit(parse_constraint("ms", "<= 1"), "ms", model)
    limits = MeasuredLimits([limit], [{"ms": 0.5}], 1)
    with pytest.raises(PluginError, match=rf"\.measure {message}"):
        limits.measure([0], [nn.Identity()], (1,))
    with pytest.raises(PluginError, match=rf"\.measure_files {message}"):
        limits.check(0, {"ms": 0.5}, [Path("network.onnx")])


class Exports(Exporter):
    """Returns something else than paths, or raises."""

    def __init__(self, *, how: str) -> None:
        self._how = how

    def export(self, delivery: Delivery, folder: Path) -> Any:
        if self._how in ERRORS:
            raise ERRORS[self._how]()
        return None if self._how == "none" else "network.bin"


@pytest.mark.parametrize("how", ["none", "text", *ERRORS])
def test_an_exporter_that_raises_or_returns_no_paths(tmp_path: Path, how: str) -> None:
    """The run is complete, and says which format failed, and why."""
    raw = {**config(ToySpace(), Asks, ToyEvaluator), "task": {"name": ToyTask, "train": 32, "search": 16, "test": 16}}
    raw["final"] = {"train": {"epochs": 1}, "export": [{"name": Exports, "how": how}], "rehearse": False}
    result = automl_nas.search(raw, out=tmp_path / "run")
    (failure,) = result.data["final"]["not_exported"]
    expected = {"exit": "SystemExit: 0", "base": REASONS["base"], "zero": REASONS["zero"]}
    assert expected.get(how, "must return a list of paths") in failure["error"]


def test_two_formats_that_write_the_same_file_are_refused_before_the_run(tmp_path: Path) -> None:
    """Before, the second one replaced the file of the first, and the result had it twice."""
    raw = {**config(ToySpace(), Asks, ToyEvaluator), "task": {"name": ToyTask, "train": 32, "search": 16, "test": 16}}
    twice = ["safetensors", "safetensors"]
    raw["final"] = {"train": {"epochs": 1}, "export": twice, "baselines": []}
    with pytest.raises(
        ConfigurationError, match=r"^final\.export\[1\]: .*it writes .*model\.safetensors, which another"
    ):
        automl_nas.search(raw, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    raw["final"]["rehearse"] = False
    result = automl_nas.search(raw, out=tmp_path / "run")
    (failure,) = result.data["final"]["not_exported"]
    assert "model.safetensors, which another format of this export has written" in failure["error"]
    assert sorted(path.name for path in result.files) == ["architecture.json", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "run" / "export").iterdir()) == sorted(p.name for p in result.files)


class HalfObserver(Observer):
    """Lacks a method."""


class Watches(Observer):
    """Raises in its check."""

    def search_started(self, run: RunInfo) -> None:
        """Nothing is watched."""

    def check(self, run: RunInfo) -> None:
        raise SystemExit(0)


@pytest.mark.parametrize(
    ("observer", "message"),
    [
        (HalfObserver, r"observers\[0\]: the observer .*HalfObserver is abstract: .*search_started"),
        (Watches, r"observers\[0\]: the observer Watches .* failed: it called sys\.exit\(0\)"),
    ],
)
def test_a_wrong_observer(tmp_path: Path, observer: type, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        automl_nas.search({**config(ToySpace(), Asks, ToyEvaluator), "observers": [observer]}, out=tmp_path / "run")


class LeavingSpace(ToySpace):
    """Ends the process when it is constructed."""

    def __init__(self) -> None:
        raise SystemExit(0)


class LeavingTask(ToyTask):
    """Ends the process when it is asked for a batch of the final training."""

    def batches(self, split: str, *more: Any, **settings: Any) -> Any:
        if split == "train+search":
            raise SystemExit(0)
        return super().batches(split, *more, **settings)


class LeavingEvaluator(ToyEvaluator):
    """Ends the process when it is constructed."""

    def __init__(self, space: SearchSpace) -> None:
        raise SystemExit(0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": LeavingSpace}, r"^space: the space LeavingSpace"),
        ({"task": LeavingTask, "final": {"train": {"epochs": 1}}}, r"^final: the task LeavingTask"),
    ],
)
def test_a_component_that_ends_the_process_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AutoMLNASError, match=rf"{message} .*it called sys\.exit\(0\)"):
        automl_nas.search({**config(ToySpace(), Asks, ToyEvaluator), **changes}, out=tmp_path / "run")


@pytest.mark.process
@pytest.mark.parametrize("executor", ["in_process", "processes"])
def test_an_evaluator_whose_constructor_ends_the_process(tmp_path: Path, executor: str) -> None:
    raw = {**config(ToySpace(), Asks, LeavingEvaluator), "executor": executor}
    with pytest.raises(AutoMLNASError, match=r"stages\[0\]\.evaluator: .* LeavingEvaluator .*sys\.exit\(0\)"):
        automl_nas.search(raw, out=tmp_path / "run")
