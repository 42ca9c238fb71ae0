"""The time of a supernet training step, compared with a PyTorch loop written by hand, with the same paths and batches.

Both sides train the same supernet from the same weights, in turns of a few iterations (ABBA), and must end with
bit-equal weights. The script prints the milliseconds per iteration of both sides, and the median of the paired ratios
with a bootstrap interval. The goal is an upper end of the interval of at most 1.05.

    python benchmarks/supernet_step.py [--width 16] [--blocks 8] [--pairs 40]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.evaluation import Artifacts, Batch, Direction, Predictor, Recipe, Runtime, Task
from automl_nas.space import ModuleSpace, OneOf
from automl_nas.strategy import Problem, Proposal, Trial
from automl_nas.streams import stream, stream_seed
from automl_nas.testing import SimulatedServices
from automl_nas_oneshot.single_path import SinglePath

SEED = 1
SIZE = 16
BATCH = 64
RECIPE = Recipe(epochs=1000, learning_rate=0.05)


class Noise(Task):
    """Random images in memory, so that reading batches takes almost no time."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self._images = torch.randn(16 * BATCH, 3, SIZE, SIZE, generator=generator)
        self._labels = torch.randint(10, (16 * BATCH,), generator=generator)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of the images."""
        return 3, SIZE, SIZE

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return 10

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """The accuracy."""
        return {"accuracy": "maximize"}

    def size(self, split: str) -> int:
        """Return the number of images, which is the same for every split."""
        return len(self._labels)

    def batches_per_epoch(self, split: str) -> int:
        """Return the number of batches."""
        return len(self._labels) // BATCH

    def batches(self, split: str, epoch: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches in a fixed order."""
        for first in range(start * BATCH, len(self._labels), BATCH):
            yield self._images[first : first + BATCH], self._labels[first : first + BATCH]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross entropy."""
        return F.cross_entropy(outputs, targets)

    def score(self, model: Predictor, split: str) -> Mapping[str, float]:
        """Return the accuracy."""
        return {"accuracy": (model(self._images).argmax(1) == self._labels).float().mean().item()}


class DiscardedArtifacts(Artifacts):
    """Artifacts that are not stored."""

    def save(self, tensors: Mapping[str, Tensor], *, name: str = "weights") -> None:
        """Do nothing."""

    def load(self, reference: str) -> dict[str, Tensor]:
        """Return no tensors."""
        return {}


def candidate(channels: int, kernel: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def parts(width: int, blocks: int) -> tuple[nn.Module, list[list[nn.Module]], nn.Module]:
    stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    choices = [[candidate(width, kernel) for kernel in (1, 3, 5, 7)] for _ in range(blocks)]
    return stem, choices, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def make_space(width: int, blocks: int) -> ModuleSpace:
    def factory() -> nn.Module:
        stem, choices, head = parts(width, blocks)
        return nn.Sequential(stem, *(OneOf(options) for options in choices), head)

    return ModuleSpace(factory, input_shape=(3, SIZE, SIZE))


class ByHand(nn.Module):
    """The supernet written without the framework."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        stem, choices, head = parts(width, blocks)
        self.stem = stem
        self.blocks = nn.ModuleList(nn.ModuleList(options) for options in choices)
        self.head = head

    def forward(self, x: Tensor, path: list[int]) -> Tensor:
        """Run one option of each block."""
        x = self.stem(x)
        for options, option in zip(self.blocks, path, strict=True):
            x = options[option](x)
        outputs: Tensor = self.head(x)
        return outputs


def hand_loop(network: nn.Module, task: Task, paths: list[list[int]]) -> Callable[[int], None]:
    """Return a function that trains for a number of iterations."""
    decayed = [p for p in network.parameters() if p.dim() > 1]
    not_decayed = [p for p in network.parameters() if p.dim() <= 1]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": RECIPE.weight_decay}, {"params": not_decayed, "weight_decay": 0.0}],
        lr=RECIPE.learning_rate,
        momentum=RECIPE.momentum,
    )
    total = RECIPE.epochs * task.batches_per_epoch("train")
    batches = (
        batch for epoch in range(RECIPE.epochs) for batch in task.batches("train", epoch, stream_seed(SEED, "data"))
    )
    iteration = 0
    network.train()

    def train(iterations: int) -> None:
        nonlocal iteration
        for _ in range(iterations):
            inputs, targets = next(batches)
            for group in optimizer.param_groups:
                group["lr"] = RECIPE.learning_rate * (1 - iteration / total)
            optimizer.zero_grad()
            loss = F.cross_entropy(network(inputs.to(memory_format=torch.channels_last), paths[iteration]), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            iteration += 1

    return train


def evaluate_nothing(number: int, proposal: Proposal) -> Trial:
    raise AssertionError("training a supernet must not evaluate candidates")


def interval(ratios: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the median."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (10_000, len(ratios))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, nargs="+", default=[16, 32, 64], help="numbers of channels")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--iterations", type=int, default=10, help="iterations of each turn")
    options = parser.parse_args()
    print(
        f"{options.blocks} blocks x 4 options, {SIZE}x{SIZE} images, batch {BATCH}, {torch.get_num_threads()} threads"
    )
    print(f"{'channels':>8} {'by hand, ms':>12} {'automl_nas, ms':>15} {'ratio':>7}  95 % interval")
    for width in options.width:
        measure(width, options.blocks, options.pairs, options.iterations)


def measure(width: int, blocks: int, pairs: int, iterations: int) -> None:
    task, runtime, space = Noise(), Runtime(device="cpu"), make_space(width, blocks)
    strategy = SinglePath(
        space,
        task,
        runtime,
        DiscardedArtifacts(),
        Problem({"accuracy": "maximize"}),
        seed=SEED,
        train=RECIPE,
        iterations_per_step=iterations,
    )
    services = SimulatedServices(evaluate_nothing)
    with runtime.seeded(SEED, "init"):
        network = runtime.place(ByHand(width, blocks))
    count = (2 * pairs + 2) * iterations
    paths = [[int(str(v)) for v in space.sample(stream(SEED, "path", i)).values()] for i in range(count)]
    train = hand_loop(network, task, paths)

    def hand() -> float:
        begun = time.perf_counter()
        train(iterations)
        return time.perf_counter() - begun

    def ours() -> float:
        begun = time.perf_counter()
        strategy.step(services)
        return time.perf_counter() - begun

    hand(), ours()
    times = np.array([(hand(), ours()) if pair % 2 == 0 else (ours(), hand())[::-1] for pair in range(pairs)])
    ratios = times[:, 1] / times[:, 0]
    low, high = interval(ratios)
    by_hand, with_us = np.median(times, axis=0) / iterations * 1e3
    print(f"{width:>8} {by_hand:>12.2f} {with_us:>15.2f} {np.median(ratios):>7.3f}  {low:.3f} .. {high:.3f}")
    trained = strategy.state_dict()["fit"]["network"].values()
    assert all(torch.equal(a, b) for a, b in zip(trained, network.state_dict().values(), strict=True)), (
        "the two sides trained different networks"
    )


if __name__ == "__main__":
    main()
