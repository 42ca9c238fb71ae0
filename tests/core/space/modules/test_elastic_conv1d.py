"""`ElasticConv1d` and `ElasticBatchNorm1d` against plain convolutions of slices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError
from automl_nas.space import ElasticBatchNorm1d, ElasticConv1d, ModuleSpace, enumerate_all


def network() -> nn.Module:
    return nn.Sequential(
        ElasticConv1d(2, {0.5: 4, 1.0: 8}, (1, 3, 7), stride=2, dilation=(1, 3), name="first"),
        ElasticBatchNorm1d(8),
        ElasticConv1d(8, 8, (3, 5), groups=8, bias=False, name="depthwise"),
        ElasticConv1d(8, 3, 1),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
    )


def test_every_network_against_slices() -> None:
    space = ModuleSpace(network, input_shape=(2, 11))
    torch.manual_seed(0)
    supernet, x = space.build_supernet().eval(), torch.randn(3, 2, 11)
    first, norm, depthwise, last = list(supernet.network.children())[:4]
    assert isinstance(norm, ElasticBatchNorm1d)
    nn.init.normal_(norm.weight)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    for each in enumerate_all(space.decisions):
        width = {0.5: 4, 1.0: 8}[float(str(each["first"]))]
        kernel, dilation = int(str(each["first.kernel"])), int(str(each["first.dilation"]))
        start, inner = (7 - kernel) // 2, int(str(each["depthwise.kernel"]))
        weight = first.weight[:width, :, start : start + kernel]
        hidden = F.conv1d(x, weight, first.bias[:width], 2, dilation * (kernel - 1) // 2, dilation)
        assert hidden.shape == (3, width, 6)
        slices = (norm.running_mean[:width], norm.running_var[:width], norm.weight[:width], norm.bias[:width])
        hidden = F.batch_norm(hidden, *slices)
        centre = depthwise.weight[:width, :, 1:4] if inner == 3 else depthwise.weight[:width]
        hidden = F.conv1d(hidden, centre, None, 1, inner // 2, 1, width)
        expected = F.conv1d(hidden, last.weight[:, :width], last.bias).mean(2)
        torch.testing.assert_close(supernet(x, each), expected)
        extracted = supernet.extract(each)
        assert torch.equal(extracted(x), supernet(x, each))
        assert [type(layer) for layer in extracted.children()][:3] == [nn.Conv1d, nn.BatchNorm1d, nn.Conv1d]


def test_a_kernel_of_one_element_has_no_dilation() -> None:
    space = ModuleSpace(network, input_shape=(2, 11))
    assert space.size == 24
    assert len({space.canonical(each) for each in enumerate_all(space.decisions)}) == 20
    assert space.weighable == frozenset()


def test_a_restricted_supernet_keeps_its_parameters() -> None:
    supernet = ModuleSpace(network, input_shape=(2, 11)).build_supernet().eval()
    before, x = dict(supernet.named_parameters()), torch.randn(1, 2, 11)
    selection = {"first": 0.5, "first.kernel": 3, "first.dilation": 3, "depthwise.kernel": 5}
    outputs = supernet(x, selection)
    supernet.restrict({"first": [0.5], "first.kernel": [1, 3], "first.dilation": [3]})
    assert supernet.decisions["first.kernel"].options == (1, 3)
    assert all(before[name] is parameter for name, parameter in supernet.named_parameters())
    assert torch.equal(supernet(x, selection), outputs)


def test_options_are_not_weighted() -> None:
    supernet = ModuleSpace(network, input_shape=(2, 11)).build_supernet()
    selection = {"first": 0.5, "first.kernel": 3, "first.dilation": 3, "depthwise.kernel": 5}
    for name, message in (("first.kernel", "kernel '0.kernel' takes values"), ("first", "width '0' takes values")):
        with pytest.raises(SpaceError, match=message):
            supernet(torch.zeros(1, 2, 11), {**selection, name: torch.ones(3 if "kernel" in name else 2)})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ElasticConv1d(2, 4, 4), "odd.* not 4"),
        (lambda: ElasticConv1d(2, 4, (5, 3)), r"increasing whole numbers of at least 1, not \[5, 3\]"),
        (lambda: ElasticConv1d(2, 4, 3, dilation=(0, 1)), "dilations of an ElasticConv1d are increasing"),
        (lambda: ElasticConv1d(2, 4, ()), "kernels of an ElasticConv1d are increasing"),
        (lambda: ElasticConv1d(2, 0, 3), "at least 1, not 0"),
        (lambda: ElasticConv1d(4, 8, 3, groups=2), "groups=1, or must be depthwise"),
        (lambda: ElasticConv1d(4, (2, 4), 3, groups=4), "groups=1, or must be depthwise"),
    ],
)
def test_bad_arguments(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make()
