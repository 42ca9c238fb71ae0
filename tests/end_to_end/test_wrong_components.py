"""What a plugin author gives back by mistake is said in a sentence, not shown as a traceback of the framework."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import automl_nas
from automl_nas.errors import EvaluationError, PluginError
from automl_nas.evaluation import Evaluator, Outcome, Request
from automl_nas.space import SearchSpace
from automl_nas.strategy import AskTellStrategy, Proposal, Trial
from automl_nas.streams import stream
from automl_nas.testing import ToySpace


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
