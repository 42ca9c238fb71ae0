"""What is delivered keeps its budget: fitted widths, measured latencies, baselines of equal cost."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from click.testing import CliRunner
from end_to_end.runs import config
from torch import Tensor, nn

import automl_nas
from automl_nas import ModuleSpace, OneOf
from automl_nas.cli.app import cli
from automl_nas.cli.summary import summary
from automl_nas.errors import ConfigurationError, DivergedError, RunFailedError, RunInterrupted
from automl_nas.evaluation import MeasuredCost, Measurement
from automl_nas.plugin import Handlers, Register, StageStarted, WarningSent, hookimpl
from automl_nas.plugin.manager import default_manager
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.final.measured_limits import CostLimit, MeasuredLimits
from automl_nas.space import Architecture, SearchSpace
from automl_nas.space.operators import enumerate_all
from automl_nas.strategy.problem import parse_constraint


def block(channels: int) -> OneOf:
    return OneOf({"conv": nn.Conv2d(channels, channels, 3, padding=1), "skip": nn.Identity()})


def sized(*, width: int = 4, groups: int = 1, kind: str = "plain") -> ModuleSpace:
    """Three choices; the width must be a multiple of the groups."""
    if width % groups:
        raise ConfigurationError(f"{width} is not a multiple of {groups}", path="width")

    def network() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            *(block(width) for _ in range(3)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, 10),
        )

    return ModuleSpace(network, input_shape=(1, 8, 8))


def parameters(width: int, convolutions: int) -> int:
    """Return the number of parameters by hand."""
    return 10 * width + convolutions * (9 * width**2 + width) + 11 * width - width + 10


def short(**changes: Any) -> dict[str, Any]:
    """Return a search that looks at all eight networks, without an evaluator: by their costs."""
    stages = [{"name": "search", "strategy": {"name": "random"}, "budget": {"trials": 8}}]
    problem = {"objectives": {"params": "maximize"}, "costs": ["params", "flops"]}
    return {**config(), "space": {"name": sized, "width": 4}, "problem": problem, "stages": stages, **changes}


def final(**settings: Any) -> dict[str, Any]:
    return {"train": {"epochs": 1}, "export": ["safetensors"], **settings}


@pytest.mark.parametrize("limit", [500, 2_000, 12_345])
def test_the_largest_width_that_meets_the_limit_is_taken(limit: int, tmp_path: Path) -> None:
    """Against the closed form: parameters(w) <= limit < parameters(w + 1)."""
    section = final(space={"width": {"fit": {"params": f"<= {limit}"}}}, baselines=["random"])
    result = automl_nas.search(short(final=section), out=tmp_path / "run")
    for network in result.data["final"]["networks"]:
        convolutions = list(network["architecture"].values()).count("conv")
        width = network["space"]["width"]
        assert network["costs"]["params"] == parameters(width, convolutions) <= limit
        assert parameters(width + 1, convolutions) > limit
    # What is delivered can be built again and has that width.
    built = result.load_trained()
    assert sum(p.numel() for p in built.parameters()) == result.data["final"]["networks"][0]["costs"]["params"]
    described = json.loads((tmp_path / "run" / "export" / "architecture.json").read_text())
    assert described["description"]["space"]["width"] == result.data["final"]["networks"][0]["space"]["width"]


def test_widths_that_the_space_refuses_are_passed_over(tmp_path: Path) -> None:
    section = final(space={"width": {"fit": {"params": "<= 20k"}}})
    space = {"name": sized, "width": 12, "groups": 12}
    result = automl_nas.search(short(space=space, final=section), out=tmp_path / "run")
    (network,) = result.data["final"]["networks"]
    convolutions = list(network["architecture"].values()).count("conv")
    width = network["space"]["width"]
    assert width % 12 == 0 and parameters(width, convolutions) <= 20_000 < parameters(width + 12, convolutions)


def test_a_run_with_a_fitted_width_resumes_to_the_same(tmp_path: Path) -> None:
    section = final(space={"width": {"fit": {"params": "<= 2k"}}})
    whole = automl_nas.search(short(final=section), out=tmp_path / "whole")
    with pytest.raises(RunInterrupted):
        automl_nas.search(short(final=section), out=tmp_path / "cut", handlers=interrupt_at("final"))
    resumed = automl_nas.search(short(final=section), out=tmp_path / "cut", resume=True)
    assert resumed.data == whole.data


def interrupt_at(stage: str) -> Handlers:
    """Return handlers that press Ctrl-C when a stage begins."""

    def stage_started(event: StageStarted) -> None:
        if event.stage == stage:
            raise KeyboardInterrupt

    return {StageStarted: stage_started}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"width": {"fit": {"parms": "<= 2k"}}}, r"final.space.width.fit.parms: unknown cost 'parms'.*params"),
        ({"width": {"fit": {"params": ">= 2k"}}}, "must be an upper limit"),
        ({"width": {"fit": {"params": "2 thousand"}}}, "cannot read the constraint"),
        ({"width": {"fit": {}}}, "must be a mapping cost: limit"),
        ({"width": {"fit": {"params": "<= 2k"}}, "groups": {"fit": {"params": "<= 2k"}}}, "one setting can be fitted"),
        ({"depth": {"fit": {"params": "<= 2k"}}}, "has no setting 'depth'"),
        ({"kind": {"fit": {"params": "<= 2k"}}}, "a whole number of at least 1, and this is 'plain'"),
    ],
)
def test_mistakes_in_what_is_fitted_are_said_before_the_search(
    space: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        automl_nas.search(short(final=final(space=space)), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_limit_on_networks_whose_width_is_not_known_is_refused(tmp_path: Path) -> None:
    section = final(space={"width": {"fit": {"params": "<= 2k"}}})
    problem = {**short()["problem"], "constraints": {"flops": "<= 20k"}}
    with pytest.raises(ConfigurationError, match=r"only known after the search.*of: search"):
        automl_nas.search(short(final=section, problem=problem), out=tmp_path / "run")


def test_a_limit_that_no_width_meets_says_so(tmp_path: Path) -> None:
    section = final(space={"width": {"fit": {"params": "<= 10"}}})
    with pytest.raises(RunFailedError, match=r"no width meets params <= 10: with 1, the smallest .* has params"):
        automl_nas.search(short(final=section), out=tmp_path / "run")


# --- measured limits -------------------------------------------------------------------------------------------------


class Stopwatch(MeasuredCost):
    """Predicts 1 ms for each convolution; the truth, which it measures on networks, is 2 ms, give or take 0.1."""

    metric: ClassVar[str] = "stopwatch_ms"
    unit: ClassVar[str] = "ms"
    exported_suffix: ClassVar[str] = ".safetensors"
    sessions: ClassVar[list[int]] = []
    file_value: ClassVar[float | None] = None
    loaded: ClassVar[list[dict[str, Any]]] = []
    learned: ClassVar[list[tuple[Architecture, Measurement]]] = []

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._measured: dict[str, float] = {}

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        return {name: float(value == "conv") for name, value in architecture.items()}

    def measure(self, networks: Sequence[nn.Module], input_shape: Sequence[int]) -> list[Measurement]:
        self.sessions.append(len(networks))
        counts = [sum(isinstance(part, nn.Conv2d) for part in network.modules()) - 1 for network in networks]
        return [Measurement(2.0 * n, 2.0 * n - 0.1, 2.0 * n + 0.1, details={"rounds": 5}) for n in counts]

    def measure_files(self, paths: Sequence[Path]) -> list[Measurement]:
        assert all(path.is_file() for path in paths)
        value = self.file_value
        return [Measurement(3.9, 3.8, 3.99)] if value is None else [Measurement(value, value, value)]

    def learn(self, measurements: Sequence[tuple[Architecture, Measurement]]) -> None:
        self.learned.extend(measurements)

    def state_dict(self) -> dict[str, Any]:
        return {"values": [1.0]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.loaded.append(dict(state))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Stopwatch.sessions = []
    Stopwatch.file_value = None
    Stopwatch.loaded = []
    Stopwatch.learned = []


def timed(limit: str, **settings: Any) -> dict[str, Any]:
    problem = {
        "objectives": {"params": "maximize"},
        "constraints": {"latency": limit},
        "costs": {"params": "params", "latency": Stopwatch},
    }
    return short(problem=problem, final=final(**settings))


def convolutions(network: Mapping[str, Any]) -> int:
    return list(network["architecture"].values()).count("conv")


def test_a_candidate_that_misses_when_it_is_measured_gives_way_to_the_next(tmp_path: Path) -> None:
    """All eight are predicted to meet 4.2 ms; those of three convolutions need 6, and the next best are delivered."""
    result = automl_nas.search(timed("<= 4.2", baselines=["random"]), out=tmp_path / "run")
    networks = result.data["final"]["networks"]
    assert convolutions(networks[0]) == 2
    assert networks[0]["measured"]["latency"]["value"] == 4.0
    assert networks[1]["measured"]["latency"]["value"] == 2.0 * convolutions(networks[1])
    (row,) = result.data["final"]["budget"]
    assert (row["predicted"], row["measured"]["value"], row["exported"]["value"]) == (2.0, 4.0, 3.9)
    assert row["met"] and row["margin"] == pytest.approx((4.2 - 3.99) / 4.2)
    # First the best one with the baseline, then one of the next best: with the correction, 2, no hopeless one is tried.
    assert Stopwatch.sessions == [2, 1]
    # What was measured is there to learn from: the one that missed, the baseline, the one that is delivered.
    assert len(Stopwatch.learned) == 3
    for architecture, measurement in Stopwatch.learned:
        assert measurement.value == 2.0 * list(architecture.values()).count("conv")
    assert any("pass" in line for line in summary(tmp_path / "run", result.data))
    report = result.final
    assert report is not None and json.dumps(report.to_json()) == json.dumps(result.data["final"])
    assert report.networks[0].measured["latency"] == Measurement(4.0, 3.9, 4.1, details={"rounds": 5})
    assert report.limits[0].exported == Measurement(3.9, 3.8, 3.99) and report.missed_limits == ()
    assert json.loads((tmp_path / "run" / "measured.json").read_text())


def test_a_resumed_run_goes_on_with_the_measurements_it_began_with(tmp_path: Path) -> None:
    with pytest.raises(RunInterrupted):
        automl_nas.search(timed("<= 4.2"), out=tmp_path / "run", handlers=interrupt_at("final"))
    assert not Stopwatch.loaded
    automl_nas.search(timed("<= 4.2"), out=tmp_path / "run", resume=True)
    assert Stopwatch.loaded and all(state == {"values": [1.0]} for state in Stopwatch.loaded)


def test_an_interval_that_reaches_over_the_limit_misses_it(tmp_path: Path) -> None:
    """4.0 ms is under 4.05, its upper end, 4.1, is not."""
    result = automl_nas.search(timed("<= 4.05"), out=tmp_path / "run")
    assert convolutions(result.data["final"]["networks"][0]) == 1


def test_where_none_meets_the_limit_the_nearest_is_delivered_and_said_to_miss(tmp_path: Path) -> None:
    Stopwatch.file_value = 2.0
    raw = timed("1..1.5", measure=8)
    result = automl_nas.search(raw, out=tmp_path / "run")
    assert convolutions(result.data["final"]["networks"][0]) == 1
    (row,) = result.data["final"]["budget"]
    assert not row["met"] and row["margin"] == pytest.approx(-(2.0 - 1.5) / 1.5)
    assert any("FAIL" in line for line in summary(tmp_path / "run", result.data))


def test_python_callers_see_missed_limits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The result is returned, with the judgement that the command turns into exit code 1."""
    Stopwatch.file_value = 5.0
    warnings: list[WarningSent] = []
    handlers = {WarningSent: warnings.append}
    result = automl_nas.search(timed("<= 4.2"), out=tmp_path / "run", handlers=handlers)
    (shortcoming,) = result.shortcomings
    # The toy task cannot be learned, which the run says, too.
    assert [each for each in warnings if "has learned nothing" not in each.text] == [WarningSent(shortcoming.message)]
    assert shortcoming.kind == "missed_limits" and "misses latency <= 4.2 by 19.0%" in shortcoming.message
    assert shortcoming.message in caplog.messages
    assert result.final is not None
    (check,) = result.final.missed_limits
    assert check.exported is not None and check.exported.value == 5.0 and check.margin < 0
    # To resume the complete run returns the same result with the same warning.
    again = automl_nas.search(timed("<= 4.2"), out=tmp_path / "run", resume=True, handlers=handlers)
    assert again.shortcomings == result.shortcomings
    assert warnings.count(WarningSent(shortcoming.message)) == 2


def test_a_run_without_shortcomings_warns_of_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result = automl_nas.search(timed("<= 4.2"), out=tmp_path / "run")
    assert result.shortcomings == ()
    assert all("has learned nothing" in message for message in caplog.messages), "the toy task cannot be learned"
    assert result.final is not None and result.final.missed_limits == ()


def test_a_baseline_that_comes_nearer_is_not_delivered() -> None:
    limit = CostLimit(parse_constraint("ms", "<= 1"), "ms", Stopwatch(sized()))
    budget = MeasuredLimits([limit], [{"ms": 1.0}, {"ms": 0.9}], top_k=1)
    for place, value in ((0, 3.0), (1, 2.0), (-1, 1.5)):
        budget.measured[place] = {"ms": Measurement(value, value, value)}
    assert budget.chosen == [1]


def test_the_exported_file_has_the_last_word(tmp_path: Path) -> None:
    Stopwatch.file_value = 5.0
    result = automl_nas.search(timed("<= 4.2"), out=tmp_path / "run")
    (row,) = result.data["final"]["budget"]
    assert row["measured"]["high"] < 4.2 and not row["met"]


class Toys:
    """A plugin with the space and the cost model of these tests."""

    @hookimpl
    def register_spaces(self, register: Register) -> None:
        register("sized", "end_to_end.test_delivery:sized")

    @hookimpl
    def register_cost_models(self, register: Register) -> None:
        register("stopwatch_ms", "end_to_end.test_delivery:Stopwatch")


@pytest.fixture
def _toys() -> Iterator[None]:
    def forget() -> None:
        default_manager.cache_clear()
        complete_manager.cache_clear()

    forget()
    complete_manager().register_module(Toys(), "toys")
    yield
    forget()


@pytest.mark.usefixtures("_toys")
def test_the_command_fails_where_the_delivery_misses(tmp_path: Path) -> None:
    import_module("end_to_end.test_delivery").Stopwatch.file_value = 5.0  # the registered one
    raw = timed("<= 4.2")
    raw["space"]["name"] = "sized"
    raw["problem"]["costs"]["latency"] = "stopwatch_ms"
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(raw))
    done = CliRunner().invoke(cli, ["run", str(file), "--out", str(tmp_path / "run")])
    assert done.exit_code == 1, done.output
    assert "misses latency <= 4.2 by 19.0%" in done.output
    assert "FAIL" in done.output
    shown = CliRunner().invoke(cli, ["show", str(tmp_path / "run")])
    assert shown.exit_code == 0 and "FAIL" in shown.output


def test_a_limit_relative_to_measured_networks_is_refused(tmp_path: Path) -> None:
    class Slow(Stopwatch):
        noisy: ClassVar[bool] = True

    raw = timed("<= 0.5 * largest")
    raw["problem"]["costs"]["latency"] = Slow
    with pytest.raises(ConfigurationError, match="stopwatch_ms is measured; write the limit in ms"):
        automl_nas.search(raw, out=tmp_path / "run")


# --- baselines of equal cost -----------------------------------------------------------------------------------------


def test_an_equal_baseline_costs_the_same_and_is_another_network(tmp_path: Path) -> None:
    """By brute force over the eight networks: one of those of the same number of convolutions."""
    problem = {"objectives": {"params": "maximize"}, "constraints": {"flops": "<= 0.8 * largest"}, "costs": ["flops"]}
    problem["costs"] = ["flops", "params"]
    result = automl_nas.search(short(problem=problem, final=final(baselines=["equal", "equal"])), out=tmp_path / "run")
    delivered, *equal = result.data["final"]["networks"]
    assert [network["role"] for network in equal] == ["equal", "equal"]
    same = [
        a.to_dict()
        for a in enumerate_all(sized().decisions)
        if list(a.values()).count("conv") == convolutions(delivered)
    ]
    for network in equal:
        assert network["costs"]["flops"] == delivered["costs"]["flops"]
        assert network["architecture"] != delivered["architecture"] and network["architecture"] in same


def test_an_equal_baseline_without_a_table_is_walked_to() -> None:
    """A cost that does not add up over decisions: the square of a sum."""
    from automl_nas.evaluation.costs.model import CostModel
    from automl_nas.evaluation.costs.tabulated import TabulatedCost
    from automl_nas.run.final.baselines import equal_cost
    from automl_nas.strategy.problem import Problem
    from automl_nas.testing import ToySpace

    class Square(CostModel):
        metric: ClassVar[str] = "square"
        unit: ClassVar[str] = "1"

        def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
            return {"": float(sum(int(str(value)) for value in architecture.values())) ** 2}

    space = ToySpace(blocks=12, options=4)
    problem = Problem({"accuracy": "maximize"}, (), {"square": TabulatedCost(Square(), space)})
    largest = Architecture(dict.fromkeys(space.decisions, 3))
    low = Architecture({name: int(place < 4) for place, name in enumerate(space.decisions)})
    for architecture in (low, largest.replace(dict.fromkeys([*space.decisions][:3], 2))):
        other = equal_cost(space, problem, architecture, 0.05, seed=1)
        assert other is not None and other != architecture
        assert abs(Square().estimate(other) / Square().estimate(architecture) - 1) <= 0.05
    # Only one network has the largest cost, and the next one is 5.5 % cheaper.
    assert equal_cost(space, problem, largest, 0.05, seed=1) is None


# --- the task of the last stage --------------------------------------------------------------------------------------


def test_the_last_stage_may_augment_otherwise(tmp_path: Path) -> None:
    """It is trained on other pictures and tested on the same ones."""
    plain = automl_nas.search(short(final=final()), out=tmp_path / "plain")
    other = automl_nas.search(short(final=final(task={"augment": "none"})), out=tmp_path / "other")
    assert other.plan.final_task is not other.plan.task
    assert other.data["architecture"] == plain.data["architecture"]
    assert other.metrics != plain.metrics
    direct = short(final=final())
    direct["task"] = {**direct["task"], "augment": "none"}
    assert automl_nas.search(direct, out=tmp_path / "direct").metrics == other.metrics
    described = json.loads((tmp_path / "other" / "export" / "architecture.json").read_text())
    assert described["description"]["task"]["augment"] == "none"
    # The recorded configuration resolves to itself.
    recorded = other.plan.config
    assert make_plan(recorded, complete_manager().registry, other.plan.components.objects).config == recorded


@pytest.mark.parametrize("change", [{"test_fraction": 0.3}, {"search_fraction": 0.3}])
def test_a_final_task_with_other_splits_is_refused(change: dict[str, float], tmp_path: Path) -> None:
    """Images that the search was trained on would be in the test split."""
    with pytest.raises(ConfigurationError, match=r"final.task: must differ .* the number of images in"):
        automl_nas.search(short(final=final(task=change)), out=tmp_path / "run")


def test_a_final_space_with_other_decisions_names_the_first(tmp_path: Path) -> None:
    def deeper() -> ModuleSpace:
        return ModuleSpace(
            lambda: nn.Sequential(nn.Conv2d(1, 4, 1), block(4), nn.Flatten(), nn.Linear(256, 10)), input_shape=(1, 8, 8)
        )

    with pytest.raises(ConfigurationError, match=r"same decisions.*; only the search space has"):
        automl_nas.search(short(final=final(space={"name": deeper})), out=tmp_path / "run")


def test_the_largest_network_without_a_table_is_wandered_to() -> None:
    """A cost that does not add up: brute force over 4^5 networks gives the most expensive feasible one."""
    from automl_nas.evaluation.costs.model import CostModel
    from automl_nas.evaluation.costs.tabulated import TabulatedCost
    from automl_nas.run.final.baselines import largest_feasible
    from automl_nas.strategy.problem import Problem, parse_constraint
    from automl_nas.testing import ToySpace

    class Product(CostModel):
        metric: ClassVar[str] = "product"
        unit: ClassVar[str] = "1"

        def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
            return {"": float(math.prod(1 + int(str(value)) for value in architecture.values()))}

    space = ToySpace(blocks=5, options=4)
    problem = Problem(
        {"accuracy": "maximize"},
        [parse_constraint("product", "<= 150")],
        {"product": TabulatedCost(Product(), space)},
    )
    best = max(Product().estimate(a) for a in enumerate_all(space.decisions) if problem.feasible(a))
    architecture = largest_feasible(space, problem, seed=0)
    assert architecture is not None
    assert Product().estimate(architecture) == best == 144


# --- networks that diverge -------------------------------------------------------------------------------------------


class Explode(nn.Module):
    """Multiplies by 1.5 with fresh weights, and overflows after a step of training in either direction."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1e-4))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.cosh(1e4 * self.scale)


def fragile() -> ModuleSpace:
    """Three choices, of which one option cannot be trained."""

    def network() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            *(OneOf({"conv": nn.Conv2d(4, 4, 3, padding=1), "explode": Explode()}) for _ in range(3)),
            nn.Flatten(),
            nn.Linear(256, 10),
        )

    return ModuleSpace(network, input_shape=(1, 8, 8))


def test_a_baseline_that_diverges_is_left_out_of_the_comparison(tmp_path: Path) -> None:
    raw = short(space={"name": fragile}, final=final(baselines=["random"] * 4))
    raw["stages"][0]["budget"]["trials"] = 8
    result = automl_nas.search(raw, out=tmp_path / "run")
    delivered, *others = result.data["final"]["networks"]
    assert set(delivered["architecture"].values()) == {"conv"} and "test" in delivered
    for network in others:
        explodes = "explode" in network["architecture"].values()
        assert ("failed" in network) == explodes
        assert ("test" in network) == (not explodes)
    failed = [network for network in others if "failed" in network]
    assert failed and "the training loss became" in failed[0]["failed"]
    assert len(result.data["final"]["comparison"]) == 4 - len(failed)
    assert any("diverged" in line for line in summary(tmp_path / "run", result.data))
    report = result.final
    assert report is not None and json.dumps(report.to_json()) == json.dumps(result.data["final"])
    assert [network.failed is not None for network in report.networks] == ["failed" in n for n in (delivered, *others)]


def test_a_run_whose_network_diverges_fails(tmp_path: Path) -> None:
    raw = short(space={"name": fragile}, final=final())
    raw["problem"]["objectives"] = {"params": "minimize"}
    with pytest.raises(DivergedError, match="the training loss became"):
        automl_nas.search(raw, out=tmp_path / "run")
