"""Measure how long ONNX models take in ONNX Runtime, in rounds.

Every model runs once in every round, in random order, as a short burst of runs. A burst's median says how fast the
model was just then; the median of all rounds is the result, and resampling whole rounds gives its interval: runs that
follow each other are slowed down by the same things, so a burst's own spread says little about the next burst.

On a machine whose speed changes all the time bursts can be paired with bursts of the control: what counts is then by
how much a model takes longer than the control did just before and just after it.

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

from .engine import environment, inputs, open_session, session_options  # relative: in a bundle the package is another

METHOD = 1
"""Version of the way of measuring; values of other versions are not compared."""

RESAMPLES = 2000
"""Resamples of the bootstrap: the ends of a 95 % interval then rest on 50 resamples each."""

CONFIDENCE = 0.95

LEAST_RUNS = 3
"""Runs of a burst that count, however long they take."""

DRIFT_LIMIT = 0.05
"""A control that moved by a larger share makes a session doubtful."""

CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""What a run is timed with, in seconds."""


PACE_MS = 4.0
"""Length of the control's bursts in a paired session: well under the tenths of a second in which shared processors
change their speed, and long enough for `LEAST_RUNS` runs of a millisecond."""


class Timed(NamedTuple):
    """What was timed, in ms.

    Attributes:
        medians: of the bursts, [what][round].
        paces: of the control beside each burst, [what][round]; empty in a session that is not paired.
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
    """Run everything in every round.

    Args:
        runs: what to time.
        seeds: of the order in each round; as many as there are rounds.
        warmup_ms: how long each runs before the first round; at least twice.
        burst_ms: how long a burst goes on; at least `LEAST_RUNS` runs after one that does not count, since the caches
            still hold what ran before.
        round_ms: the time from one round's beginning to the next one's, at least, so that few models are not measured
            in one moment only.
        clock: ``wall``, or ``cpu`` for the time that this process computed.
        pace: runs for `PACE_MS` before the first burst of a round and after each one.
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
    found: list[float] = []
    end = time.perf_counter() + length_ms / 1000
    while len(found) < least or time.perf_counter() < end:
        begin = now()
        run()
        found.append((now() - begin) * 1000)
    return found


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    # Python's garbage collector would fall into a run now and then.
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
        levels: of the rounds, by whose median everything is multiplied; resampled along.
    """
    table = np.asarray(medians, dtype=np.float64)
    count = table.shape[1]
    level = np.ones(count) if levels is None else np.asarray(levels, dtype=np.float64)
    drawn = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    scale, scales = float(np.median(level)), np.median(level[drawn], axis=1)
    tail = (1 - CONFIDENCE) / 2
    found = []
    for row in table:
        low, high = np.quantile(np.median(row[drawn], axis=1) * scales, (tail, 1 - tail))
        found.append((float(np.median(row)) * scale, float(low), float(high)))
    return found


def paired(timed: Timed, seed: int) -> tuple[list[list[float]], list[tuple[float, float, float]]]:
    """Return the rounds as they would have been at the same pace, and (value, low, high) for each row.

    A burst counts by its ratio to the control beside it, and the ratio's median by the control's own: the median over
    rounds of a round's median. Both are resampled for the interval, since how fast the machine is by and large is
    uncertain as well.

    Args:
        timed: of a paired session.
        seed: of the resampling.
    """
    paces = np.asarray(timed.paces)
    ratios, levels = np.asarray(timed.medians) / paces, np.median(paces, axis=0)
    rounds: list[list[float]] = (ratios * np.median(levels)).tolist()
    return rounds, median_interval(ratios.tolist(), seed, levels.tolist())


def drift(control: Sequence[float]) -> float:
    """Return by which share of its median the control's rounds differ at most."""
    return (max(control) - min(control)) / statistics.median(control)


def measure_models(
    models: Sequence[bytes | str], control: bytes | str, options: Mapping[str, Any], seeds: Sequence[int]
) -> dict[str, Any]:
    """Measure models and the control in one session, and return everything found, as plain data.

    Args:
        models: serialised models or paths.
        control: a model that tells how steady the machine was.
        options: ``threads``, ``optimisation``, ``provider``, ``batch``, ``warmup_ms``, ``burst_ms``, ``round_ms``,
            ``clock``, ``paired``.
        seeds: of the orders of the rounds, then one for the bootstrap: one more than there are rounds.

    Raises:
        ValueError: a model cannot be run; the message begins with its number.
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
            # ONNX Runtime's exceptions have no common ancestor but this.
            raise ModelError(number, f"ONNX Runtime cannot run it: {error}") from None

        def run(session: Any = session, feeds: Any = feeds) -> object:
            return session.run(None, feeds)

        runs.append(run)
    times = {name: options[name] for name in ("warmup_ms", "burst_ms", "round_ms", "clock")}
    timed = time_rounds(runs, seeds[:-1], pace=runs[-1] if options["paired"] else None, **times)
    # The control itself is never corrected: it is to tell how steady the machine was.
    control_rounds = timed.medians[-1]
    control_value = statistics.median(control_rounds)
    if options["paired"]:
        rounds, found = paired(timed, seeds[-1])
    else:
        rounds, found = timed.medians, median_interval(timed.medians, seeds[-1])
    moved = drift(control_rounds)
    return {
        "method": METHOD,
        "environment": environment(options["provider"]),
        "control": {"value": control_value, "rounds": control_rounds, "drift": moved},
        "steady": moved <= DRIFT_LIMIT,
        "models": [
            {"value": value, "low": low, "high": high, "confidence": CONFIDENCE, "rounds": rounds[number]}
            for number, (value, low, high) in enumerate(found[:-1])
        ],
    }


class ModelError(ValueError):
    """A model cannot be measured.

    Args:
        number: its place among the models.
        reason: why.
    """

    def __init__(self, number: int, reason: str) -> None:
        self.number, self.reason = number, reason
        super().__init__(f"model {number}: {reason}")
