"""Every evaluation starts from its own seed, in all the generators that an evaluator might draw from."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from automl_nas import search
from automl_nas.evaluation import Evaluator, Outcome, Request
from automl_nas.run import Ledger
from automl_nas.run.trials.trial_seeds import seed_globally, trial_seed
from automl_nas.streams import stream_seed
from automl_nas.testing import ToySpace


def draws() -> list[float]:
    return [random.random(), float(np.random.random()), float(torch.rand(()))]


@pytest.fixture(autouse=True)
def generators() -> Iterator[None]:
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])
    torch.set_rng_state(before[2])


def test_generators_are_those_of_the_libraries() -> None:
    seed_globally(12345)
    generator = torch.Generator().manual_seed(12345)
    expected = [random.Random(12345).random(), float(np.random.RandomState(12345).random_sample())]
    assert draws() == [*expected, float(torch.rand((), generator=generator))]


def test_seeds_of_trials_are_a_named_stream() -> None:
    for seed in (0, 7, 2**62 + 1):
        for number in (0, 1, 9, 10, 12345678901):
            assert trial_seed(seed, number) == stream_seed(seed, "trial", number) & 0x7FFFFFFF


class Drawing(Evaluator):
    """Scores by chance, from the global generators, more often for some candidates than for others."""

    def evaluate(self, requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            for _ in range(request.number % 3):
                draws()
            yield Outcome(request.number, {"accuracy": sum(draws())})

    @classmethod
    def metric_names(cls, task: object) -> frozenset[str]:
        return frozenset({"accuracy"})


def accuracies(folder: Path, batch: int, evaluator: type[Evaluator] = Drawing) -> list[float]:
    stage = {"name": "s", "strategy": "random", "evaluator": evaluator, "budget": {"trials": 9}, "batch": batch}
    search(space=ToySpace, problem={"objectives": {"accuracy": "maximize"}}, stages=[stage], out=folder)
    trials = Ledger(folder / "trials.jsonl", writable=False).trials
    return [trials[number].metrics["accuracy"] for number in sorted(trials)]


def test_a_metric_by_chance_depends_on_the_trial_alone(tmp_path: Path) -> None:
    one = accuracies(tmp_path / "one", 1)
    draws()
    assert accuracies(tmp_path / "four", 4) == one
    assert len(set(one)) == len(one) == 9


class Table(Drawing):
    """Sets ``stochastic = False`` although it draws: its metrics show whether the generators were set."""

    stochastic = False


def test_what_draws_nothing_is_not_seeded(tmp_path: Path) -> None:
    # Without a seed each trial continues where the one before it stopped: the first may agree, the others do not.
    seeded, unseeded = accuracies(tmp_path / "one", 1), accuracies(tmp_path / "two", 1, Table)
    assert all(a != b for a, b in zip(seeded[1:], unseeded[1:], strict=True))
