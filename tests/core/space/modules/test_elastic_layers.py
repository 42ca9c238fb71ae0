"""The elastic layers against torch's own functions on slices of their weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError
from automl_nas.space import (
    Architecture,
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticLinear,
    ModuleSpace,
    OneOf,
    Ordinal,
)


def make() -> nn.Module:
    return nn.Sequential(
        ElasticConv2d(3, [2, 4, 8], 3, padding=1, name="width"),
        ElasticBatchNorm2d(8),
        ElasticConv2d(8, 8, 3, padding=1, groups=8, bias=False),
        ElasticConv2d(8, 5, 1),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(20, 2),
    )


def test_widths_are_the_first_rows_and_columns() -> None:
    supernet = ModuleSpace(make, input_shape=(3, 6, 6)).build_supernet()
    first, norm, depthwise, last, *_, head = list(supernet.network)  # type: ignore[arg-type]
    x = torch.randn(4, 3, 6, 6)
    for width in (2, 4, 8):
        h = F.conv2d(x, first.weight[:width], first.bias[:width], padding=1)
        h = F.batch_norm(h, None, None, norm.weight[:width], norm.bias[:width], training=True)
        h = F.conv2d(h, depthwise.weight[:width], padding=1, groups=width)
        h = F.conv2d(h, last.weight[:, :width], last.bias)
        expected = head(F.adaptive_avg_pool2d(h, 2).flatten(1))
        assert torch.equal(supernet(x, {"width": width}), expected)


def test_running_statistics_beyond_the_width_do_not_move() -> None:
    supernet = ModuleSpace(make, input_shape=(3, 6, 6)).build_supernet()
    norm = supernet.get_submodule("network.1")
    assert isinstance(norm, nn.BatchNorm2d)
    supernet(torch.randn(4, 3, 6, 6), {"width": 4})
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert bool((norm.running_mean[:4] != 0).all())
    assert torch.equal(norm.running_mean[4:], torch.zeros(4))
    assert torch.equal(norm.running_var[4:], torch.ones(4))
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("momentum", [0.3, None])
def test_at_full_width_batch_norm_equals_that_of_torch(momentum: float | None) -> None:
    ours, theirs = ElasticBatchNorm2d(3, momentum=momentum), nn.BatchNorm2d(3, momentum=momentum)
    for _ in range(3):
        x = torch.randn(4, 3, 2, 2)
        assert torch.equal(ours(x), theirs(x))
    ours.eval()
    theirs.eval()
    assert torch.equal(ours(x), theirs(x))
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def test_without_running_statistics() -> None:
    layer = ElasticBatchNorm2d(6, affine=False, track_running_stats=False).eval()
    x = torch.randn(4, 2, 3, 3)
    assert torch.equal(layer(x), F.batch_norm(x, None, None, training=True))


def test_extracted_layers_are_plain_and_sliced() -> None:
    supernet = ModuleSpace(make, input_shape=(3, 6, 6)).build_supernet()
    network = supernet.extract({"width": 4})
    kinds = [type(module) for module in network]  # type: ignore[attr-defined]
    assert kinds[:4] == [nn.Conv2d, nn.BatchNorm2d, nn.Conv2d, nn.Conv2d]
    shapes = [tuple(parameter.shape) for parameter in network.parameters()]
    assert shapes[:6] == [(4, 3, 3, 3), (4,), (4,), (4,), (4, 1, 3, 3), (5, 4, 1, 1)]
    assert network[2].groups == 4  # type: ignore[index]


def test_fresh_layers_are_initialised_for_their_own_fan_in() -> None:
    """torch's default is U(-b, b), b = 1/sqrt(fan_in): after a width of 4 it is 1/2, after 1,024 it is 1/32."""

    def wide() -> nn.Module:
        convs = ElasticConv2d(3, [4, 1024], 1, name="width"), ElasticConv2d(1024, 256, 1)
        return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    space = ModuleSpace(wide, input_shape=(3, 2, 2))
    for width, bound in ((4, 1 / 2), (1024, 1 / 32)):
        weight = space.build(Architecture({"width": width}))[1].weight  # type: ignore[index]
        assert weight.shape == (256, width, 1, 1)
        # 1,024 uniform draws or more: that none comes within 5 % of the bound has probability below 0.95**1024 < 1e-22.
        assert 0.95 * bound < weight.abs().max() <= bound
    copied = space.build_supernet().extract({"width": 4})[1].weight  # type: ignore[index]
    assert copied.abs().max() <= 1 / 32


def test_initialisation_by_type_reaches_elastic_layers() -> None:
    def zeroed() -> nn.Module:
        module = make()
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.constant_(layer.weight, 7.0)
        return module

    network = ModuleSpace(zeroed, input_shape=(3, 6, 6)).build(Architecture({"width": 8}))
    assert bool((network[0].weight == 7).all())  # type: ignore[index]


def test_errors_name_the_first_module_that_does_not_follow() -> None:
    def rigid() -> nn.Module:
        body = nn.Sequential(ElasticConv2d(3, [2, 8], 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        return nn.Sequential(body, nn.Conv2d(8, 4, 1))

    with pytest.raises(SpaceError, match=r"smallest network.*'0\.1' \(BatchNorm2d\).*elastic"):
        ModuleSpace(rigid, input_shape=(3, 4, 4))

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = ElasticConv2d(3, [2, 8], 1), ElasticConv2d(3, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            total: Tensor = self.a(x) + self.b(x)
            return total

    with pytest.raises(SpaceError, match=r"smallest network.*'\(root\)' \(Residual\)"):
        ModuleSpace(Residual, input_shape=(3, 4, 4))
    with pytest.raises(SpaceError, match="at most 4 inputs, but its input has 8"):
        ModuleSpace(lambda: nn.Sequential(ElasticConv2d(3, [2, 8], 1), ElasticConv2d(4, 2, 1)), input_shape=(3, 4, 4))


def test_a_scale_ties_layers_of_different_widths() -> None:
    def scaled() -> nn.Module:
        def block(inp: int, out: int) -> list[nn.Module]:
            widths = {scale: int(out * scale) for scale in (0.25, 0.5, 1.0)}
            return [ElasticConv2d(inp, widths, 3, padding=1, bias=False, name="scale"), ElasticBatchNorm2d(out)]

        return nn.Sequential(*block(3, 8), *block(8, 20), nn.AdaptiveAvgPool2d(1), nn.Flatten(), ElasticLinear(20, 2))

    space = ModuleSpace(scaled, input_shape=(3, 5, 5))
    assert dict(space.decisions) == {"scale": Ordinal((0.25, 0.5, 1.0))}
    supernet, x = space.build_supernet().eval(), torch.randn(2, 3, 5, 5)
    for scale, first, second in ((0.25, 2, 5), (0.5, 4, 10), (1.0, 8, 20)):
        network = supernet.extract({"scale": scale})
        assert [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)] == [first, second]
        assert torch.equal(network(x), supernet(x, {"scale": scale}))
        built = space.build(Architecture({"scale": scale}))
        assert built[2].weight.shape == (second, first, 3, 3)  # type: ignore[index]
    supernet.restrict({"scale": [0.5, 1.0]})
    assert supernet.decisions == {"scale": Ordinal((0.5, 1.0))}


def test_widths_take_values_only() -> None:
    space = ModuleSpace(make, input_shape=(3, 6, 6))
    assert dict(space.decisions) == {"width": Ordinal((2, 4, 8))}
    assert space.weighable == frozenset()
    with pytest.raises(SpaceError, match="'0' takes values only"):
        space.build_supernet()(torch.zeros(1, 3, 6, 6), {"width": torch.ones(3)})


def test_restrict_keeps_the_parameters_and_narrows_the_decision() -> None:
    supernet = ModuleSpace(make, input_shape=(3, 6, 6)).build_supernet().eval()
    x, before = torch.randn(1, 3, 6, 6), [id(parameter) for parameter in supernet.parameters()]
    output = supernet(x, {"width": 4})
    supernet.restrict({"width": [4, 2]})
    assert supernet.decisions == {"width": Ordinal((2, 4))}
    assert [id(parameter) for parameter in supernet.parameters()] == before
    assert torch.equal(supernet(x, {"width": 4}), output)
    assert torch.equal(supernet.extract({"width": 4})(x), output)


def test_weighted_branches_of_one_width() -> None:
    """A choice between elastic branches may be weighted if their widths are tied; extraction computes the widths."""

    def branches() -> nn.Module:
        options = [ElasticConv2d(3, [2, 4], kernel, padding=kernel // 2, name="width") for kernel in (1, 3)]
        return nn.Sequential(OneOf(options, name="kernel"), ElasticBatchNorm2d(4), nn.Flatten(), ElasticLinear(64, 2))

    space = ModuleSpace(branches, input_shape=(3, 4, 4))
    assert space.weighable == {"kernel"}
    supernet, x = space.build_supernet().eval(), torch.randn(2, 3, 4, 4)
    selection = {"width": 2, "kernel": torch.tensor([0.3, 0.7])}
    assert torch.equal(supernet.extract(selection)(x), supernet(x, selection))


def test_a_width_inside_an_option_that_is_not_the_first_takes_no_weights() -> None:
    def nested() -> nn.Module:
        wide = nn.Sequential(ElasticConv2d(3, [2, 4], 1, name="width"), ElasticConv2d(4, 3, 1))
        options = {"skip": nn.Identity(), "wide": wide, "relu": nn.ReLU()}
        return nn.Sequential(OneOf(options, name="outer"), nn.Flatten(), nn.Linear(48, 2))

    assert ModuleSpace(nested, input_shape=(3, 4, 4)).weighable == {"outer"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((8, [4, 8], 1, 1, 0, 1, 8), "groups=8"),
        ((8, 8, 1, 1, 0, 1, 2), "groups=2"),
        ((8, [], 1), "at least one"),
        ((8, [8, 4], 1), "increasing"),
        ((8, [4, 4], 1), "the same option twice"),
        ((8, {}, 1), "at least one"),
        ((8, {0.1: 0, 1.0: 4}, 1), "must be at least 1, not 0"),
    ],
)
def test_invalid_elastic_convolutions_are_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        ElasticConv2d(*arguments)  # type: ignore[arg-type]
