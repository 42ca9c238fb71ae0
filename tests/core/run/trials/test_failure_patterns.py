"""Failed trials that have options in common name them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import automl_nas
from automl_nas.errors import EvaluationError
from automl_nas.evaluation import Evaluator, Outcome, Request, State
from automl_nas.run.trials.failure_patterns import failure_pattern
from automl_nas.space import Architecture, Choice, DecisionSpace
from automl_nas.strategy import Trial

Fails = Callable[[Mapping[str, Any]], bool]


def trials(fails: Fails, options: int = 3, decisions: int = 4) -> list[Trial]:
    """Return one trial of each architecture."""
    names = [f"d{position}" for position in range(decisions)]
    made = []
    for number, values in enumerate(product(range(options), repeat=decisions)):
        architecture = Architecture(dict(zip(names, values, strict=True)))
        state = State.FAILED if fails(architecture) else State.COMPLETE
        made.append(Trial(number=number, architecture=architecture, state=state))
    return made


def test_one_option() -> None:
    pattern = failure_pattern(trials(lambda values: values["d1"] == 2))
    assert pattern == (
        "all 27 failed trials have 2 of 'd1', and none of the 54 complete ones has: correct or remove this option"
    )


@pytest.mark.parametrize(("first", "second"), [("d0", "d1"), ("d0", "d3"), ("d2", "d3")])
def test_a_pair(first: str, second: str) -> None:
    pattern = failure_pattern(trials(lambda values: values[first] == 1 and values[second] == 0))
    assert f"all 9 failed trials have 1 of '{first}' and 0 of '{second}', and none of the 72 complete ones" in pattern
    assert "exclude=" in pattern


@pytest.mark.parametrize(
    "fails",
    [
        lambda values: False,
        lambda values: True,
        lambda values: values["d0"] == 1 or values["d1"] == 1,  # two causes
        lambda values: sum(values.values()) % 5 == 0,
        lambda values: set(values.values()) == {1},  # one failure
    ],
)
def test_nothing_is_concluded(fails: Fails) -> None:
    assert failure_pattern(trials(fails)) == ""


def test_several_pairs_are_possible() -> None:
    """Three failures that are alike in three decisions do not tell which two of them matter."""
    alike = {"d0": 1, "d1": 1, "d2": 1}
    made = [
        Trial(number=number, architecture=Architecture({**alike, "d3": number}), state=State.FAILED)
        for number in range(3)
    ]
    healthy = [trial for trial in trials(lambda values: values["d0"] + values["d1"] + values["d2"] > 1) if trial.number]
    assert failure_pattern([*made, *(trial for trial in healthy if trial.state is State.COMPLETE)]) == ""


class Picky(Evaluator):
    """Cannot evaluate one pair of options."""

    metrics = frozenset({"accuracy"})

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        """See the base class."""
        for request in requests:
            if (request.architecture["a"], request.architecture["b"]) == (2, 0):
                raise ValueError("shapes differ")
            yield Outcome(request.number, {"accuracy": 0.5})


def _run(out: Path, trials: int, **stage: Any) -> None:
    automl_nas.search(
        space=DecisionSpace({name: Choice((0, 1, 2)) for name in "abc"}),
        problem={"objectives": {"accuracy": "maximize"}, "costs": []},
        stages=[
            {"name": "search", "strategy": "random", "evaluator": Picky(), "budget": {"trials": trials}, **stage},
        ],
        final=None,
        out=out,
    )


def test_the_end_of_a_stage_names_the_pair(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _run(tmp_path / "run", 27)
    assert (
        "in the stage 'search', all 3 failed trials have 2 of 'a' and 0 of 'b', and none of the 24 complete ones has"
        in caplog.text
    )


def test_the_error_of_failures_in_a_row_names_the_pair(tmp_path: Path) -> None:
    """All of the last failures are of this pair, since the other architectures are evaluated before."""
    order = sorted(product(range(3), repeat=3), key=lambda values: (values[:2] == (2, 0), values))
    given = {"name": "given", "architectures": [dict(zip("abc", values, strict=True)) for values in order]}
    with pytest.raises(EvaluationError, match=r"3 trials in a row failed .* 2 of 'a' and 0 of 'b', .* mend the cause"):
        _run(tmp_path / "run", 27, strategy=given, max_failures=3)
