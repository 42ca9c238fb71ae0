"""Compressed networks: `compress` beside uniform widths from scratch, Torch-Pruning, and random networks of equal cost.

    pip install torch-pruning==1.6.1
    python benchmarks/compression.py cifar10_16.npz OUT [--models resnet20 mobilenet_v2] [--seeds 0 1 2]
        [--limits 0.5 0.25]
    python benchmarks/compression.py fashion.npz OUT --study second
    python benchmarks/compression_report.py OUT

The data has train_images, train_labels, test_images and test_labels: for the third and the fourth study those of
CIFAR-10 at 16 x 16 pixels (``examples/prepare_cifar10.py --size 16``), for the second those of Fashion-MNIST at 28 x 28
pixels (``examples/prepare_fashion_mnist.py``), which it averages to 14 x 14. The protocols are in
docs/results/compression.md.
A result is a line of OUT/results-MODEL.jsonl and is not computed again; a stopped run of `compress` continues. Two
processes may work on two models.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from automl_nas.evaluation import Fit, Recipe, Runtime, report
from automl_nas.run import search
from automl_nas_elastic.compression import configuration
from automl_nas_vision.npz import Npz

SEARCH, CHOICE = 1_000, 5_000  # images
TRIALS, RECALIBRATION, RERANKED, STEPS, BATCH = 30, 256, 6, 20, 64
FORWARD = 1 / 3  # of a pass forward and backward
LIMITS = (0.5, 0.25)
SPACE: dict[str, Any] = {"granularity": 4, "widths": (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)}
NARROWED: dict[str, Any] = {
    "space": {"granularity": 2, "widths": tuple(each / 16 for each in range(4, 17))},
    "narrowed": True,
}
"""Settings of ours: uniformly narrower networks come first, losses are compared, and widths have fine steps."""


def images_of_trial(search_steps: int) -> float:
    """Return what a network of the search costs, in images forward and backward."""
    return search_steps * BATCH + (RECALIBRATION + SEARCH) * FORWARD


@dataclass(frozen=True)
class Protocol:
    """What differs between the studies.

    Attributes:
        shape: of an image: channels, height, width.
        train: training images.
        epochs: of the training of the original.
        final_epochs: of the fine-tuning of ours.
        settings: of each method.
    """

    shape: tuple[int, int, int]
    train: int
    epochs: int
    final_epochs: int
    settings: Mapping[str, Mapping[str, Any]]

    @property
    def budget(self) -> float:
        """What ours costs, in epochs forward and backward."""
        ours = self.settings["ours"]
        return float(ours["trials"] * images_of_trial(ours["search_steps"]) / self.train + self.final_epochs)


PLAIN = {"trials": TRIALS, "search_steps": 0, "rerank": 0}
"""Settings of ours: networks that the search scores with the weights of the original as they are."""
STEPPED = {"trials": 2 * TRIALS, "search_steps": STEPS, "rerank": 0}
"""Settings of ours: the search trains each network for 20 batches before it scores it, the default of `compress`."""

PROTOCOLS = {
    "second": Protocol(
        (1, 14, 14),
        5_000,
        30,
        17,
        {
            "ours": {"learning_rate": 0.03, "space": {}, "random": 1, "teacher": False, **PLAIN},
            "pruned": {"learning_rate": 0.01, "global_pruning": False},
            "uniform": {"learning_rate": 0.1},
        },
    ),
    "third": Protocol(
        (3, 16, 16),
        5_000,
        40,
        17,
        {
            "ours": {"learning_rate": 0.03, "space": {}, "random": 1, "teacher": False, **PLAIN},
            "pruned": {"learning_rate": 0.03, "global_pruning": False},
            "uniform": {"learning_rate": 0.1},
        },
    ),
    "fourth": Protocol(
        (3, 16, 16),
        40_000,
        12,
        5,
        {
            "ours": {"learning_rate": 0.03, "space": {}, "random": 1, "teacher": False, **STEPPED},
            "pruned": {"learning_rate": 0.03, "global_pruning": False},
            "uniform": {"learning_rate": 0.1},
        },
    ),
}


class Basic(nn.Module):
    """A block of ResNet-20."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of the block."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class Inverted(nn.Module):
    """A block of MobileNetV2."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        layers: list[nn.Module] = []
        if hidden != inputs:
            layers += [nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()]
        layers += [nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden)]
        layers += [nn.ReLU6(), nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of the block."""
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


def _network(layers: Sequence[nn.Module], width: int) -> nn.Sequential:
    return nn.Sequential(nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def resnet20(channels: int, scale: float = 1.0) -> nn.Sequential:
    """Return the ResNet-20 of He et al. (2016, section 4.2) with 1x1 convolutions as shortcuts."""
    widths = [round(width * scale) for width in (16, 32, 64)]
    layers: list[nn.Module] = [
        nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
    ]
    inputs = widths[0]
    for stage, width in enumerate(widths):
        for number in range(3):
            layers.append(Basic(inputs, width, 2 if stage and not number else 1))
            inputs = width
    return _network(layers, inputs)


def mobilenet_v2(channels: int, scale: float = 1.0) -> nn.Sequential:
    """Return a MobileNetV2 of eight blocks."""
    inputs, last = round(16 * scale), round(128 * scale)
    layers: list[nn.Module] = [nn.Conv2d(channels, inputs, 3, 1, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU6()]
    for expansion, width, count, stride in ((1, 16, 1, 1), (4, 24, 2, 2), (4, 40, 3, 2), (4, 64, 2, 1)):
        outputs = round(width * scale)
        for number in range(count):
            first = number == 0
            residual = inputs == outputs and (stride == 1 or not first)
            hidden, own_stride = inputs * expansion, stride if first else 1
            layers.append(Inverted(inputs, hidden, outputs, own_stride, residual=residual))
            inputs = outputs
    layers += [nn.Conv2d(inputs, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU6()]
    return _network(layers, last)


MODELS: dict[str, Callable[..., nn.Sequential]] = {"resnet20": resnet20, "mobilenet_v2": mobilenet_v2}


class Study:
    """The cells of one model: each result is a line of a file.

    Attributes:
        name: of the model.
        out: the folder of results, weights and runs.
        protocol: of the study.

    Args:
        name: see above.
        data: the images.
        out: see above; choices of settings have a folder of their own in it.
        protocol: see above.
        choice: whether settings are chosen: then the networks are tested on training images that nothing else uses.
    """

    def __init__(self, name: str, data: Path, out: Path, protocol: Protocol, *, choice: bool) -> None:
        out = out / "choice" if choice else out
        self.name, self.out, self.protocol, self.settings = name, out, protocol, protocol.settings
        out.mkdir(parents=True, exist_ok=True)
        augment = [{"name": "crop", "padding": 2}, "flip"]
        self.task = Npz(
            path=prepared(data, out, protocol, choice=choice), batch_size=BATCH, augment=augment, label_smoothing=0.0
        )
        self.runtime = Runtime(device="cpu", threads=1)
        self.runtime.activate()
        self.file = out / f"results-{name}.jsonl"
        self.done = {} if not self.file.exists() else {key(each): each for each in map(json.loads, self.file.open())}

    def record(self, seed: int, limit: float, method: str, compute: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        """Compute the networks of a cell and write them, unless they are there."""
        cell = {"model": self.name, "seed": seed, "limit": limit, "method": method}
        if key(cell) in self.done:
            return
        begun = time.process_time()
        line = {**cell, "networks": list(compute()), "seconds": round(time.process_time() - begun, 1)}
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.done[key(cell)] = line
        print(json.dumps(line), flush=True)

    def figures(self, network: nn.Module) -> dict[str, Any]:
        """Return accuracies and costs of a trained network."""
        test, search = (report(network, self.task, self.runtime, split) for split in ("test", "search"))
        return {
            "accuracy": test.metrics["accuracy"],
            "search_accuracy": search.metrics["accuracy"],
            "search_loss": search.metrics["loss"],
            "flops": self.flops(network),
            "params": sum(parameter.numel() for parameter in network.parameters()),
        }

    def trained(self, network: nn.Module, seed: int, recipe: Recipe) -> dict[str, Any]:
        """Train a network and return its figures."""
        network = self.runtime.place(network)
        fit = Fit(network, self.task, self.runtime, recipe, seed=seed)
        fit.advance(fit.iterations)
        return self.figures(network)

    def flops(self, network: nn.Module) -> int:
        """Return the multiply-adds of a network."""
        return flops(network, self.protocol.shape)

    def fresh(self, seed: int, scale: float = 1.0) -> nn.Sequential:
        """Return the model with new weights."""
        with self.runtime.seeded(seed, "study"):
            return MODELS[self.name](self.protocol.shape[0], scale)

    def original(self, seed: int) -> nn.Module:
        """Return the trained original; train it if it is not there."""
        weights, network = self.out / f"{self.name}-{seed}.safetensors", self.fresh(seed)

        def train() -> list[dict[str, Any]]:
            recipe = Recipe(epochs=self.protocol.epochs, learning_rate=0.1, weight_decay=5e-4)
            figures = self.trained(network, seed, recipe)
            save_file({name: each.contiguous() for name, each in network.state_dict().items()}, weights)
            return [figures]

        self.record(seed, 1.0, "original", train)
        network.load_state_dict(load_file(weights))
        return network.eval()

    def ours(self, seed: int, limit: float) -> list[dict[str, Any]]:
        """Compress the original; train also random networks of the same cost, with the same recipe."""
        return self._compressed(seed, limit, "ours", self.settings["ours"], self.protocol.final_epochs)

    def ours_rerank(self, seed: int, limit: float) -> list[dict[str, Any]]:
        """Compress the original; the best six of the search are compared again after 20 batches each.

        They and the scores after them are images of about two epochs, by which the last training is shorter.
        """
        settings = {**self.settings["ours"], "rerank": RERANKED, "random": 0}
        return self._compressed(seed, limit, "ours_rerank", settings, self.protocol.final_epochs - 2)

    def ours_steps(self, seed: int, limit: float) -> list[dict[str, Any]]:
        """Compress the original; the search trains each of twice as many networks for 20 batches before it scores it.

        That is `compress` as it is by default but for the number of networks; the search costs more than that of ours.
        """
        settings = {**self.settings["ours"], **STEPPED, "random": 0}
        return self._compressed(seed, limit, "ours_steps", settings, self.protocol.final_epochs)

    def ours_narrowed(self, seed: int, limit: float) -> list[dict[str, Any]]:
        """Compress the original by a search that begins with uniformly narrower networks and compares losses.

        Widths have steps of a sixteenth and are even numbers. The search looks at half as many networks as ours, and
        the last training is an epoch longer, which costs about as much.
        """
        settings = {**self.settings["ours"], **NARROWED, "trials": TRIALS}
        return self._compressed(seed, limit, "ours_narrowed", settings, self.protocol.final_epochs + 1)

    def ours_equal(self, seed: int, limit: float) -> list[dict[str, Any]]:
        """Compress the original as `ours_narrowed` does, for the epochs of Torch-Pruning, of which the search has one.

        The search looks at as many networks as that one epoch of images allows.
        """
        settings = {**self.settings["ours"], **NARROWED}
        settings["trials"] = int(self.protocol.train / images_of_trial(settings["search_steps"]))
        return self._compressed(seed, limit, "ours_equal", settings, math.ceil(self.protocol.budget) - 1)

    def ours_three(self, seed: int, limit: float) -> list[dict[str, Any]]:
        """Compress the original to the best of the uniformly narrower networks with which `ours_equal` begins.

        The search looks at no other network, and the last training has the epochs of Torch-Pruning.
        """
        settings = {**self.settings["ours"], **NARROWED, "trials": 3, "random": 0}
        return self._compressed(seed, limit, "ours_three", settings, math.ceil(self.protocol.budget))

    def _compressed(
        self, seed: int, limit: float, method: str, settings: Mapping[str, Any], epochs: int
    ) -> list[dict[str, Any]]:
        original = self.original(seed)
        raw = configuration(
            original,
            self.task,
            limits={"flops": f"<= {int(limit * self.flops(original))}"},
            space={**SPACE, **settings["space"]},
            supernet_epochs=0,
            trials=settings["trials"],
            search_steps=settings["search_steps"],
            final_epochs=epochs,
            learning_rate=settings["learning_rate"],
            seed=seed,
        )
        (search_stage,), final = raw["stages"], raw["final"]
        search_stage["evaluator"] |= {"recalibration_images": RECALIBRATION}
        if not settings.get("narrowed"):  # as `compress` was when the earlier studies were made
            search_stage["strategy"] = "surrogate"
            if settings["search_steps"]:
                search_stage["problem"] = {**raw["problem"], "objectives": {"accuracy": "maximize"}}
        if settings["rerank"]:
            again = {"finetune_steps": STEPS, "finetune_rate": settings["learning_rate"]}
            stage = {
                "name": "rerank",
                "strategy": {"name": "rerank", "stages": ["search"], "top_k": settings["rerank"]},
                "evaluator": {**search_stage["evaluator"], **again},
                "problem": {**raw["problem"], "objectives": {"accuracy": "maximize"}},
            }
            raw["stages"].append(stage)
            final["from"] = "rerank"
        final["train"] |= {"weight_decay": 5e-4}
        final |= {"data": "train", "export": [], "baselines": ["equal"] * settings["random"]}
        if settings["teacher"]:
            final["distill"] = {"teacher": "built"}
        raw["runtime"] = {"device": "cpu", "threads": 1}
        result = search(raw, out=self.out / f"{method}-{self.name}-{seed}-{limit}", resume=True, progress="none")
        assert result.final is not None
        return [
            {
                "role": each.role,
                "accuracy": each.test["accuracy"],
                "search_accuracy": each.search["accuracy"],
                "search_loss": each.search["loss"],
                "flops": each.costs["flops"],
                "params": sum(p.numel() for p in result.plan.space.build(each.architecture).parameters()),
                "architecture": dict(each.architecture),
            }
            for each in result.final.networks
        ]

    def pruned(self, seed: int, limit: float) -> list[dict[str, Any]]:
        """Prune the original by Torch-Pruning and fine-tune it for as many epochs as ours costs in all."""
        return self._pruned(seed, limit, math.ceil(self.protocol.budget))

    def _pruned(self, seed: int, limit: float, epochs: int) -> list[dict[str, Any]]:
        settings = self.settings["pruned"]
        original = copy.deepcopy(self.original(seed))
        network = torch_pruned(original, limit, self.protocol.shape, global_pruning=settings["global_pruning"])
        rate = settings["learning_rate"]
        recipe = Recipe(epochs=epochs, learning_rate=rate, weight_decay=5e-4)
        return [self.trained(network, seed, recipe)]

    def pruned_short(self, seed: int, limit: float) -> list[dict[str, Any]]:
        """Prune the original by Torch-Pruning and fine-tune it for as many epochs as the last training of ours."""
        return self._pruned(seed, limit, self.protocol.final_epochs)

    def uniform(self, seed: int, limit: float) -> list[dict[str, Any]]:
        """Train the model with uniformly scaled widths from scratch, for the epochs of the original and of ours."""
        return self._scaled(seed, limit, math.ceil(self.protocol.epochs + self.protocol.budget))

    def uniform_short(self, seed: int, limit: float) -> list[dict[str, Any]]:
        """Train the model with uniformly scaled widths from scratch, for as many epochs as the original."""
        return self._scaled(seed, limit, self.protocol.epochs)

    def uniform_budget(self, seed: int, limit: float) -> list[dict[str, Any]]:
        """Train the model with uniformly scaled widths from scratch, for the epochs of ours, without an original."""
        return self._scaled(seed, limit, math.ceil(self.protocol.budget))

    def _scaled(self, seed: int, limit: float, epochs: int) -> list[dict[str, Any]]:
        most = limit * self.flops(self.fresh(seed))
        scale = max(each / 64 for each in range(16, 64) if self.flops(self.fresh(seed, each / 64)) <= most)
        rate = self.settings["uniform"]["learning_rate"]
        recipe = Recipe(epochs=epochs, learning_rate=rate, weight_decay=5e-4)
        return [self.trained(self.fresh(seed, scale), seed, recipe)]


def key(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what identifies a cell."""
    return cell["model"], cell["seed"], cell["limit"], cell["method"]


def flops(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return the multiply-adds of a network."""
    copied = copy.deepcopy(network).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copied(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2


def prepared(data: Path, out: Path, protocol: Protocol, *, choice: bool) -> Path:
    """Write the images of the study: the first for training, the next for search and choices.

    Gray images become means of 2 x 2 pixels.

    Raises:
        SystemExit: the images have another shape than those of the protocol.
    """
    file = out / "images.npz"
    if not file.exists():
        with np.load(data) as arrays:
            train, test = (arrays[f"{name}_images"] for name in ("train", "test"))
            if protocol.shape[0] == 1:
                train, test = (
                    each.reshape(-1, 14, 2, 14, 2, 1).mean((2, 4)).round().astype(np.uint8) for each in (train, test)
                )
            labels, test_labels = arrays["train_labels"], arrays["test_labels"]
        if train.shape[1:] != (*protocol.shape[1:], protocol.shape[0]):
            raise SystemExit(f"{data} has images of the shape {train.shape[1:]}, which are not those of the study")
        begin = protocol.train
        end, last = begin + SEARCH, begin + SEARCH + CHOICE
        if choice:  # instead of the test images
            test, test_labels = train[end:last], labels[end:last]
        np.savez(
            out / "writing.npz",
            train_images=train[:begin],
            train_labels=labels[:begin],
            search_images=train[begin:end],
            search_labels=labels[begin:end],
            test_images=test,
            test_labels=test_labels,
        )
        (out / "writing.npz").rename(file)
    return file


def torch_pruned(
    network: nn.Sequential, limit: float, shape: tuple[int, int, int], *, global_pruning: bool
) -> nn.Module:
    """Return a network cut by the group-norm pruner of Torch-Pruning in small steps until it meets the limit."""
    import torch_pruning

    steps, most = 200, limit * flops(network, shape)
    pruner = torch_pruning.pruner.GroupNormPruner(
        network,
        torch.zeros(1, *shape),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=global_pruning,
        pruning_ratio=0.98,
        max_pruning_ratio=0.9,
        iterative_steps=steps,
        ignored_layers=[network[-1]],
    )
    for _ in range(steps):
        pruner.step()
        if flops(network, shape) <= most:
            return network
    raise RuntimeError("the pruner does not reach the limit")


METHODS = (
    "uniform",
    "pruned",
    "ours",
    "ours_rerank",
    "ours_steps",
    "ours_narrowed",
    "ours_equal",
    "ours_three",
    "uniform_short",
    "uniform_budget",
    "pruned_short",
)


def main() -> None:
    """Compute the cells that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--study", default="fourth", choices=list(PROTOCOLS))
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--limits", nargs="+", type=float, default=list(LIMITS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--choice", action="store_true", help="test on other training images, in OUT/choice")
    arguments = parser.parse_args()
    for name in arguments.models:
        study = Study(name, arguments.data, arguments.out, PROTOCOLS[arguments.study], choice=arguments.choice)
        for seed in arguments.seeds:
            study.original(seed)
            for limit in arguments.limits:
                for method in arguments.methods:
                    study.record(seed, limit, method, partial(getattr(study, method), seed, limit))


if __name__ == "__main__":
    main()
