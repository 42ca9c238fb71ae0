"""Races of candidates with inherited weights: the time that they save, and what they keep of the ranking.

Evolution proposes generations of candidates of NAS-Bench-Macro's space, whose networks differ in depth. Each generation
is evaluated on the whole split, and by a race (the strategy `race`): on a part first, then on the whole split if fewer
than ``--keep`` others are significantly better there. Both sides evaluate candidates together, in turns (AB, then BA),
and evolution continues with the scores of the whole split. Printed are processor times and their ratio, the share of
candidates that are finished, Kendall's tau between the losses on the part and on the whole split, and how many of the
best ``--keep`` of a generation the races pruned. At most the share ``--error`` of these is expected.

Races cost time where candidates are too much alike for a decision: all are then scored on the part and on the whole.

    python benchmarks/racing.py [--scored 8192] [--part 512] [--keep 10] [--error 0.05] [--generations 4]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

import numpy as np
from shared_evaluation import CLASSES, SEED, make_task, trained

from automl_nas.evaluation import Evaluator, Outcome, Request, Runtime, kendall_tau
from automl_nas.strategy import Problem, Trial, beaten_by
from automl_nas_benchmarks.spaces.nasbench_macro import NASBenchMacro
from automl_nas_evolution.evolutionary import EvolutionarySearch
from automl_nas_oneshot.supernet_weights import SupernetWeights


def evaluate(evaluator: Evaluator, requests: list[Request]) -> tuple[float, dict[int, Outcome]]:
    """Return the processor time, and number -> outcome."""
    begun = time.process_time()
    outcomes = {outcome.number: outcome for outcome in evaluator.evaluate(iter(requests))}
    return time.process_time() - begun, outcomes


def losses(outcomes: Mapping[int, Outcome]) -> list[float]:
    return [outcomes[number].metrics["loss"] for number in sorted(outcomes)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=16, help="height and width of an image")
    parser.add_argument("--noise", type=float, default=1.0, help="deviation of the noise of images")
    parser.add_argument("--scored", type=int, default=8192, help="images of the whole split")
    parser.add_argument("--part", type=int, default=512, help="images of the part")
    parser.add_argument("--recalibration", type=int, default=128, help="images for the statistics")
    parser.add_argument("--keep", type=int, default=10)
    parser.add_argument("--error", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=40, help="of the supernet, 8 iterations each")
    parser.add_argument("--population", type=int, default=50)
    parser.add_argument("--generations", type=int, default=4)
    options = parser.parse_args()
    task, runtime = make_task(options.size, options.scored, options.noise), Runtime(device="cpu", threads=1)
    runtime.activate()
    space = NASBenchMacro(
        num_classes=CLASSES,
        input_shape=task.input_shape,  # type: ignore[arg-type]
        channels=8,
        last_channels=64,
        affine=False,
        shared=False,  # as in the measured table
    )
    evaluator = SupernetWeights(
        space,
        task,
        runtime,
        trained(space, task, runtime, options.epochs),
        weights="weights",
        recalibration_images=options.recalibration,
        fidelity="scored_images",
    )
    strategy = EvolutionarySearch(
        space,
        Problem({"loss": "minimize"}),
        seed=SEED,
        population=options.population,
        generations=options.generations,
        top_k=options.keep,
    )
    rows: list[tuple[float, float, float, float, int]] = []
    while proposals := strategy.ask(options.population):
        requests = [Request(n, p.architecture, seed=0) for n, p in enumerate(proposals)]

        def whole(requests: list[Request] = requests) -> tuple[float, dict[int, Outcome]]:
            return evaluate(evaluator, requests)

        def race(requests: list[Request] = requests) -> tuple[float, dict[int, Outcome], list[Request]]:
            parts = [Request(r.number, r.architecture, seed=0, fidelity=float(options.part)) for r in requests]
            seconds, outcomes = evaluate(evaluator, parts)
            blocks = np.array([outcomes[r.number].info["blocks"]["loss"] for r in requests])  # type: ignore[index]
            beaten = beaten_by(blocks, options.error)
            finish = [r for r, by in zip(requests, beaten, strict=True) if by < options.keep]
            return seconds + evaluate(evaluator, finish)[0], outcomes, finish

        if len(rows) % 2:
            (alone, full), (raced, part, finish) = whole(), race()
        else:
            raced, part, finish = race()
            alone, full = whole()
        finished = {request.number for request in finish}
        best = sorted(full, key=lambda number: full[number].metrics["loss"])[: options.keep]
        tau = kendall_tau(losses(part), losses(full))
        lost = sum(number not in finished for number in best)
        rows.append((alone, raced, len(finished) / len(requests), tau, lost))
        print(
            f"generation {len(rows)}: {alone:.1f} s, race {raced:.1f} s, {len(finished)} of {len(requests)} finished, "
            f"tau {tau:.2f}, {lost} of the best {len(best)} pruned",
            flush=True,
        )
        strategy.tell([Trial(r.number, r.architecture, full[r.number].metrics) for r in requests])
    alone, raced, share, tau, lost = np.array(rows).T
    draws = np.random.default_rng(0).integers(len(rows), size=(2000, len(rows)))
    low, high = np.quantile(alone[draws].sum(1) / raced[draws].sum(1), [0.025, 0.975])
    print(f"\n{options.part} of {options.scored} images first, recalibration on {options.recalibration}")
    print("| whole split, s | races, s | ratio [95 % interval] | finished | tau of the part | best pruned |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {alone.sum():.1f} | {raced.sum():.1f} | {alone.sum() / raced.sum():.2f} [{low:.2f}, {high:.2f}] "
        f"| {share.mean():.0%} | {tau.mean():.2f} | {lost.sum():.0f} of {options.keep * len(rows)} |"
    )


if __name__ == "__main__":
    main()
