"""Accumulation, averaged weights, early stopping, mixup and cutmix against torch, torchvision and closed forms."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from automl_nas.errors import ConfigurationError, DivergedError
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.fit import Fit, score
from automl_nas.evaluation.training.mixing import check_mixing, mix
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.streams import stream, stream_seed
from automl_nas.testing.toys import ToyTask
from automl_nas.torchvision_import import import_torchvision

SEED = 5


def runtime() -> Runtime:
    return Runtime(device="cpu")


def task(**settings: Any) -> ToyTask:
    return ToyTask(**{"input_shape": (3, 6, 6), "train": 50, "batch_size": 16, **settings})


def network(*, norm: bool = True, dropout: float = 0.2) -> nn.Module:
    middle: list[nn.Module] = [nn.BatchNorm2d(8)] if norm else []
    with runtime().seeded(SEED, "init"):
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3), *middle, nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * 16, 3)
        )
        return runtime().place(net)


def fit(recipe: Recipe, net: nn.Module | None = None, data: ToyTask | None = None) -> Fit:
    return Fit(net or network(), data or task(), runtime(), recipe, seed=SEED)


def weights(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_accumulated_batches_equal_one_large_batch(optimizer: str) -> None:
    """Without batch normalisation and dropout the gradient of the large batch is the mean over the small ones."""
    recipe: dict[str, Any] = {"epochs": 3, "optimizer": optimizer, "learning_rate": 0.01, "clip_norm": 0.5}
    large = fit(Recipe(**recipe), network(norm=False, dropout=0.0), task(batch_size=24))
    small = fit(Recipe(**recipe, accumulate=3), network(norm=False, dropout=0.0), task(batch_size=8))
    assert large.iterations == small.iterations == 6
    for _ in range(3):
        one, other = large.advance(2), small.advance(2)
        assert one.examples == other.examples == 48
        # The same sums in another order: some float32 roundings apart.
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
    for a, b in zip(large.network.parameters(), small.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_batches_that_do_not_fill_a_step_are_left_out() -> None:
    training = fit(Recipe(epochs=2, accumulate=2))  # 3 batches in an epoch
    assert training.iterations == 2
    assert training.advance(2).examples == 64
    with pytest.raises(ConfigurationError, match="an epoch has 3 batches") as caught:
        fit(Recipe(accumulate=4))
    assert caught.value.path == "accumulate"


def test_averaged_weights_are_those_of_torch() -> None:
    recipe = {"epochs": 3, "learning_rate": 0.2, "schedule": "constant"}
    plain = fit(Recipe(**recipe))  # type: ignore[arg-type]
    reference = AveragedModel(plain.network, multi_avg_fn=get_ema_multi_avg_fn(0.8), use_buffers=True)
    averaged = fit(Recipe(**recipe, average=0.8))  # type: ignore[arg-type]
    for step in range(1, 10):
        plain.advance(1)
        reference.update_parameters(plain.network)
        averaged.advance(1)
        if step < 9:
            assert_same(weights(plain.network), weights(averaged.network))  # the average does not change the training
        with averaged.averaged():
            expected = weights(reference.module)
            for name, tensor in averaged.network.state_dict().items():
                if tensor.is_floating_point():
                    assert torch.equal(tensor, expected[name]), name
                else:  # torch averages the counters of batch normalisation, too
                    assert torch.equal(tensor, plain.network.state_dict()[name])
    assert averaged.done
    assert not torch.equal(averaged.network[0].weight, plain.network[0].weight)  # type: ignore[index]
    assert torch.equal(averaged.network[0].weight, reference.module[0].weight)  # type: ignore[index]


def best_epoch_by_hand(recipe: Recipe, data: ToyTask) -> tuple[int, int, dict[str, Tensor]]:
    """Return the best epoch, the number of epochs trained, and the weights: with a score after each epoch."""
    plain = fit(Recipe(**{**vars(recipe), "patience": None}), data=data)
    best, stale, kept, epoch = -math.inf, 0, {}, 0
    at = 0
    while stale < (recipe.patience or 0) and not plain.done:
        plain.advance(3)
        epoch += 1
        accuracy = score(plain.network, data, runtime(), "search")["accuracy"]
        if accuracy > best:
            best, stale, kept, at = accuracy, 0, weights(plain.network), epoch
        else:
            stale += 1
    return at, epoch, kept


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_early_stopping_keeps_the_best_epoch(chunk: int) -> None:
    recipe = Recipe(epochs=30, learning_rate=0.3, schedule="constant", patience=3)
    data = task(search=200, noise=2.0)
    at, epochs, kept = best_epoch_by_hand(recipe, data)
    assert 1 < at < epochs < 30  # otherwise this test shows nothing
    stopping = fit(recipe, data=data)
    while not stopping.done:
        stopping.advance(chunk)
    assert stopping.iteration == 3 * epochs
    assert_same(weights(stopping.network), kept)
    assert stopping.advance(1).iterations == 0


def test_the_best_epoch_is_also_kept_when_all_epochs_are_trained() -> None:
    recipe = Recipe(epochs=8, learning_rate=0.3, schedule="constant", patience=8)
    data = task(search=200, noise=5.0)
    at, epochs, kept = best_epoch_by_hand(recipe, data)
    assert at < epochs == 8
    training = fit(recipe, data=data)
    training.advance(1000)
    assert_same(weights(training.network), kept)


def test_early_stopping_needs_a_held_out_split_and_a_network_that_can_be_scored() -> None:
    with pytest.raises(ConfigurationError, match=r"'search', which is a part of 'train\+search'"):
        Fit(network(), task(), runtime(), Recipe(patience=2), seed=SEED, split="train+search")
    with pytest.raises(ConfigurationError, match="supernet"):
        Fit(network(), task(), runtime(), Recipe(patience=2), seed=SEED, forward=lambda net, x, _: net(x))


def test_a_loss_that_is_not_finite_is_not_scored() -> None:
    training = fit(Recipe(epochs=3, patience=1, learning_rate=1e30, schedule="constant"))
    with pytest.raises(DivergedError, match="the training loss became"):
        training.advance(9)


def half() -> Runtime:
    """Return a runtime that computes in float16: on the CPU, where only tests do that, if there is no GPU."""
    return Runtime(device="auto", precision="float16")


def test_losses_are_scaled_in_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers as a loop written by hand with torch's scaler; a step that overflows is left out."""
    monkeypatch.setattr(Runtime, "require", lambda self, why="": None)
    recipe = Recipe(epochs=2, learning_rate=0.1, schedule="constant", weight_decay=0.0, clip_norm=1.0)
    training = Fit(half().place(network(dropout=0.0)), task(), half(), recipe, seed=SEED)
    device = half().device

    net = half().place(network(dropout=0.0)).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scaler = torch.amp.GradScaler(device.type)
    for number, (inputs, targets) in enumerate(task().batches("train", 0, stream_seed(SEED, "data"))):
        if number == 1:  # 2^40 times any gradient is too large for float16
            state = training.state_dict()
            training.load_state_dict({**state, "scaler": {**state["scaler"], "scale": 2.0**40}})
            scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**40})
            before = weights(net)
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.float16):
            loss = F.cross_entropy(net(half().tensor(inputs)), targets.to(device))
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        training.advance(1)
        assert_same(weights(training.network), weights(net))
        if number == 1:
            assert scaler.get_scale() == 2.0**39
            assert torch.equal(before["0.weight"], net.state_dict()["0.weight"])
    assert training.state_dict()["scaler"] == scaler.state_dict()


RECIPES: dict[str, dict[str, Any]] = {
    "accumulate": {"accumulate": 2},
    "average": {"average": 0.9},
    "patience": {"patience": 2, "learning_rate": 0.3, "schedule": "constant"},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
    "all": {"accumulate": 3, "average": 0.9, "mixup": 0.4, "cutmix": 1.0, "patience": 1, "schedule": "one_cycle"},
}


@pytest.mark.parametrize("options", RECIPES.values(), ids=list(RECIPES))
@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_resumed_training_is_bit_equal(options: dict[str, Any], at: int) -> None:
    recipe = Recipe(**{"epochs": 5, "learning_rate": 0.1, **options})
    data = task(noise=2.0)
    whole = fit(recipe, data=data)
    while not whole.done:
        whole.advance(4)
    first = fit(recipe, data=data)
    first.advance(at)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    first.advance(2)  # the saved state is a copy: what goes on does not change it
    file.seek(0)
    second = fit(recipe, data=data)
    second.load_state_dict(torch.load(file, weights_only=True))
    while not second.done:
        second.advance(1)
    assert second.iteration == whole.iteration
    assert_same(weights(second.network), weights(whole.network))


class Constant:
    """A random generator of torchvision's and ours that draws chosen values."""

    def __init__(self, share: float, column: int, row: int) -> None:
        self.share, self.draws = share, [column, row]

    def betavariate(self, alpha: float, beta: float) -> float:
        return self.share

    def randrange(self, stop: int) -> int:
        if stop == 1:  # the choice among one way
            return 0
        return self.draws.pop(0)


def mixed_by_torchvision(
    way: Callable[..., Any], share: float, draws: list[int], x: Tensor, y: Tensor, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, Tensor]:
    transform = way(alpha=1.0, num_classes=3)
    integers = iter(draws)
    with monkeypatch.context() as patched:
        patched.setattr(transform._dist, "sample", lambda *_: torch.tensor([share]))
        patched.setattr(torch, "randint", lambda *_, **__: torch.tensor([next(integers)]))
        images, targets = transform(x, y)
    return images, targets


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 0.83, 1.0])
@pytest.mark.parametrize(("column", "row"), [(0, 0), (4, 2), (8, 6)])
@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_mixed_batches_are_those_of_torchvision(
    way: str, share: float, column: int, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(7, 3, 7, 9, generator=generator), torch.randint(3, (7,), generator=generator)
    outputs = torch.randn(7, 3, generator=generator)
    v2 = import_torchvision("torchvision.transforms.v2")
    transform = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[way]
    images, targets = mixed_by_torchvision(transform, share, [column, row], x, y, monkeypatch)
    ours, kept = mix(x, Recipe(**{way: 1.0}), Constant(share, column, row))  # type: ignore[arg-type]
    torch.testing.assert_close(ours, images)
    for smoothing in (0.0, 0.1):  # the loss is linear in the targets, also if they are smoothed
        loss = kept * F.cross_entropy(outputs, y, label_smoothing=smoothing)
        loss = loss + (1 - kept) * F.cross_entropy(outputs, y.roll(1, 0), label_smoothing=smoothing)
        torch.testing.assert_close(loss, F.cross_entropy(outputs, targets, label_smoothing=smoothing))


def test_each_batch_is_mixed_by_a_stream_of_seed_and_number() -> None:
    seen: list[Tensor] = []

    class Recording(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network()

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.clone())
            result: Tensor = self.body(x)
            return result

    recipe = Recipe(epochs=2, mixup=0.4, cutmix=1.0)
    training = fit(recipe, Recording())
    training.advance(6)
    batches = [x for epoch in range(2) for x, _ in task().batches("train", epoch, stream_seed(SEED, "data"))]
    expected = [mix(x, recipe, stream(SEED, "mix", number))[0] for number, x in enumerate(batches)]
    for ours, theirs in zip(seen, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert any(not torch.equal(ours, x) for ours, x in zip(seen, batches, strict=True))


def test_shares_have_the_distribution_of_the_papers() -> None:
    rng = random.Random(0)
    x = torch.zeros(2, 1, 32, 32)
    shares = torch.tensor([mix(x, Recipe(mixup=0.4), rng)[1] for _ in range(4000)])
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)); standard errors of 4,000 draws: 0.006 and about 0.0013.
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03)
    assert shares.var().item() == pytest.approx(1 / (4 * 1.8), abs=0.008)


@pytest.mark.parametrize(
    ("recipe", "inputs", "targets", "message"),
    [
        (Recipe(mixup=0.2), torch.zeros(2, 5, dtype=torch.long), torch.zeros(2), "type int64 cannot be mixed"),
        (Recipe(cutmix=1.0), torch.zeros(2, 5), torch.zeros(2), "boxes are cut from images"),
        (Recipe(cutmix=1.0), torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4), "targets for each pixel"),
    ],
)
def test_samples_that_cannot_be_mixed_are_refused(
    recipe: Recipe, inputs: Tensor, targets: Tensor, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        check_mixing(recipe, inputs, targets, "final.train")
    assert caught.value.path in ("final.train.mixup", "final.train.cutmix")
