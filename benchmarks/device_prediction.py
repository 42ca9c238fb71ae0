"""Latency on the devices of HW-NAS-Bench, predicted from 100 cells: the predictor and additive least squares.

Each draw samples 100 cells of NAS-Bench-201 at random and predicts all others that have a value. Additive least squares
is fitted to the same cells: a constant and a contribution for each operation on each edge, once for all edges of a cell
and once without its dead edges. The predictor chooses its model by cross-validation on the 100 cells; it does not know
the device. It has the settings that a configuration without settings has. Run with ``OMP_NUM_THREADS=1``.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import numpy as np

from automl_nas.space import Architecture
from automl_nas_benchmarks.spaces.nasbench201 import NASBench201
from automl_nas_benchmarks.tables.packaged import load_table
from automl_nas_costs.prediction.accuracy import Accuracy, accuracy
from automl_nas_costs.prediction.features import Array, CodingName, OptionFeatures, reducers
from automl_nas_costs.prediction.predictor import Predictor

DEVICES = ("edgegpu", "raspi4", "edgetpu", "pixel3", "eyeriss", "fpga")


def least_squares(features: Array, values: Array, train: Array, test: Array) -> Array:
    """Return the predictions of the least-squares fit of least norm, for the rows ``test``."""
    design = np.concatenate((np.ones((len(features), 1)), features), axis=1)
    weights = np.linalg.lstsq(design[train], values[train], rcond=None)[0]
    predictions: Array = design[test] @ weights
    return predictions


def main() -> None:
    """Print a row for each device."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--dataset", default="cifar10", choices=("cifar10", "cifar100", "imagenet16-120"))
    parser.add_argument("--devices", nargs="+", default=DEVICES, choices=DEVICES)
    arguments = parser.parse_args()
    space, table = NASBench201(), load_table("hw_nas_bench")
    cells = [table.coding.architecture(code) for code in table.codes]
    options = OptionFeatures(space)
    rows: dict[CodingName, Array] = {}
    for coding in ("raw", "live"):
        reduced = [reducers(space)[coding](cell) for cell in cells]
        rows[coding] = options(reduced)[:, : options.additive_width]
    print(
        f"{arguments.samples} cells, {arguments.draws} draws, {arguments.dataset}; mean tau / share within 10 %; "
        "seconds per draw"
    )
    print(
        f"{'device':9}{'least squares, raw':>20}{'without dead edges':>20}{'predictor':>16}{'own estimate':>16}  chosen"
    )
    for device in arguments.devices:
        values = table.column(f"{arguments.dataset}_{device}_latency").values
        with_value = np.flatnonzero(~np.isnan(values))
        accuracies: dict[str, list[Accuracy]] = {"raw": [], "live": [], "predictor": [], "own": []}
        chosen: Counter[str] = Counter()
        begin = time.process_time()
        for draw in range(arguments.draws):
            order = np.random.default_rng(draw).permutation(with_value)
            train, test = order[: arguments.samples], order[arguments.samples :]
            for coding, features in rows.items():
                accuracies[coding].append(accuracy(least_squares(features, values, train, test), values[test]))
            samples: list[Architecture] = [cells[position] for position in train]
            predictor = Predictor(space, samples, values[train].tolist(), seed=draw)
            accuracies["predictor"].append(
                accuracy(predictor.predict([cells[position] for position in test]), values[test])
            )
            accuracies["own"].append(predictor.accuracy)
            chosen[predictor.chosen.name] += 1
        seconds = (time.process_time() - begin) / arguments.draws
        columns = [
            f"{np.mean([item.tau for item in items]):.3f} / {np.mean([item.within_10 for item in items]):.3f}"
            for items in accuracies.values()
        ]
        models = "; ".join(f"{name} {count}x" for name, count in chosen.most_common())
        print(f"{device:9}{columns[0]:>20}{columns[1]:>20}{columns[2]:>16}{columns[3]:>16}  {models} ({seconds:.1f} s)")


if __name__ == "__main__":
    main()
