"""`Runtime`: generators, placement, data-parallel training, and the tuning of its settings."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training import autotune
from automl_nas.evaluation.training.autotune import tune
from automl_nas.evaluation.training.batch_norm import recalibrate_on
from automl_nas.evaluation.training.fit import Fit
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.testing.toys import ToyTask


def draws() -> tuple[object, ...]:
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), torch.rand(3).tolist()


@pytest.fixture
def generators() -> Iterator[None]:
    """Put the global generators back after a test that draws from them."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])
    torch.set_rng_state(before[2])


@pytest.mark.usefixtures("generators")
def test_seeded_draws_depend_only_on_the_stream_and_restore_the_generators() -> None:
    runtime = Runtime(device="cpu")
    np.random.randn(1)  # NumPy keeps the second of a pair of normal numbers for later: part of the state
    start = random.getstate(), np.random.get_state(), torch.get_rng_state()
    undisturbed = draws()
    random.setstate(start[0])
    np.random.set_state(start[1])
    torch.set_rng_state(start[2])

    with runtime.seeded(1, "a", 3):
        first = draws()
        with runtime.seeded(1, "b"):
            inner = draws()
        after_inner = draws()
    with pytest.raises(KeyError), runtime.seeded(1, "a", 4):
        draws()
        raise KeyError
    assert draws() == undisturbed

    with runtime.seeded(1, "a", 3):
        assert draws() == first
        assert draws() == after_inner
        runtime.reseed(1, "b")
        assert draws() == inner
    assert first != inner


def test_threads_are_recorded_and_set() -> None:
    before = torch.get_num_threads()
    assert Runtime(device="cpu").threads == before
    try:
        Runtime(device="cpu", threads=2).activate()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_convolutions_on_a_gpu_are_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    runtime = Runtime(device="cpu")
    runtime.activate()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (False, True)
    monkeypatch.setattr(runtime, "_device", torch.device("cuda"))
    runtime.activate()
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (True, False)


def test_settings_make_the_same_runtime() -> None:
    chosen = {"precision": "bfloat16", "memory_format": "contiguous", "threads": 3, "data_megabytes": 0.5}
    settings = Runtime(device="cpu", **chosen).settings()  # type: ignore[arg-type]
    assert Runtime(**settings).settings() == settings  # type: ignore[arg-type]
    assert settings == {"device": "cpu", **chosen}


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"device": "quantum"}, "runtime.device"),
        ({"threads": 0}, "runtime.threads"),
        ({"data_megabytes": -1.0}, "runtime.data_megabytes"),
        ({"precision": "float64"}, "runtime.precision"),
        ({"precision": "float16"}, "runtime.precision"),
        ({"precision": "auto"}, "runtime.precision"),
        ({"memory_format": "auto"}, "runtime.memory_format"),
    ],
)
def test_wrong_settings_are_located(settings: dict[str, object], path: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Runtime(**{"device": "cpu", **settings})  # type: ignore[arg-type]
    assert caught.value.path == path


def test_networks_and_batches_take_the_memory_format() -> None:
    runtime = Runtime(device="cpu")
    net = runtime.place(nn.Conv2d(4, 4, 3))
    assert net.weight.is_contiguous(memory_format=torch.channels_last)
    assert runtime.tensor(torch.zeros(2, 4, 5, 5)).is_contiguous(memory_format=torch.channels_last)
    assert runtime.tensor(torch.zeros(2, 4)).shape == (2, 4)


def test_predictor_evaluates_without_gradients_in_float32() -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append((self.training, torch.is_grad_enabled()))
            return x @ torch.eye(3)

    predict = Runtime(device="cpu", precision="bfloat16").predictor(Spy())
    outputs = predict(torch.full((2, 3), 1 + 2**-12))
    assert seen == [(False, False)]
    assert outputs.dtype == torch.float32
    assert torch.equal(outputs, torch.ones(2, 3))  # bfloat16 has 8 bits: the product was computed in it


class Branches(nn.Module):
    """Two options, without batch normalisation: its statistics are per process, everything else adds up exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.options = nn.ModuleList(nn.Conv2d(1, 3, k, padding=k // 2) for k in (1, 3))

    def forward(self, x: Tensor, option: int) -> Tensor:
        result: Tensor = self.options[option](x).relu().mean((2, 3))
        return result


def train(iterations: int) -> tuple[Fit, float]:
    runtime = Runtime(device="cpu", threads=1)
    with runtime.seeded(1, "init"):
        net = runtime.place(Branches())
    recipe = Recipe(epochs=4, learning_rate=0.5, weight_decay=0.1)
    # Option 0 gets a momentum first, then it is never drawn again.
    fit = Fit(net, ToyTask(), runtime, recipe, seed=1, forward=lambda n, x, count: n(x, int(count >= 3)))
    return fit, fit.advance(iterations).loss


def _worker(rank: int, port: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        fit, _ = train(3)
        still = {
            name: value.clone() for name, value in fit.network.state_dict().items() if name.startswith("options.0")
        }
        loss = fit.advance(5).loss
        runtime = fit.runtime
        mean = torch.tensor([float(rank)])
        runtime.reduce([mean])
        with pytest.raises(ConfigurationError, match="does not divide among 2"):
            runtime.shard(torch.zeros(3))
        result = {
            "network": fit.network.state_dict(),
            "loss": loss,
            "none": all(p.grad is None for p in fit.network.options[0].parameters()),  # type: ignore[index,union-attr]
            "still": all(torch.equal(value, fit.network.state_dict()[name]) for name, value in still.items()),
            "mean": mean.item(),
            "shard": runtime.shard(torch.arange(4)).tolist(),
        }
        torch.save(result, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.process
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Spawned: gloo's threads and the fork server of the test session have hung together.
    torch.multiprocessing.spawn(_worker, (port, str(tmp_path)), nprocs=2)  # type: ignore[no-untyped-call]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))

    alone, _ = train(3)
    loss = alone.advance(5).loss
    for name, value in alone.network.state_dict().items():
        assert torch.equal(first["network"][name], second["network"][name])
        # The mean of two halves' means instead of the mean of the whole: float32 roundings over 8 steps.
        torch.testing.assert_close(first["network"][name], value, rtol=1e-5, atol=1e-6)
    assert first["loss"] == second["loss"] == pytest.approx(loss, rel=1e-6)
    assert first["none"] and second["none"] and first["still"] and second["still"]
    assert first["mean"] == second["mean"] == 0.5
    assert (first["shard"], second["shard"]) == ([0, 2], [1, 3])


class Counted(nn.Linear):
    built = 0

    def __init__(self) -> None:
        Counted.built += 1
        super().__init__(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))


def test_tune_replaces_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {("float32", "channels_last"): 4.0, ("bfloat16", "channels_last"): 3.0, ("float32", "contiguous"): 3.9}
    clock = [0.0]
    step = autotune.TimedStep.step

    def timed(trial: autotune.TimedStep) -> float:
        step(trial)
        clock[0] += 1  # a machine that slows down all the time
        return seconds.get((trial.runtime.precision, trial.runtime.memory_format), 9.0) * (1 + clock[0])

    monkeypatch.setattr(autotune.TimedStep, "step", timed)
    auto = {"device": "cpu", "precision": "auto", "memory_format": "auto"}
    Counted.built = 0
    tuned = tune(auto, Counted, ToyTask(), seed=1)
    assert tuned == {"device": "cpu", "precision": "bfloat16", "memory_format": "channels_last"}
    assert Counted.built == 4
    Runtime(**tuned)

    # 2.5 % faster is no reason to leave the default.
    half = {"device": "cpu", "precision": "float32", "memory_format": "auto"}
    assert tune(half, Counted, ToyTask(), seed=1)["memory_format"] == "channels_last"
    assert tune(half, Counted, ToyTask(), seed=1, margin=0.01)["memory_format"] == "contiguous"


def test_tune_keeps_settings_that_are_not_auto() -> None:
    Counted.built = 0
    settings = {"device": "cpu", "precision": "bfloat16", "threads": 3}
    assert tune(settings, Counted, ToyTask(), seed=1) == settings
    assert Counted.built == 0


def test_tune_measures_steps_and_restores_the_generators() -> None:
    before = torch.get_rng_state()
    tuned = tune({"device": "cpu", "precision": "auto"}, Counted, ToyTask(), seed=1, rounds=2)
    assert tuned["precision"] in ("float32", "bfloat16")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_sparing_runtime_computes_the_first_batches_only() -> None:
    calls: list[int] = []

    class Doubling(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            calls.append(len(inputs))
            return 2 * inputs

    runtime = Runtime(device="cpu")
    batches = [torch.arange(float(start), start + size).reshape(-1, 1) for start, size in ((0, 3), (3, 3), (6, 2))]
    predict = runtime.sparing(2).predictor(Doubling())
    outputs = [predict(batch) for batch in batches]
    assert calls == [3, 3]
    assert torch.equal(outputs[1], 2 * batches[1])
    assert torch.equal(outputs[2], torch.zeros(2, 1))  # the output of the first sample, for two samples
    predict = runtime.predictor(Doubling())
    assert torch.equal(torch.cat([predict(batch) for batch in batches]), 2 * torch.cat(batches))

    calls.clear()
    large = torch.arange(40.0).reshape(-1, 1)
    repeated = runtime.sparing(2).predictor(Doubling())(large)
    assert calls == [8] and torch.equal(repeated, 2 * (torch.arange(40.0) % 8).reshape(-1, 1))


def test_a_sparing_runtime_trains_on_the_first_samples_of_large_batches() -> None:
    runtime, task = Runtime(device="cpu"), ToyTask(batch_size=20)
    whole = list(runtime.batches(task, "train", 0, 3))
    part = list(runtime.sparing(1).batches(task, "train", 0, 3))
    assert len(part) == len(whole) > 0
    for (inputs, targets), (first, labels) in zip(whole, part, strict=True):
        assert len(inputs) == 20
        assert torch.equal(first, inputs[:8]) and torch.equal(labels, targets[:8])


def test_a_sparing_runtime_recalibrates_on_the_first_samples_of_the_first_batches() -> None:
    """The statistics are those of 2 x 8 samples; the third batch is not read."""
    runtime, read = Runtime(device="cpu"), list[int]()
    batches = torch.randn(3, 40, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1

    def reading() -> Iterator[Tensor]:
        for number, batch in enumerate(batches):
            read.append(number)
            yield batch

    norm = nn.BatchNorm1d(5)
    recalibrate_on(norm, runtime.sparing(2), reading())
    torch.testing.assert_close(norm.running_mean, batches[:2, :8].mean((0, 1)))
    assert read == [0, 1]
    recalibrate_on(norm, runtime, reading())
    torch.testing.assert_close(norm.running_mean, batches.mean((0, 1)))
