"""`Fit` against loops written by hand, and recalibration against NumPy."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import ConfigurationError, DivergedError
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.batch_norm import recalibrate_on, recalibration_inputs
from automl_nas.evaluation.training.fit import Fit, learning_rate, make_optimizer, recalibrate, score
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.streams import stream, stream_seed
from automl_nas.testing.toys import ToyTask

SHAPE = (3, 6, 6)
SEED = 7


class Paths(nn.Module):
    """Two blocks of three options each; called with the options to take."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(nn.Conv2d(8, 8, k, padding=k // 2), nn.BatchNorm2d(8), nn.ReLU()) for k in (1, 3, 5)
            )
            for _ in range(2)
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor, path: tuple[int, ...] = (0, 0)) -> Tensor:
        x = self.stem(x)
        for options, option in zip(self.blocks, path, strict=True):
            x = options[option](x)
        result: Tensor = self.head(self.dropout(x.mean((2, 3))))
        return result


def path_of(count: int) -> tuple[int, ...]:
    rng = stream(SEED, "path", count)
    return tuple(rng.randrange(3) for _ in range(2))


def forward(network: nn.Module, inputs: Tensor, count: int) -> Tensor:
    result: Tensor = network(inputs, path_of(count))
    return result


def runtime() -> Runtime:
    return Runtime(device="cpu")


def task() -> ToyTask:
    return ToyTask(input_shape=SHAPE, train=50, batch_size=16)  # 3 full batches: an epoch ends inside most tests


def network() -> Paths:
    with runtime().seeded(SEED, "init"):
        return runtime().place(Paths())


def fit(recipe: Recipe, **settings: object) -> Fit:
    return Fit(network(), task(), runtime(), recipe, seed=SEED, forward=forward, **settings)  # type: ignore[arg-type]


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


RECIPES = {
    "spos": Recipe(epochs=4, learning_rate=0.2, weight_decay=1e-2),
    "nesterov": Recipe(epochs=4, learning_rate=0.2, nesterov=True, decay="all", weight_decay=1e-2, schedule="constant"),
    "clipped": Recipe(epochs=4, learning_rate=0.5, momentum=0.0, clip_norm=0.1, schedule="constant", weight_decay=0.0),
    "adamw": Recipe(epochs=4, optimizer="adamw", learning_rate=1e-2, weight_decay=0.1, schedule="constant"),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_fit_equals_a_loop_written_by_hand(recipe: Recipe) -> None:
    trained = fit(recipe)
    trained.advance(10)

    net, data = network(), task()
    weights = [p for p in net.parameters() if p.dim() > 1 or recipe.decay == "all"]
    others = [p for p in net.parameters() if p.dim() <= 1 and recipe.decay == "weights"]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}]
    groups += [{"params": others, "weight_decay": 0.0}] if others else []
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(groups, lr=recipe.learning_rate)
        if recipe.optimizer == "adamw"
        else torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.nesterov)
    )
    net.train()
    iteration = 0
    with torch.random.fork_rng():
        for epoch in range(4):
            for inputs, targets in data.batches("train", epoch, stream_seed(SEED, "data")):
                if iteration == 10:
                    break
                if recipe.schedule == "linear":
                    for group in optimizer.param_groups:
                        group["lr"] = recipe.learning_rate * (1 - iteration / 12)
                torch.manual_seed(stream_seed(SEED, "step", iteration))  # dropout's
                optimizer.zero_grad()
                loss = F.cross_entropy(net(inputs.to(memory_format=torch.channels_last), path_of(iteration)), targets)
                loss.backward()  # type: ignore[no-untyped-call]
                if recipe.clip_norm is not None:
                    nn.utils.clip_grad_norm_(net.parameters(), recipe.clip_norm)
                optimizer.step()
                iteration += 1
    assert same(trained.network, net)
    assert not same(trained.network, network())


def test_several_passes_add_their_gradients_for_one_optimiser_step() -> None:
    recipe = Recipe(epochs=2, learning_rate=0.1, schedule="constant", weight_decay=0.0, momentum=0.0)
    trained = fit(recipe, passes=2)
    progress = trained.advance(2)

    net = network().train()
    batches = task().batches("train", 0, stream_seed(SEED, "data"))
    losses = []
    with torch.random.fork_rng():
        for iteration in range(2):
            inputs, targets = next(batches)
            torch.manual_seed(stream_seed(SEED, "step", iteration))
            net.zero_grad()
            for turn in range(2):
                loss = F.cross_entropy(net(inputs, path_of(2 * iteration + turn)), targets)
                loss.backward()  # type: ignore[no-untyped-call]
                losses.append(loss.item())
            with torch.no_grad():
                for p in net.parameters():
                    if p.grad is not None:
                        p -= 0.1 * p.grad
    for a, b in zip(trained.network.parameters(), net.parameters(), strict=True):
        # The same sums in another order of memory and of multiply-add: some float32 roundings apart.
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert progress.loss == pytest.approx(sum(losses) / 4, rel=1e-6)
    assert progress.examples == 32


def test_weights_of_candidates_that_are_not_drawn_do_not_change() -> None:
    path = [(0, 0)]
    recipe = Recipe(epochs=2, learning_rate=0.5, weight_decay=0.1, decay="all")
    net = network()
    trained = Fit(net, task(), runtime(), recipe, seed=SEED, forward=lambda n, x, _: n(x, path[0]))
    trained.advance(2)  # option 0 now has a momentum that would carry it on
    path[0] = (1, 2)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trained.advance(1)
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    drawn = {name for name in before if name.startswith(("stem", "head", "blocks.0.1", "blocks.1.2"))}
    assert moved == drawn
    assert all(p.grad is None for p in net.blocks[0][0].parameters())  # type: ignore[index]


@pytest.mark.parametrize("at", [1, 3, 4])
def test_resume_is_bit_equal_inside_an_epoch_and_at_its_end(at: int) -> None:
    recipe = Recipe(epochs=3, learning_rate=0.2, weight_decay=1e-2)
    whole = fit(recipe)
    whole.advance(9)

    first = fit(recipe)
    first.advance(at)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = fit(recipe)
    second.load_state_dict(torch.load(file, weights_only=True))
    while not second.done:
        second.advance(2)
    assert second.iteration == whole.iteration == 9
    assert same(whole.network, second.network)


def test_an_earlier_state_can_be_loaded() -> None:
    training = fit(Recipe(epochs=3, learning_rate=0.2))
    training.advance(1)
    file = io.BytesIO()
    torch.save(training.state_dict(), file)
    training.advance(4)
    after = {name: value.clone() for name, value in training.network.state_dict().items()}
    file.seek(0)
    training.load_state_dict(torch.load(file, weights_only=True))
    training.advance(4)
    assert all(torch.equal(value, after[name]) for name, value in training.network.state_dict().items())


def test_training_leaves_the_global_generators_alone() -> None:
    before = random.getstate(), torch.get_rng_state()
    fit(Recipe(epochs=1)).advance(2)
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_progress_of_an_advance() -> None:
    training = fit(Recipe(epochs=2, learning_rate=0.1))
    assert (training.advance(4).iterations, training.epoch, training.done) == (4, 1, False)
    last = training.advance(100)
    assert (last.iterations, training.done, last.examples) == (2, True, 32)
    assert last.learning_rate == pytest.approx(0.1 * (1 - 5 / 6))
    assert math.isnan(training.advance(1).loss)


def test_a_loss_that_is_not_finite_names_the_iteration() -> None:
    def breaking(network: nn.Module, inputs: Tensor, count: int) -> Tensor:
        return forward(network, inputs, count) * (math.nan if count == 4 else 1.0)

    training = Fit(network(), task(), runtime(), Recipe(epochs=3), seed=SEED, forward=breaking)
    with pytest.raises(DivergedError, match=r"nan at iteration 4 \(epoch 1.*lower learning_rate"):
        training.advance(9)


def test_a_split_without_a_full_batch_is_refused() -> None:
    small = ToyTask(input_shape=SHAPE, train=10, batch_size=16)
    with pytest.raises(ConfigurationError, match="'train' \\(10 samples\\) has no full batch"):
        Fit(network(), small, runtime(), Recipe(), seed=SEED)
    with pytest.raises(ConfigurationError, match="has no full batch"):
        recalibrate(network(), small, runtime(), images=1, seed=SEED)
    with pytest.raises(ConfigurationError, match="passes"):
        fit(Recipe(), passes=0)


def scheduler(recipe: Recipe, total: int, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    if recipe.schedule == "linear":
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total)
    if recipe.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    if recipe.schedule == "step":
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, [2 * 8 - 4, round(3.5 * 8) - 4], 0.1)
    return torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # there is nothing to optimise here
@pytest.mark.parametrize("schedule", ["linear", "cosine", "step", "constant"])
def test_learning_rates_are_those_of_torch_after_a_linear_warm_up(schedule: str) -> None:
    steps = (2, 3.5) if schedule == "step" else ()
    recipe = Recipe(epochs=5, learning_rate=0.3, schedule=schedule, warmup_epochs=0.5, step_epochs=steps)  # type: ignore[arg-type]
    warmup, per_epoch = 4, 8
    for iteration in range(warmup):
        assert learning_rate(recipe, iteration, per_epoch) == pytest.approx(0.3 * (iteration + 1) / 5)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    reference = scheduler(recipe, 5 * per_epoch - warmup, optimizer)
    for iteration in range(warmup, 5 * per_epoch):
        # torch multiplies its way from step to step: up to 36 roundings of a double.
        assert learning_rate(recipe, iteration, per_epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        reference.step()


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize(("factor", "epochs"), [(1, 12), (2, 28)])
def test_restarts_are_those_of_torch_after_the_warm_up(factor: int, epochs: int) -> None:
    per_epoch, first, warmup = 5, 4, 2
    recipe = Recipe(
        epochs=epochs + warmup,
        learning_rate=0.3,
        schedule="cosine",
        warmup_epochs=warmup,
        restart_epochs=first,
        restart_factor=factor,
    )
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, first * per_epoch, factor)
    rates = []
    for iteration in range(epochs * per_epoch):
        rates.append(learning_rate(recipe, warmup * per_epoch + iteration, per_epoch))
        # The same cosine of the same quotient; rel for its rounding, abs for the values near 0.
        assert rates[-1] == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12, abs=1e-15)
        reference.step()
    # It starts anew three times in either case: 4 + 4 + 4 and 4 + 8 + 16 epochs.
    assert sum(rate == 0.3 for rate in rates) == 3


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize(("warmup", "share"), [(0.0, 0.3), (1.0, 0.2), (2.5, 0.5)])
def test_one_cycle_is_that_of_torch(warmup: float, share: float) -> None:
    recipe = Recipe(epochs=5, learning_rate=0.3, schedule="one_cycle", warmup_epochs=warmup)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    reference = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, 40, pct_start=share, cycle_momentum=False)
    for iteration in range(40):
        assert learning_rate(recipe, iteration, 8) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        if iteration < 39:
            reference.step()


def test_weight_decay_of_the_parameters_in_the_recipe() -> None:
    net = network()
    narrow = make_optimizer(net, Recipe(weight_decay=0.5)).param_groups
    assert [(group["weight_decay"], {p.dim() for p in group["params"]}) for group in narrow] == [
        (0.5, {2, 4}),
        (0.0, {1}),
    ]
    (wide,) = make_optimizer(net, Recipe(weight_decay=0.5, decay="all")).param_groups
    assert wide["weight_decay"] == 0.5
    assert len(wide["params"]) == len(list(net.parameters()))


def normed() -> nn.Sequential:
    with runtime().seeded(SEED, "init"):
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        )


def test_recalibration_is_the_mean_over_batches() -> None:
    net = normed()
    net.train()(torch.randn(8, *SHAPE, generator=torch.Generator().manual_seed(1)))  # statistics to be forgotten
    recalibrate(net, task(), runtime(), images=60, seed=SEED)  # 4 batches: one epoch and a batch of the next

    data = stream_seed(SEED, "recalibrate")
    batches = [x for epoch in range(2) for x, _ in task().batches("train", epoch, data)][:4]
    features = [net[0](x).detach().double().numpy() for x in batches]
    means = np.mean([f.mean((0, 2, 3)) for f in features], axis=0)
    variances = np.mean([f.var((0, 2, 3), ddof=1) for f in features], axis=0)
    norm = net[1]
    # Statistics are kept in float32 and averaged in 4 steps.
    np.testing.assert_allclose(norm.running_mean.numpy(), means, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(norm.running_var.numpy(), variances, rtol=1e-5)

    reference = normed().train()
    for module in (reference[1], reference[4]):
        module.momentum = None
    with torch.no_grad():
        for x in batches:
            reference(x)
    # The same operations, but for the memory format.
    for a, b in zip(net.buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_recalibration_changes_only_the_statistics() -> None:
    net = normed().train()
    net[4].eval()
    net[4].momentum = 0.3
    weights = [p.clone() for p in net.parameters()]
    recalibrate(net, task(), runtime(), images=16, seed=SEED)
    assert net[1].training and not net[4].training and net.training
    assert (net[1].momentum, net[4].momentum) == (0.1, 0.3)
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))

    def broken() -> list[Tensor]:
        return [torch.zeros(2, 3, 6, 6), torch.zeros(2, 5, 6, 6)]

    with pytest.raises(RuntimeError):
        recalibrate_on(net, runtime(), broken())
    assert (net[1].momentum, net.training) == (0.1, True)


@pytest.mark.parametrize("make", [normed, lambda: nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False))])
def test_recalibration_without_images_or_batch_normalisation(make: Callable[[], nn.Module]) -> None:
    net = make()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    recalibrate(net, task(), runtime(), images=0, seed=SEED)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_recalibration_inputs_continue_from_any_batch() -> None:
    whole = list(recalibration_inputs(task(), images=100, seed=SEED, split="train"))
    assert len(whole) == 7  # 6 batches of 16 are 96
    for start in (1, 3, 5, 7):
        rest = list(recalibration_inputs(task(), images=100, seed=SEED, split="train", start=start))
        assert len(rest) == 7 - start
        assert all(torch.equal(a, b) for a, b in zip(rest, whole[start:], strict=True))


def test_score_is_that_of_the_task_in_evaluation_mode() -> None:
    net = network()
    data = task()
    found = score(net, data, runtime(), "search")
    assert not net.training
    with torch.no_grad():
        assert found == data.score(lambda x: net(x.to(memory_format=torch.channels_last)), "search")
