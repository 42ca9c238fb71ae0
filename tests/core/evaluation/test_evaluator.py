"""Requests, and frozen dataclasses made without their constructors."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from automl_nas.evaluation.evaluator import Outcome, Reports, Request
from automl_nas.fast_dataclass import new_frozen
from automl_nas.space.architecture import Architecture

ARCHITECTURE = Architecture({"a": 1})


def test_new_frozen_equals_the_constructor() -> None:
    made = Outcome(3, {"accuracy": 0.5}, seconds=0.25)
    quick = new_frozen(Outcome, {**vars(made)})
    assert quick == made
    assert repr(quick) == repr(made)
    assert pickle.loads(pickle.dumps(quick)) == made  # noqa: S301 - our own bytes
    with pytest.raises(FrozenInstanceError):
        quick.number = 4  # type: ignore[misc]


@pytest.mark.parametrize("folder", ["runs/scratch/7", Path("runs/scratch/7")])
def test_scratch_is_a_path(folder: str | Path) -> None:
    request = Request(7, ARCHITECTURE, 1, None, folder)  # type: ignore[arg-type]
    for same in (request, replace(request, report=print), pickle.loads(pickle.dumps(request))):  # noqa: S301 - our own
        assert same.scratch == Path("runs/scratch/7")
        assert same == request
    assert request != Request(7, ARCHITECTURE, 1, None, Path("elsewhere"))
    assert Request(7, ARCHITECTURE, 1).scratch is None


def test_every_request_has_its_own_reports() -> None:
    one, other = Request(0, ARCHITECTURE, 1), Request(0, ARCHITECTURE, 1)
    one.report(2, 0.5)
    assert isinstance(one.report, Reports)
    assert isinstance(other.report, Reports)
    assert (one.report.values, other.report.values) == ([[2, 0.5]], [])
    assert one == other
