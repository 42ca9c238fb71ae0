"""Measuring in rounds: order, medians, intervals, drift, ONNX Runtime's options."""

from __future__ import annotations

import itertools
import math
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas_costs.bundle.write import Bundle, BundledModel, write_bundle
from automl_nas_costs.latency import engine, measurement_rounds
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.latency.reference_network import control_model
from automl_nas_costs.latency.session import LatencySession, measure

QUICK = LatencyOptions(rounds=5, burst_ms=0, warmup_ms=0, round_ms=0)


class Clock:
    """A clock that advances only by runs and sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        monkeypatch.setattr(measurement_rounds, "CLOCKS", {"wall": lambda: self.now})
        monkeypatch.setattr(measurement_rounds.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(measurement_rounds.time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def run(self, name: str, log: list[str], milliseconds: Callable[[], float]) -> Callable[[], object]:
        def run() -> None:
            log.append(name)
            self.now += milliseconds() / 1000

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_everything_runs_once_in_every_round_in_changing_order(clock: Clock) -> None:
    log: list[str] = []
    runs = [clock.run(name, log, lambda: 1.0) for name in "abcd"]
    measurement_rounds.time_rounds(runs, range(40), warmup_ms=0, burst_ms=0, round_ms=0)
    orders = ["".join(name for name, _ in itertools.groupby(log))]
    # A burst: one run that does not count and three that do. Warming up: one and one more for each.
    bursts = [log[8:][start : start + 4] for start in range(0, len(log) - 8, 4)]
    assert all(len(set(burst)) == 1 for burst in bursts)
    orders = ["".join(burst[0] for burst in bursts[start : start + 4]) for start in range(0, len(bursts), 4)]
    assert len(orders) == 40
    assert all(sorted(order) == list("abcd") for order in orders)
    # 40 draws of 24 orders: fewer than 10 different ones are less likely than 1e-12.
    assert len(set(orders)) >= 10


def test_a_burst_counts_by_its_median_and_not_its_first_run(clock: Clock) -> None:
    times = itertools.cycle([50.0, 3.0, 90.0, 2.0])  # the first of each burst, and the three that count
    warm = iter([1.0, 1.0])
    timed = measurement_rounds.time_rounds(
        [clock.run("a", [], lambda: next(warm, None) or next(times))], range(5), warmup_ms=0, burst_ms=0, round_ms=0
    )
    assert timed.medians == [pytest.approx([3.0] * 5)]
    assert timed.paces == []


def test_bursts_and_warming_up_last_as_long_as_asked(clock: Clock) -> None:
    log: list[str] = []
    measurement_rounds.time_rounds([clock.run("a", log, lambda: 2.0)], range(5), warmup_ms=19, burst_ms=9, round_ms=0)
    # 1 + 10 runs of 2 ms to warm up, then 1 + 5 in each of 5 rounds.
    assert len(log) == 11 + 5 * 6


def test_in_a_paired_session_the_control_runs_between_all_bursts(clock: Clock) -> None:
    log: list[str] = []
    runs = [clock.run(name, log, lambda: 2.0) for name in "ab"]
    control = clock.run("c", log, lambda: 1.0)
    timed = measurement_rounds.time_rounds(runs, range(5), warmup_ms=0, burst_ms=0, round_ms=0, pace=control)
    # Warming up: each twice. Then bursts of one run and three more, of the control one and four: 4 ms of 1 ms each.
    bursts = ["".join(group) for _, group in itertools.groupby(log[4:])]
    assert [burst[0] for burst in bursts[0::2]] == ["c"] * len(bursts[0::2])
    inner = [burst for burst in bursts if burst[0] != "c"]
    assert len(inner) == 10
    assert all(len(burst) == 4 for burst in inner)
    # A round's last burst of the control and the next round's first one are consecutive.
    assert [len(burst) for burst in bursts[0::2]] == [5, 5] + [10, 5] * 4 + [5]
    assert timed.paces == [pytest.approx([1.0] * 5)] * 2


def test_pairing_takes_a_changing_pace_out(clock: Clock) -> None:
    """A machine that has one of two speeds at a time, for tenths of a second, as a shared processor does."""
    draw = random.Random(5)
    blocks = [draw.choice((1.0, 1.4)) for _ in range(10_000)]

    def at(milliseconds: float) -> Callable[[], float]:
        return lambda: milliseconds * blocks[int(clock.now / 0.2)]

    lengths = [2.0 + 0.05 * number for number in range(20)]
    runs = [clock.run("", [], at(length)) for length in lengths]
    control = clock.run("c", [], at(1.0))
    times = {"warmup_ms": 0.0, "burst_ms": 10.0, "round_ms": 0.0}
    plain = measurement_rounds.median_interval(measurement_rounds.time_rounds(runs, range(9), **times).medians, 0)
    timed = measurement_rounds.time_rounds(runs, range(9), **times, pace=control)
    _, fair = measurement_rounds.paired(timed, 0)
    # At every speed the truth is the same: 2.0 to 2.95 times the control.
    level = statistics.median(statistics.median(row) for row in zip(*timed.paces, strict=True))

    def error(intervals: Sequence[tuple[float, float, float]]) -> float:
        scale = statistics.fmean(value / length for (value, _, _), length in zip(intervals, lengths, strict=True))
        return max(abs(value / length / scale - 1) for (value, _, _), length in zip(intervals, lengths, strict=True))

    # A burst during which the speed changes is off by up to a fifth; of nine rounds it takes five to move the median.
    assert error(fair) < 0.02
    assert error(plain) > 0.1
    assert fair[0][0] == pytest.approx(lengths[0] * level, rel=0.02)


def test_a_paired_interval_holds_the_uncertainty_of_the_pace() -> None:
    """All ratios are the same, so what is left is the interval of the control's median over rounds."""
    levels = [1.0, 1.1, 1.3, 0.9, 1.2, 1.05, 0.95]
    timed = measurement_rounds.Timed([[3.0 * level for level in levels], levels], [levels, levels])
    values, intervals = measurement_rounds.paired(timed, 4)
    (alone,) = measurement_rounds.median_interval([levels], 4)
    assert intervals[0] == pytest.approx([3.0 * end for end in alone])
    assert intervals[1] == pytest.approx(alone)
    assert values[0] == pytest.approx([3.0 * 1.05] * 7)


def test_a_paired_session_says_so() -> None:
    options = replace(QUICK, paired=True)
    measurements = measure([control_model(), control_model()], options)
    assert options.text().endswith("paired with the control")
    for item in measurements:
        assert item.value == pytest.approx(statistics.median(item.details["rounds"]))
        assert item.low <= item.value <= item.high
        assert item.details["options"]["paired"]
        # The control's ratio to itself: bursts next to each other differ by less than a factor of two.
        assert 0.5 < item.value / item.details["control"]["value"] < 2


def test_rounds_are_spread_over_time(clock: Clock) -> None:
    measurement_rounds.time_rounds([clock.run("a", [], lambda: 10.0)], range(5), warmup_ms=0, burst_ms=0, round_ms=200)
    # Four runs of 10 ms, then waiting for the rest of 200 ms, but not after the last round.
    assert clock.slept == pytest.approx([0.160] * 4)


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    """Of 400 experiments with 9 independent rounds; the percentile bootstrap of a median is known to be a bit short."""
    draw = np.random.default_rng(1)
    table = draw.lognormal(0.0, 0.2, (400, 9))
    covered = [low <= 1.0 <= high for _, low, high in measurement_rounds.median_interval(table.tolist(), 0)]
    # Its theoretical coverage for n = 9 is between 0.90 and 0.98; the standard error of 400 is 0.015.
    assert 0.87 <= statistics.fmean(covered) <= 1.0
    value, low, high = measurement_rounds.median_interval([[3.0, 1.0, 2.0, 5.0, 4.0]], 0)[0]
    assert (value, low, high) == (3.0, 1.0, 5.0)


def test_intervals_agree_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    sample = np.random.default_rng(2).gamma(4.0, size=31)
    theirs = stats.bootstrap(
        (sample,), np.median, n_resamples=20000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    _, low, high = measurement_rounds.median_interval([sample.tolist()], 0)[0]
    # The ends are order statistics of about the same ranks; the number of resamples may shift them by one.
    spacing = float(np.diff(np.sort(sample)).max())
    assert abs(low - theirs.low) <= spacing
    assert abs(high - theirs.high) <= spacing


def test_drift_is_the_range_of_the_control() -> None:
    assert measurement_rounds.drift([1.0, 1.02, 0.99, 1.04, 1.0]) == pytest.approx(0.05)


def test_an_unsteady_session_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(by: float) -> Callable[..., measurement_rounds.Timed]:
        times = [[1.0 + by * (n == 0 and r == 2) for r in range(5)] for n in (1, 0)]
        return lambda runs, seeds, **more: measurement_rounds.Timed(times, [])

    for by, steady in ((0.04, True), (0.2, False)):
        monkeypatch.setattr(measurement_rounds, "time_rounds", moved(by))
        session = LatencySession(QUICK)
        session.add(control_model())
        (measurement,), report = session.run()
        assert report.steady is steady
        assert measurement.details["control"] == {"value": 1.0, "drift": pytest.approx(by)}
        assert bool(measurement.details["notes"]) is not steady
    assert "moved by 20 % between rounds" in measurement.details["notes"][0]


def test_a_measurement_says_how_it_was_made() -> None:
    (measurement,) = measure([control_model()], QUICK)
    assert measurement.low <= measurement.value <= measurement.high
    assert measurement.value == statistics.median(measurement.details["rounds"])
    assert measurement.details["options"] == QUICK.as_dict()
    assert measurement.details["options"]["provider"] == "CPUExecutionProvider"
    assert measurement.details["environment"]["runtime"] == f"onnxruntime {onnxruntime.__version__}"
    assert len(measurement.details["rounds"]) == 5


def test_the_control_never_changes() -> None:
    """Sessions of different days are compared by its latency."""
    session = engine.open_session(control_model(), engine.session_options(1, "all"), "cpu")
    (output,) = session.run(None, {"input": np.ones((1, 32, 28, 28), np.float32)})
    assert output.shape == (1, 32, 28, 28)
    # He's variance keeps the size of the values from layer to layer.
    assert 0.1 < float(np.sqrt((output**2).mean())) < 10


def test_options_reach_onnx_runtime() -> None:
    for level, expected in (("none", "ORT_DISABLE_ALL"), ("basic", "ORT_ENABLE_BASIC"), ("all", "ORT_ENABLE_ALL")):
        options = engine.session_options(3, level)
        assert options.graph_optimization_level.name == expected
        assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)
        assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("threads", 0),
        ("batch", 0),
        ("rounds", 4),
        ("burst_ms", -1.0),
        ("round_ms", math.nan),
        ("optimisation", "most"),
        ("clock", "sun"),
    ],
)
def test_settings_out_of_range_are_named(setting: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=setting):
        LatencyOptions(**{setting: value})  # type: ignore[arg-type]


def test_a_provider_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigurationError, match=r"provider: the execution provider 'tensorrt' is not in the installed"
    ):
        LatencyOptions(provider="tensorrt")
    # One that is installed and does not start: ONNX Runtime would use the CPU and only log it.
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(engine.onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(engine.onnxruntime, "InferenceSession", lambda *more, providers: FellBack())
    with pytest.raises(SpaceError, match="cannot start CUDAExecutionProvider here"):
        measure([control_model()], LatencyOptions(provider="cuda", rounds=5))


class FellBack:
    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def test_processor_time_is_a_latency_of_one_thread_only() -> None:
    with pytest.raises(ConfigurationError, match="one thread on the CPU"):
        LatencyOptions(clock="cpu", threads=2)
    assert LatencyOptions(clock="cpu").text().endswith("processor time")


@pytest.mark.process
def test_what_measures_needs_only_numpy_and_onnx_runtime(tmp_path: Path) -> None:
    """It is copied to devices: importing it there must not import this project or torch."""
    write_bundle(Bundle([BundledModel(control_model(), "the control")]), tmp_path / "bundle")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'bundle')!r})\n"
        "import latency.measurement_rounds\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'onnx', 'automl_nas_costs'}))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
