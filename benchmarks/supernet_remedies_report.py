"""How well the supernets of `supernet_remedies.py` rank: the tables of its records.

    python benchmarks/supernet_remedies_report.py OUT/records.jsonl [--resamples 200] [--derived] [--orders]
        [--predictions FOLDER]

A row is a set of weights: the mean over its seeds of Kendall's tau (mean over the orders of tied networks) over all
networks, in the true top half, and within fifths and tenths of like FLOPs; precision and best rank at 10. The second
table has the same of the sum of the ranks of the score and of the number of layers, which needs no true value. With
several seeds, taus have 95 % intervals, bootstrap over networks and seeds.

``--derived`` adds scores that are computed from the recorded ones: accuracy, the loss at the best scale of the outputs,
an additive model fitted to the losses (and one with pairs of consecutive layers), and, where all networks were scored,
the mean loss of networks that are equal. Then for the additive model: how well it orders all 3,969 distinct networks
when it is fitted to some of the scored ones, and the network that it picks under limits on FLOPs, beside the networks
with the most FLOPs and with the most layers.

``--orders`` compares ways to order all distinct networks by the losses of one supernet, for records of all networks:
the loss, its additive model, the sum of their ranks, and each with a share of the ranks of FLOPs; and what each picks.
``mean`` is what the evaluator `supernet_effects` with ``own_weight: 0.5`` gives: the mean of the loss and of an
additive model that is fitted to 500 random networks.

``--predictions`` writes the losses that `supernet_effects` predicts with these weights, a JSON file for each record:
code -> loss, for ``surrogate_evidence.py --supernet``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from automl_nas.evaluation import kendall_tau
from automl_nas_benchmarks.benchmark import load_benchmark
from automl_nas_benchmarks.rank.baselines import free_predictors, ridge_scores, top_half
from automl_nas_benchmarks.rank.metrics import best_rank_at, bootstrap, mean_ranks, precision_at
from automl_nas_benchmarks.spaces.nasbench_macro import LAYERS, NASBenchMacro
from automl_nas_oneshot.supernet_effects import AdditiveModel, features, random_networks

Values: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.int64]
DRAWS = 20
"""Draws of the networks to which an additive model is fitted."""
LIMITS = (45.6, 55.4, 65.5)
"""Limits on FLOPs in millions: quarters of the table."""
SAMPLED = 500
"""Random networks to which the evaluator `supernet_effects` fits its model."""
FREE_SHARE = 0.3
"""The weight of the ranks of FLOPs beside those of a score."""
COLUMNS = ("overall", "top half", "fifths", "tenths", "precision at 10", "best rank at 10")


@dataclass(frozen=True)
class Picked:
    """A network that is picked under a limit on FLOPs; numbers are true accuracies.

    Attributes:
        picked: of this network.
        truth: of all networks under the limit.
        largest: of the one with the most FLOPs.
        deepest: of those with the most layers, the mean over the ties.
    """

    picked: float
    truth: Values
    largest: float
    deepest: float

    @property
    def better(self) -> bool:
        """Whether it is better than what is picked without a supernet."""
        return self.picked > max(self.largest, self.deepest)

    @property
    def text(self) -> str:
        """Accuracy and rank."""
        return f"{self.picked:.2f}, {1 + int((self.truth > self.picked).sum())} of {len(self.truth)}"

    @property
    def others(self) -> str:
        """The cells of the network with the most FLOPs, of those with the most layers, and of the best one."""
        return f"{self.largest:.2f} | {self.deepest:.2f} | {self.truth.max():.2f}"


class Networks:
    """What can be said of the networks of a record without a supernet.

    Args:
        codes: their codes.
    """

    def __init__(self, codes: Sequence[str]) -> None:
        self.codes = list(codes)
        self.space = NASBenchMacro()
        self.benchmark = load_benchmark("nasbench_macro")
        self.architectures = [self.space.architecture(code) for code in codes]
        self.truth = np.array([self.benchmark.truth(each) for each in self.architectures])
        self.free = free_predictors(self.benchmark, self.architectures)

    def measures(self, scores: Values, rows: Rows | None = None) -> list[float]:
        """Return the values of `COLUMNS`; the networks of ``rows`` only, if they are given."""
        rows = np.arange(len(self.codes)) if rows is None else rows
        scores, truth, flops = scores[rows], self.truth[rows], self.free["flops"][rows]
        best = top_half(truth)
        within = [_within(scores, truth, flops, parts) for parts in (5, 10)]
        overall = [kendall_tau(scores, truth), kendall_tau(scores[best], truth[best])]
        return [*overall, *within, precision_at(10)(scores, truth), best_rank_at(10)(scores, truth)]

    def with_layers(self, scores: Values) -> Values:
        """Return the sum of the ranks of the scores and of the number of layers."""
        return mean_ranks(scores) + mean_ranks(self.free["layers"])

    def with_flops(self, scores: Values) -> Values:
        """Return the sum of the ranks of the scores and a share of those of FLOPs."""
        return mean_ranks(scores) + FREE_SHARE * mean_ranks(self.free["flops"])

    def picked(self, scores: Values, limit: float) -> Picked:
        """Return the network with the best score under a limit on FLOPs in millions."""
        flops, layers = self.free["flops"], self.free["layers"]
        allowed = np.flatnonzero(flops <= limit * 1e6)
        truth, deepest = self.truth[allowed], layers[allowed] == layers[allowed].max()
        return Picked(
            picked=truth[np.argmax(scores[allowed])],
            truth=truth,
            largest=truth[np.argmax(flops[allowed])],
            deepest=truth[deepest].mean(),
        )

    def effects(self, scores: Values, rows: Rows) -> AdditiveModel:
        """Return the additive model of the scores of some of the networks."""
        chosen = [self.architectures[place] for place in rows.tolist()]
        return AdditiveModel.fit(features(chosen, self.space.decisions), scores[rows])

    def additive(self, scores: Values, pairs: bool = False) -> Values:
        """Return the fit of an additive model of the digits to the scores; with pairs of consecutive layers as well."""
        digits = [list(code) for code in self.codes]
        names = [[f"{place}={digit}" for place, digit in enumerate(code)] for code in digits]
        if pairs:
            names = [[*own, *(f"{a}&{b}" for a, b in pairwise(own))] for own in names]
        columns = {name: number for number, name in enumerate(sorted({name for own in names for name in own}))}
        features = np.zeros((len(names), len(columns)))
        for row, own in enumerate(names):
            features[row, [columns[name] for name in own]] = 1
        fitted: Values = Ridge(alpha=1.0).fit(features, scores).predict(features)
        return fitted

    def mean_of_equal(self, scores: Values) -> Values:
        """Return the mean score of all networks of the record that are equal to each network."""
        groups = [self.space.canonical_code(code) for code in self.codes]
        sums: dict[str, list[float]] = {}
        for group, score in zip(groups, scores.tolist(), strict=True):
            sums.setdefault(group, []).append(score)
        return np.array([float(np.mean(sums[group])) for group in groups])


def _within(scores: Values, truth: Values, flops: Values, parts: int) -> float:
    order = np.argsort(flops, kind="stable")
    groups = [order[len(order) * part // parts : len(order) * (part + 1) // parts] for part in range(parts)]
    return float(np.mean([kendall_tau(scores[rows], truth[rows]) for rows in groups]))


def all_codes() -> Iterator[str]:
    """Yield the codes of all 6,561 networks."""
    yield from map("".join, product("012", repeat=len(LAYERS)))


def grouped(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Sequence[Mapping[str, Any]]]]:
    """Yield the name of each setting and its records, one of each seed."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        name = f"{record['remedy']}, {record['weights']}, {record['epochs']} epochs, {record['images']:,} images"
        if record["split"] != "search":
            name += f" of {record['split']}"
        if record["recalibration"] != 1024:
            name += f", recalibrated on {record['recalibration']:,}"
        groups.setdefault(f"{name}, {record['networks']:,} networks", []).append(record)
    yield from groups.items()


def row(name: str, networks: Networks, scores: Sequence[Values], resamples: int) -> str:
    """Return a line of the table: the means over the seeds, with intervals if there are several."""
    values = np.mean([networks.measures(one) for one in scores], axis=0)
    cells = [f"{value:.2f}" for value in values[:5]] + [f"{values[5]:.1f}"]
    if len(scores) > 1 and resamples:
        for column in range(4):
            low, high = bootstrap(
                lambda run, rows, column=column: networks.measures(scores[run], rows)[column],  # type: ignore[misc]
                runs=len(scores),
                size=len(networks.codes),
                resamples=resamples,
                seed=0,
            )
            cells[column] += f" ({low:.2f} to {high:.2f})"
    return f"| {name} | {' | '.join(cells)} | {len(scores)} |"


def additive_report(runs: Sequence[tuple[Networks, Values]], everything: Networks) -> None:
    """Print how an additive model of some of the losses orders all distinct networks, and what it picks."""
    inputs = features(everything.architectures, everything.space.decisions)
    print(f"| scored networks | {' | '.join(COLUMNS)} |\n|---{'|---' * len(COLUMNS)}|")
    for count in (25, 50, 100, 200, 500):
        values = []
        for seed, (networks, losses) in enumerate(runs):
            for draw in range(DRAWS if count < len(losses) else 1):
                rows = np.random.default_rng([seed, draw]).permutation(len(losses))[:count]
                values.append(everything.measures(networks.effects(losses, rows).predict(inputs)))
        means = np.mean(values, axis=0)
        print(f"| {count} | {' | '.join(f'{mean:.2f}' for mean in means[:5])} | {means[5]:.1f} |", flush=True)
    print(
        "\n| FLOPs | seed | picked: true accuracy, rank | best loss of the sample | most FLOPs | most layers | best |"
    )
    print("|---|---|---|---|---|---|---|")
    for limit in LIMITS:
        for seed, (networks, losses) in enumerate(runs):
            predicted = networks.effects(losses, np.arange(len(losses))).predict(inputs)
            picked = everything.picked(predicted, limit)
            sampled = np.flatnonzero(networks.free["flops"] <= limit * 1e6)
            best = networks.truth[sampled[np.argmax(losses[sampled])]]
            print(f"| <= {limit}M | {seed} | {picked.text} | {best:.2f} | {picked.others} |")


def orders_report(records: Sequence[Mapping[str, Any]]) -> None:
    """Print how each order by the losses of one supernet ranks all distinct networks, and what it picks."""
    networks = Networks(sorted(set(map(NASBenchMacro().canonical_code, all_codes()))))
    for name, group in grouped(records):
        runs: dict[str, list[tuple[int, Values]]] = {}
        for record in group:
            losses = dict(zip(record["codes"], record["loss"], strict=True))
            if missing := [code for code in networks.codes if code not in losses]:
                raise SystemExit(
                    f"{name}, seed {record['seed']}: {len(missing)} networks have no loss; score with --all"
                )
            own = -np.array([losses[code] for code in networks.codes])
            additive = networks.additive(own)
            both = mean_ranks(own) + mean_ranks(additive)
            mean = own + _sampled_model(networks, losses)
            for label, scores in (("loss", own), ("additive model", additive), ("both", both), ("mean", mean)):
                runs.setdefault(label, []).append((record["seed"], scores))
                runs.setdefault(f"{label}, FLOPs", []).append((record["seed"], networks.with_flops(scores)))
        print(f"\n{name}, all {len(networks.codes):,} distinct networks\n")
        print(f"| order | seed | {' | '.join(COLUMNS)} |\n|---|---{'|---' * len(COLUMNS)}|")
        for label, scored in runs.items():
            measured = {seed: networks.measures(scores) for seed, scores in scored}
            for seed, values in {**measured, "mean": np.mean(list(measured.values()), axis=0)}.items():
                shown = " | ".join(f"{value:.3f}" for value in values[:5])
                print(f"| {label} | {seed} | {shown} | {values[5]:.1f} |", flush=True)
        _print_picks(networks, runs)


def _sampled_model(networks: Networks, losses: Mapping[str, float]) -> Values:
    """Return the additive model of the negative losses of random networks, as `supernet_effects` makes it."""
    space = networks.space
    sample = random_networks(space, SAMPLED)
    values = -np.array([losses[space.code(each)] for each in sample])
    model = AdditiveModel.fit(features(sample, space.decisions), values)
    return model.predict(features(networks.architectures, space.decisions))


def write_predictions(records: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Write the losses that `supernet_effects` predicts of all networks of each record."""
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        networks = Networks(record["codes"])
        predicted = -_sampled_model(networks, dict(zip(record["codes"], record["loss"], strict=True)))
        file = folder / f"{record['remedy']}-{record['weights']}-{record['seed']}.json"
        file.write_text(json.dumps(dict(zip(networks.codes, predicted.tolist(), strict=True))), encoding="utf-8")
        print(file)


def _print_picks(networks: Networks, runs: Mapping[str, Sequence[tuple[int, Values]]]) -> None:
    """Print the network that each order picks under each limit, beside those that are picked without a supernet."""
    head = "FLOPs | picked: true accuracy, rank | most FLOPs | most layers | best | better than both"
    print(f"\n| order | seed | {head} |")
    print("|---|---|---|---|---|---|---|---|")
    for label, scored in runs.items():
        wins = 0
        for seed, scores in scored:
            for limit in LIMITS:
                picked = networks.picked(scores, limit)
                wins += picked.better
                better = "yes" if picked.better else "no"
                print(f"| {label} | {seed} | <= {limit}M | {picked.text} | {picked.others} | {better} |")
        print(f"| {label} | all | | | | | | {wins} of {len(scored) * len(LIMITS)} |")


def report(records: Sequence[Mapping[str, Any]], resamples: int, derived: bool) -> None:
    """Print the tables."""
    head = f"| | {' | '.join(COLUMNS)} | seeds |\n|---{'|---' * (len(COLUMNS) + 1)}|"
    samples: dict[tuple[str, ...], Networks] = {}
    rows: dict[str, tuple[Networks, list[Values]]] = {}
    for name, group in grouped(records):
        codes = tuple(group[0]["codes"])
        networks = samples.setdefault(codes, Networks(codes)) if codes not in samples else samples[codes]
        losses = [-np.array(record["loss"]) for record in group]
        rows[name] = networks, losses
        if derived:
            changed: dict[str, Callable[[Values], Values]] = {
                "additive model": networks.additive,
                "pairwise model": lambda scores, networks=networks: networks.additive(scores, pairs=True),  # type: ignore[misc]
            }
            if len(codes) == networks.space.size:
                changed["mean of equal networks"] = networks.mean_of_equal
            rows[f"{name}: accuracy"] = networks, [np.array(record["accuracy"]) for record in group]
            rows[f"{name}: scaled loss"] = networks, [-np.array(record["scaled"]) for record in group]
            for label, change in changed.items():
                rows[f"{name}: {label}"] = networks, [change(one) for one in losses]
    if derived:
        everything = Networks(sorted(set(map(NASBenchMacro().canonical_code, all_codes()))))
        for name, (networks, scores) in rows.items():
            if ": " not in name and len(networks.codes) < networks.space.size:
                print(f"\n{name}: additive model, all {len(everything.codes):,} distinct networks\n")
                additive_report([(networks, one) for one in scores], everything)
    changes: dict[str, Callable[[Networks, Values], Values]] = {
        "score": lambda _, scores: scores,
        "ranks of score and layers added": Networks.with_layers,
    }
    if derived:
        changes[f"ranks of score and {FREE_SHARE} of those of FLOPs added"] = Networks.with_flops
    for title, changed_by in changes.items():
        print(f"\n{title}\n\n{head}")
        for name, (networks, scores) in rows.items():
            print(row(name, networks, [changed_by(networks, one) for one in scores], resamples), flush=True)
    print(f"\nrivals\n\n{head}")
    for networks in samples.values():
        count = f"{len(networks.codes):,} networks"
        for name, values in networks.free.items():
            print(row(f"{name}, {count}", networks, [values], 0))
        for trained, drawn in ridge_scores(networks.benchmark, networks.architectures).items():
            print(row(f"ridge, {trained} trained, {count}", networks, list(drawn), 0))


def main() -> None:
    """Read the records and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("records", type=Path, nargs="+")
    parser.add_argument("--resamples", type=int, default=200, help="bootstrap resamples of an interval; 0: none")
    parser.add_argument("--derived", action="store_true", help="also scores computed from the recorded ones")
    parser.add_argument("--orders", action="store_true", help="only orders of all networks, and what they pick")
    parser.add_argument("--predictions", type=Path, metavar="FOLDER", help="only write what supernet_effects predicts")
    arguments = parser.parse_args()
    lines = [line for file in arguments.records for line in file.read_text(encoding="utf-8").splitlines()]
    records = [json.loads(line) for line in lines]
    if arguments.predictions:
        write_predictions(records, arguments.predictions)
    elif arguments.orders:
        orders_report(records)
    else:
        report(records, arguments.resamples, arguments.derived)


if __name__ == "__main__":
    main()
