"""The space and the networks of NAS-Bench-Macro, against the published table and the published description."""

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
from automl_nas_benchmarks.spaces.nasbench_macro import LAYERS, OPERATIONS, NASBenchMacro
from automl_nas_benchmarks.tables.packaged import load_table
from automl_nas_costs.models import Flops, Params

SMALL: dict[str, Any] = {"num_classes": 3, "input_shape": (3, 8, 8), "channels": 4, "last_channels": 8}


class TestContract(SupernetContract):
    def make_space(self) -> SupernetSpace:
        return NASBenchMacro(**SMALL)

    def architectures(self, space: object) -> list[Architecture]:
        # Representatives, among them the shallowest network. Others equal theirs only after their weights have been
        # exchanged, which `test_nasbench_macro_position_of_an_identity_is_irrelevant` does.
        assert isinstance(space, NASBenchMacro)
        drawn = [space.canonical(space.sample(stream(0, "layers", number))) for number in range(3)]
        return [*drawn, space.architecture("00000000")]


@pytest.mark.process
def test_nasbench_macro_imports_no_torch() -> None:
    code = (
        "import sys; from automl_nas_benchmarks.spaces.nasbench_macro import NASBenchMacro; space = NASBenchMacro(); "
        "space.canonical(space.architecture('22212220')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nasbench_macro_codes() -> None:
    space = NASBenchMacro()
    best = space.architecture("22212220")
    assert [best[name] for name in LAYERS] == [OPERATIONS[digit] for digit in (2, 2, 2, 1, 2, 2, 2, 0)]
    assert space.code(best) == "22212220"
    assert space.size == 6_561
    assert space.parametric(best) == 7
    with pytest.raises(SpaceError, match="have 8 digits, not 7"):
        space.architecture("2221222")
    with pytest.raises(SpaceError, match=r"the code '22212223' has the unknown digit '3'.*0 \(identity\)"):
        space.architecture("22212223")


@pytest.mark.parametrize("setting", ["num_classes", "channels", "last_channels"])
def test_nasbench_macro_settings_are_checked(setting: str) -> None:
    with pytest.raises(SpaceError, match=f"{setting} must be at least 1, not 0"):
        NASBenchMacro(**{setting: 0})  # type: ignore[arg-type]


def test_nasbench_macro_canonical_is_the_partition_of_the_table() -> None:
    """The table gives networks the same three accuracies exactly where they are the same network."""
    space, table = NASBenchMacro(), load_table("nasbench_macro")
    columns = [table.columns[name].values for name in ("test_1", "test_2", "test_3", "params", "flops")]
    groups: dict[tuple[float, ...], list[str]] = {}
    for row, code in enumerate(table.codes):
        groups.setdefault(tuple(column[row] for column in columns), []).append(code)
    assert len(groups) == 3_969 == 3 * 3 * (3 * 7) * (3 * 7)
    for codes in groups.values():
        canonical_codes = {space.code(space.canonical(space.architecture(code))) for code in codes}
        assert canonical_codes == {min(codes)}


def test_nasbench_macro_position_of_an_identity_is_irrelevant() -> None:
    space = NASBenchMacro(**SMALL)
    one, other = space.architecture("10020110"), space.architecture("10002101")
    assert space.canonical(one) == space.canonical(other) == other
    first, second = (space.build(architecture).eval() for architecture in (one, other))
    moved = {}
    for name, value in first.state_dict().items():
        for old, new in (("layer_4.", "layer_5."), ("layer_7.", "layer_8.")):
            if name.startswith(old):
                name = name.replace(old, new)
        moved[name] = value
    second.load_state_dict(moved)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize(("model", "column"), [(Flops, "flops"), (Params, "params")])
def test_nasbench_macro_costs_are_those_of_the_table(model: type[Flops] | type[Params], column: str) -> None:
    """All 6,561 rows, from a sum over decisions that is tested on a few networks, which are built."""
    space, table = NASBenchMacro(), load_table("nasbench_macro")
    rows = [space.architecture(code) for code in table.codes]
    costs = CostTable.build(model(space), space, checks=8)
    estimates: NDArray[Any] = costs.estimates(costs.encode(rows))
    assert np.array_equal(estimates, table.columns[column].values)


def test_nasbench_macro_half_width_and_small_images() -> None:
    space = NASBenchMacro(input_shape=(3, 16, 16), channels=16, last_channels=640, affine=False)
    # Stem 3 x 3 x 3 x 16 over 256 pixels; three 1x1 convolutions with stride 2; 128 x 640 over 4 pixels; linear.
    convolutions = 432 * 256 + 16 * 32 * 64 + 32 * 64 * 16 + 64 * 128 * 4 + 128 * 640 * 4
    assert Flops(space).estimate(space.architecture("00000000")) == convolutions + 640 * 10
    weights = 432 + 16 * 32 + 32 * 64 + 64 * 128 + 128 * 640 + 640 * 10 + 10
    assert Params(space).estimate(space.architecture("00000000")) == weights


@pytest.mark.parametrize("affine", [False, True])
def test_nasbench_macro_small_blocks_are_parts_of_large_ones(affine: bool) -> None:
    """The small block by hand: the first half of the channels, and of the 5x5 kernels the inner 3x3."""
    space = NASBenchMacro(**SMALL, affine=affine)
    supernet: Any = space.build_supernet().train()
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    hidden = supernet.network.stem(x)
    for number, (small, stride) in enumerate(((True, 2), (True, 1), (False, 2), (True, 1)), start=1):
        layer = supernet.network.get_submodule(f"layer_{number}")
        if not small:
            hidden = layer.k5_e6(hidden)
            continue
        wide, _, _, deep, _, _, narrow, _ = layer.k5_e6.body
        norms = [layer.k3_e3.body[place] for place in (1, 4, 7)]
        mid = 3 * hidden.shape[1]
        inside = norms[0](nn.functional.conv2d(hidden, wide.weight[:mid])).relu()
        kernels = deep.weight[:mid, :, 1:4, 1:4]
        inside = norms[1](nn.functional.conv2d(inside, kernels, None, stride, 1, 1, mid)).relu()
        inside = norms[2](nn.functional.conv2d(inside, narrow.weight[:, :mid]))
        hidden = inside + hidden if stride == 1 else inside
    for name in ("layer_5", "layer_6", "layer_7", "layer_8"):
        hidden = supernet.network.get_submodule(name).identity(hidden)
    for name in ("last", "pool", "flatten", "linear"):
        hidden = supernet.network.get_submodule(name)(hidden)
    assert torch.equal(supernet(x, space.architecture("11210000")), hidden)


def test_nasbench_macro_blocks_are_separate_if_the_setting_says_so() -> None:
    shared, separate = (NASBenchMacro(**SMALL, shared=shared).build_supernet() for shared in (True, False))
    # Three convolutions of each small block of the separate one.
    lacking = {f"network.{name}.k3_e3.body.{place}.weight" for name in LAYERS for place in (0, 3, 6)}
    assert separate.state_dict().keys() - shared.state_dict().keys() == lacking
    space = NASBenchMacro(**SMALL)
    networks = []
    for each in (space, NASBenchMacro(**SMALL, shared=False)):
        torch.manual_seed(0)
        networks.append(each.build(space.architecture("12010200")).state_dict())
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(value, networks[1][name]) for name, value in networks[0].items())


def test_nasbench_macro_network_is_that_of_the_paper() -> None:
    """Computed by hand from the network's own weights."""
    space = NASBenchMacro(**SMALL)
    network = space.build(space.architecture("12010200")).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    parts: Any = dict(network.named_children())
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    def block(h: torch.Tensor, layer: Any, kernel: int, expansion: int, stride: int) -> torch.Tensor:
        wide, norm1, _, deep, norm2, _, narrow, norm3 = layer.body
        assert wide.out_channels == expansion * wide.in_channels == deep.groups == narrow.in_channels
        assert (deep.kernel_size, deep.stride) == ((kernel, kernel), (stride, stride))
        inside: torch.Tensor = norm3(narrow(norm2(deep(norm1(wide(h)).relu())).relu()))
        return inside + h if stride == 1 else inside

    with torch.no_grad():
        h = parts["stem"][1](parts["stem"][0](x)).relu()
        h = block(h, parts["layer_1"], 3, 3, 2)
        h = block(h, parts["layer_2"], 5, 6, 1)
        convolution, norm = parts["layer_3"]
        h = norm(nn.functional.conv2d(h, convolution.weight, stride=2))
        h = block(h, parts["layer_4"], 3, 3, 1)
        # Layer 5 is an identity, and so are 7 and 8.
        h = block(h, parts["layer_6"], 5, 6, 2)
        h = parts["last"][1](parts["last"][0](h)).relu().mean((2, 3))
        assert torch.allclose(network(x), parts["linear"](h), rtol=1e-5, atol=1e-6)
