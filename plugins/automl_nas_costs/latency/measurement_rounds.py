"""Measure the latency of ONNX models in ONNX Runtime, in rounds.

Every model runs once in every round, in random order, as a short burst of runs. A round's value is the median of its
burst; the result is the median of all rounds, and resampling whole rounds gives its interval. Consecutive runs share
disturbances (other processes, processor temperature, cache state), so the variance within a burst does not predict that
between bursts.

On a machine whose speed changes all the time bursts can be paired with bursts of the control network: a burst then
counts by its ratio to the control's bursts immediately before and after it.

This file and `engine.py` need only Python 3.9, NumPy and ONNX Runtime: a bundle for another device runs them, too.
"""

from __future__ import annotations

import contextlib
import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .engine import (  # relative: in a bundle the package has another name
    environment,
    inputs,
    open_session,
    session_options,
)

METHOD = 1
"""Version of the method; values of different versions are not compared."""

RESAMPLES = 2000
"""Resamples of the bootstrap: 50 of them are beyond each end of a 95 % interval."""

CONFIDENCE = 0.95

LEAST_RUNS = 3
"""Minimum number of runs of a burst that count."""

DRIFT_LIMIT = 0.05
"""A session is unsteady if the control network's latency varies by a larger share."""

CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""Name -> function that returns the time in seconds."""

PACE_MS = 4.0
"""Length of the control's bursts in a paired session: much shorter than the tenths of a second in which shared
processors change their speed, and long enough for `LEAST_RUNS` runs of a millisecond."""


class Timed(NamedTuple):
    """Times of bursts, in ms.

    Attributes:
        medians: of the bursts, [model][round].
        paces: medians of the control beside each burst, [model][round]; empty in a session that is not paired.
    """

    medians: list[list[float]]
    paces: list[list[float]]


def time_rounds(
    runs: Sequence[Callable[[], object]],
    seeds: Sequence[int],
    *,
    warmup_ms: float,
    burst_ms: float,
    round_ms: float,
    clock: str = "wall",
    pace: Callable[[], object] | None = None,
) -> Timed:
    """Time a burst of every model in every round.

    Args:
        runs: for each model a function that runs it once.
        seeds: of the order in each round, one for each round.
        warmup_ms: how long each model runs before the first round; at least twice.
        burst_ms: length of a burst; at least `LEAST_RUNS` runs after one that does not count, since the caches still
            hold the data of the model before.
        round_ms: minimum time from the beginning of a round to that of the next, so that the rounds of few models do
            not all fall into one moment.
        clock: ``wall``, or ``cpu`` for the processor time of this process.
        pace: runs the control once; in a paired session it runs for `PACE_MS` before the first burst of a round and
            after each burst.
    """
    timed = Timed([[] for _ in runs], [[] for _ in runs] if pace else [])
    now = CLOCKS[clock]

    def burst(run: Callable[[], object], length_ms: float) -> float:
        run()
        return statistics.median(_burst(run, length_ms, LEAST_RUNS, now))

    with _no_collection():
        for run in runs:
            run()
            _burst(run, warmup_ms, 1, now)
        for number, seed in enumerate(seeds):
            begin = time.perf_counter()
            order = list(range(len(runs)))
            random.Random(seed).shuffle(order)
            before = burst(pace, PACE_MS) if pace else 0.0
            for index in order:
                timed.medians[index].append(burst(runs[index], burst_ms))
                if pace:
                    after = burst(pace, PACE_MS)
                    timed.paces[index].append((before + after) / 2)
                    before = after
            rest = round_ms / 1000 - (time.perf_counter() - begin)
            if rest > 0 and number < len(seeds) - 1:
                time.sleep(rest)
    return timed


def _burst(run: Callable[[], object], length_ms: float, least: int, now: Callable[[], float]) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + length_ms / 1000
    while len(times) < least or time.perf_counter() < end:
        begin = now()
        run()
        times.append((now() - begin) * 1000)
    return times


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    # Python's garbage collector would run during some of the timed runs.
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def median_interval(
    medians: Sequence[Sequence[float]], seed: int, levels: Sequence[float] | None = None
) -> list[tuple[float, float, float]]:
    """Return (value, low, high) for each row of round medians: their median and its 95 % bootstrap interval.

    The rounds are resampled, the same ones for all rows.

    Args:
        medians: of the rounds, shape ``(rows, rounds)``.
        seed: of the resampling.
        levels: one for each round; all values are multiplied by their median, which is resampled with the rounds.
    """
    table = np.asarray(medians, dtype=np.float64)
    count = table.shape[1]
    level = np.ones(count) if levels is None else np.asarray(levels, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    scale, scales = float(np.median(level)), np.median(level[drawn], axis=1)
    tail = (1 - CONFIDENCE) / 2
    intervals = []
    for row in table:
        low, high = np.quantile(np.median(row[drawn], axis=1) * scales, (tail, 1 - tail))
        intervals.append((float(np.median(row)) * scale, float(low), float(high)))
    return intervals


def paired(timed: Timed, seed: int) -> tuple[list[list[float]], list[tuple[float, float, float]]]:
    """Return the rounds as they would have been at the same pace, and (value, low, high) for each row.

    A burst counts by its ratio to the control beside it. The median of the ratios is multiplied by the control's own
    latency, the median over rounds of a round's median. Both are resampled for the interval, since the speed of the
    machine over the whole session is uncertain, too.

    Args:
        timed: the times of a paired session.
        seed: of the resampling.
    """
    paces = np.asarray(timed.paces)
    ratios, levels = np.asarray(timed.medians) / paces, np.median(paces, axis=0)
    rounds: list[list[float]] = (ratios * np.median(levels)).tolist()
    return rounds, median_interval(ratios.tolist(), seed, levels.tolist())


def drift(control: Sequence[float]) -> float:
    """Return the range of the control's rounds as a share of their median."""
    return (max(control) - min(control)) / statistics.median(control)


def measure_models(
    models: Sequence[bytes | str], control: bytes | str, options: Mapping[str, Any], seeds: Sequence[int]
) -> dict[str, Any]:
    """Measure models and the control network in one session, and return the results as plain data.

    Args:
        models: serialised models or paths.
        control: a model whose rounds show how steady the machine is.
        options: ``threads``, ``optimisation``, ``provider``, ``batch``, ``warmup_ms``, ``burst_ms``, ``round_ms``,
            ``clock``, ``paired``.
        seeds: one for the order of each round, then one for the bootstrap.

    Raises:
        ModelError: a model cannot be run.
    """
    settings = session_options(options["threads"], options["optimisation"])
    runs: list[Callable[[], object]] = []
    for number, model in enumerate([*models, control]):
        try:
            session = open_session(model, settings, options["provider"])
            feeds = inputs(session, options["batch"], 0)
            session.run(None, feeds)
        except ValueError as error:
            raise ModelError(number, str(error)) from None
        except Exception as error:
            # ONNX Runtime's exceptions have no other common base class.
            raise ModelError(number, f"ONNX Runtime cannot run it: {error}") from None

        def run(session: Any = session, feeds: Any = feeds) -> object:
            return session.run(None, feeds)

        runs.append(run)
    times = {name: options[name] for name in ("warmup_ms", "burst_ms", "round_ms", "clock")}
    timed = time_rounds(runs, seeds[:-1], pace=runs[-1] if options["paired"] else None, **times)
    # The control itself is not corrected: its rounds show how steady the machine was.
    control_rounds = timed.medians[-1]
    control_value = statistics.median(control_rounds)
    if options["paired"]:
        rounds, intervals = paired(timed, seeds[-1])
    else:
        rounds, intervals = timed.medians, median_interval(timed.medians, seeds[-1])
    moved = drift(control_rounds)
    return {
        "method": METHOD,
        "environment": environment(options["provider"]),
        "control": {"value": control_value, "rounds": control_rounds, "drift": moved},
        "steady": moved <= DRIFT_LIMIT,
        "models": [
            {"value": value, "low": low, "high": high, "confidence": CONFIDENCE, "rounds": rounds[number]}
            for number, (value, low, high) in enumerate(intervals[:-1])
        ],
    }


class ModelError(ValueError):
    """A model cannot be measured.

    Args:
        number: its position among the models.
        reason: why it cannot be measured.
    """

    def __init__(self, number: int, reason: str) -> None:
        self.number, self.reason = number, reason
        super().__init__(f"model {number}: {reason}")
