"""Architectures have the space's order of decisions wherever a run writes them, whatever was proposed or resumed."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from end_to_end.failing_candidates import Free
from end_to_end.runs import options
from end_to_end.test_faults import run, search_only
from end_to_end.test_resume import stop_at
from torch import nn

from automl_nas import ModuleSpace
from automl_nas.errors import RunInterrupted
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.streams import stream

ORDER = ["upper", "middle", "lower"]


def network() -> nn.Module:
    """Return a network whose choices have names that are not sorted."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Conv2d(1, 8, 3, padding=1))
    layers.update((name, options(8)) for name in ORDER)
    layers.update(pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), head=nn.Linear(8, 10))
    return nn.Sequential(layers)


class Backwards(AskTellStrategy):
    """Proposes random architectures whose names are in the reverse of the space's order."""

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._space, self._seed, self._asked = space, seed, 0

    def ask(self, n: int) -> list[Proposal]:
        proposals = []
        for _ in range(n):
            architecture = self._space.sample(stream(self._seed, "ask", self._asked))
            proposals.append(Proposal(Architecture(dict(reversed(architecture.items())))))
            self._asked += 1
        return proposals

    def tell(self, trials: Sequence[Trial]) -> None:
        pass

    def search_state(self) -> dict[str, Any]:
        return {"asked": self._asked}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        self._asked = state["asked"]


def settings(**stage: Any) -> dict[str, Any]:
    return {
        **search_only(Free, **stage),
        "space": ModuleSpace(network, input_shape=(1, 8, 8)),
        "task": "digits",
        "final": {"train": {"epochs": 1}, "baselines": []},
    }


def written(run: Path) -> dict[str, bytes]:
    """Return the files in which a run writes architectures, but for the ledger."""
    files = [run / "result.json", *(run / "export").rglob("*"), *(run / "artifacts").rglob("*")]
    return {str(path.relative_to(run)): path.read_bytes() for path in files if path.is_file()}


@pytest.mark.parametrize("strategy", ["random", Backwards])
def test_a_run_that_was_stopped_writes_the_same_bytes(tmp_path: Path, strategy: Any) -> None:
    run(settings(strategy=strategy), tmp_path / "left-alone")
    with pytest.raises(RunInterrupted):
        run(settings(strategy=strategy), tmp_path / "stopped", handlers=stop_at(19))
    run(settings(strategy=strategy), tmp_path / "stopped")
    expected = written(tmp_path / "left-alone")
    assert written(tmp_path / "stopped") == expected
    assert list(json.loads(expected["result.json"])["architecture"]) == ORDER
    # The result is computed from the record alone.
    (tmp_path / "left-alone" / "result.json").unlink()
    run(settings(strategy=strategy), tmp_path / "left-alone")
    assert written(tmp_path / "left-alone") == expected


@pytest.mark.parametrize("strategy", ["random", Backwards])
def test_the_ledger_has_the_order_of_the_space(tmp_path: Path, strategy: Any) -> None:
    run({**settings(strategy=strategy), "final": None}, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "trials.jsonl").read_text().splitlines()]
    orders = [list(line["architecture"]) for line in lines if line["event"] == "finished"]
    assert orders == [ORDER] * 20
