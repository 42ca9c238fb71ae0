"""Changes of the training of a supernet, and how well the supernet then ranks NAS-Bench-Macro, at equal forward passes.

    python benchmarks/supernet_remedies.py DATA.npz OUT baseline shared ... [--epochs 8] [--seeds 0 1 2] [--images 5000]
    python benchmarks/supernet_remedies_report.py OUT/records.jsonl

DATA.npz is CIFAR-10 as ``examples/prepare_cifar10.py`` writes it (``--size 16``; ``--size 32`` for the remedy
``large``). `REMEDIES` lists the remedies; docs/results/supernets.md explains them. Each trains a supernet with as many
passes as uniform paths need for ``--epochs`` epochs, and scores the first 500 networks that `survey` draws
(``--networks``), or all with ``--all``.

OUT/records.jsonl gets one record for each remedy, seed and set of weights, with the scores of all networks. What is
there is skipped, and a training that was interrupted continues at its last checkpoint.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_nas.evaluation import (
    Fit,
    Recipe,
    Runtime,
    WeightAverage,
    WeightMean,
    batch_norms,
    recalibration_inputs,
)
from automl_nas.space import Architecture, ModuleSupernet, Ordinal
from automl_nas.strategy import Problem
from automl_nas_benchmarks.rank.sample_strategy import SampleStrategy
from automl_nas_benchmarks.spaces.nasbench_macro import LAYERS, OPERATIONS, NASBenchMacro
from automl_nas_oneshot.paths import Paths, SandwichPaths, UniformPaths, WideningPaths
from automl_nas_vision.npz import Npz

CHECKPOINT = 100
"""Iterations between two checkpoints."""
SCORES = ("loss", "accuracy", "scaled")
"""Scores of a network; ``scaled`` is the loss after the outputs are multiplied by the best of some factors."""
CHUNK = 100
"""Images that a layer computes at once when networks are scored."""
BATCH = 128
"""Images in a batch of recalibration."""
TAIL = ("last", "pool", "flatten", "linear")
"""The modules of the network after its layers."""


# ---------------------------------------------------------------- parts of changed supernets


class Depth:
    """The number of layers with blocks of the present path so far; set before a layer is called."""

    now = 0


class DepthNorm(nn.BatchNorm2d):
    """Batch normalisation with own weights and biases for each depth."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(channels)) for _ in range(len(LAYERS) + 1))
        self.shifts = nn.ParameterList(nn.Parameter(torch.zeros(channels)) for _ in range(len(LAYERS) + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised inputs with the weights and biases of the present depth."""
        scale, shift = (values[Depth.now].view(1, -1, 1, 1) for values in (self.scales, self.shifts))
        return super().forward(x) * scale + shift


def linear_identities(network: nn.Sequential) -> None:
    """Put 1x1 convolutions that begin as identities in place of identities."""
    for name in LAYERS:
        layer = getattr(network, name)
        if isinstance(layer.identity, nn.Identity):
            channels = layer.k3_e3.body[-1].num_features
            layer.identity = nn.Conv2d(channels, channels, 1, bias=False)
            nn.init.dirac_(layer.identity.weight)


def norms_of_depth(network: nn.Module) -> None:
    """Replace each batch normalisation by one with own weights for each depth."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, DepthNorm(child.num_features))


def run_path(supernet: ModuleSupernet, x: Tensor, path: Architecture) -> Tensor:
    """Return the outputs of a path."""
    Depth.now = 0
    for name, module in supernet.view(path).named_children():
        Depth.now += name in path and path[name] != OPERATIONS[0]
        x = module(x)
    return x


# ---------------------------------------------------------------- remedies


@dataclass(frozen=True)
class Remedy:
    """What differs from uniform paths.

    Attributes:
        change: changes the network before the training.
        shared: the small block of each layer is a part of the large one.
        affine: batch normalisation with weights and biases.
        paths: (space, seed, number of passes) -> the paths.
        passes: passes of each batch.
        distill: the later passes of a batch learn the outputs of the first one.
        batch: images in a batch.
        rate: the learning rate.
        pixels: pixels of an image, relative to the data of the others.
        split: whether the supernet is split in three.
        averages: whether averages of the weights are kept and scored as well.
        recipe: other settings of the recipe.
    """

    change: Callable[[nn.Sequential], None] | None = None
    shared: bool = False
    affine: bool = False
    paths: Callable[[NASBenchMacro, int, int], Paths] | None = None
    passes: int = 1
    distill: bool = False
    batch: int = 128
    rate: float = 0.1
    pixels: int = 1
    split: bool = False
    averages: bool = False
    recipe: Mapping[str, Any] | None = None


def ordered(space: NASBenchMacro) -> Any:
    """Return what the rules of paths for ordered decisions need of the space: options from the smallest on."""
    return SimpleNamespace(decisions=dict.fromkeys(space.decisions, Ordinal(OPERATIONS)), exclusions=())


REMEDIES = {
    "baseline": Remedy(averages=True),
    "linear": Remedy(change=linear_identities),
    "affine": Remedy(affine=True),
    "depth_bn": Remedy(change=norms_of_depth),
    "shared": Remedy(shared=True),
    "warmup": Remedy(paths=lambda space, seed, passes: WideningPaths(ordered(space), seed, passes // 2)),
    "sandwich": Remedy(paths=lambda space, seed, _: SandwichPaths(ordered(space), seed, 2), passes=4, distill=True),
    "few_shot": Remedy(split=True),
    "batch32": Remedy(batch=32, rate=0.05),
    "large": Remedy(pixels=4),
}


class Training:
    """A supernet in training.

    Args:
        name: of the remedy.
        epochs: of uniform paths with the same number of passes.
        seed: of weights, batches and paths.
        data: the file of the images.
        runtime: where the training runs.
        file: the checkpoint.
    """

    def __init__(self, name: str, epochs: int, seed: int, data: Path, runtime: Runtime, file: Path) -> None:
        self.remedy = remedy = REMEDIES[name]
        share = remedy.passes * remedy.pixels
        if epochs % share:
            raise SystemExit(f"{name}: the number of epochs must be a multiple of {share}")
        self.seed, self.runtime, self.file = seed, runtime, file
        self.task = Npz(path=data, batch_size=remedy.batch, search_fraction=0.1)
        self.space = NASBenchMacro(
            channels=16,
            last_channels=640,
            affine=remedy.affine,
            shared=remedy.shared,
            input_shape=self.task.input_shape,
        )
        with runtime.seeded(seed, "init"):
            supernet = self.space.build_supernet()
            assert isinstance(supernet, ModuleSupernet)
            if remedy.change is not None:
                remedy.change(_layers(supernet))
        self.supernet: ModuleSupernet = runtime.place(supernet)
        self.seconds = 0.0
        self._batches = self.task.batches_per_epoch("train")
        self._epochs = epochs // share
        self.averages: dict[str, WeightAverage | WeightMean] = {}
        if remedy.averages:
            last = max(2, epochs // 4)
            self.averages = {
                "ema": WeightAverage(0.998),
                "swa": WeightMean((epochs - last) * self._batches, self._batches),
            }
        self._fit = self._first_fit()

    def _first_fit(self) -> Fit:
        remedy, total = self.remedy, self._epochs * self._batches * self.remedy.passes
        paths = UniformPaths(self.space, self.seed)
        chosen: Paths = paths if remedy.paths is None else remedy.paths(self.space, self.seed, total)
        return Fit(
            self.supernet.network,
            self.task,
            self.runtime,
            Recipe(epochs=self._epochs, learning_rate=remedy.rate, **(remedy.recipe or {})),
            seed=self.seed,
            forward=lambda _, x, count: run_path(self.supernet, x, chosen(count)),
            passes=remedy.passes,
            in_place=remedy.distill,
            averages=self.averages,
        )

    def run(self) -> dict[str, Any]:
        """Train to the end, with checkpoints; return the trained weights: name -> a function from code to supernet."""
        stop = self._epochs // 2 * self._batches if self.remedy.split else self._fit.iterations
        state = torch.load(self.file, weights_only=False) if self.file.exists() else None
        split = state["split"] if state else None
        if split is None:
            if state:
                self._fit.load_state_dict(state["fit"])
                self.seconds = state["seconds"]
            self._advance(self._fit, stop, None)
            if not self.remedy.split:
                named = {"last": self.supernet}
                for name, average in self.averages.items():
                    named[name] = copy.deepcopy(self.supernet)
                    named[name].network.load_state_dict(average.tensors())
                return {name: partial(_same, supernet) for name, supernet in named.items()}
            split = self._least_similar()
        parts = [copy.deepcopy(self.supernet) for _ in OPERATIONS]
        paths = UniformPaths(self.space, self.seed)

        def forward(_: nn.Module, x: Tensor, count: int) -> Tensor:
            place = count % len(OPERATIONS)
            path = Architecture({**paths(stop + count), split: OPERATIONS[place]})
            return run_path(parts[place], x, path)

        rate = self.remedy.rate * (1 - stop / self._fit.iterations)
        recipe = Recipe(epochs=self._epochs - self._epochs // 2, learning_rate=rate)
        networks = nn.ModuleList(part.network for part in parts)
        fit = Fit(networks, self.task, self.runtime, recipe, seed=self.seed + 1000, forward=forward)
        if state and state["split"] is not None:
            fit.load_state_dict(state["fit"])
            self.seconds = state["seconds"]
        self._advance(fit, fit.iterations, split)
        place = LAYERS.index(split)
        return {f"last, split at {split}": lambda code: parts[int(code[place])]}

    def _advance(self, fit: Fit, stop: int, split: str | None) -> None:
        while fit.iteration < stop:
            begun = time.process_time()
            progress = fit.advance(min(CHECKPOINT, stop - fit.iteration))
            self.seconds += time.process_time() - begun
            print(time.strftime("%H:%M:%S"), self.file.stem, fit.iteration, f"{progress.loss:.3f}", flush=True)
            state = {"fit": fit.state_dict(), "split": split, "seconds": self.seconds}
            torch.save(state, self.file.with_suffix(".part"))
            self.file.with_suffix(".part").replace(self.file)

    def _least_similar(self, draws: int = 20) -> str:
        """Return the layer whose options have the least similar gradients of the weights that all paths use.

        Each draw is a batch and a path of the other layers; the similarity is the mean cosine over pairs of options.
        """
        network = self.supernet.network
        ends = (network.get_submodule(name) for name in ("stem", "last", "linear"))
        shared = [parameter for end in ends for parameter in end.parameters()]
        similarity = dict.fromkeys(LAYERS, 0.0)
        paths = UniformPaths(self.space, self.seed + 1)
        for draw, (x, y) in zip(range(draws), self.task.batches("train", 0, self.seed), strict=False):
            x = self.runtime.tensor(x)
            for layer in LAYERS:
                gradients = []
                for option in OPERATIONS:
                    path = Architecture({**paths(draw), layer: option})
                    loss = functional.cross_entropy(run_path(self.supernet, x, path), y)
                    parts = torch.autograd.grad(loss, shared)
                    gradients.append(torch.cat([part.flatten() for part in parts]))
                unit = functional.normalize(torch.stack(gradients))
                similarity[layer] += float((unit @ unit.T).sum() - len(OPERATIONS)) / draws
        print({layer: round(value / 6, 3) for layer, value in similarity.items()}, flush=True)
        return min(similarity, key=similarity.__getitem__)


def _same(supernet: ModuleSupernet, code: str) -> ModuleSupernet:
    return supernet


def _layers(supernet: ModuleSupernet) -> nn.Sequential:
    assert isinstance(supernet.network, nn.Sequential)
    return supernet.network


# ---------------------------------------------------------------- scores


class Scores:
    """Scores networks with the weights of a supernet; those with equal first layers compute these once.

    Batch normalisation is recalibrated as `automl_nas.evaluation.recalibrate` does: from the outputs that the layers
    before it, normalised by each batch's own statistics, have for the recalibration images.

    Args:
        supernet_of: code -> the supernet whose weights the network inherits; equal for codes with equal first layers.
        images: recalibration images, then the images that are scored.
        recalibration: the number of the former.
        labels: of the images that are scored.
    """

    def __init__(
        self, supernet_of: Callable[[str], ModuleSupernet], images: Tensor, recalibration: int, labels: Tensor
    ) -> None:
        self._supernet_of, self._images, self._recalibration = supernet_of, images, recalibration
        self._labels = labels

    @torch.no_grad()
    def all(self, codes: Sequence[str]) -> dict[str, dict[str, float]]:
        """Return code -> the scores of the network."""
        result: dict[str, dict[str, float]] = {}
        groups: dict[int, list[str]] = {}
        for code in codes:
            groups.setdefault(id(self._supernet_of(code)), []).append(code)
        for group in groups.values():
            supernet = self._supernet_of(group[0])
            for module in batch_norms(supernet):
                module.momentum = None  # the running statistics become the mean over the batches
            Depth.now = 0
            outputs = self._apply(supernet.network.get_submodule("stem"), self._images)
            for code, logits in self._descend(supernet, outputs, 0, sorted(group)):
                result[code] = self._score(logits)
        return result

    def _descend(
        self, supernet: ModuleSupernet, x: Tensor, place: int, codes: Sequence[str]
    ) -> Iterator[tuple[str, Tensor]]:
        if place == len(LAYERS):
            tail = nn.Sequential(*(supernet.network.get_submodule(name) for name in TAIL))
            Depth.now = sum(digit != "0" for digit in codes[0])
            yield codes[0], self._apply(tail, x)[self._recalibration :]
            return
        for digit in range(len(OPERATIONS)):
            below = [code for code in codes if code[place] == str(digit)]
            if below:
                Depth.now = sum(one != "0" for one in below[0][: place + 1])
                path = {name: OPERATIONS[int(each)] for name, each in zip(LAYERS, below[0], strict=True)}
                module = supernet.view(path).get_submodule(LAYERS[place])
                outputs = x if isinstance(module, nn.Identity) else self._apply(module, x)
                yield from self._descend(supernet, outputs, place + 1, below)

    def _apply(self, module: nn.Module, x: Tensor) -> Tensor:
        first, rest = x[: self._recalibration], x[self._recalibration :]
        for norm in batch_norms(module):
            norm.reset_running_stats()
        module.train()
        outputs = [module(part) for part in first.split(BATCH)]
        module.eval()
        outputs += [module(part) for part in rest.split(CHUNK)]
        return torch.cat(outputs)

    def _score(self, logits: Tensor) -> dict[str, float]:
        labels = self._labels
        scaled = min(
            float(functional.cross_entropy(logits * factor, labels)) for factor in np.geomspace(0.5, 2.0, 15).tolist()
        )
        return {
            "loss": float(functional.cross_entropy(logits, labels)),
            "accuracy": float((logits.argmax(1) == labels).float().mean()),
            "scaled": scaled,
        }


def images_of(task: Npz, runtime: Runtime, count: int, images: int, split: str) -> tuple[Tensor, Tensor]:
    """Return ``count`` training images and the first images of a split in one tensor, and the labels of the latter."""
    inputs = torch.cat(list(recalibration_inputs(task, images=count, seed=0, split="train")))[:count]
    batches = list(task.scored_batches(split))
    scored, labels = (torch.cat([batch[part] for batch in batches])[:images] for part in (0, 1))
    return runtime.tensor(torch.cat([inputs, scored])), labels


def sampled_codes(space: NASBenchMacro, count: int | None) -> list[str]:
    """Return the codes of the networks that `survey` draws; None: all codes."""
    if count is None:
        return ["".join(digits) for digits in itertools.product("012", repeat=len(LAYERS))]
    strategy = SampleStrategy(space, Problem({"loss": "minimize"}), seed=0, count=count)
    return [space.code(proposal.architecture) for proposal in strategy.ask(count)]


def existing(file: Path) -> list[dict[str, Any]]:
    """Return the records of a file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def main() -> None:
    """Train and score what has no record yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="npz file of the images")
    parser.add_argument("out", type=Path, help="directory of records and checkpoints")
    parser.add_argument("remedies", nargs="+", choices=list(REMEDIES))
    parser.add_argument("--epochs", type=int, default=8, help="of uniform paths with the same number of passes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, default=5000, help="held-out images that are scored")
    parser.add_argument("--split", choices=["search", "train"], default="search", help="whose images are scored")
    parser.add_argument("--recalibration", type=int, default=1024, help="images for the statistics")
    parser.add_argument("--last", action="store_true", help="do not score averages of the weights")
    parser.add_argument("--networks", type=int, default=500, help="number of networks that are scored")
    parser.add_argument("--all", action="store_true", help="score all 6,561 networks")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    runtime = Runtime(threads=1, memory_format="channels_last")
    runtime.activate()
    records = arguments.out / "records.jsonl"
    for seed, name in itertools.product(arguments.seeds, arguments.remedies):
        file = arguments.out / f"{name}-e{arguments.epochs}-s{seed}.pt"
        training = Training(name, arguments.epochs, seed, arguments.data, runtime, file)
        codes = sampled_codes(training.space, None if arguments.all else arguments.networks)
        for weights, supernet_of in training.run().items():
            key = {
                "remedy": name,
                "epochs": arguments.epochs,
                "seed": seed,
                "weights": weights,
                "images": arguments.images,
                "split": arguments.split,
                "recalibration": arguments.recalibration,
                "networks": len(codes),
            }
            averaged = weights in training.averages
            if (averaged and arguments.last) or any(record | key == record for record in existing(records)):
                continue
            begun = time.process_time()
            images, labels = images_of(
                training.task, runtime, arguments.recalibration, arguments.images, arguments.split
            )
            scores = Scores(supernet_of, images, arguments.recalibration, labels).all(codes)
            seconds = {"training": training.seconds, "scoring": time.process_time() - begun}
            columns = {score: [round(scores[code][score], 6) for code in codes] for score in SCORES}
            with records.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({**key, "seconds": seconds, "codes": codes, **columns}) + "\n")
            print(time.strftime("%H:%M:%S"), name, weights, seconds, flush=True)


if __name__ == "__main__":
    main()
