"""Training candidates from scratch: against `Fit` alone, pruned, interrupted, diverging."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from plugins.oneshot.conftest import make_space

from automl_nas.errors import ConfigurationError, Pruned
from automl_nas.evaluation.evaluator import Request, State
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.fit import Fit, score
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.streams import stream
from automl_nas.testing.evaluators import EvaluatorContract
from automl_nas.testing.toys import ToyTask
from automl_nas_oneshot.from_scratch import TrainFromScratch

RECIPE = Recipe(epochs=3, learning_rate=0.1)
Make = Callable[..., TrainFromScratch]


@pytest.fixture
def make(space: ModuleSpace, task: ToyTask, runtime: Runtime) -> Make:
    def build(**settings: Any) -> TrainFromScratch:
        settings = {"train": RECIPE, "iterations_per_chunk": 2, "checkpoint_seconds": 0.0, **settings}
        return TrainFromScratch(space, task, runtime, **settings)

    return build


class TestContract(EvaluatorContract):
    samples = 2

    def make_space(self) -> ModuleSpace:
        return make_space()

    def make_evaluator(self, space: Any) -> TrainFromScratch:
        settings = {"train": RECIPE, "iterations_per_chunk": 2, "checkpoint_seconds": 0.0}
        return TrainFromScratch(space, self.make_task(), Runtime(device="cpu"), **settings)

    def make_task(self) -> ToyTask:
        return ToyTask(train=80)


class TestContractAtAFidelity(TestContract):
    fidelity = 1.0


def request(space: ModuleSpace, **fields: Any) -> Request:
    return Request(0, space.sample(stream(1, "candidate")), **{"seed": 4, **fields})


def test_it_is_fit_and_score_after_each_epoch(make: Make, space: ModuleSpace, task: ToyTask, runtime: Runtime) -> None:
    reported = []
    candidate = request(space, report=lambda step, value: reported.append((step, value)))
    (outcome,) = make().evaluate([candidate])

    with runtime.seeded(4, "init"):
        network = runtime.place(space.build(candidate.architecture))
    fit = Fit(network, task, runtime, RECIPE, seed=4)
    expected = []
    while not fit.done:
        fit.advance(5)
        expected.append((fit.epoch, score(network, task, runtime, "search")["accuracy"]))
    assert reported == expected
    assert outcome.metrics == score(network, task, runtime, "search")
    assert outcome.info == {"epochs": 3}
    assert outcome.seconds > 0


def test_a_fidelity_is_a_schedule_of_its_own(make: Make, space: ModuleSpace) -> None:
    (short,) = make().evaluate([request(space, fidelity=2.0)])
    (same,) = make(train=Recipe(epochs=2, learning_rate=0.1)).evaluate([request(space)])
    assert short.metrics == same.metrics
    assert short.info == {"epochs": 2}
    with pytest.raises(ConfigurationError, match="whole number of epochs"):
        list(make().evaluate([request(space, fidelity=1.5)]))


def test_reports_may_be_rarer_and_the_end_is_always_reported(make: Make, space: ModuleSpace) -> None:
    steps: list[int] = []
    (outcome,) = make(report_epochs=2).evaluate([request(space, report=lambda step, _: steps.append(step))])
    assert steps == [2, 3]
    (often,) = make().evaluate([request(space)])
    assert outcome.metrics == often.metrics


def test_a_pruned_candidate_keeps_what_is_known_and_the_next_goes_on(make: Make, space: ModuleSpace) -> None:
    def stop(step: int, value: float) -> None:
        if step == 2:
            raise Pruned

    pruned, other = make().evaluate([request(space, report=stop), request(space)])
    assert (pruned.state, pruned.info) == (State.PRUNED, {"epochs": 2})
    assert set(pruned.metrics) == {"accuracy", "loss"}
    assert other.state is State.COMPLETE


def test_a_diverging_candidate_fails_with_a_reason(make: Make, space: ModuleSpace) -> None:
    evaluator = make(train=Recipe(epochs=3, learning_rate=1e30, schedule="constant"))
    (outcome,) = evaluator.evaluate([request(space)])
    assert (outcome.state, outcome.metrics) == (State.FAILED, {})
    assert "lower learning_rate" in outcome.error


class Crash(BaseException):
    """What an interruption looks like from inside."""


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupted_evaluation_goes_on_bit_for_bit(
    make: Make, space: ModuleSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    clean: list[tuple[int, float]] = []
    (expected,) = make().evaluate([request(space, report=lambda *pair: clean.append(pair))])

    def crash(step: int, value: float) -> None:
        if step == at:
            raise Crash

    scratch = tmp_path / "scratch" / "0"  # not there yet
    with pytest.raises(Crash):
        list(make().evaluate([request(space, scratch=scratch, report=crash)]))

    trained = 0
    advance = Fit.advance

    def counted(fit: Fit, iterations: int) -> Any:
        nonlocal trained
        done = advance(fit, iterations)
        trained += done.iterations
        return done

    monkeypatch.setattr(Fit, "advance", counted)
    again: list[tuple[int, float]] = []
    (outcome,) = make().evaluate([request(space, scratch=scratch, report=lambda *pair: again.append(pair))])
    assert outcome.metrics == expected.metrics
    assert again == clean
    # Epochs of 5 iterations in chunks of 2, 2 and 1, a checkpoint after each: the crash lost the last chunk at most.
    assert trained == 15 - (5 * at - 1)


def test_another_requests_checkpoint_is_not_used(make: Make, space: ModuleSpace, tmp_path: Path) -> None:
    list(make().evaluate([request(space, seed=9, scratch=tmp_path)]))
    (outcome,) = make().evaluate([request(space, scratch=tmp_path)])
    (expected,) = make().evaluate([request(space)])
    assert outcome.metrics == expected.metrics


def test_a_damaged_checkpoint_is_named_and_training_starts_again(
    make: Make, space: ModuleSpace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (expected,) = make().evaluate([request(space, scratch=tmp_path)])
    file = tmp_path / "training.pt"
    file.write_bytes(file.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        (outcome,) = make().evaluate([request(space, scratch=tmp_path)])
    assert str(file) in caplog.text
    assert outcome.metrics == expected.metrics
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]


def test_a_disk_that_is_full_is_no_fault_of_the_candidate(
    make: Make, space: ModuleSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    (expected,) = make().evaluate([request(space)])
    monkeypatch.setattr("automl_nas.run.record.atomic_files.os.fsync", full)
    (outcome,) = make().evaluate([request(space, scratch=tmp_path)])
    assert outcome.metrics == expected.metrics
    assert "the disk is full" in caplog.text
    assert not list(tmp_path.iterdir())


def test_without_scratch_nothing_is_written(
    make: Make, space: ModuleSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    list(make().evaluate([request(space)]))
    list(make(checkpoint_seconds=1e6).evaluate([request(space, scratch=tmp_path)]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"report_epochs": 0}, "report_epochs"),
        ({"iterations_per_chunk": 0}, "iterations_per_chunk"),
        ({"checkpoint_seconds": float("nan")}, "checkpoint_seconds"),
        ({"data": "train+search"}, "data"),
    ],
)
def test_wrong_settings_are_refused(make: Make, settings: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(**settings)
    assert caught.value.path == path


def test_training_leaves_no_gradients_behind_in_torch_state(make: Make, space: ModuleSpace) -> None:
    (outcome,) = make().evaluate([request(space)])
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert outcome.state is State.COMPLETE
