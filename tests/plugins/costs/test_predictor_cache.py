"""Networks that runs measured before they delivered one correct later tables and predictors, and nothing else."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from automl_nas.evaluation.costs.measured import MeasuredCost, Measurement
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.space.architecture import Architecture
from automl_nas.space.modules.choice import OneOf
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.space.space import SearchSpace
from automl_nas.testing.costs import CostModelContract
from automl_nas_costs.blocks.structure import block_structure
from automl_nas_costs.latency.model import LatencyMs
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.prediction.latency_table import BlockTable, LatencyTable
from automl_nas_costs.prediction.predicted_costs import LatencyPredictor
from automl_nas_costs.prediction.predictor_cache import LearnedNetworks
from automl_nas_costs.prediction.samples import MeasuredSamples, Sample, draw

QUICK = LatencyOptions(rounds=5, burst_ms=0.0, warmup_ms=0.0, round_ms=0.0)


def make_space(width: int = 4) -> ModuleSpace:
    def choice() -> OneOf:
        return OneOf({"conv": nn.Conv2d(width, width, 3, padding=1), "skip": nn.Identity()})

    def network() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, width, 1), *(choice() for _ in range(4)), nn.Flatten())

    return ModuleSpace(network, input_shape=(3, 8, 8))


SPACE = make_space()


def measured(value: float, control: float = 2.0) -> Measurement:
    return Measurement(value, 0.9 * value, 1.1 * value, details={"control": {"value": control, "drift": 0.0}})


def values(samples: Sequence[Sample]) -> dict[Architecture, float]:
    return {sample.architecture: sample.value for sample in samples}


def some(count: int, seed: int = 1) -> list[Architecture]:
    return draw(SPACE, count, seed)


def test_the_next_table_rests_on_what_was_learned_and_this_one_does_not(tmp_path: Path) -> None:
    folder = str(tmp_path)
    table = LatencyTable(SPACE, calibration=3, options=QUICK, learned=folder)
    networks = some(SPACE.size)
    estimates = [table.estimate(network) for network in networks]
    measurements = table.measure([SPACE.build(network) for network in networks], SPACE.input_shape)
    # The control's value is the session's own; another test is about its drift on a busy machine.
    still = [replace(m, details={"control": {**m.details["control"], "drift": 0.0}}) for m in measurements]
    table.learn(list(zip(networks, still, strict=True)))
    assert [table.estimate(network) for network in networks] == estimates
    assert "corrected by 3 networks of this session" in table.note()
    assert "learned" not in table.note()

    later = LatencyTable(make_space(), calibration=3, options=QUICK, learned=folder)
    corrected = [later.estimate(network) for network in networks]
    assert f"corrected by 3 networks of this session and {SPACE.size - 3} learned from earlier runs" in later.note()
    state = json.loads(json.dumps(later.state_dict()))
    samples = MeasuredSamples.from_rows(state, "networks", SPACE).samples
    assert len({sample.architecture for sample in samples}) == SPACE.size
    by_all = BlockTable(block_structure(SPACE), state["blocks"], samples)
    assert [by_all.estimate(network) for network in networks] == corrected
    by_three = BlockTable(block_structure(SPACE), state["blocks"], samples[:3])
    assert [by_three.estimate(network) for network in networks] != corrected
    # A resumed run uses the table of its beginning, also if other runs have learned networks since.
    table.learn([(networks[0], measured(1e6))])
    resumed = LatencyTable(make_space(), calibration=3, options=QUICK, learned=folder)
    resumed.load_state_dict(state)
    assert [resumed.estimate(network) for network in networks] == corrected
    assert resumed.note() == later.note()

    for other in (
        LatencyTable(SPACE, calibration=3, options=QUICK, learned=None),
        LatencyTable(SPACE, calibration=3, options=replace(QUICK, rounds=6), learned=folder),
        LatencyTable(make_space(width=6), calibration=3, options=QUICK, learned=folder),
    ):
        assert "learned" not in other.note()
    # Without calibration the sums are not corrected.
    assert "corrected" not in LatencyTable(SPACE, calibration=0, options=QUICK, learned=folder).note()


def test_networks_are_kept_relative_to_the_control_of_their_session(tmp_path: Path) -> None:
    networks = some(4)
    learned = LearnedNetworks(SPACE, QUICK, str(tmp_path))
    learned.keep([(networks[0], measured(3.0, control=2.0)), (networks[1], measured(5.0, control=2.0))])
    learned.keep([(networks[1], measured(8.0, control=4.0)), (networks[2], measured(1.0, control=1.0))])
    # By hand, on a machine whose control takes 6 ms: three times, one and a half times and six times as long.
    expected = {networks[0]: 9.0, networks[1]: 12.0, networks[2]: 6.0}
    assert values(LearnedNetworks(make_space(), QUICK, str(tmp_path)).samples(6.0)) == expected
    assert values(learned.samples(6.0, without={networks[0]})).keys() == {networks[1], networks[2]}
    assert LearnedNetworks(SPACE, QUICK, None).samples(6.0) == []
    # If it is unknown how networks are measured, they cannot be kept apart, so nothing is kept.
    unknown = LearnedNetworks(SPACE, None, str(tmp_path))
    unknown.keep([(networks[3], measured(1.0))])
    assert unknown.samples(6.0) == []


def test_networks_of_a_session_that_was_not_steady_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    networks = some(2)
    moved = replace(measured(3.0), details={"control": {"value": 2.0, "drift": 0.2}})
    with caplog.at_level(logging.INFO):
        learned = LearnedNetworks(SPACE, QUICK, str(tmp_path))
        learned.keep([(networks[0], measured(1.0)), (networks[1], moved)])
        assert values(learned.samples(2.0)) == {networks[0]: 1.0}
        assert "1 of 2 measured networks are not kept" in caplog.text
    paired = LearnedNetworks(SPACE, replace(QUICK, paired=True), str(tmp_path))
    paired.keep([(networks[1], moved)])
    assert values(paired.samples(2.0)) == {networks[1]: 3.0}


def test_what_cannot_be_kept_or_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    learned = LearnedNetworks(SPACE, QUICK, str(tmp_path))
    learned.keep([(some(1)[0], measured(3.0))])
    (file,) = tmp_path.rglob("*.json")
    file.write_text(file.read_text().replace('"conv"', '"wide"').replace('"skip"', '"wide"'))
    with caplog.at_level(logging.WARNING):
        assert learned.samples(1.0) == []
        assert "is left out" in caplog.text
        file.parent.rename(tmp_path / "elsewhere")
        file.parent.write_text("")  # a file where the folder would be
        learned.keep([(some(1)[0], measured(3.0))])
        assert "not kept for later runs" in caplog.text


def test_the_next_predictor_rests_on_it_too(tmp_path: Path) -> None:
    def predictor(learned: str | None) -> LatencyPredictor:
        watch = LatencyMs(SPACE, rounds=5, burst_ms=0.0, warmup_ms=0.0, round_ms=0.0, cache=None)
        return LatencyPredictor(SPACE, samples=10, latency=watch, model="additive", folds=2, learned=learned)

    first = predictor(str(tmp_path))
    networks = [network for network in some(SPACE.size) if network not in draw(SPACE, 10, 0)]
    assert len(networks) == SPACE.size - 10
    first.learn([(network, measured(7.0)) for network in networks])
    assert f"and {len(networks)} learned from earlier runs" in first.note()
    again = predictor(None)
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [again.estimate(network) for network in networks] == [first.estimate(network) for network in networks]
    assert "predicted from 10 networks of this session by" in predictor(None).note()


class Constant(MeasuredCost):
    """Every network takes a millisecond."""

    metric, unit, exported_suffix = "constant_ms", "ms", ".bin"

    def breakdown(self, architecture: Architecture) -> dict[str, float]:
        return {"": 1.0}

    def measure(self, networks: Sequence[nn.Module], input_shape: Sequence[int]) -> list[Measurement]:
        return [Measurement(1.0, 1.0, 1.0) for _ in networks]

    def measure_files(self, paths: Sequence[Path]) -> list[Measurement]:
        return [Measurement(1.0, 1.0, 1.0) for _ in paths]


class Sized(Constant):
    """A network takes a time that depends on its parameters."""

    def measure(self, networks: Sequence[nn.Module], input_shape: Sequence[int]) -> list[Measurement]:
        sizes = [1.0 + sum(p.numel() for p in network.parameters()) for network in networks]
        return [Measurement(size, size, size) for size in sizes]


class TestLatencyPredictorContract(CostModelContract):
    def make_space(self) -> SearchSpace:
        return SPACE

    def make(self, space: SearchSpace) -> CostModel:
        return LatencyPredictor(space, samples=10, latency=Sized(), model="additive", folds=2)


def test_a_measuring_cost_of_another_kind_keeps_nothing(tmp_path: Path) -> None:
    model = LatencyPredictor(SPACE, samples=10, latency=Constant(), model="additive", learned=str(tmp_path))
    model.learn([(some(1)[0], Measurement(1.0, 1.0, 1.0))])
    assert "learned" not in model.note()
    assert not list(tmp_path.iterdir())
