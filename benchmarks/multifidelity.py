"""Regret against epochs on NAS-Bench-201: multi-fidelity strategies, full trainings, Optuna's Hyperband, and NePS.

A training of 12 epochs costs 12, one of 200 epochs 200; they are separate trainings, so a promoted network costs both.
All searches receive validation accuracies (CIFAR-100 has none after 200 epochs: there test accuracies), and are judged
by the test accuracy after 200 epochs of the network that they would deliver: the best at the highest fidelity that they
have seen. Printed is the mean regret in points over the seeds, with its 95 % interval (normal), after a number of
epochs. A search that has no network yet, since the table lacks those that it chose, has the mean regret of the table.

    python benchmarks/multifidelity.py [--seeds 50] [--epochs 10000] [--datasets cifar10,...] [--only LABEL;...]

NePS is left out, with a message, unless it is installed (pip install 'neural-pipeline-search==0.17.*', in a virtual
environment of its own, since it brings other versions of libraries). It takes 5 to 15 ms a proposal.

`--utilisation` prints how busy workers are under the window rule, by the number of outstanding trials (`ahead`), beside
ASHA of the paper, which learns from each result when it arrives. The time of a training is its number of epochs.
"""

from __future__ import annotations

import argparse
import heapq
import importlib.util
import logging
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optuna

from automl_nas.evaluation import Request, State
from automl_nas.space import Architecture
from automl_nas.strategy import AskTellStrategy, Problem, Proposal, Trial
from automl_nas.streams import stream_seed
from automl_nas_benchmarks.benchmark import Benchmark, load_benchmark
from automl_nas_benchmarks.tables.evaluators import NASBench201Evaluator
from automl_nas_evolution.random_search import RandomSearch
from automl_nas_multifidelity.asha import Asha
from automl_nas_multifidelity.brackets import Hyperband, SuccessiveHalving
from automl_nas_surrogate.search import SurrogateSearch

LOW, HIGH = 12, 200
FIDELITIES = [float(LOW), float(HIGH)]
SPLITS = {"cifar10": "val", "cifar100": "test", "imagenet16-120": "val"}
POINTS = (500, 1000, 2000, 5000, 10000, 20000)

Spent = tuple[int, Architecture, int, float]
"""Epochs of one training, its network, its fidelity and its signal."""
Maker = Callable[[Benchmark, Problem, int], AskTellStrategy]


def surrogate(benchmark: Benchmark, problem: Problem, seed: int) -> SurrogateSearch:
    return SurrogateSearch(benchmark.space, problem, seed=seed)


STRATEGIES: dict[str, Maker] = {
    "random, 200 epochs": lambda b, p, seed: RandomSearch(b.space, p, seed=seed),
    "surrogate, 200 epochs": surrogate,
    "successive_halving": lambda b, p, seed: SuccessiveHalving(b.space, p, seed=seed, fidelities=FIDELITIES),
    "hyperband": lambda b, p, seed: Hyperband(b.space, p, seed=seed, fidelities=FIDELITIES),
    "hyperband, reduction 3": lambda b, p, seed: Hyperband(b.space, p, seed=seed, fidelities=FIDELITIES, reduction=3.0),
    "asha": lambda b, p, seed: Asha(b.space, p, seed=seed, fidelities=FIDELITIES),
    "hyperband, surrogate": lambda b, p, seed: Hyperband(
        b.space, p, seed=seed, fidelities=FIDELITIES, strategy=surrogate(b, p, seed)
    ),
    "asha, surrogate": lambda b, p, seed: Asha(
        b.space, p, seed=seed, fidelities=FIDELITIES, strategy=surrogate(b, p, seed)
    ),
}
OPTUNA = ("Optuna Hyperband, random", "Optuna Hyperband, TPE")
NEPS: dict[str, tuple[str, int]] = {
    "NePS Hyperband, eta 16": ("hyperband", 16),
    "NePS Hyperband, eta 3": ("hyperband", 3),
    "NePS ASHA, eta 16": ("asha", 16),
}
"""Label -> algorithm and eta. 200 / 12 is 16.7 and eta a whole number; 3 is the default."""


def evaluator(dataset: str, benchmark: Benchmark) -> NASBench201Evaluator:
    return NASBench201Evaluator(benchmark.space, dataset=dataset, epochs=HIGH, split=SPLITS[dataset])  # type: ignore[arg-type]


def measured(table: NASBench201Evaluator, architecture: Architecture, fidelity: float | None) -> float | None:
    """Return the signal of a training; None if the table has none."""
    (outcome,) = table.evaluate([Request(0, architecture, seed=0, fidelity=fidelity)])
    return outcome.metrics["accuracy"] if outcome.state is State.COMPLETE else None


def ours(label: str, dataset: str, benchmark: Benchmark, seed: int) -> Iterator[Spent]:
    problem = Problem({"accuracy": "maximize"}, (), benchmark.costs)
    strategy, table = STRATEGIES[label](benchmark, problem, seed), evaluator(dataset, benchmark)
    number = 0
    while proposals := strategy.ask(1):
        (proposal,) = proposals
        signal = measured(table, proposal.architecture, proposal.fidelity)
        epochs = round(proposal.fidelity or HIGH)
        yield epochs, proposal.architecture, epochs, -math.inf if signal is None else signal
        strategy.tell([trial(number, proposal, signal, problem)])
        number += 1


def trial(number: int, proposal: Proposal, signal: float | None, problem: Problem) -> Trial:
    return Trial(
        number,
        proposal.architecture,
        {} if signal is None else {"accuracy": signal},
        problem.costs(proposal.architecture),
        state=State.FAILED if signal is None else State.COMPLETE,
        fidelity=proposal.fidelity,
    )


def optunas(label: str, dataset: str, benchmark: Benchmark, seed: int) -> Iterator[Spent]:
    """Optuna reports the accuracy after 12 epochs at step 12, and prunes or goes on to 200."""
    if label.endswith("TPE"):
        sampler: optuna.samplers.BaseSampler = optuna.samplers.TPESampler(seed=seed % 2**32)
    else:
        sampler = optuna.samplers.RandomSampler(seed=seed % 2**32)
    pruner = optuna.pruners.HyperbandPruner(min_resource=LOW, max_resource=HIGH, reduction_factor=3)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    table, decisions = evaluator(dataset, benchmark), benchmark.space.decisions
    while True:
        asked = study.ask()
        architecture = benchmark.space.validate(
            Architecture({name: asked.suggest_categorical(name, list(d.options)) for name, d in decisions.items()})  # type: ignore[attr-defined]
        )
        low = measured(table, architecture, LOW)
        yield LOW, architecture, LOW, -math.inf if low is None else low
        if low is not None:
            asked.report(low, LOW)
        if low is None or asked.should_prune():
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
            continue
        high = measured(table, architecture, HIGH)
        yield HIGH, architecture, HIGH, -math.inf if high is None else high
        if high is None:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
        else:
            asked.report(high, HIGH)
            study.tell(asked, high)


def neps_search(label: str, dataset: str, benchmark: Benchmark, seed: int) -> Iterator[Spent]:
    """NePS has two rungs, 1 and eta, that stand for 12 and 200 epochs; a training without a value is an error."""
    import neps
    import torch
    from neps.optimizers import algorithms

    logging.getLogger("neps").setLevel(logging.ERROR)
    for set_seed in (torch.manual_seed, random.seed, np.random.seed):  # it draws from the global generators
        set_seed(seed % 2**32)
    algorithm, eta = NEPS[label]
    decisions = benchmark.space.decisions
    parameters: dict[str, Any] = {
        name: neps.HPOCategorical(list(decision.options))  # type: ignore[attr-defined]
        for name, decision in decisions.items()
    }
    space = neps.SearchSpace({**parameters, "rung": neps.HPOInteger(1, eta, is_fidelity=True)})
    search, table = neps.AskAndTell(getattr(algorithms, algorithm)(space, eta=eta)), evaluator(dataset, benchmark)
    while True:
        asked = search.ask()
        architecture = benchmark.space.validate(Architecture({name: asked.config[name] for name in decisions}))
        epochs = LOW if asked.config["rung"] == 1 else HIGH
        signal = measured(table, architecture, epochs)
        yield epochs, architecture, epochs, -math.inf if signal is None else signal
        search.tell(asked, RuntimeError("not in the table") if signal is None else -signal)


def regrets(label: str, dataset: str, benchmark: Benchmark, seed: int, budget: int) -> dict[int, float]:
    """Return the regret after each of `POINTS` epochs; a training that would exceed them does not count."""
    start = optunas if label in OPTUNA else neps_search if label in NEPS else ours
    search = start(label, dataset, benchmark, stream_seed(seed, dataset))
    spent, best, incumbent = 0, (0, -math.inf), None
    curve: dict[int, float] = {}
    without = benchmark.optimum - statistics.mean(benchmark.truths.tolist())
    for epochs, architecture, fidelity, signal in search:
        for point in POINTS:
            if spent + epochs > point and point not in curve and point <= budget:
                curve[point] = without if incumbent is None else benchmark.regret(incumbent)
        if spent + epochs > budget:
            return curve
        spent += epochs
        if (fidelity, signal) > best and signal > -math.inf:
            best, incumbent = (fidelity, signal), architecture
    last = without if incumbent is None else benchmark.regret(incumbent)
    return {point: curve.get(point, last) for point in POINTS if point <= budget}


def compare(settings: argparse.Namespace) -> None:
    labels = settings.only.split(";") if settings.only else [*STRATEGIES, *OPTUNA, *NEPS]
    if importlib.util.find_spec("neps") is None and NEPS.keys() & labels:
        print("NePS is not installed and is left out: pip install 'neural-pipeline-search==0.17.*'")
        labels = [label for label in labels if label not in NEPS]
    points = [point for point in POINTS if point <= settings.epochs]
    for dataset in settings.datasets.split(","):
        benchmark = load_benchmark(f"nasbench201-{dataset}")
        print(f"\n{dataset}: mean regret in points (95 % interval), {settings.seeds} seeds")
        print("| strategy | " + " | ".join(f"{point:,} epochs" for point in points) + " | s per search |")
        print("|---" * (len(points) + 2) + "|")
        for label in labels:
            begun = time.process_time()
            curve = [regrets(label, dataset, benchmark, seed, settings.epochs) for seed in range(settings.seeds)]
            seconds = (time.process_time() - begun) / settings.seeds
            cells = []
            for point in points:
                values = [each[point] for each in curve]
                mean = statistics.mean(values)
                half = 1.96 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
                cells.append(f"{mean:.2f} (±{half:.2f})")
            print(f"| {label} | {' | '.join(cells)} | {seconds:.2f} |", flush=True)


def busy(ahead: int | None, workers: int, trainings: int, seed: int, benchmark: Benchmark) -> tuple[float, float]:
    """Return the share of time in which workers are busy, and the trainings of 200 epochs among all.

    Args:
        ahead: outstanding trials under the window rule; None: each result is passed on when it arrives.
        workers: their number.
        trainings: how many are simulated.
        seed: of the search.
        benchmark: its space and signal.
    """
    problem, table = Problem({"accuracy": "maximize"}, (), benchmark.costs), evaluator("cifar10", benchmark)
    strategy = Asha(benchmark.space, problem, seed=seed, fidelities=FIDELITIES)
    running: list[tuple[float, int]] = []  # (end, number)
    done: dict[int, Trial] = {}
    waiting: list[tuple[int, Proposal]] = []
    proposed, passed_on, now, work, thorough = 0, 0, 0.0, 0.0, 0
    while proposed < trainings:
        room = (workers if ahead is None else ahead) - (proposed - passed_on)
        for proposal in strategy.ask(room):
            waiting.append((proposed, proposal))
            proposed += 1
        while waiting and len(running) < workers:
            number, proposal = waiting.pop(0)
            epochs = proposal.fidelity or HIGH
            work, thorough = work + epochs, thorough + (epochs == HIGH)
            heapq.heappush(running, (now + epochs, number))
            done[number] = trial(number, proposal, measured(table, proposal.architecture, epochs), problem)
        now, number = heapq.heappop(running)
        if ahead is None:
            strategy.tell([done.pop(number)])
            passed_on += 1
            continue
        complete = done.keys() - {other for _, other in running}
        while passed_on in complete:
            strategy.tell([done.pop(passed_on)])
            passed_on += 1
    unfinished = sum(end - now for end, _ in running)
    return (work - unfinished) / (now * workers), thorough / proposed


def utilisation(settings: argparse.Namespace) -> None:
    benchmark = load_benchmark("nasbench201-cifar10")
    print(f"{settings.workers} workers, 2,000 trainings of ASHA, {settings.seeds} seeds")
    print("| results are passed on | busy | trainings of 200 epochs |\n|---|---|---|")
    for factor in (None, 1, 2, 4, 8, 16):
        ahead = None if factor is None else factor * settings.workers
        curve = [busy(ahead, settings.workers, 2000, seed, benchmark) for seed in range(settings.seeds)]
        share, thorough = (statistics.mean(values) for values in zip(*curve, strict=True))
        name = "on arrival (the paper)" if ahead is None else f"in order, ahead {ahead}"
        print(f"| {name} | {share:.0%} | {thorough:.1%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=10_000, help="the budget of a search")
    parser.add_argument("--datasets", default="cifar10,imagenet16-120", help="cifar10, cifar100, imagenet16-120")
    parser.add_argument("--only", help="labels of strategies, separated by semicolons")
    parser.add_argument("--utilisation", action="store_true", help="how busy workers are")
    parser.add_argument("--workers", type=int, default=8, help="of --utilisation")
    settings = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    (utilisation if settings.utilisation else compare)(settings)


if __name__ == "__main__":
    main()
