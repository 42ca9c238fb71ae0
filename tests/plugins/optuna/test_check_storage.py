"""What is checked of a storage before a run, without reaching it."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import NoReturn

import pytest

from automl_nas.errors import ConfigurationError, DamagedError
from automl_nas.run import Rehearsal
from automl_nas_optuna.storages import check_storage, open_storage
from automl_nas_optuna.workers.executor import OptunaExecutor
from automl_nas_optuna.workers.queue import Queue, run_identifier

WRONG = [
    ("$UNSET_VARIABLE/queue.journal", "a variable in .* is not set"),
    ("", "must not be empty"),
    ("FOLDER", "is a directory; a journal must be a file"),
    ("~/queue.journal", "has no place: Could not determine home directory"),
    ("postgres://host/searches", "is not a storage; write a URL such as"),
    ("://", "is not a storage; write a URL such as"),
    ("oracle://host/searches", "needs a driver that is not installed"),
    ("grpc://host", "needs a host and a port"),
]


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user has no home folder, as in many containers."""

    def unknown(uid: int) -> NoReturn:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize(("storage", "message"), WRONG)
def test_what_cannot_be_opened_is_refused_before_a_run(storage: str, message: str, tmp_path: Path) -> None:
    """The same error as that of opening it, which comes after the training of a supernet."""
    storage = storage.replace("FOLDER", str(tmp_path))
    with pytest.raises(ConfigurationError, match=message) as early:
        OptunaExecutor(storage=storage).rehearse(Rehearsal({}, {}))
    assert early.value.path == "executor.storage"
    with pytest.raises(ConfigurationError) as late:
        open_storage(storage)
    end = "not installed"  # what follows are the words of the library
    assert early.value.message.partition(end)[0] == late.value.message.partition(end)[0]


@pytest.mark.parametrize("storage", ["sqlite:///{}", "{}", "grpc://{}:13000"])
def test_a_check_neither_creates_nor_reaches_the_storage(storage: str, tmp_path: Path) -> None:
    check_storage(storage.format(tmp_path / "new" / "queue"))
    assert list(tmp_path.iterdir()) == []


def test_the_queue_of_another_run_is_an_error_of_the_executors_setting(tmp_path: Path) -> None:
    from plugins.optuna.test_workers import StubEvaluatorSource

    address = str(tmp_path / "queue.journal")
    Queue(address, "taken").create({"run": "other"})
    with pytest.raises(ConfigurationError, match="the queue of another run") as caught:
        OptunaExecutor(storage=address, study="taken").open(StubEvaluatorSource(tmp_path), lambda numbers: None, None)
    assert caught.value.path == "executor.study"


@pytest.mark.parametrize("content", ["[]", "{}", '{"run": 3}', '{"ru'])
def test_a_damaged_identifier_of_a_queue_is_named(content: str, tmp_path: Path) -> None:
    whole = run_identifier(tmp_path)
    assert run_identifier(tmp_path) == whole
    (tmp_path / "optuna_queue.json").write_text(content)
    with pytest.raises(DamagedError, match=r"optuna_queue\.json is damaged: "):
        run_identifier(tmp_path)
