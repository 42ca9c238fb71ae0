"""Transactions of the executor and its worker, counted by SQLAlchemy, beside those of Optuna's own loop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from plugins.optuna.test_workers import CANDIDATE, StubEvaluatorSource, answered

from automl_nas.evaluation.evaluator import Outcome, Request
from automl_nas_optuna.long_values import LIMIT, joined, split
from automl_nas_optuna.storages import open_storage
from automl_nas_optuna.workers.executor import OptunaExecutor
from automl_nas_optuna.workers.queue import Queue


@contextmanager
def counted_transactions() -> Iterator[list[str]]:
    """Yield a list with an item for each transaction that any engine begins."""
    begun: list[str] = []

    def count(connection: sqlalchemy.Connection) -> None:
        begun.append(str(connection.engine.url))

    sqlalchemy.event.listen(sqlalchemy.Engine, "begin", count)
    try:
        yield begun
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "begin", count)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, sending may take longer than the time after which the rest is sent in the next call."""
    monkeypatch.setattr("automl_nas_optuna.workers.executor._SEND_SECONDS", float("inf"))


def opened(tmp_path: Path, count: int) -> OptunaExecutor:
    executor = OptunaExecutor(storage=f"sqlite:///{tmp_path}/queue.db", poll=0.001)
    executor.open(StubEvaluatorSource(tmp_path), lambda numbers: None, None)
    for number in range(count):
        executor.submit(Request(number, CANDIDATE, seed=number))
    assert executor.next() is None
    return executor


def test_a_look_is_one_transaction_however_many_evaluations_are_outstanding(tmp_path: Path) -> None:
    executor = opened(tmp_path, 12)
    with counted_transactions() as begun:
        assert executor.next() is None
    assert len(begun) == 1
    queue = Queue(f"sqlite:///{tmp_path}/queue.db", f"{tmp_path.name}/queue")
    queue.join()
    assert [answered(queue, 0.5) for _ in range(5)] == [0, 1, 2, 3, 4]
    with counted_transactions() as begun:
        outcomes = [executor.next() for _ in range(5)]
    assert [outcome.number for outcome in outcomes if isinstance(outcome, Outcome)] == [0, 1, 2, 3, 4]
    assert len(begun) == 1
    queue.close()
    executor.close()


def test_a_recorded_evaluation_takes_no_more_transactions_than_a_trial_of_optuna(tmp_path: Path) -> None:
    count = 10
    with counted_transactions() as begun:
        storage = open_storage(f"sqlite:///{tmp_path}/optuna.db")
        study = optuna.create_study(storage=storage)
        created = len(begun)
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1), n_trials=count)
    of_optuna = (len(begun) - created) / count

    with counted_transactions() as begun:
        executor = opened(tmp_path, count)
        queue = Queue(f"sqlite:///{tmp_path}/queue.db", f"{tmp_path.name}/queue")
        queue.join()
        created = len(begun) - count  # the evaluations were put into the queue, one transaction each
        for number in range(count):
            assert answered(queue, 0.5) == number
            outcome = executor.next()
            assert isinstance(outcome, Outcome)
            assert outcome.number == number
    assert (len(begun) - created) / count <= of_optuna <= 15
    queue.close()
    executor.close()


@pytest.mark.parametrize("length", [0, LIMIT // 2, 5 * LIMIT])
def test_attributes_of_any_length_fit_into_64_kib(length: int) -> None:
    value = {"text": '"' * length, "numbers": [1, 2.5, None]}
    attributes = dict(split("name", value))
    assert joined(attributes, "name") == value
    assert all(len(json.dumps(part).encode()) < 65_536 for part in attributes.values())
    assert joined({}, "name") is None
