"""Latency from blocks, against networks whose blocks are listed by hand; and tables measured elsewhere."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from automl_nas.errors import ConfigurationError, DataError, SpaceError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.costs.table import CostTable
from automl_nas.space.modules.choice import OneOf
from automl_nas.space.modules.space import ModuleSpace
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream
from automl_nas.testing.costs import CostModelContract
from automl_nas_costs.blocks.structure import block_structure
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.prediction.device_table import DeviceTable
from automl_nas_costs.prediction.latency_table import BlockTable, Correction, LatencyTable
from automl_nas_costs.prediction.samples import Sample


def choice() -> OneOf:
    return OneOf({"conv": nn.Conv2d(4, 4, 3, padding=1), "wide": nn.Conv2d(4, 4, 5, padding=2), "skip": nn.Identity()})


def chain() -> nn.Module:
    """Two equal choices, then one behind a pooling; the rest is fixed."""
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    body = nn.Sequential(choice(), choice(), nn.MaxPool2d(2), choice())
    return nn.Sequential(stem, body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def make_space() -> ModuleSpace:
    return ModuleSpace(chain, input_shape=(3, 8, 8))


SPACE = make_space()
QUICK = LatencyOptions(rounds=5, burst_ms=0.0, warmup_ms=0.0, round_ms=0.0)


def test_equal_blocks_at_equal_shapes_are_one() -> None:
    structure = block_structure(SPACE)
    # By hand: three options at 8 x 8 (in two places) and at 4 x 4, the stem, the pooling, what follows the choices.
    assert len(structure.blocks) == 3 + 3 + 3
    assert [part.paths for part in structure.parts] == [("0",), ("1.0",), ("1.1",), ("1.2",), ("1.3",), ("2", "3", "4")]
    first, second = structure.uses[1], structure.uses[2]
    assert first == second != structure.uses[4]


def test_a_block_is_the_module_of_the_network() -> None:
    structure = block_structure(SPACE)
    for key in structure.blocks:
        block = structure.block(SPACE, key)
        assert block.module(torch.zeros(1, *block.shapes[0])).shape[0] == 1
        assert not block.module.training


class Mixed(nn.Module):
    """A width decided outside of the module that it shapes: the same module, and another input."""

    def __init__(self) -> None:
        super().__init__()
        self.size = OneOf({"same": nn.Identity(), "pooled": nn.AvgPool2d(2)})
        self.work = OneOf({"relu": nn.ReLU(), "conv": nn.Conv2d(3, 3, 1)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.work(self.size(x)).mean((2, 3))


def test_what_changes_the_input_shapes_the_block() -> None:
    structure = block_structure(ModuleSpace(Mixed, input_shape=(3, 8, 8)))
    # Both decisions shape the second module, so the network cannot be split: it is one block, in four forms.
    assert [(part.name, part.decisions) for part in structure.parts] == [("", ("size", "work"))]
    assert len(structure.blocks) == 4


def test_the_sum_and_its_correction() -> None:
    structure = block_structure(SPACE)
    blocks = {key: float(place + 1) for place, key in enumerate(structure.blocks)}
    drawn = [SPACE.sample(stream(0, "test", number)) for number in range(8)]
    plain = BlockTable(structure, blocks)
    for architecture in drawn:
        assert plain.estimate(architecture) == sum(blocks[key] for _, key in structure.keys(architecture))
    table = BlockTable(structure, blocks, [Sample(item, 2.0 + 0.5 * plain.raw(item)) for item in drawn])
    # Eight points on a line, in double precision.
    assert table.correction.constant == pytest.approx(2.0, abs=1e-9)
    assert table.correction.factor == pytest.approx(0.5, abs=1e-9)
    assert table.accuracy is not None
    assert table.accuracy.within_10 == 1
    with pytest.raises(SpaceError, match="lacks a decision"):
        table.estimate(drawn[0].__class__({}))


def test_a_correction_never_turns_the_order_around() -> None:
    sums, values = np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])
    assert Correction.fit(sums, values).factor > 0
    assert Correction.fit(np.ones(3), 2 * np.ones(3)) == Correction(0.0, 2.0)


class TestLatencyTableContract(CostModelContract):
    repeatable = False
    other_dtype = False  # ONNX Runtime has no convolution of float64

    def make_space(self) -> SearchSpace:
        return SPACE

    def make(self, space: SearchSpace) -> CostModel:
        return LatencyTable(space, calibration=4, options=QUICK)


def test_a_table_is_measured_once_and_kept() -> None:
    model = LatencyTable(SPACE, calibration=5, options=QUICK)
    drawn = [SPACE.sample(stream(0, "test", number)) for number in range(6)]
    values = [model.estimate(architecture) for architecture in drawn]
    state = json.loads(json.dumps(model.state_dict()))
    again = LatencyTable(make_space(), calibration=5, options=QUICK)
    again.load_state_dict(state)
    assert [again.estimate(architecture) for architecture in drawn] == values
    # It is a sum over decisions, so it can also be used for soft selections and counting.
    assert CostTable.build(again, SPACE).estimate(drawn[0]) == pytest.approx(values[0], rel=1e-9)
    (measured,) = model.measure([SPACE.build(drawn[0])], SPACE.input_shape)
    assert 0 < measured.low <= measured.value <= measured.high


def test_choices_in_a_list_are_blocks_whatever_the_forward_around_them() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(OneOf({"a": nn.Linear(4, 4), "b": nn.Identity()}) for _ in range(13))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for part in self.parts:
                x = part(x)
            return x

    assert len(block_structure(ModuleSpace(Whole, input_shape=(4,))).blocks) == 2


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.body = nn.Sequential(*(OneOf({"linear": nn.Linear(4, 4), "skip": nn.Identity()}) for _ in range(2)))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.body(self.embed(tokens)).mean(1)


@pytest.mark.parametrize(("network", "shape"), [(Tokens, (5,)), (lambda: chain().double(), (3, 8, 8))])
def test_each_block_of_a_chain_runs_once(network: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """Also if the network refuses the first inputs: floats for tokens, which its first layer receives then."""
    structure = block_structure(ModuleSpace(network, input_shape=shape))
    assert {len(keys) for uses in structure.uses for keys in uses.values()} == {1}


ROWS = {name: {"conv": "c3", "wide": "c5", "skip": None} for name in SPACE.decisions}


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


class TestDeviceTableContract(CostModelContract):
    def make_space(self) -> SearchSpace:
        return SPACE

    def make(self, space: SearchSpace) -> CostModel:
        path = write(self.folder() / "a.csv", "block,mean_ms\nfirst,0.25\nc3,1.5\nc5,2.5\n")
        return DeviceTable(space, path=path, rows=dict(ROWS), fixed=("first",))


def test_a_device_table_is_added_up(tmp_path: Path) -> None:
    listed = write(tmp_path / "a.csv.gz", "block,count,mean_ms\nfirst,3,0.25\nc3,5,1.5\nc5,5,2.5\n")
    mapped = write(tmp_path / "a.json", '{"first": 0.25, "c3": 1.5, "c5": 2.5}')
    names = list(SPACE.decisions)
    architecture = SPACE.validate(dict(zip(names, ("conv", "wide", "skip"), strict=True)))
    for path in (listed, mapped):
        model = DeviceTable(SPACE, path=path, rows=dict(ROWS), fixed=("first",))
        assert model.estimate(architecture) == 0.25 + 1.5 + 2.5
        assert CostTable.build(model, SPACE).smallest[1] == 0.25


def test_an_operation_without_a_row_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "block,mean_ms\nc3,1.5\n")
    name = next(iter(SPACE.decisions))
    with pytest.raises(DataError, match=f"no operation 'c5'.*option 'wide' of the layer '{name}'"):
        DeviceTable(SPACE, path=path, rows=dict(ROWS))
    with pytest.raises(DataError, match="every network"):
        DeviceTable(SPACE, path=path, rows=dict(ROWS), fixed=("stem",))
    with pytest.raises(ConfigurationError, match="the option 'skip' of '"):
        DeviceTable(SPACE, path=path, rows={**ROWS, name: {"conv": "c3", "wide": "c3"}})
    with pytest.raises(ConfigurationError, match="has no column 'mean'"):
        DeviceTable(SPACE, path=path, rows=dict(ROWS), value="mean")
    with pytest.raises(DataError, match="has the value '-1'"):
        DeviceTable(SPACE, path=write(tmp_path / "b.csv", "block,mean_ms\nc3,-1\n"), rows=dict(ROWS))


PIXEL = Path(__file__).parents[4] / "shared" / "data" / "proxylessnas_pixel_latency.csv.gz"


@pytest.mark.skipif(not PIXEL.exists(), reason="ProxylessNAS's table of a Pixel phone is not beside the repository")
def test_the_published_table_of_a_phone() -> None:
    """Two layers of ProxylessNAS's space with the first and the last layer, against rows added up by hand."""

    def named(shape: str, stride: str) -> dict[str, str | None]:
        return {
            f"mb{expand}_k{kernel}": f"expanded_conv-input:{shape}-expand:{expand}-kernel:{kernel}-{stride}"
            for expand in (3, 6)
            for kernel in (3, 5, 7)
        }

    def option(stride: int) -> OneOf:
        return OneOf({f"mb{e}_k{k}": nn.Conv2d(4, 4, k, stride, k // 2) for e in (3, 6) for k in (3, 5, 7)})

    space = ModuleSpace(lambda: nn.Sequential(option(2), option(1)), input_shape=(4, 8, 8))
    first, second = space.decisions
    model = DeviceTable(
        space,
        path=PIXEL,
        rows={
            first: named("112x112x16-output:56x56x24", "stride:2-idskip:0"),
            second: named("56x56x24-output:56x56x24", "stride:1-idskip:1"),
        },
        fixed=("Conv-input:224x224x3-output:112x112x32", "Logits-input:7x7x1280-output:1000"),
    )
    architecture = space.validate({first: "mb6_k5", second: "mb3_k7"})
    assert model.estimate(architecture) == pytest.approx(4.3970379 + 0.93482613 + 13.576893 + 8.712114, rel=1e-12)
    table = CostTable.build(model, space)
    cheapest, least = table.smallest
    assert set(cheapest.values()) == {"mb3_k3"}
    assert least == pytest.approx(4.3970379 + 0.93482613 + 5.6088205 + 4.1324482, rel=1e-9)
