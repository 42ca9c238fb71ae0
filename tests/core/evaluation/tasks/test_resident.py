"""Small data sets live on the device. Its values are tested with the CPU as the device, its placement with `meta`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from automl_nas.evaluation import Fit, Recipe, Runtime, SplitTask, Task, TensorTask
from automl_nas.evaluation.task import SPLITS
from automl_nas.evaluation.tasks.resident import ResidentSource
from automl_nas.testing import ToyTask
from automl_nas_vision.digits import Digits

CPU, META = torch.device("cpu"), torch.device("meta")


def noise(inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    return inputs + torch.randn(inputs.shape), target


def numbers(**settings: Any) -> TensorTask:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)).astype(np.float32), rng.normal(size=(50, 2)).astype(np.float32)
    return TensorTask(x, y, loss="mse", batch_size=4, resamples=0, **settings)


TASKS: Mapping[str, tuple[Callable[[], Task], int]] = {
    # bytes of all samples: (3 + 2) float32 each; 64 float32 and a class of 8 bytes each
    "numbers": (numbers, 50 * 5 * 4),
    "standardised": (lambda: numbers(standardize_targets=True), 50 * 5 * 4),
    "augmented": (lambda: numbers(augment=noise), 50 * 5 * 4),
    "loaded by processes": (lambda: numbers(workers=2), 50 * 5 * 4),
    "digits": (lambda: Digits(augment="none"), 1797 * (64 * 4 + 8)),
    "augmented digits": (lambda: Digits(augment="shift"), 1797 * (64 * 4 + 8)),
}


@pytest.mark.parametrize("name", [name for name in TASKS if "processes" not in name])
def test_samples_on_a_device_have_the_same_values_in_the_same_order(name: str) -> None:
    make, size = TASKS[name]
    task = make()
    resident = task.on_device(CPU, size)
    assert resident is not task and type(resident) is type(task)
    assert task.on_device(CPU, size - 1) is task
    assert isinstance(resident, SplitTask)
    assert isinstance(resident._source, ResidentSource) == ("augmented" not in name)  # which no loader process receives
    for split in SPLITS:
        for epoch, start in ((0, 0), (3, 2)):
            pairs = zip(task.batches(split, epoch, 7, start), resident.batches(split, epoch, 7, start), strict=True)
            for (inputs, targets), (held_inputs, held_targets) in pairs:
                assert torch.equal(inputs, held_inputs) and torch.equal(targets, held_targets)
        weight = torch.linspace(-1, 1, int(np.prod(task.input_shape))).view(-1, 1)
        outputs = 2 if "digits" not in name else 10

        def predict(inputs: Tensor, weight: Tensor = weight, outputs: int = outputs) -> Tensor:
            return (inputs.flatten(1) @ weight) * torch.arange(1.0, outputs + 1)

        assert resident.score(predict, split) == task.score(predict, split)
    assert resident.fingerprint() == task.fingerprint()


@pytest.mark.parametrize("name", TASKS)
def test_batches_are_on_the_device_unless_they_are_augmented(name: str) -> None:
    make, size = TASKS[name]
    resident = make().on_device(META, size)
    inputs, targets = next(resident.batches("train", 0, 0))
    place = "cpu" if "augmented" in name else "meta"
    assert (inputs.device.type, targets.device.type) == (place, place)
    scored: list[Tensor] = []
    with pytest.raises(StopIteration):
        resident.score(lambda batch: scored.append(batch) or next(iter(())), "search")  # type: ignore[func-returns-value]
    assert scored[0].device.type == "meta"


def test_other_tasks_stay_as_they_are() -> None:
    task = ToyTask()
    assert task.on_device(META, 1e12) is task


def test_a_device_without_room_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    task = numbers()
    monkeypatch.setattr("automl_nas.evaluation.tasks.resident.torch.cat", full)
    assert task.on_device(META, 1e9) is task


def test_the_runtime_copies_a_task_once_and_never_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[float] = []
    copy_of = ResidentSource.copy_of

    def counted(*args: Any, **settings: Any) -> ResidentSource | None:
        copies.append(settings["limit"])
        return copy_of(*args, **settings)

    monkeypatch.setattr(ResidentSource, "copy_of", counted)
    task, other = numbers(), numbers()
    assert Runtime(device="cpu").resident(task) is task
    assert Runtime(device="meta", data_megabytes=0).resident(task) is task
    assert copies == []
    runtime = Runtime(device="meta", data_megabytes=2.5)
    first = runtime.resident(task)
    assert first is runtime.resident(task) is not task
    assert runtime.resident(other) is not first
    assert copies == [2.5e6, 2.5e6]
    assert Runtime(device="meta", data_megabytes=1e-6).resident(task) is task


def test_a_training_reads_the_resident_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the CPU in the place of a GPU, the training has the same bits."""
    states = []
    for held in (False, True):
        task, runtime = numbers(), Runtime(device="cpu")
        if held:
            resident = task.on_device(CPU, 1e9)
            monkeypatch.setattr(runtime, "resident", lambda asked, task=task, resident=resident: resident)
            monkeypatch.setattr(task, "_source", None)  # of the task itself nothing is read any more
        with runtime.seeded(0, "build"):
            network = nn.Linear(3, 2)
        fit = Fit(network, task, runtime, Recipe(epochs=2, learning_rate=0.01), seed=1)
        fit.advance(fit.iterations)
        states.append(network.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
