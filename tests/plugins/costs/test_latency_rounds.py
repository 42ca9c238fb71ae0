"""Measuring in rounds: order, medians, intervals, drift, ONNX Runtime's options."""

from __future__ import annotations

import itertools
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas_costs.latency import rounds
from automl_nas_costs.latency.control import control_model
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.latency.session import LatencySession, measure

QUICK = LatencyOptions(rounds=5, burst_ms=0, warmup_ms=0, round_ms=0)


class Clock:
    """A clock that only moves when something is run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        monkeypatch.setattr(rounds, "CLOCKS", {"wall": lambda: self.now})
        monkeypatch.setattr(rounds.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(rounds.time, "sleep", self._sleep)

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
    rounds.time_rounds(runs, range(40), warmup_ms=0, burst_ms=0, round_ms=0)
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
    found = rounds.time_rounds(
        [clock.run("a", [], lambda: next(warm, None) or next(times))], range(5), warmup_ms=0, burst_ms=0, round_ms=0
    )
    assert found == [pytest.approx([3.0] * 5)]


def test_bursts_and_warming_up_last_as_long_as_asked(clock: Clock) -> None:
    log: list[str] = []
    rounds.time_rounds([clock.run("a", log, lambda: 2.0)], range(5), warmup_ms=19, burst_ms=9, round_ms=0)
    # 1 + 10 runs of 2 ms to warm up, then 1 + 5 in each of 5 rounds.
    assert len(log) == 11 + 5 * 6


def test_rounds_are_spread_over_time(clock: Clock) -> None:
    rounds.time_rounds([clock.run("a", [], lambda: 10.0)], range(5), warmup_ms=0, burst_ms=0, round_ms=200)
    # Four runs of 10 ms, then waiting for the rest of 200 ms, but not after the last round.
    assert clock.slept == pytest.approx([0.160] * 4)


def test_the_interval_covers_the_median_as_often_as_it_says() -> None:
    """Of 400 experiments with 9 independent rounds; the percentile bootstrap of a median is known to be a bit short."""
    draw = np.random.default_rng(1)
    table = draw.lognormal(0.0, 0.2, (400, 9))
    covered = [low <= 1.0 <= high for _, low, high in rounds.median_interval(table.tolist(), 0)]
    # Its theoretical coverage for n = 9 is between 0.90 and 0.98; the standard error of 400 is 0.015.
    assert 0.87 <= statistics.fmean(covered) <= 1.0
    value, low, high = rounds.median_interval([[3.0, 1.0, 2.0, 5.0, 4.0]], 0)[0]
    assert (value, low, high) == (3.0, 1.0, 5.0)


def test_intervals_agree_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    sample = np.random.default_rng(2).gamma(4.0, size=31)
    theirs = stats.bootstrap(
        (sample,), np.median, n_resamples=20000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    _, low, high = rounds.median_interval([sample.tolist()], 0)[0]
    # The ends are order statistics of about the same ranks; the number of resamples may shift them by one.
    spacing = float(np.diff(np.sort(sample)).max())
    assert abs(low - theirs.low) <= spacing
    assert abs(high - theirs.high) <= spacing


def test_drift_is_the_range_of_the_control() -> None:
    assert rounds.drift([1.0, 1.02, 0.99, 1.04, 1.0]) == pytest.approx(0.05)


def test_an_unsteady_session_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def moved(by: float) -> Callable[..., list[list[float]]]:
        return lambda runs, seeds, **more: [[1.0 + by * (n == 0 and r == 2) for r in range(5)] for n in (1, 0)]

    for by, steady in ((0.04, True), (0.2, False)):
        monkeypatch.setattr(rounds, "time_rounds", moved(by))
        session = LatencySession(QUICK)
        session.add(control_model())
        (found,), report = session.run()
        assert report.steady is steady
        assert found.details["control"] == {"value": 1.0, "drift": pytest.approx(by)}
        assert bool(found.details["notes"]) is not steady
    assert "moved by 20 % between rounds" in found.details["notes"][0]


def test_a_measurement_says_how_it_was_made() -> None:
    (found,) = measure([control_model()], QUICK)
    assert found.low <= found.value <= found.high
    assert found.value == statistics.median(found.details["rounds"])
    assert found.details["options"] == QUICK.as_dict()
    assert found.details["options"]["provider"] == "CPUExecutionProvider"
    assert found.details["environment"]["runtime"] == f"onnxruntime {onnxruntime.__version__}"
    assert len(found.details["rounds"]) == 5


def test_the_control_never_changes() -> None:
    """Sessions of different days are compared through it."""
    session = rounds.open_session(control_model(), rounds.session_options(1, "all"), "cpu")
    (output,) = session.run(None, {"input": np.ones((1, 32, 28, 28), np.float32)})
    assert output.shape == (1, 32, 28, 28)
    # He's variance keeps the size of the values from layer to layer.
    assert 0.1 < float(np.sqrt((output**2).mean())) < 10


def test_options_reach_onnx_runtime() -> None:
    for level, expected in (("none", "ORT_DISABLE_ALL"), ("basic", "ORT_ENABLE_BASIC"), ("all", "ORT_ENABLE_ALL")):
        options = rounds.session_options(3, level)
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
    # One that is installed and does not start: ONNX Runtime would go on with the CPU and only log it.
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(rounds.onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(rounds.onnxruntime, "InferenceSession", lambda *more, providers: FellBack())
    with pytest.raises(SpaceError, match="cannot start CUDAExecutionProvider here"):
        measure([control_model()], LatencyOptions(provider="cuda", rounds=5))


class FellBack:
    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def test_processor_time_is_a_latency_of_one_thread_only() -> None:
    with pytest.raises(ConfigurationError, match="one thread on the CPU"):
        LatencyOptions(clock="cpu", threads=2)
    assert LatencyOptions(clock="cpu").text().endswith("processor time")


def test_the_file_that_measures_needs_only_numpy_and_onnx_runtime() -> None:
    """It is copied to devices: importing it by its path must bring in nothing else of this project, nor torch."""
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('rounds', {str(Path(rounds.__file__))!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'torch', 'onnx', 'automl_nas'}))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
