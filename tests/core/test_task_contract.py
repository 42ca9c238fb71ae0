"""The toy task keeps the contract of tasks; `tests/broken_plugins` has tasks that do not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from automl_nas.evaluation.task import Task
from automl_nas.testing.tasks import TaskContract
from automl_nas.testing.toys import ToyTask

SMALL = {"train": 24, "search": 12, "test": 12, "batch_size": 4}


def toy(**settings: Any) -> ToyTask:
    return ToyTask(**{**SMALL, **settings})


class TestToyTask(TaskContract):
    def make_task(self) -> Task:
        return toy()

    def equivalents(self) -> Iterable[Task]:
        yield toy(batch_size=5)
