"""The space and the networks of NAS-Bench-201, against the published table and the published descriptions."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.evaluation import CostTable
from automl_nas.space import Architecture, SupernetSpace
from automl_nas.streams import stream
from automl_nas.testing import SupernetContract
from automl_nas_benchmarks.spaces.nasbench201 import OPERATIONS, NASBench201
from automl_nas_benchmarks.tables.packaged import load_table
from automl_nas_costs.models import Flops, Params


class TestContract(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return NASBench201(num_classes=3, input_shape=(3, 8, 8), channels=4, cells=1)

    def architectures(self, space: object) -> list[Architecture]:
        # Representatives, and a cell without any way from input to output. Others equal theirs only after their weights
        # have been exchanged, which `test_nasbench201_equal_cells_compute_the_same` does.
        assert isinstance(space, NASBench201)
        drawn = [space.canonical(space.sample(stream(0, "cells", number))) for number in range(3)]
        return [*drawn, space.canonical(space.architecture("000000"))]


@pytest.mark.process
def test_nasbench201_imports_no_torch() -> None:
    code = (
        "import sys; from automl_nas_benchmarks.spaces.nasbench201 import NASBench201; space = NASBench201(); "
        "space.canonical(space.architecture('421211')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nasbench201_codes() -> None:
    space = NASBench201()
    architecture = space.architecture("421211")
    assert dict(architecture) == {
        "0>1": "avg_pool_3x3",
        "0>2": "nor_conv_1x1",
        "1>2": "skip_connect",
        "0>3": "nor_conv_1x1",
        "1>3": "skip_connect",
        "2>3": "skip_connect",
    }
    text = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert space.code(architecture) == "421211"
    assert space.from_string(text) == architecture
    assert space.to_string(architecture) == text
    assert space.size == 15_625


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("42121", "have 6 digits, not 5"),
        ("421215", r"the code '421215' has the unknown digit '5'.*4 \(avg_pool_3x3\)"),
        ("", "not 0"),
    ],
)
def test_nasbench201_refuses_a_malformed_code(code: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        NASBench201().architecture(code)


def test_nasbench201_refuses_a_number_as_code() -> None:
    with pytest.raises(SpaceError, match=r"leading zeros count.*'12'"):
        NASBench201().architecture(12)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "421211", "|nor_conv_3x3~0|+|none~0|none~1|", "|conv~0|+|none~0|none~1|+|none~0|"]
)
def test_nasbench201_refuses_a_malformed_cell(text: str) -> None:
    with pytest.raises(SpaceError, match="not a cell of NAS-Bench-201"):
        NASBench201().from_string(text)


def test_nasbench201_refuses_architectures_of_other_spaces() -> None:
    with pytest.raises(SpaceError, match="no decision 'layer_1'"):
        NASBench201().code(Architecture({"layer_1": "identity"}))
    with pytest.raises(SpaceError, match="did you mean 'nor_conv_3x3'"):
        NASBench201().code(NASBench201().architecture("000000").replace({"2>3": "nor_conv_3x"}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 0}, "channels must be at least 1"),
        ({"cells": 0}, "cells must be at least 1"),
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"input_shape": (3, 30, 32)}, "multiples of 4 .*, not 30x32"),
    ],
)
def test_nasbench201_settings_are_checked(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        NASBench201(**settings)  # type: ignore[arg-type]


def topology(code: str) -> str:
    """Return the text by which the benchmark tells cells apart (Dong and Yang 2020, section 2.1).

    A node is its terms, sorted: ``#`` for nothing, the source itself for a skip, or an operation on the source.
    """
    nodes = ["0"]
    digits = iter(code)
    for node in (1, 2, 3):
        terms = []
        for source in range(node):
            operation = OPERATIONS[int(next(digits))]
            if operation == "none" or nodes[source] == "#":
                terms.append("#")
            elif operation == "skip_connect":
                terms.append(nodes[source])
            else:
                terms.append(f"({nodes[source]})@{operation}")
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def test_nasbench201_canonical_is_the_partition_of_the_benchmark() -> None:
    space = NASBench201()
    classes: dict[str, set[str]] = {}
    for code in load_table("nasbench201").codes:
        classes.setdefault(topology(code), set()).add(space.code(space.canonical(space.architecture(code))))
    assert len(classes) == 6_466  # as the paper says
    assert all(len(representatives) == 1 for representatives in classes.values())
    assert len(set.union(*classes.values())) == 6_466


def costs(model: type[Flops] | type[Params]) -> NDArray[Any]:
    """Return a cost of every row of the table: from a sum over decisions, tested on a few networks, which are built."""
    space = NASBench201()
    rows = [space.architecture(code) for code in load_table("nasbench201").codes]
    table = CostTable.build(model(space), space, checks=4)
    return table.estimates(table.encode(rows))


def test_nasbench201_parameters_are_those_of_the_table() -> None:
    published = load_table("nasbench201").columns["cifar10_mparams"].values
    assert np.array_equal(np.round(published * 1e6), costs(Params))


def test_nasbench201_flops_differ_from_the_table_by_pooling() -> None:
    table = load_table("nasbench201")
    # The table counts what we do not: for each convolution of a cell 3 for each number it writes (2 batch
    # normalisation, 1 ReLU), for each pooling 9, and a constant for stem, reductions and head.
    written = 5 * (16 * 32 * 32 + 32 * 16 * 16 + 64 * 8 * 8)
    convolutions, pools = (np.array([sum(map(code.count, digits)) for code in table.codes]) for digits in ("23", "4"))
    uncounted = 160_832 + 3 * written * convolutions + 9 * written * pools
    assert np.array_equal(np.round(table.columns["cifar10_mflops"].values * 1e6), costs(Flops) + uncounted)


def test_nasbench201_published_numbers_of_the_first_cell() -> None:
    space = NASBench201()
    # "avg_pool~0 | conv1~0, skip~1 | conv1~0, skip~1, skip~2": 0.129306 M parameters, 17.958592 MFLOPs in the table.
    architecture = space.architecture("421211")
    assert Params(space).estimate(architecture) == 129_306
    assert Flops(space).estimate(architecture) == 17_958_592 - 160_832 - 2 * 430_080 - 1_290_240


def test_nasbench201_network_is_that_of_the_paper() -> None:
    """Computed by hand from the network's own weights."""
    space = NASBench201(channels=4, cells=2, input_shape=(3, 8, 8))
    network = space.build(space.architecture("342310")).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    parts: Any = dict(network.named_children())
    with torch.no_grad():
        h = parts["stem"](x)
        for stage in (1, 2, 3):
            if stage > 1:
                block = parts[f"reduction{stage - 1}"]
                relu1, conv1, norm1, relu2, conv2, norm2 = block.body
                assert isinstance(relu1, nn.ReLU) and isinstance(relu2, nn.ReLU)
                assert (conv1.stride, conv2.stride, conv1.kernel_size) == ((2, 2), (1, 1), (3, 3))
                pooled = nn.functional.avg_pool2d(h, 2)
                short = nn.functional.conv2d(pooled, block.shortcut[1].weight)
                h = short + norm2(conv2(norm1(conv1(h.relu())).relu()))
            for cell in parts[f"stage{stage}"]:
                conv3, _, conv1x1, conv3b, *_ = cell.edges
                first = conv3[2](conv3[1](h.relu()))
                second = nn.functional.avg_pool2d(h, 3, 1, 1, count_include_pad=False)
                second = second + conv1x1[2](conv1x1[1](first.relu()))
                # Edge 0>3 is a 3x3 convolution, 1>3 a skip, 2>3 nothing.
                h = conv3b[2](conv3b[1](h.relu())) + first + 0 * second
        h = parts["last"][0](h).relu().mean((2, 3))
        # Sums in another order round differently, by parts in 10^7 of numbers of the order of 10.
        torch.testing.assert_close(network(x), parts["linear"](h), rtol=1e-4, atol=1e-5)


def test_nasbench201_affine_concerns_the_cells() -> None:
    space = NASBench201(affine=False)
    full, bare = (Params(each).estimate(space.architecture("333333")) for each in (NASBench201(), space))
    # 6 edges in 5 cells of 16, 32 and 64 channels: two numbers for each channel.
    assert full - bare == 6 * 5 * 2 * (16 + 32 + 64)


def test_nasbench201_zero_operation_has_no_gradient() -> None:
    space = NASBench201(channels=4, cells=1, input_shape=(3, 8, 8))
    supernet: Any = space.build_supernet()
    # Node 1 is a convolution whose output goes nowhere.
    supernet(torch.randn(2, 3, 8, 8), space.architecture("300300")).sum().backward()
    edges = supernet.get_submodule("network.stage1.cell1").edges
    dead, live = edges[0].get_submodule("nor_conv_3x3"), edges[3].get_submodule("nor_conv_3x3")
    assert all(parameter.grad is None for parameter in dead.parameters())
    assert all(parameter.grad is not None for parameter in live.parameters())


@pytest.mark.parametrize(("one", "other"), [("300010", "000300"), ("300110", "100310")])
def test_nasbench201_equal_cells_compute_the_same(one: str, other: str) -> None:
    """A convolution behind a skip is that convolution, also beside another skip, once its weights stand elsewhere."""
    space = NASBench201(channels=4, cells=1, input_shape=(3, 8, 8))
    assert space.canonical(space.architecture(one)) == space.canonical(space.architecture(other))
    first, second = (space.build(space.architecture(code)).eval() for code in (one, other))
    # The convolution is on edge 0>1 in one of them, on 0>3 in the other.
    moved = {name.replace("edges.0.", "edges.3."): value for name, value in first.state_dict().items()}
    second.load_state_dict(moved)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(first(x), second(x))
