"""Convolutions whose weight gradient oneDNN's AVX2 kernel computes out of bounds are given contiguous tensors.

The kernel is chosen on processors that have AVX2 and no AVX-512. ``ONEDNN_MAX_CPU_ISA=AVX2`` chooses it on all others,
for a whole process: training runs in a child, whose exit status says whether the heap was corrupted.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from automl_nas.evaluation.runtime import Runtime
from automl_nas.onednn_guard import contiguous_if_narrow, guard_convolutions, remove_guards
from automl_nas.space.modules.elastic_layers.convolution import ElasticConv2d

TRAINING = """
import torch
from torch import nn
from automl_nas.evaluation.runtime import Runtime

torch.manual_seed(0)
runtime = Runtime(device="cpu", threads=1)
for channels in ({channels}):
    convolution = nn.Conv2d(channels, 8, 1, stride=2, bias=False)
    network = {network}
    for iteration in range(150):
        inputs = torch.randn(16, channels, 16 + iteration % 3, 16 + iteration % 2)
        network(inputs.contiguous(memory_format=torch.channels_last)).sum().backward()
"""


def train(channels: str, network: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", TRAINING.format(channels=channels, network=network)],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.process
def test_training_survives_with_every_narrow_width() -> None:
    result = train("1, 2, 3, 4, 5, 6, 7", "runtime.place(convolution)")
    assert result.returncode == 0, result.stderr


@pytest.mark.process
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the kernel exists on x86 processors")
def test_the_guard_is_still_needed() -> None:
    """When this fails, torch has mended its kernel, and the guard can go."""
    result = train("4, 6, 7", "convolution.to(memory_format=torch.channels_last)")
    assert result.returncode != 0


SHARED = """
import torch
from torch import nn
from automl_nas.evaluation.runtime import Runtime
from automl_nas.space import ModuleSpace, OneOf

torch.manual_seed(0)

def network():
    small, large = (nn.Conv2d(6, 8, kernel, stride=2, padding=kernel // 2) for kernel in (1, 3))
    return nn.Sequential(OneOf({"small": small, "large": large}, shared=True), nn.Flatten(), nn.Linear(512, 2))

space = ModuleSpace(network, input_shape=(6, 16, 16))
runtime = Runtime(device="cpu", threads=1)
supernet = runtime.place(space.build_supernet())
(name,) = space.decisions
for option in ("small", "large"):
    architecture = space.validate({name: option})
    for iteration in range(400):
        supernet(runtime.tensor(torch.randn(16, 6, 16, 16)), architecture).sum().backward()
print("survived")
"""


@pytest.mark.slow
@pytest.mark.process
def test_training_survives_where_a_weight_is_a_part_of_another_one() -> None:
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    result = subprocess.run([sys.executable, "-c", SHARED], env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and "survived" in result.stdout, result.stderr


def strides_seen(layer: nn.Module, channels: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether the convolution was computed on a contiguous input."""
    seen: list[bool] = []
    convolve = nn.functional.conv2d

    def spy(x: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(x.is_contiguous())
        return convolve(x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(nn.functional, "conv2d", spy)
    layer(torch.randn(2, channels, 6, 6).contiguous(memory_format=torch.channels_last))
    monkeypatch.undo()
    (contiguous,) = seen
    return contiguous


@pytest.mark.parametrize(
    ("settings", "contiguous"),
    [
        ({"kernel_size": 1, "stride": 2}, True),
        ({"kernel_size": 1, "stride": (1, 2)}, True),
        ({"kernel_size": 1, "stride": 1}, False),
        ({"kernel_size": 3, "stride": 2}, False),
    ],
)
def test_only_strided_pointwise_convolutions_are_guarded(
    settings: dict[str, int], contiguous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(device="cpu")
    layer = runtime.place(nn.Sequential(nn.Conv2d(4, 8, **settings)))
    assert strides_seen(layer, 4, monkeypatch) is contiguous


def test_wide_convolutions_keep_channels_last(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Runtime(device="cpu").place(nn.Conv2d(8, 8, 1, stride=2))
    assert not strides_seen(layer, 8, monkeypatch)


def test_an_elastic_convolution_is_judged_by_the_width_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Runtime(device="cpu").place(ElasticConv2d(16, 8, 1, stride=2))
    assert strides_seen(layer, 4, monkeypatch)
    assert not strides_seen(layer, 16, monkeypatch)


def test_the_guard_changes_no_result_and_is_added_once() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 8, 1, stride=2)
    x = torch.randn(2, 4, 6, 6)
    expected = plain(x)
    runtime = Runtime(device="cpu")
    guarded = runtime.place(runtime.place(plain))
    assert guarded is plain and len(plain._forward_pre_hooks) == 1
    torch.testing.assert_close(guarded(runtime.tensor(x)), expected)
    remove_guards(nn.Sequential(guarded))
    assert not plain._forward_pre_hooks


def test_groups_count_the_channels_of_each() -> None:
    x = torch.randn(2, 16, 6, 6).contiguous(memory_format=torch.channels_last)
    assert contiguous_if_narrow(x, groups=4).is_contiguous()
    assert contiguous_if_narrow(x, groups=2) is x


@pytest.mark.parametrize(
    "settings", [{}, {"padding": 2}, {"padding": 1, "padding_mode": "reflect"}, {"groups": 2, "bias": False}]
)
def test_a_part_of_a_weight_gives_the_result_of_torch(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 1, stride=2, **settings)
    x, weight = torch.randn(2, 4, 7, 6), layer.weight
    expected = layer(x)
    layer._parameters["weight"] = None
    guard_convolutions(layer)
    torch.testing.assert_close(layer._conv_forward(x, weight, layer.bias), expected)
    remove_guards(layer)
    assert "_conv_forward" not in vars(layer)
