"""The paper's evolutionary search with inherited weights: candidates of a generation together, and one by one.

SPOS (arXiv 1904.00420, section 4) searches 20 blocks of four candidates with 20 generations of 50. Each generation is
evaluated by both sides, in turns (AB, then BA), and must have equal scores, bit for bit; the search continues with
them. The supernet is trained before on synthetic images: the mean image of a class and noise. Times are processor times
of this process. The script prints the seconds of both sides and their ratio, over all generations and for parts of the
search, with a bootstrap interval over generations. The goal is a ratio of at least 1.4 over the whole search.

    python benchmarks/shared_evaluation.py [--size 16] [--widths 16 32 64 128] [--recalibration 256] [--scored 256]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
import torch

from automl_nas.evaluation import Evaluator, Recipe, Request, Runtime, Task, TensorTask
from automl_nas.space import SupernetSpace
from automl_nas.strategy import Problem, Proposal, Trial
from automl_nas.testing import MemoryArtifacts, SimulatedServices
from automl_nas_evolution.evolutionary import EvolutionarySearch
from automl_nas_oneshot.single_path import SinglePath
from automl_nas_oneshot.supernet_weights import SupernetWeights
from automl_nas_spaces.shufflenet_v2 import shufflenet_v2

SEED = 1
CLASSES = 10
BATCH = 128


def make_task(size: int, scored: int, noise: float = 4.0) -> Task:
    generator = torch.Generator().manual_seed(SEED)
    count = 8 * BATCH + scored
    means = torch.randn(CLASSES, 3, size, size, generator=generator)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    images = means[labels] + noise * torch.randn(count, 3, size, size, generator=generator)
    parts = [(images[first:last], labels[first:last]) for first, last in ((0, 8 * BATCH), (8 * BATCH, count))]
    (x, y), search = parts
    return TensorTask(x, y, search=search, test=search, num_classes=CLASSES, batch_size=BATCH)


def trained(space: SupernetSpace, task: Task, runtime: Runtime, epochs: int) -> MemoryArtifacts:
    artifacts = MemoryArtifacts()
    problem = Problem({"loss": "minimize"})
    recipe = Recipe(epochs=epochs, learning_rate=0.05)
    strategy = SinglePath(space, task, runtime, artifacts, problem, seed=SEED, train=recipe)
    services = SimulatedServices(evaluate_nothing)
    while not strategy.done:
        strategy.step(services)
    return artifacts


def evaluate_nothing(number: int, proposal: Proposal) -> Trial:
    raise AssertionError("training a supernet evaluates nothing")


def evaluate(evaluator: Evaluator, requests: Sequence[Request]) -> tuple[float, dict[int, dict[str, float]]]:
    """Return the processor time, and number -> metrics."""
    begun = time.process_time()
    outcomes = list(evaluator.evaluate(iter(requests)))
    return time.process_time() - begun, {outcome.number: dict(outcome.metrics) for outcome in outcomes}


def ratio(seconds: np.ndarray) -> str:
    """Return the ratio of the sums over generations, with its 95 % bootstrap interval."""
    draws = np.random.default_rng(0).integers(len(seconds), size=(2000, len(seconds)))
    resampled = seconds[draws].sum(1)
    low, high = np.quantile(resampled[:, 0] / resampled[:, 1], [0.025, 0.975])
    alone, together = seconds.sum(0)
    return f"| {alone:.1f} | {together:.1f} | {alone / together:.2f} [{low:.2f}, {high:.2f}] |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=16, help="height and width of an image")
    parser.add_argument("--widths", type=int, nargs=4, default=[16, 32, 64, 128])
    parser.add_argument("--recalibration", type=int, default=256, help="images for the statistics")
    parser.add_argument("--scored", type=int, default=256, help="images to score")
    parser.add_argument("--epochs", type=int, default=20, help="of the supernet, 8 iterations each")
    parser.add_argument("--population", type=int, default=50)
    parser.add_argument("--generations", type=int, default=20)
    parser.add_argument("--megabytes", type=float, default=512.0, help="memory for shared work")
    options = parser.parse_args()
    task, runtime = make_task(options.size, options.scored), Runtime(device="cpu", threads=1)
    runtime.activate()
    space = shufflenet_v2(
        num_classes=CLASSES,
        input_shape=task.input_shape,  # type: ignore[arg-type]
        stem_channels=8,
        stem_stride=1,
        widths=tuple(options.widths),
        strides=(1, 2, 2, 2),
        last_channels=128,
    )
    artifacts = trained(space, task, runtime, options.epochs)

    def evaluator(together: int) -> Evaluator:
        return SupernetWeights(
            space,
            task,
            runtime,
            artifacts,
            weights="weights",
            recalibration_images=options.recalibration,
            together=together,
            share_megabytes=options.megabytes,
        )

    sides = [evaluator(1), evaluator(options.population)]
    strategy = EvolutionarySearch(
        space,
        Problem({"loss": "minimize"}),
        seed=SEED,
        population=options.population,
        generations=options.generations,
        top_k=max(1, options.population // 5),
    )
    seconds: list[tuple[float, float]] = []
    number = 0
    while proposals := strategy.ask(options.population):
        requests = [Request(number + n, p.architecture, seed=0) for n, p in enumerate(proposals)]
        number += len(requests)
        order = (0, 1) if len(seconds) % 2 else (1, 0)
        measured = {side: evaluate(sides[side], requests) for side in order}
        if measured[0][1] != measured[1][1]:
            raise SystemExit(f"generation {len(seconds)} has other scores together than one by one")
        seconds.append((measured[0][0], measured[1][0]))
        strategy.tell([Trial(r.number, r.architecture, measured[0][1][r.number]) for r in requests])
        print(
            f"generation {len(seconds)}: {seconds[-1][0]:.1f} s one by one, {seconds[-1][1]:.1f} s together", flush=True
        )
    times = np.array(seconds)
    print(
        f"\n{number} candidates of {len(space.decisions)} blocks, equal scores, {options.size} x {options.size} images"
    )
    print("| generations | one by one, s | together, s | ratio [95 % interval] |\n|---|---|---|---|")
    quarter = max(1, len(times) // 4)
    for name, part in (("all", times), (f"first {quarter}", times[:quarter]), (f"last {quarter}", times[-quarter:])):
        print(f"| {name} {ratio(part)}")


if __name__ == "__main__":
    main()
