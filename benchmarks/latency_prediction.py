"""Latency of unseen networks from a block table and a predictor, compared with trivial predictions and the noise floor.

All distinct blocks, the calibration networks and the held-out networks are measured in one session: each runs once in
every round, in random order. Table, predictor and the affine functions of the simpler rows are fitted to the
calibration networks and evaluated on the held-out ones; the predictor is also fitted to fewer calibration networks. The
noise floor predicts the median of the even rounds by that of the odd rounds.

    OMP_NUM_THREADS=1 nice -n -10 python benchmarks/latency_prediction.py --space channels --save rounds.json
    python benchmarks/latency_prediction.py --load rounds.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from automl_nas.space import SearchSpace, encode
from automl_nas.streams import stream
from automl_nas_costs.blocks.structure import block_structure
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.models import Flops
from automl_nas_costs.prediction.accuracy import Accuracy, accuracy
from automl_nas_costs.prediction.features import Array
from automl_nas_costs.prediction.latency_table import BlockTable, Correction, measure_blocks
from automl_nas_costs.prediction.predictor import Predictor
from automl_nas_costs.prediction.samples import Sample, draw
from automl_nas_spaces.channels import ShuffleNetV2Channels
from automl_nas_spaces.shufflenet_v2 import shufflenet_v2

CANDIDATES_COSTED = 2000
STEP = 30  # additional calibration networks from one fit of the predictor to the next


def make_space(name: str, size: int) -> SearchSpace:
    if name == "blocks":
        return shufflenet_v2(input_shape=(3, size, size), variant="final")
    return ShuffleNetV2Channels(input_shape=(3, size, size), variant="final")


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all blocks and networks; return the rounds as JSON data."""
    space = make_space(arguments.space, arguments.size)
    begin = time.perf_counter()
    structure = block_structure(space)
    print(f"{len(structure.blocks)} distinct blocks, identified in {time.perf_counter() - begin:.1f} s", flush=True)
    networks = draw(space, arguments.calibration + arguments.held_out, arguments.seed)
    options = LatencyOptions(
        rounds=arguments.rounds,
        burst_ms=arguments.burst_ms,
        warmup_ms=20.0,
        clock=arguments.clock,
        paired=arguments.paired,
    )
    begin = time.perf_counter()
    blocks, whole, report = measure_blocks(space, networks, options, seed=arguments.seed)
    seconds = time.perf_counter() - begin
    return {
        "space": arguments.space,
        "size": arguments.size,
        "calibration": arguments.calibration,
        "options": options.as_dict(),
        "environment": report.environment,
        "drift": report.drift,
        "seconds": seconds,
        "blocks": {key: list(item.details["rounds"]) for key, item in blocks.items()},
        "networks": [
            {"architecture": network.to_dict(), "rounds": list(item.details["rounds"])}
            for network, item in zip(networks, whole, strict=True)
        ],
    }


def affine(features: Array, values: Array, count: int) -> Array:
    """Return the predictions for all but the first ``count`` values, of the affine function fitted to these."""
    return Correction.fit(features[:count], values[:count])(features[count:])


def report(data: dict[str, Any]) -> None:
    """Print a row for each predictor."""
    space = make_space(data["space"], data["size"])
    networks = [space.validate(item["architecture"]) for item in data["networks"]]
    rounds = np.array([item["rounds"] for item in data["networks"]])
    values, count = np.median(rounds, axis=1), data["calibration"]
    calibration = [Sample(*pair) for pair in zip(networks[:count], values[:count].tolist(), strict=True)]
    structure = block_structure(space)
    blocks = {key: statistics.median(times) for key, times in data["blocks"].items()}
    plain, table = BlockTable(structure, blocks), BlockTable(structure, blocks, calibration)
    begin = time.perf_counter()
    predictor = Predictor(space, networks[:count], values[:count].tolist(), seed=0)
    fitting = time.perf_counter() - begin
    flops = np.array([Flops(space).estimate(network) for network in networks], dtype=np.float64)
    truth, unseen = values[count:], networks[count:]
    rows: dict[str, Accuracy] = {
        "constant": accuracy(np.full(len(truth), np.median(values[:count])), truth),
        "FLOPs, affine": accuracy(affine(flops, values, count), truth),
        "table, plain sum": accuracy(np.array([plain.estimate(network) for network in unseen]), truth),
        "table, affine": accuracy(np.array([table.estimate(network) for network in unseen]), truth),
        "predictor": accuracy(predictor.predict(unseen), truth),
        "noise floor": accuracy(np.median(rounds[count:, 0::2], axis=1), np.median(rounds[count:, 1::2], axis=1)),
    }
    environment = data["environment"]
    print(f"space {data['space']}, {data['size']}x{data['size']}, {len(blocks)} blocks, {count} calibration networks")
    print(
        f"{environment['processor']}, {environment['runtime']}, clock {data['options']['clock']}, "
        f"{rounds.shape[1]} rounds"
        f"{', paired' if data['options'].get('paired') else ''}"
    )
    print(f"the control drifted by {100 * data['drift']:.1f} %; export and measurement took {data['seconds']:.0f} s")
    print(f"{len(truth)} held-out networks, {truth.min():.2f} to {truth.max():.2f} ms, median {np.median(truth):.2f}")
    print(f"{'':18}{'tau':>8}{'MAPE %':>9}{'within 10 %':>13}")
    for name, row in rows.items():
        print(f"{name:18}{row.tau:8.3f}{100 * row.mape:9.2f}{100 * row.within_10:12.0f} %")
    print(f"predictor: {predictor.chosen.name}, own estimate {predictor.accuracy.text()}; fitted in {fitting:.1f} s")
    print(f"table: {table.correction}, own estimate {table.accuracy.text() if table.accuracy else 'none'}")
    for size in range(STEP, count, STEP):
        fewer = Predictor(space, networks[:size], values[:size].tolist(), seed=0)
        text = accuracy(fewer.predict(unseen), truth).text()
        print(f"predictor from {size} networks: {text}; {fewer.chosen.name}, own estimate {fewer.accuracy.text()}")
    candidates = [space.sample(stream(7, "speed", number)) for number in range(CANDIDATES_COSTED)]
    for name, call in (("table", table.estimate), ("predictor", predictor.estimate)):
        begin = time.process_time()
        for architecture in candidates:
            call(architecture)
        print(f"{name}: {1e6 * (time.process_time() - begin) / len(candidates):.1f} us per network, one at a time")
    codes = np.array([encode(architecture, space.decisions) for architecture in candidates])
    begin = time.process_time()
    table.estimates(codes)
    middle = time.process_time()
    predictor.estimates(codes)
    for name, taken in (("table", middle - begin), ("predictor", time.process_time() - middle)):
        print(f"{name}: {1e6 * taken / len(codes):.1f} us per network, {len(codes)} codes at once")


def main() -> None:
    """Measure, or load measurements, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", choices=("blocks", "channels"), default="blocks")
    parser.add_argument("--size", type=int, default=96, help="height and width of the image")
    parser.add_argument("--calibration", type=int, default=60, help="the number of calibration networks")
    parser.add_argument("--held-out", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--burst-ms", type=float, default=15.0)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument(
        "--paired", action="store_true", help="measure bursts relative to adjacent bursts of the control network"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="write the rounds to this file")
    parser.add_argument("--load", type=Path, help="read the rounds from this file instead of measuring")
    arguments = parser.parse_args()
    data = json.loads(arguments.load.read_text()) if arguments.load else measure(arguments)
    if arguments.save:
        arguments.save.write_text(json.dumps(data))
    report(data)


if __name__ == "__main__":
    main()
