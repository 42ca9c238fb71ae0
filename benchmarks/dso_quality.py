"""Networks found by DSO-NAS, compared with random networks of equal FLOPs and a plain residual network.

    python benchmarks/dso_quality.py DATA.npz OUT [--stem-strides 2 2] [--strengths 2] [--seeds 3] [--epochs 6 6 6]
    python benchmarks/dso_quality_report.py OUT

Searches three blocks of 4 x 4 operations (8, 16, 32 channels) with constant, adaptive-FLOPs and adaptive-MAC penalties
of several strengths k (see docs/how_to/dso.md). Each network found is retrained from scratch on all training images,
and so is a random network of the same space whose FLOPs differ by at most 3 %: its edges are live with a probability
that is itself drawn uniformly. The blocks of the residual network are two 3x3 convolutions and a 1x1 convolution; it is
trained in several widths. Searches with the same seed share phase 1, which has no penalty.

Each search and each training writes a JSON file to OUT and is skipped if the file exists, so the script may be
interrupted and started again. The report uses the existing files.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from automl_nas.errors import RunFailedError
from automl_nas.evaluation import Artifacts, Fit, Recipe, Runtime, score
from automl_nas.space import Architecture
from automl_nas.strategy import Problem
from automl_nas.streams import stream, stream_seed
from automl_nas.testing import SimulatedServices, finished
from automl_nas_costs.models import Flops
from automl_nas_dso.gamma.penalty_travel import automatic
from automl_nas_dso.space import DsoSpace
from automl_nas_dso.strategy import DSO
from automl_nas_vision.npz import Npz

SCHEDULES = ("constant", "adaptive_flops", "adaptive_mac")
STRENGTHS = (2.0, 6.0, 3.5, 1.2)
MIDDLE = 2.0
SEEDS = 3
WIDTHS = (4, 6, 8, 10)
TOLERANCE = 0.03
SPACE: dict[str, Any] = {"width": 8, "blocks": (1, 1, 1), "sharing": "full"}
RATE, MOMENTUM = 0.1, 0.9
"""Of the training in a search."""
PROBLEM = Problem({"accuracy": "maximize"})


class DiscardedArtifacts(Artifacts):
    """Artifacts that are not stored."""

    def save(self, tensors: Mapping[str, Tensor], *, name: str = "weights") -> None:
        """Do nothing."""

    def load(self, reference: str) -> dict[str, Tensor]:
        """Raise an error: nothing is stored."""
        raise KeyError(reference)


@dataclass(frozen=True)
class Row:
    """One search: the penalty schedule, the strength k, and the seed."""

    schedule: str
    k: float
    seed: int

    @property
    def name(self) -> str:
        """The name of the search in file names."""
        return f"{self.schedule}-k{self.k:g}-s{self.seed}"


@dataclass
class Experiment:
    """The searches and trainings on one data set.

    Attributes:
        data: the file of the data set.
        out: the directory of the JSON files.
        stem_strides: the strides of the first convolutions.
        epochs: of phase 1, phase 2 and retraining.
    """

    data: Path
    out: Path
    stem_strides: tuple[int, ...]
    epochs: tuple[int, int, int]

    def __post_init__(self) -> None:
        self.task = Npz(
            path=self.data,
            batch_size=128,
            search_fraction=0.5,
            augment=[{"name": "crop", "padding": 2}, "flip"],
            label_smoothing=0.0,
        )
        self.runtime = Runtime(device="cpu", threads=1)
        self.runtime.activate()
        self.search_space, self.space = self.make_space(variant="search"), self.make_space(variant="final")
        self.flops = Flops(self.space)

    def make_space(self, **settings: Any) -> DsoSpace:
        """Return the space, or a variant of it with these settings."""
        settings = {**SPACE, **settings}
        return DsoSpace(stem_strides=self.stem_strides, input_shape=self.task.input_shape, **settings)  # type: ignore[arg-type]

    def strategy(self, row: Row) -> DSO:
        """Return the strategy of a search, at its start."""
        return self.dso(row.seed, gamma=self.gamma(row.k), gamma_schedule=row.schedule)

    def gamma(self, k: float) -> float:
        """Return the penalty of a strength."""
        steps = self.epochs[1] * self.task.batches_per_epoch("train")
        return k / 2 * automatic([RATE] * steps, MOMENTUM)  # `automatic` uses k = 2

    def dso(self, seed: int, **settings: Any) -> DSO:
        """Return the strategy with these settings, at its start."""
        first, second, _ = self.epochs
        recipe = Recipe(
            epochs=first + second,
            learning_rate=RATE,
            schedule="constant",
            nesterov=True,
            momentum=MOMENTUM,
            weight_decay=1e-4,
        )
        return DSO(
            self.search_space,
            self.task,
            self.runtime,
            DiscardedArtifacts(),
            PROBLEM,
            seed=seed,
            train=recipe,
            pretrain_epochs=first,
            prune_epochs=1,
            iterations_per_step=self.task.batches_per_epoch("train"),
            **settings,
        )

    def search(self, row: Row) -> dict[str, Any]:
        """Search; start at the end of phase 1 if another search with this seed has stored it."""
        file = self.out / f"phase1-s{row.seed}.pt"
        services = SimulatedServices(lambda number, proposal: finished(PROBLEM, number, proposal, {}))
        strategy = self.strategy(row)
        begun = time.process_time()
        if file.exists():
            fresh, state = strategy.state_dict(), torch.load(file, weights_only=True)
            # The penalty is that of this search, and not of the search that stored the state.
            state["training"]["lambda_optimizer"] = fresh["training"]["lambda_optimizer"]
            strategy.load_state_dict({**state, "gamma": fresh["gamma"]})
        last = self.epochs[0] * self.task.batches_per_epoch("train")
        try:
            while not strategy.done:
                strategy.step(services)
                state = strategy.state_dict()
                if state["training"]["iteration"] == last and not file.exists():
                    torch.save(state, file.with_suffix(".part"))
                    file.with_suffix(".part").replace(file)
        except RunFailedError as error:
            return {**asdict(row), "dead": str(error), "seconds": time.process_time() - begun}
        (trial,) = services.trials()
        history = [values for _, values in services.logged if "live_edges" in values]
        return {
            **asdict(row),
            "architecture": trial.architecture.to_dict(),
            "flops": self.flops.estimate(trial.architecture),
            "live_edges": trial.info["live_edges"],
            "dead_blocks": history[-1]["dead_blocks"],
            "history": [values["live_edges"] for values in history],
            "seconds": time.process_time() - begun,
        }

    def retrain(self, space: DsoSpace, architecture: Architecture, seed: int) -> dict[str, Any]:
        """Train an architecture on all training images; return its record with the error on the test images."""
        begun = time.process_time()
        with self.runtime.seeded(seed, "build"):
            network = self.runtime.place(space.build(architecture))
        recipe = Recipe(epochs=self.epochs[2], learning_rate=0.1, schedule="cosine", nesterov=True, weight_decay=3e-4)
        fit = Fit(network, self.task, self.runtime, recipe, seed=stream_seed(seed, "fit"), split="train+search")
        while not fit.done:
            fit.advance(100)
        return {
            "flops": Flops(space).estimate(architecture),
            "architecture": architecture.to_dict(),
            "error": 100 * (1 - score(network, self.task, self.runtime, "test")["accuracy"]),
            "seconds": time.process_time() - begun,
        }

    def random(self, flops: float, row: Row) -> Architecture:
        """Return a random architecture with this number of FLOPs, to 3 %."""
        space, rng = self.space, stream(row.seed, f"random/{row.schedule}/{row.k}")
        full = space.validate({name: decision.options for name, decision in space.decisions.items()})
        outside = self.flops.estimate(full) - sum(block.full_cost.flops for block in space.blocks)
        while True:
            share = rng.random()
            drawn = space.canonical(
                Architecture(
                    {
                        name: tuple(source for source in decision.options if rng.random() < share)
                        for name, decision in space.decisions.items()
                    }
                )
            )
            cost = outside + sum(block.cost(block.live(drawn)).flops for block in space.blocks)
            if abs(cost / flops - 1) <= TOLERANCE:
                return drawn

    def record(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the record in a file; if the file does not exist, first call the function and write its result."""
        file = self.out / f"{name}.json"
        if not file.exists():
            result = work()
            file.with_suffix(".part").write_text(json.dumps(result) + "\n", encoding="utf-8")
            file.with_suffix(".part").replace(file)
            shown = {key: result[key] for key in ("live_edges", "flops", "error", "seconds") if key in result}
            print(time.strftime("%H:%M:%S"), name, shown, flush=True)
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return record

    def run(self, row: Row) -> None:
        """Search, then retrain the network found and a random network of the same FLOPs."""
        search = self.record(f"search-{row.name}", lambda: self.search(row))
        if "dead" in search:
            return
        architecture = self.space.validate(search["architecture"])
        self.record(f"found-{row.name}", lambda: self.retrain(self.space, architecture, row.seed))
        self.record(
            f"random-{row.name}",
            lambda: self.retrain(self.space, self.random(search["flops"], row), row.seed),
        )

    def residual(self, width: int, seed: int) -> dict[str, Any]:
        """Train the residual network of a width; return its record."""
        space = self.make_space(width=width, levels=2, operations=("conv3",), sharing="share", variant="final")
        plain = space.validate(
            {"block.conv3_1": ("input",), "block.conv3_2": ("conv3_1",), "block.output": ("conv3_2",)}
        )
        return self.record(f"residual-w{width}-s{seed}", lambda: self.retrain(space, plain, seed))


def rows(strengths: Sequence[float], seeds: int) -> list[Row]:
    """Return all searches, the most important first: several seeds at the middle strength, one at the others."""
    pairs = [(MIDDLE, 0), *((k, 0) for k in strengths if k != MIDDLE), *((MIDDLE, seed) for seed in range(1, seeds))]
    return [Row(schedule, k, seed) for k, seed in pairs for schedule in SCHEDULES]


def make_parser(description: str | None, *phases: str) -> argparse.ArgumentParser:
    """Return a parser of what all studies of DSO-NAS are given: data, folder, strides, and epochs of each phase."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="an .npz file of the task npz")
    parser.add_argument("out", type=Path, help="the directory of the JSON files")
    parser.add_argument("--stem-strides", type=int, nargs="+", default=(1,), help="strides of the first convolutions")
    text = f"epochs of {', '.join(phases[:-1])} and {phases[-1]}"
    parser.add_argument("--epochs", type=int, nargs=len(phases), default=(6,) * len(phases), help=text)
    return parser


def main() -> None:
    parser = make_parser(__doc__, "phase 1", "phase 2", "retraining")
    parser.add_argument("--strengths", type=float, nargs="+", default=STRENGTHS, help="strengths k of the penalties")
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, help=f"seeds at strength {MIDDLE:g}; the other strengths have one"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    experiment = Experiment(options.data, options.out, tuple(options.stem_strides), tuple(options.epochs))
    for row in rows(options.strengths, options.seeds):
        experiment.run(row)
        for width in WIDTHS:
            experiment.residual(width, row.seed)


if __name__ == "__main__":
    main()
