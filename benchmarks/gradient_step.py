"""The time of an iteration of each differentiable strategy, compared with a PyTorch loop written by hand.

An iteration is a step of the weights and a step of alpha. Both sides train supernets of equal size, on the same
batches, in short turns (ABBA), so that changes of the machine's speed meet both. All options of a block cost the same,
so that draws do not change the time. DARTS is deterministic: there both sides must end with bit-equal weights. The
script prints the milliseconds per iteration of both sides, and the median of the paired ratios with a bootstrap
interval. The goal is an upper end of at most 1.1.

    python benchmarks/gradient_step.py [--methods darts gdas] [--width 16] [--blocks 4] [--pairs 100]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from supernet_step import SEED, SIZE, DiscardedArtifacts, Noise, candidate, interval
from torch import Tensor, nn
from torch.distributions import Dirichlet
from torch.nn import functional as F

from automl_nas.evaluation import Batch, Recipe, Runtime, Task
from automl_nas.space import ModuleSpace, OneOf
from automl_nas.strategy import Problem, Proposal, Trial
from automl_nas.streams import stream_seed
from automl_nas.testing import SimulatedServices
from automl_nas_gradient.strategy.darts import Darts
from automl_nas_gradient.strategy.drnas import Drnas
from automl_nas_gradient.strategy.fbnet import Fbnet
from automl_nas_gradient.strategy.gdas import Gdas
from automl_nas_gradient.strategy.proxyless import Proxyless
from automl_nas_gradient.training.settings import AlphaRecipe

OPTIONS = 4
RECIPE = Recipe(epochs=1000, learning_rate=0.05, schedule="constant", clip_norm=5.0)
ALPHA = AlphaRecipe()
ALONE: dict[str, Any] = {"pretrain_epochs": 0, "weight_steps": 1}
METHODS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "darts": (Darts, {}),
    "darts, second order": (Darts, {"order": "second"}),
    "gdas": (Gdas, {}),
    "proxyless": (Proxyless, ALONE),
    "fbnet": (Fbnet, ALONE),
    "drnas": (Drnas, {}),
}

Weights = list[list[tuple[int, Tensor | None]]]
"""For each block the options that run, with their weights."""


class ByHand(nn.Module):
    """The supernet written without the framework."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.ModuleList(nn.ModuleList(candidate(width, 3) for _ in range(OPTIONS)) for _ in range(blocks))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))

    def forward(self, x: Tensor, weights: Weights) -> Tensor:
        """Run the options of each block and add them up with their weights."""
        x = self.stem(x)
        for options, chosen in zip(self.blocks, weights, strict=True):
            parts = [options[o](x) if w is None else w * options[o](x) for o, w in chosen]  # type: ignore[index]
            x = parts[0]
            for part in parts[1:]:
                x = x + part
        outputs: Tensor = self.head(x)
        return outputs


def make_space(width: int, blocks: int) -> ModuleSpace:
    def factory() -> nn.Module:
        network = ByHand(width, blocks)
        choices = [OneOf({f"o{n}": option for n, option in enumerate(options)}) for options in network.blocks]  # type: ignore[arg-type]
        return nn.Sequential(network.stem, *choices, network.head)

    return ModuleSpace(factory, input_shape=(3, SIZE, SIZE))


def every(matrix: Tensor) -> Weights:
    return [list(enumerate(row.unbind(0))) for row in matrix.unbind(0)]


def gumbel(alpha: Tensor) -> Tensor:
    return -(-torch.rand_like(alpha).clamp_min(1e-30).log()).clamp_min(1e-30).log()


def one_path(alpha: Tensor) -> Weights:
    return [[(place, None)] for place in (alpha.detach() + gumbel(alpha)).argmax(1).tolist()]


def straight_through(alpha: Tensor) -> Weights:
    soft = torch.softmax((alpha + gumbel(alpha)) / 10.0, 1)
    places = soft.argmax(1)
    hard = torch.zeros_like(soft).scatter_(1, places[:, None], 1.0) + (soft - soft.detach())
    return [[(place, row[place])] for place, row in zip(places.tolist(), hard.unbind(0), strict=True)]


def two_paths(alpha: Tensor, pairs: Tensor) -> Weights:
    q = alpha.gather(1, pairs).softmax(1)
    active = torch.multinomial(q.detach(), 1)
    gates = torch.zeros_like(q).scatter_(1, active, 1.0) + (q - q.detach())
    return [
        list(zip(pair, row.unbind(0), strict=True)) for pair, row in zip(pairs.tolist(), gates.unbind(0), strict=True)
    ]


def drawn(method: str, alpha: Tensor) -> Weights:
    """Return what a step of the weights (alpha without gradient) or of alpha computes, for methods that run all."""
    if method.startswith("darts"):
        return every(alpha.softmax(1))
    if method == "fbnet":
        return every(torch.softmax((alpha + gumbel(alpha)) / 5.0, 1))
    return every(Dirichlet(F.elu(alpha) + 1, validate_args=False).rsample())


def batches(task: Task, split: str, purpose: str) -> Iterator[Batch]:
    for epoch in range(RECIPE.epochs):
        yield from task.batches(split, epoch, stream_seed(SEED, purpose))


def hand_loop(method: str, network: nn.Module, alpha: nn.Parameter, task: Task) -> Callable[[int], None]:
    """Return a function that trains for a number of iterations."""
    decayed = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": RECIPE.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=RECIPE.learning_rate,
        momentum=RECIPE.momentum,
    )
    adam = torch.optim.Adam([alpha], lr=ALPHA.learning_rate, betas=(ALPHA.beta1, ALPHA.beta2), weight_decay=1e-3)
    train, search = batches(task, "train", "data"), batches(task, "search", "alpha/data")
    weights = [*decayed, *others]
    network.train()

    def loss_of(batch: Batch, chosen: Weights) -> Tensor:
        return F.cross_entropy(network(batch[0].to(memory_format=torch.channels_last), chosen), batch[1])

    def unrolled(batch: Batch, held_out: Batch) -> Tensor:
        gradients = torch.autograd.grad(loss_of(batch, drawn(method, alpha)), weights)
        saved = [w.detach().clone() for w in weights]
        with torch.no_grad():
            for w, g in zip(weights, gradients, strict=True):
                buffer = optimizer.state[w].get("momentum_buffer")
                change = g + (RECIPE.weight_decay if w.dim() > 1 else 0.0) * w
                w -= RECIPE.learning_rate * (change if buffer is None else RECIPE.momentum * buffer + change)
        first, *v = torch.autograd.grad(loss_of(held_out, drawn(method, alpha)), [alpha, *weights])
        epsilon = 0.01 / float(torch.stack([part.square().sum() for part in v]).sum().sqrt())
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                for w, own, part in zip(weights, saved, v, strict=True):
                    w.copy_(own + sign * epsilon * part)
            sides.append(torch.autograd.grad(loss_of(batch, drawn(method, alpha)), alpha)[0])
        with torch.no_grad():
            for w, own in zip(weights, saved, strict=True):
                w.copy_(own)
        return first - RECIPE.learning_rate * (sides[0] - sides[1]) / (2 * epsilon)

    def step_alpha(batch: Batch) -> None:
        held_out, pairs = next(search), None
        if method == "darts, second order":
            alpha.grad = unrolled(batch, held_out)
        else:
            if method == "proxyless":
                pairs = torch.multinomial(alpha.detach().softmax(1), 2)
                chosen = two_paths(alpha, pairs)
            else:
                chosen = straight_through(alpha) if method == "gdas" else drawn(method, alpha)
            alpha.grad = torch.autograd.grad(loss_of(held_out, chosen), alpha)[0]
        before = alpha.detach().clone()
        adam.step()
        if pairs is not None:
            with torch.no_grad():
                new, old = alpha.gather(1, pairs), before.gather(1, pairs)
                alpha.copy_(before.scatter(1, pairs, new - new.logsumexp(1, True) + old.logsumexp(1, True)))

    def step_weights(batch: Batch) -> None:
        optimizer.zero_grad()
        alpha.grad = None
        chosen = one_path(alpha) if method in ("gdas", "proxyless") else drawn(method, alpha.detach())
        loss_of(batch, chosen).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()

    def advance(iterations: int) -> None:
        for _ in range(iterations):
            batch = next(train)
            step_alpha(batch)
            step_weights(batch)

    return advance


def evaluate_nothing(number: int, proposal: Proposal) -> Trial:
    raise AssertionError("the search does not end in this script")


def measure(method: str, width: int, blocks: int, pairs: int, iterations: int) -> None:
    kind, settings = METHODS[method]
    task, runtime, space = Noise(), Runtime(device="cpu"), make_space(width, blocks)
    strategy = kind(
        space,
        task,
        runtime,
        DiscardedArtifacts(),
        Problem({"accuracy": "maximize"}),
        seed=SEED,
        train=RECIPE,
        alpha=ALPHA,
        iterations_per_step=iterations,
        **settings,
    )
    services = SimulatedServices(evaluate_nothing)
    with runtime.seeded(SEED, "init"):
        network = runtime.place(ByHand(width, blocks))
    with runtime.seeded(SEED, "alpha"):
        alpha = nn.Parameter(torch.randn(blocks, OPTIONS) * ALPHA.initial_std)
    train = hand_loop(method, network, alpha, task)

    def timed(run: Callable[[], object]) -> float:
        begun = time.perf_counter()
        run()
        return time.perf_counter() - begun

    def hand() -> float:
        return timed(lambda: train(iterations))

    def ours() -> float:
        return timed(lambda: strategy.step(services))

    hand(), ours()
    times = np.array([(hand(), ours()) if pair % 2 == 0 else (ours(), hand())[::-1] for pair in range(pairs)])
    ratios = times[:, 1] / times[:, 0]
    low, high = interval(ratios)
    by_hand, with_us = np.median(times, axis=0) / iterations * 1e3
    print(
        f"{method:<20} {by_hand:>12.2f} {with_us:>15.2f} {np.median(ratios):>7.3f}  {low:.3f} .. {high:.3f}", flush=True
    )
    if method == "darts":
        trained = strategy.state_dict()["training"]["network"].values()
        equal = all(torch.equal(a, b) for a, b in zip(trained, network.state_dict().values(), strict=True))
        assert equal, "the two sides trained different networks"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--width", type=int, default=16, help="number of channels")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--iterations", type=int, default=1, help="iterations of each turn")
    options = parser.parse_args()
    print(f"{options.blocks} blocks x {OPTIONS} options, {options.width} channels, {torch.get_num_threads()} threads")
    print(f"{'method':<20} {'by hand, ms':>12} {'automl_nas, ms':>15} {'ratio':>7}  95 % interval")
    for method in options.methods:
        measure(method, options.width, options.blocks, options.pairs, options.iterations)


if __name__ == "__main__":
    main()
